// Images that are chosen: their paths copied, or the files as one zip.
import { el, find, icon } from "./dom.js";
import { faultNotice, toast } from "./notices.js";
import { save } from "./saving.js";

const chosen = new Map(); // id -> match
let changed = () => {};
let most = () => Infinity;

export const isChosen = (id) => chosen.has(String(id));
export const count = () => chosen.size;

/** Choose a match, or leave it; `on` decides where it is given. */
export function choose(match, on = !isChosen(match.id)) {
  if (on) chosen.set(String(match.id), match);
  else chosen.delete(String(match.id));
  draw();
}

export function chooseNone() {
  chosen.clear();
  draw();
}

/** Copy a text; false where the browser does not allow it. */
export async function copy(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Not focused, or not allowed: the older way may still work.
    }
  }
  // The clipboard's interface is missing on plain http, as in a home network.
  const field = el("textarea", { value: text, className: "offscreen" });
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
}

export async function copyPaths(matches = [...chosen.values()]) {
  const done = await copy(matches.map((match) => match.path).join("\n"));
  toast(done ? "selection.copied" : "selection.not_copied", { n: matches.length });
}

async function download() {
  if (chosen.size > most()) {
    toast("selection.limit", { n: most() });
    return;
  }
  toast("selection.packing");
  try {
    await save("/v1/download", "vireo.zip", { json: { ids: [...chosen.values()].map((match) => match.id) } });
    find("toasts").replaceChildren();
  } catch (fault) {
    find("toasts").replaceChildren();
    faultNotice("download", fault);
  }
}

function draw() {
  const bar = find("selection");
  bar.hidden = chosen.size === 0;
  if (!bar.firstChild) {
    const button = (name, picture, run) =>
      el("button", { type: "button", className: "button quiet", on: { click: run } }, icon(picture), el("span", { say: `selection.${name}` }));
    bar.append(
      el("strong", { role: "status" }),
      button("copy", "copy", () => copyPaths()),
      button("download", "download", download),
      button("clear", "close", chooseNone),
    );
  }
  const text = el("span", { say: ["selection.count", { n: chosen.size }] });
  bar.firstChild.replaceChildren(text);
  changed();
}

/** `onChange` hears of every change; `limit` says how many files one download may have. */
export function listenToSelection(onChange, limit) {
  changed = onChange;
  most = limit;
}
