// The page: one query at a time, kept in the address, shown as a grid of images.
import { Problem, Unreachable, ask, onKeyNeeded } from "./api.js";
import { NOTHING, isSearch, read, write } from "./address.js";
import { el, find, icon } from "./dom.js";
import * as filters from "./filters.js";
import * as grid from "./grid.js";
import * as indexing from "./indexing.js";
import * as jobs from "./jobs.js";
import { say, switchLanguage, t, translate } from "./language.js";
import { faultNotice, notice, settle, toast } from "./notices.js";
import { listenToRecent, remember } from "./recent.js";
import { Searcher } from "./search.js";
import * as selection from "./selection.js";
import * as uploads from "./uploads.js";
import * as viewer from "./viewer.js";
import { draw as drawWelcome } from "./welcome.js";

const PAGE = 30; // hits that are asked for at first, and more at a time
const POLL = 30; // seconds between looks at the server while nothing is done
const POLL_BROKEN = 5; // the same while there is no search

const input = find("query");
let query = NOTHING;
let asked = ""; // the address part of the last search, to see whether a change needs another
let wanted = PAGE;
let info = null;
let typing = false; // keys go on changing one entry of the browser's history
let retry = 0; // the timer of the next attempt
let attempts = 0;

// ---- The query and the address -------------------------------------------------------------

/** Change the query. `how`: "push" makes an entry of the history, "replace" changes the last one. */
function change(patch, { how = "push", search = "now", state = null } = {}) {
  query = { ...query, ...patch };
  if (how === "push") history.pushState(state, "", write(query));
  else history.replaceState(history.state, "", write(query));
  if (how === "push") typing = false;
  apply(search);
}

/** Let the page show the query. */
function apply(search = "now") {
  if (query.image && !uploads.upload(query.image)) {
    notice("drop", "drop.gone", {}, { kind: "warn" });
    query = { ...query, image: "" };
    history.replaceState(history.state, "", write(query));
  }
  if (input.value !== query.q) input.value = query.q;
  drawQuery();
  filters.reflect(query);
  const { view, ...rest } = query;
  const next = write(rest);
  if (next !== asked) {
    asked = next;
    wanted = PAGE;
    grid.restart();
    scrollTo({ top: 0 });
    run(search);
  }
  if (view) openView(view);
  else viewer.close();
}

/** Search for the query, or go back to the start page. */
function run(search = "now") {
  clearTimeout(retry);
  settle("fault");
  document.title = query.q.trim() ? `${query.q.trim().slice(0, 80)} · Vireo` : "Vireo";
  const most = info?.limits.text_characters ?? Infinity;
  if (query.q.length > most) {
    searcher.stop();
    notice("long", "notice.refused_long", { n: query.q.length }, { kind: "warn" });
    return;
  }
  settle("long");
  find("filters").hidden = !isSearch(query);
  if (!isSearch(query)) {
    searcher.stop();
    drawStart();
  } else if (search === "soon") searcher.soon(query, wanted);
  else searcher.now(query, wanted);
}

/** The image in the search box, and how much it counts beside the text. */
function drawQuery() {
  const file = query.image ? uploads.upload(query.image) : null;
  const address = file ? `upload:${query.image}` : query.like ? `/v1/images/${query.like}/thumbnail?size=128` : "";
  const chip = find("chip");
  const image = find("chip-image");
  chip.hidden = !address;
  if (image.dataset.shows !== address) {
    if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
    image.dataset.shows = address;
    if (file) image.src = URL.createObjectURL(file);
    else if (address) image.src = address;
    else image.removeAttribute("src");
  }
  drawSentences(file);
  find("clear").hidden = !query.q && !address;
  find("mix").hidden = !(address && query.q.trim());
  const range = find("mix-range");
  if (Number(range.value) !== query.weight) range.value = query.weight;
  range.setAttribute("aria-valuetext", t("mix.value", { weight: query.weight, rest: 1 - query.weight }));
}

const described = new WeakMap(); // an upload -> the sentences that describe it

