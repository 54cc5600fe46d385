// What the page tells a user besides results: lines that stay until they are settled, and short toasts.
import { el, find, icon } from "./dom.js";

const shown = new Map();

/** Show a line under the header, in place of the one of the same name. `detail` is said as it is. */
export function notice(name, key, values, { kind = "info", detail = "", action } = {}) {
  const node = el("div", { className: `notice ${kind}`, data: { notice: name } },
    el("p", {}, el("span", { say: [key, values] }), detail ? el("small", {}, detail) : null),
    action ? el("button", { type: "button", className: "button quiet", say: action.key, on: { click: action.run } }) : null,
    el("button", { type: "button", className: "plain", label: "notice.close", on: { click: () => settle(name) } }, icon("close")),
  );
  const old = shown.get(name);
  if (old) old.replaceWith(node);
  else find("notices").append(node);
  shown.set(name, node);
}

/** Take the line of that name away; return whether there was one. */
export function settle(name) {
  const node = shown.get(name);
  node?.remove();
  return shown.delete(name);
}

/** Say something for some seconds. */
export function toast(key, values) {
  const node = el("p", { className: "toast", say: [key, values] });
  find("toasts").replaceChildren(node);
  setTimeout(() => node.remove(), 5000);
}

/** Say a fault of the server in the user's language, with its own words below. */
export function faultNotice(name, fault, action) {
  const detail = [fault.message, fault.hint].filter(Boolean).join(" ");
  notice(name, fault.message_key ?? "fault.server", {}, { kind: "error", detail, action });
}
