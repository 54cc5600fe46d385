// Two small sheets: one asks for a key, one shows the keys of the keyboard.
import { el, find, icon } from "./dom.js";

/** Ask for the server's key; `wrong` says that the last one was. Resolves to null where it is closed. */
export function askForKey(wrong) {
  const sheet = find("key");
  const field = el("input", { type: "password", id: "key-field", autocomplete: "current-password", required: true });
  sheet.replaceChildren(el("form", { method: "dialog" },
    el("h2", { id: "key-title", say: "key.title" }),
    el("p", { className: "muted", say: "key.hint" }),
    wrong ? el("p", { className: "fault", role: "alert", say: "key.wrong" }) : null,
    el("label", { htmlFor: "key-field", say: "key.label" }), field,
    el("footer", {}, el("button", { className: "button", value: "enter", say: "key.enter" }))));
  sheet.returnValue = "";
  sheet.showModal();
  field.focus();
  return new Promise((resolve) => {
    sheet.addEventListener("close", () => resolve(sheet.returnValue === "enter" ? field.value.trim() : null), { once: true });
  });
}

const KEYS = [
  ["keys.search", "/"], ["keys.move", "←", "↑", "→", "↓"], ["keys.open", "Enter"], ["keys.select", "Space"],
  ["keys.all", "Ctrl A"], ["keys.like", "M"], ["keys.back", "Esc"], ["keys.help", "?"],
];

/** Show what the keyboard does. */
export function showKeys() {
  const sheet = find("keys");
  const name = (key) => (key === "Space" ? el("kbd", { say: "keys.space" }) : el("kbd", {}, key));
  sheet.replaceChildren(
    el("header", {}, el("h2", { id: "keys-title", say: "keys.title" }),
      el("button", { type: "button", className: "plain", label: "folders.close", on: { click: () => sheet.close() } }, icon("close"))),
    el("dl", { className: "keys" }, ...KEYS.flatMap(([meaning, ...keys]) => [el("dt", {}, ...keys.map(name)), el("dd", { say: meaning })])));
  sheet.showModal();
}
