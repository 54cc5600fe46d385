// The last texts that were searched for, kept in this browser alone.
import { el, find, icon } from "./dom.js";

const KEPT = 30;
const NAME = "vireo.recent";
let search = () => {};

/** Return the texts, the newest first. */
export function recent() {
  try {
    const kept = JSON.parse(localStorage.getItem(NAME) ?? "[]");
    return Array.isArray(kept) ? kept.filter((text) => typeof text === "string") : [];
  } catch {
    return []; // forbidden storage, or another program's value
  }
}

function keep(texts) {
  try {
    localStorage.setItem(NAME, JSON.stringify(texts.slice(0, KEPT)));
  } catch {
    // Forbidden or full: there is no history then.
  }
  draw();
}

/** Note a text that was searched for. */
export function remember(text) {
  const clean = text.trim();
  if (clean && clean.length <= 300 && recent()[0] !== clean) keep([clean, ...recent().filter((other) => other !== clean)]);
}

function draw() {
  const texts = recent();
  find("recent-none").hidden = texts.length > 0;
  find("recent-clear").hidden = texts.length === 0;
  find("recent-list").replaceChildren(...texts.map((q) => el("li", {},
    el("button", { type: "button", className: "row", on: { click: () => search(q) } }, q),
    el("button", { type: "button", className: "plain", label: ["recent.remove", { q }],
      on: { click: (event) => {
        event.stopPropagation(); // the row goes, the menu stays
        keep(recent().filter((other) => other !== q));
      } } }, icon("close")))));
}

export function listenToRecent(onSearch) {
  search = onSearch;
  find("recent-clear").addEventListener("click", () => keep([]));
  addEventListener("storage", (event) => event.key === NAME && draw());
  draw();
}
