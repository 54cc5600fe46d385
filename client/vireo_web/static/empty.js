// What stands in place of hits where there are none, and what can be done about it.
import { el, find, icon } from "./dom.js";
import { NO_FILTERS, isFiltered } from "./filters.js";

const box = find("empty");

/** Say that there is nothing to show. `title` and `hint` are [key, values], `actions` [key, run]. */
export function draw(title, hint, ...actions) {
  box.hidden = false;
  box.replaceChildren(
    el("div", { className: "empty-mark" }, icon("image")),
    el("h2", { say: title }),
    el("p", { say: hint }),
    el("p", { className: "actions" }, ...actions.map(([key, run]) =>
      el("button", { type: "button", className: "button", say: key, on: { click: run } }))));
}

export function clear() {
  box.hidden = true;
}

/** Say why a query has no hits, and offer the query with which it would have some. */
export function drawNoHit(query, change) {
  if (query.min > 0) {
    draw(["empty.no_hit", { min: query.min }], ["empty.no_hit_hint"], ["empty.nearest", () => change({ min: 0 })]);
  } else if (isFiltered(query)) {
    draw(["empty.nothing"], ["empty.filtered_hint"], ["filters.clear", () => change(NO_FILTERS)]);
  } else draw(["empty.nothing"], ["empty.nothing_hint"]);
}
