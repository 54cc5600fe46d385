// What narrows a search: folder, date, camera, relevance, words. Shown where the index knows of it.
import { el, find, icon } from "./dom.js";
import { date, label, say } from "./language.js";
import { NOTHING, isText } from "./address.js";

const row = find("filters");
const NAMES = ["folder", "from", "to", "camera", "min", "words"];

let query = NOTHING;
let change = () => {};
let controls = {};
let offered = ""; // what the controls were drawn for

/** Return whether any filter is set. */
export const isFiltered = (given) => NAMES.some((name) => given[name] !== NOTHING[name]);
export const NO_FILTERS = Object.fromEntries(NAMES.map((name) => [name, NOTHING[name]]));

function choice(name, picture, values) {
  const select = el("select", { label: `filters.${name}`, on: { change: () => change({ [name]: select.value }) } },
    el("option", { value: "", say: `filters.${name}_all` }),
    ...values.map(({ value, text, count }) =>
      el("option", { value, say: ["filters.option", { name: text, count }] })));
  return { node: el("span", { className: "pill" }, icon(picture), select, icon("down")), select };
}

function menu(name, picture, ...content) {
  const text = el("span", { say: `filters.${name}_all` });
  const node = el("details", { className: "menu" },
    el("summary", { className: "pill" }, icon(picture), text, icon("down")),
    el("div", { className: "panel" }, ...content));
  return { node, text };
}

/** Draw the controls for what the index holds: folders, cameras, the first and the last date. */
export function offer(info) {
  const facets = JSON.stringify([info.folders, info.cameras, info.date_range]);
  if (facets === offered) return; // an open menu stays open
  offered = facets;
  controls = {};
  const folders = info.folders.filter(({ name }) => name); // all images are below the top folder
  if (folders.length) {
    controls.folder = choice("folder", "folder", folders.map(({ name, images }) => ({ value: name, text: name.replace(/\/$/, ""), count: images })));
  }
  if (info.date_range) {
    const [first, last] = info.date_range.map((time) => String(time).slice(0, 10));
    const day = (name) => el("input", { type: "date", id: `filter-${name}`, min: first, max: last,
      on: { change: (event) => change({ [name]: event.target.value }) } });
    const from = day("from");
    const to = day("to");
    controls.date = { ...menu("date", "calendar",
      el("label", { htmlFor: "filter-from", say: "filters.from" }), from,
      el("label", { htmlFor: "filter-to", say: "filters.to" }), to), from, to };
  }
  if (info.cameras.length) {
    controls.camera = choice("camera", "camera", info.cameras.map(({ name, images }) => ({ value: name, text: name, count: images })));
  }
  const range = el("input", { type: "range", id: "filter-min", min: "0", max: "0.99", step: "0.01",
    on: { input: () => change({ min: Number(range.value) }, "soon") } });
  controls.min = { ...menu("relevance", "target",
    el("label", { htmlFor: "filter-min", say: "filters.relevance" }), range, el("p", { className: "muted", say: "filters.relevance_help" })), range };
  const words = el("input", { type: "checkbox", on: { change: () => change({ words: words.checked }) } });
  controls.words = { node: el("label", { className: "pill check tip" }, words, el("span", { say: "filters.words" })), words };
  label(controls.words.node, "filters.words_help");
  const clear = el("button", { type: "button", className: "pill clear", say: "filters.clear", on: { click: () => change(NO_FILTERS) } });
  controls.clear = { node: clear };
  const order = ["folder", "date", "camera", "min", "words", "clear"];
  row.replaceChildren(...order.filter((name) => controls[name]).map((name) => controls[name].node));
}

/** A folder or camera of an address need not be among the most frequent: offer it as well. */
function put(select, value) {
  if (value && ![...select.options].some((option) => option.value === value)) select.append(el("option", { value }, value));
  select.value = value;
  select.parentElement.classList.toggle("on", Boolean(value));
}

/** Let the controls show a query. */
export function reflect(given) {
  query = given;
  if (!controls.min) return;
  if (controls.folder) put(controls.folder.select, query.folder);
  if (controls.camera) put(controls.camera.select, query.camera);
  if (controls.date) {
    const { node, text, from, to } = controls.date;
    from.value = query.from;
    to.value = query.to;
    const key = query.from && query.to ? "between" : query.from ? "since" : query.to ? "until" : "date_all";
    say(text, `filters.${key}`, { from: date(query.from), to: date(query.to) });
    node.firstChild.classList.toggle("on", Boolean(query.from || query.to));
  }
  const { node, text, range } = controls.min;
  if (Number(range.value) !== query.min) range.value = query.min;
  say(text, query.min ? "filters.relevance_min" : "filters.relevance_all", { min: query.min });
  node.firstChild.classList.toggle("on", query.min > 0);
  node.hidden = !isText(query) && !query.min;
  controls.words.node.hidden = !isText(query) && !query.words;
  controls.words.words.checked = query.words;
  controls.words.node.classList.toggle("on", query.words);
  controls.clear.node.hidden = !isFiltered(query);
}

/** `onChange(patch, "soon"?)` hears of every change. */
export function listenToFilters(onChange) {
  change = onChange;
  document.addEventListener("language", () => reflect(query));
}

/** Menus close by Escape and by a click elsewhere, as menus do. */
export function listenToMenus() {
  const close = (menu) => {
    menu.open = false;
  };
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) close(menu);
  });
  document.addEventListener("keydown", (event) => {
    const menu = event.target.closest?.("details.menu[open]");
    if (event.key !== "Escape" || !menu) return;
    event.stopPropagation();
    close(menu);
    menu.firstElementChild.focus();
  }, true);
}