/** Offer the sentences that describe an upload, to search on with one of them. */
async function drawSentences(file) {
  const box = find("described");
  box.hidden = true;
  if (!file) return;
  if (!described.has(file)) {
    const form = new FormData();
    form.append("image", file);
    // They are a courtesy: where they fail, the search itself says why.
    described.set(file, ask("/v1/describe", { form }).then((answer) => answer.sentences, () => []));
  }
  const sentences = await described.get(file);
  if (uploads.upload(query.image) !== file || !sentences.length) return;
  box.replaceChildren(el("h3", { say: "described.title" }), ...sentences.map(({ text }) =>
    el("button", { type: "button", className: "pill", on: { click: () => change({ q: text, image: "" }) } }, text)));
  box.hidden = false;
}

// ---- Answers --------------------------------------------------------------------------------

const searcher = new Searcher({
  busy: (on) => {
    find("busy").hidden = !on;
  },
  answer: (answer, given, k) => {
    reached();
    const { matches } = answer;
    find("welcome").hidden = true;
    grid.draw(matches);
    say(find("found"), "results.found", { n: matches.length, ms: Math.round(answer.milliseconds.total) });
    find("found").hidden = matches.length === 0;
    find("found").classList.toggle("loose", isLoose(given, matches));
    if (isLoose(given, matches)) find("found").append(el("span", { say: "results.loose" }));
    find("more-row").hidden = matches.length < k || k >= mostMatches();
    drawEmpty(matches.length ? null : noHit(given));
    if (query.view && !viewer.isOpen()) openView(query.view);
    if (info?.index && answer.generation !== info.index.generation) refresh();
  },
  fault: (fault) => {
    if (fault instanceof Unreachable) tryAgain("notice.unreachable");
    else if (fault.error === "BundleError") notice("fault", "notice.mismatch", {}, { kind: "error", detail: fault.message });
    else if (fault.error === "SearchIndexError") refresh().then(() => (info?.index?.images ? faultNotice("fault", fault, again) : drawStart()));
    else if (fault.status === 503 || fault.status === 429) tryAgain("notice.busy", fault.retryAfter);
    else if (fault.status === 404 && query.like) {
      notice("fault", "fault.gone", {}, { kind: "warn" });
      grid.draw([]);
      drawEmpty({ title: ["empty.nothing"], hint: ["viewer.gone"] });
    } else if (fault.error === "ImageError" && query.image) {
      const { name } = uploads.upload(query.image);
      notice("drop", "drop.not_image", { name }, { kind: "warn", detail: fault.message });
      change({ image: "" }, { how: "replace" });
    } else faultNotice("fault", fault, again);
  },
});

const mostMatches = () => info?.limits.matches ?? PAGE;
const again = { key: "empty.again", run: () => run() };

/** The best hit is less likely than not to be one. */
const isLoose = (given, matches) => given.min === 0 && typeof matches[0]?.relevance === "number" && matches[0].relevance < 0.5;

function noHit(given) {
  if (given.min > 0) {
    return { title: ["empty.no_hit", { min: given.min }], hint: ["empty.no_hit_hint"],
      actions: [["empty.nearest", () => change({ min: 0 })]] };
  }
  if (filters.isFiltered(given)) {
    return { title: ["empty.nothing"], hint: ["empty.filtered_hint"], actions: [["filters.clear", () => change(filters.NO_FILTERS)]] };
  }
  return { title: ["empty.nothing"], hint: ["empty.nothing_hint"], actions: [] };
}

/** Show that there is nothing to show, and what to do; null takes it away. */
function drawEmpty(said) {
  const box = find("empty");
  box.hidden = said === null;
  if (said === null) return;
  box.replaceChildren(el("div", { className: "empty-mark" }, icon("image")), el("h2", { say: said.title }), el("p", { say: said.hint }),
    el("p", { className: "actions" }, ...(said.actions ?? []).map(([key, run]) => el("button", { type: "button", className: "button", say: key, on: { click: run } }))));
}

