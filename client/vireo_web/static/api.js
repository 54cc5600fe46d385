// Calls of the HTTP API. Every fault is a Problem (the server said no) or Unreachable (it said nothing).

/** An answer of the server that is an error: RFC 9457's members and the client's error class. */
export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body.detail || body.title || String(status));
    this.status = status;
    this.error = body.error ?? "";
    this.hint = body.hint ?? "";
    this.retryAfter = retryAfter;
  }

  /** Return the key of the message that says it in the user's language. */
  get message_key() {
    if (this.error === "ImageError") return "fault.unreadable_image";
    if (this.error === "IndexLocked") return "fault.locked";
    if (this.error === "SearchIndexError" || this.error === "BundleError") return "fault.index";
    if (this.status === 401) return "key.title";
    if (this.status === 413) return "fault.too_large";
    if (this.status === 404 || this.status === 410) return "fault.gone";
    if (this.status === 403) return "fault.forbidden";
    if (this.status === 429 || this.status === 503) return "fault.busy";
    return this.status < 500 ? "fault.request" : "fault.server";
  }
}

/** No answer: the server is gone, or the network is. */
export class Unreachable extends Error {}

let askForKey = async () => null;
let unlocking = null; // calls that need a key at the same time ask for it once

/** Say how a key is asked for: `ask(wrong)` resolves to the key, or null if there is none. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

/** Ask for a key until one is right; it becomes a cookie, which images are asked for with, too. */
async function unlock() {
  for (let wrong = false; ; wrong = true) {
    const key = await askForKey(wrong);
    if (key === null) return false;
    if (!/^[\x21-\x7e]+$/.test(key)) continue; // no header can carry it, so that it cannot be right
    const headers = { Authorization: `Bearer ${key}` };
    if ((await request("/v1/session", { method: "POST", headers })).ok) return true;
  }
}

async function request(path, options) {
  try {
    return await fetch(path, options);
  } catch (fault) {
    if (fault.name === "AbortError") throw fault;
    throw new Unreachable(fault.message);
  }
}

/** Call the API and return the Response, whose status is good. */
export async function call(path, { method, json, form, signal, accept } = {}) {
  const headers = { Accept: accept ?? "application/json" };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  for (;;) {
    const response = await request(path, {
      method: method ?? (json !== undefined || form ? "POST" : "GET"),
      headers,
      body: form ?? (json !== undefined ? JSON.stringify(json) : undefined),
      signal,
    });
    if (response.ok) return response;
    if (response.status === 401) {
      unlocking ??= unlock().finally(() => {
        unlocking = null;
      });
      if (await unlocking) continue;
    }
    // A proxy's error page is no JSON; its status says enough.
    const body = await response.json().catch(() => ({}));
    throw new Problem(response.status, body, Number(response.headers.get("Retry-After")) || null);
  }
}

/** Call the API and return what its JSON says. */
export async function ask(path, options) {
  const response = await call(path, options);
  try {
    return await response.json();
  } catch (fault) {
    if (fault.name === "AbortError") throw fault;
    throw new Unreachable(fault.message); // the connection broke within the answer
  }
}

/** Yield the JSON of server-sent events. An EventSource hides why it failed, so the stream is read here. */
export async function* events(path) {
  const response = await call(path, { accept: "text/event-stream" });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (fault) {
      throw new Unreachable(fault.message);
    }
    if (part.done) return;
    const blocks = (rest + part.value).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim()).join("\n");
      if (data) yield JSON.parse(data);
    }
  }
}
