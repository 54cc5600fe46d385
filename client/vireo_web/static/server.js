// The server: what it holds, whether it is there, and when it is asked again.
import { Unreachable, ask } from "./api.js";
import { faultNotice, notice, settle, toast } from "./notices.js";

const POLL = 30; // seconds between looks at the server while all is well
const POLL_BROKEN = 5; // the same while there is no search
const LONGEST = 15; // seconds between attempts, at most

/** States in which there is no search, and what is said of them. */
export const BROKEN = { "no-model": "notice.no_model", damaged: "notice.damaged", unavailable: "fault.busy" };

let info = null;
let outage = ""; // what failed and is tried again: "info", "search", or nothing
let attempts = 0;
let timer = 0;
let told = () => {};

/** Return what the server said last of itself; null before it did. */
export const known = () => info;
export const hasImages = () => Boolean(info?.index?.images);
/** Return a limit of the server; none before it told. */
export const limit = (name) => info?.limits[name] ?? Infinity;

/** Ask what the server holds; `told(info, before, back)` hears of it, and if the server was gone. */
export async function refresh() {
  let given;
  try {
    given = await ask("/v1/info");
  } catch (fault) {
    if (isPassing(fault)) tryAgain("info", fault, refresh);
    else faultNotice("fault", fault, { key: "empty.again", run: refresh });
    return;
  }
  const back = outage === "info";
  if (back) reached();
  const before = info;
  info = given;
  say(before);
  told(info, before, back);
}

/** Say the state of the index for as long as it lasts. */
function say(before) {
  if (info.state === "no-index" && before?.index) notice("index", "notice.removed", {}, { kind: "warn" });
  else if (info.state in BROKEN) notice("index", BROKEN[info.state], {}, { kind: "error", detail: info.detail ?? "" });
  else if (info.state === "indexing" && hasImages()) notice("index", "notice.indexing");
  else if (info.state !== "no-index") settle("index");
}

/** Return whether a fault is likely to pass by itself. */
export const isPassing = (fault) => fault instanceof Unreachable || fault.status === 503 || fault.status === 429;

/** Say that something failed, and try it again after a while that grows. */
export function tryAgain(what, fault, action) {
  clearTimeout(timer);
  outage = what;
  attempts += 1;
  const key = fault instanceof Unreachable ? "notice.unreachable" : "notice.busy";
  let left = Math.min(LONGEST, Math.max(fault.retryAfter ?? 0, 2 ** (attempts - 1)));
  const tick = () => {
    notice("server", left > 0 ? key : `${key}_now`, { seconds: left }, { kind: "warn" });
    if (left > 0) timer = setTimeout(tick, 1000);
    else action();
    left -= 1;
  };
  tick();
}

/** The server answered: nothing is tried again any more. */
export function reached() {
  clearTimeout(timer);
  attempts = 0;
  outage = "";
  if (settle("server")) toast("notice.back");
}

/** Stop trying the last search again: there is another one. */
export function forget() {
  if (outage !== "search") return;
  clearTimeout(timer);
  outage = "";
}

/** Look at the server from time to time, and when the page is looked at again. */
export function watch(onInfo) {
  told = onInfo;
  const look = async () => document.visibilityState === "visible" && !outage && refresh();
  document.addEventListener("visibilitychange", look);
  const again = () => setTimeout(() => look().finally(again), 1000 * (info?.state === "ready" ? POLL : POLL_BROKEN));
  again();
}