/** The page without a query. */
function drawStart() {
  grid.draw([]);
  find("found").hidden = true;
  find("more-row").hidden = true;
  const usable = Boolean(info?.index?.images);
  find("welcome").hidden = !usable;
  if (usable) {
    drawEmpty(null);
    drawWelcome(info, (text) => change({ ...NOTHING, q: text }));
  } else if (info && info.state in BROKEN) drawEmpty({ title: ["empty.failed"], hint: [BROKEN[info.state]], actions: [["empty.again", refresh]] });
  else if (info) {
    drawEmpty({ title: ["empty.no_index"], hint: ["empty.no_index_hint"], actions: [["empty.choose", indexing.openSheet]] });
  }
}

// ---- The server: what it holds, and whether it is there --------------------------------------

/** States in which there is no search, and what is said of them. */
const BROKEN = { "no-model": "notice.no_model", damaged: "notice.damaged", unavailable: "fault.busy" };

/** Ask what the server holds, and let the page follow. */
async function refresh() {
  let given;
  try {
    given = await ask("/v1/info");
  } catch (fault) {
    if (fault instanceof Unreachable) tryAgain("notice.unreachable");
    else if (fault.status === 503 || fault.status === 429) tryAgain("notice.busy", fault.retryAfter);
    else faultNotice("fault", fault, { key: "empty.again", run: refresh });
    return;
  }
  reached();
  const before = info;
  info = given;
  indexing.inform(info);
  for (const job of info.jobs) jobs.take(job);
  indexing.drawJobs();
  filters.offer(info);

  if (info.state === "no-index" && before?.index) notice("index", "notice.removed", {}, { kind: "warn" });
  else if (info.state in BROKEN) notice("index", BROKEN[info.state], {}, { kind: "error", detail: info.detail ?? "" });
  else if (info.state === "indexing") notice("index", "notice.indexing");
  else settle("index");

  const changed = before && (before.index?.generation !== info.index?.generation || before.index?.folder !== info.index?.folder);
  if (!info.index?.images) drawStart();
  else if (changed || (!before && !isSearch(query))) {
    if (changed && isSearch(query)) toast("notice.replaced");
    run();
  }
}

/** Try again after a while that grows, and say when. */
function tryAgain(key, seconds) {
  clearTimeout(retry);
  attempts += 1;
  let left = Math.round(seconds ?? Math.min(15, 2 ** (attempts - 1)));
  const tick = () => {
    if (left <= 0) {
      notice("server", "notice.retrying", {}, { kind: "warn" });
      refresh().then(() => attempts === 0 && isSearch(query) && run());
      return;
    }
    notice("server", key, { seconds: left }, { kind: "warn" });
    left -= 1;
    retry = setTimeout(tick, 1000);
  };
  tick();
}

function reached() {
  clearTimeout(retry);
  attempts = 0;
  if (settle("server")) toast("notice.back");
}

function askKey(wrong) {
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

onKeyNeeded(askKey);

// ---- The large image --------------------------------------------------------------------------

async function openView(id) {
  const index = grid.position(id);
  let match = grid.shown()[index];
  if (!match) {
    try {
      match = await ask(`/v1/images/${id}/info`);
    } catch (fault) {
      faultNotice("fault", fault);
      change({ view: "" }, { how: "replace" });
      return;
    }
    if (query.view !== id) return; // closed, or another one, in the meantime
  }
  viewer.open(match, { before: index > 0, after: index >= 0 && index < grid.shown().length - 1 });
}

function openMatch(match) {
  remember(query.q);
  change({ view: String(match.id) }, { state: { opened: true } });
}

function likeThis(match) {
  change({ q: "", image: "", like: String(match.id), min: 0, words: false, view: "" });
}

viewer.listenToViewer({
  closed: (id) => {
    if (query.view && history.state?.opened) history.back();
    else if (query.view) change({ view: "" }, { how: "replace" });
    const index = grid.position(id);
    if (index >= 0) grid.point(index);
  },
  step: (by) => {
    const match = grid.shown()[grid.position(query.view) + by];
    if (match && grid.position(query.view) >= 0) change({ view: String(match.id) }, { how: "replace" });
  },
  like: likeThis,
  search: (text) => {
    remember(text);
    change({ q: text, like: "", image: "", view: "" });
  },
});

// ---- What a user does -------------------------------------------------------------------------

input.addEventListener("input", () => {
  const how = typing ? "replace" : "push";
  change({ q: input.value }, { how, search: "soon" });
  typing = true;
});
input.addEventListener("blur", () => {
  typing = false;
});
find("search").addEventListener("submit", (event) => {
  event.preventDefault();
  remember(query.q);
  typing = false;
  run();
});
input.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" && grid.shown().length) {
    event.preventDefault();
    remember(query.q);
    grid.point(0);
  } else if (event.key === "Escape" && query.q) {
    event.preventDefault();
    change({ q: "" });
  } else if (event.key === "Backspace" && !input.value && !find("chip").hidden) change({ like: "", image: "" });
});
find("clear").addEventListener("click", () => {
  change({ q: "", like: "", image: "" });
  input.focus();
});
find("chip-remove").addEventListener("click", () => {
  change({ like: "", image: "" });
  input.focus();
});
find("mix-range").addEventListener("input", (event) => {
  change({ weight: Number(event.target.value) }, { how: "replace", search: "soon" });
});
find("more").addEventListener("click", () => {
  wanted = Math.min(wanted + PAGE, mostMatches());
  searcher.now(query, wanted);
});
find("language").addEventListener("click", switchLanguage);
find("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("vireo.theme", root.dataset.theme);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
});
document.querySelector(".brand").addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  change({ ...NOTHING });
});

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const writes = event.target.matches?.("input:not([type=range], [type=checkbox]), textarea, select");
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "/" && !writes) {
    event.preventDefault();
    input.focus();
    input.select();
  } else if (event.key === "?" && !writes) {
    event.preventDefault();
    openKeys();
  } else if (event.key === "Escape" && !writes) {
    if (selection.count()) selection.chooseNone();
    else input.focus();
  }
});

function openKeys() {
  const sheet = find("keys");
  const row = (key, ...names) => [el("dt", {}, ...names.map((name) => el("kbd", {}, name))), el("dd", { say: `keys.${key}` })];
  sheet.replaceChildren(
    el("header", {}, el("h2", { id: "keys-title", say: "keys.title" }),
      el("button", { type: "button", className: "plain", label: "folders.close", on: { click: () => sheet.close() } }, icon("close"))),
    el("dl", { className: "keys" }, ...row("search", "/"), ...row("move", "←", "↑", "→", "↓"), ...row("open", "Enter"), ...row("select", t("keys.space")),
      ...row("all", "Ctrl A"), ...row("like", "M"), ...row("back", "Esc"), ...row("help", "?")));
  sheet.showModal();
}

uploads.listen({
  take: (file) => {
    settle("drop");
    change({ image: uploads.keep(file), like: "", view: "" });
  },
  like: (id) => change({ like: id, image: "" }),
  refuse: (key, values) => notice("drop", key, values, { kind: "warn" }),
  limit: () => info?.limits.upload_bytes,
});
grid.listenToGrid({ open: openMatch, like: likeThis, leave: () => input.focus() });
selection.listenToSelection(() => {
  grid.drawSelection();
  viewer.drawChoice();
}, () => info?.limits.download_files ?? Infinity);
filters.listenToFilters((patch, search = "now") => change(patch, { how: search === "soon" ? "replace" : "push", search }));
filters.listenToMenus();
indexing.listenToSheet();
jobs.listenToJobs(indexing.drawJobs, (job) => {
  indexing.announce(job);
  refresh();
});
listenToRecent((text) => {
  find("recent").open = false;
  change({ q: text, like: "", image: "" });
});

addEventListener("popstate", () => {
  typing = false;
  query = read(location);
  apply();
});
const look = async () => document.visibilityState === "visible" && attempts === 0 && refresh();
document.addEventListener("visibilitychange", look);
(function watch() {
  setTimeout(() => look().finally(watch), 1000 * (info?.state === "ready" ? POLL : POLL_BROKEN));
})();

// ---- Start ------------------------------------------------------------------------------------

translate();
query = read(location);
if (matchMedia("(hover: hover)").matches) input.focus();
if (isSearch(query)) apply();
refresh().then(() => apply());
