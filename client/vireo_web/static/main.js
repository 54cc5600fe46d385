// The page: one query at a time, kept in the address, shown as a grid of images.
import { Unreachable, ask, onKeyNeeded } from "./api.js";
import { NOTHING, isSearch, read, write } from "./address.js";
import * as bar from "./bar.js";
import { el, find } from "./dom.js";
import * as empty from "./empty.js";
import * as filters from "./filters.js";
import * as grid from "./grid.js";
import * as indexing from "./indexing.js";
import * as jobs from "./jobs.js";
import { say, switchLanguage, translate } from "./language.js";
import { faultNotice, notice, settle, toast } from "./notices.js";
import { listenToRecent, remember } from "./recent.js";
import { Searcher } from "./search.js";
import * as selection from "./selection.js";
import * as server from "./server.js";
import { askForKey, showKeys } from "./sheets.js";
import * as uploads from "./uploads.js";
import * as viewer from "./viewer.js";
import { draw as drawWelcome } from "./welcome.js";

const PAGE = 30; // hits that are asked for at first, and more at a time

const input = find("query");
let query = NOTHING;
let asked = ""; // the address of the last search, to see whether a change needs another
let wanted = PAGE;
let typing = false; // keys go on changing one entry of the browser's history

// ---- The query and the address -------------------------------------------------------------

/** Change the query. `how`: "push" makes an entry of the history, "replace" changes the last one. */
function change(patch, { how = "push", search = "now", state = null } = {}) {
  query = { ...query, ...patch };
  if (how === "push") history.pushState(state, "", write(query));
  else history.replaceState(history.state, "", write(query));
  if (how === "push") typing = false;
  apply(search);
}

/** Search for a text alone; the filters stay. */
const searchFor = (q) => change({ q, like: "", image: "", view: "" });

/** Let the page show the query. */
function apply(search = "now") {
  if (query.image && !uploads.upload(query.image)) {
    notice("drop", "drop.gone", {}, { kind: "warn" });
    query = { ...query, image: "" };
    history.replaceState(history.state, "", write(query));
  }
  if (input.value !== query.q) input.value = query.q;
  bar.draw(query, searchFor);
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
  server.forget();
  settle("fault");
  document.title = query.q.trim() ? `${query.q.trim().slice(0, 80)} · Vireo` : "Vireo";
  find("filters").hidden = !isSearch(query);
  if (query.q.length > server.limit("text_characters")) {
    searcher.stop();
    notice("long", "notice.refused_long", { n: query.q.length }, { kind: "warn" });
    return;
  }
  settle("long");
  if (!isSearch(query)) {
    searcher.stop();
    drawStart();
  } else if (search === "soon") searcher.soon(query, wanted);
  else searcher.now(query, wanted);
}

// ---- Answers --------------------------------------------------------------------------------

const mostMatches = () => server.limit("matches");
const again = { key: "empty.again", run: () => run() };

const searcher = new Searcher({
  busy: (on) => {
    find("busy").hidden = !on;
  },
  answer: (answer, given, k) => {
    server.reached();
    const { matches } = answer;
    find("welcome").hidden = true;
    grid.draw(matches);
    drawFound(answer, given);
    find("more-row").hidden = matches.length < k || k >= mostMatches();
    if (matches.length) empty.clear();
    else empty.drawNoHit(given, change);
    if (query.view && !viewer.isOpen()) openView(query.view);
    if (server.hasImages() && answer.generation !== server.known().index.generation) server.refresh();
  },
  fault: async (fault) => {
    if (fault.error === "BundleError") notice("fault", "notice.mismatch", {}, { kind: "error", detail: fault.message });
    else if (fault.error === "SearchIndexError") {
      await server.refresh(); // what became of the index is said there
      if (server.hasImages()) faultNotice("fault", fault, again);
    } else if (fault instanceof Unreachable) server.tryAgain("info", fault, server.refresh);
    else if (server.isPassing(fault)) server.tryAgain("search", fault, () => searcher.now(query, wanted));
    else if (fault.status === 404 && query.like) {
      grid.draw([]);
      empty.draw(["fault.gone"], ["viewer.gone"]);
    } else if (fault.error === "ImageError" && query.image) {
      const { name } = uploads.upload(query.image);
      notice("drop", "drop.not_image", { name }, { kind: "warn", detail: fault.message });
      change({ image: "" }, { how: "replace" });
    } else faultNotice("fault", fault, again);
  },
});

/** Say how many hits there are, and if even the best may be none. */
function drawFound({ matches, milliseconds }, given) {
  const found = find("found");
  const best = matches[0]?.relevance;
  const loose = given.min === 0 && typeof best === "number" && best < grid.LIKELY;
  found.hidden = matches.length === 0;
  found.classList.toggle("loose", loose);
  found.replaceChildren(
    el("span", { say: ["results.found", { n: matches.length, ms: Math.round(milliseconds.total) }] }),
    loose ? el("span", { say: "results.loose" }) : "");
}

/** The page without a query, or without an index to search. */
function drawStart() {
  const { state } = server.known() ?? {};
  grid.draw([]);
  find("found").hidden = true;
  find("more-row").hidden = true;
  if (!server.hasImages()) find("filters").hidden = true;
  find("welcome").hidden = !server.hasImages();
  empty.clear();
  if (server.hasImages()) drawWelcome(server.known(), (q) => change({ ...NOTHING, q }), likeThis);
  else if (state in server.BROKEN) empty.draw(["empty.failed"], [server.BROKEN[state]], ["empty.again", server.refresh]);
  else if (state === "indexing") empty.draw(["empty.indexing"], ["empty.indexing_hint"], ["empty.progress", indexing.openSheet]);
  else if (state) empty.draw(["empty.no_index"], ["empty.no_index_hint"], ["empty.choose", indexing.openSheet]);
}

/** The server said what it holds: let the page follow. */
function follow(info, before, back) {
  indexing.inform(info);
  for (const job of info.jobs) jobs.take(job);
  indexing.drawJobs();
  filters.offer(info);
  filters.reflect(query);
  const held = ({ state, index }) => `${index?.images ? "" : state} ${index?.folder} ${index?.generation}`;
  if (before && held(before) === held(info)) {
    if (back) run();
    return;
  }
  if (!server.hasImages()) {
    searcher.stop();
    drawStart();
  } else if (before || !isSearch(query)) {
    if (before?.index && isSearch(query)) toast("notice.replaced");
    run();
  }
}

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
    const index = grid.position(query.view);
    const match = index >= 0 ? grid.shown()[index + by] : null;
    if (match) change({ view: String(match.id) }, { how: "replace" });
  },
  like: likeThis,
  search: (text) => {
    remember(text);
    searchFor(text);
  },
});

// ---- What a user does -------------------------------------------------------------------------

input.addEventListener("input", () => {
  change({ q: input.value }, { how: typing ? "replace" : "push", search: "soon" });
  typing = true;
});
input.addEventListener("blur", () => {
  typing = false;
});
input.addEventListener("keydown", (event) => {
  if (event.isComposing) return; // an input method for Vietnamese is at work
  if (event.key === "ArrowDown" && grid.shown().length) {
    event.preventDefault();
    remember(query.q);
    grid.point(0);
  } else if (event.key === "Escape" && query.q) {
    event.preventDefault();
    change({ q: "" });
  } else if (event.key === "Backspace" && !input.value && !find("chip").hidden) change({ like: "", image: "" });
});
find("search").addEventListener("submit", (event) => {
  event.preventDefault();
  remember(query.q);
  typing = false;
  run();
});
for (const [id, patch] of [["clear", { q: "", like: "", image: "" }], ["chip-remove", { like: "", image: "" }]]) {
  find(id).addEventListener("click", () => {
    change(patch);
    input.focus();
  });
}
find("mix-range").addEventListener("input", (event) => {
  change({ weight: Number(event.target.value) }, { how: "replace", search: "soon" });
});
find("more").addEventListener("click", () => {
  wanted = Math.min(wanted + PAGE, mostMatches());
  searcher.now(query, wanted);
});
find("language").addEventListener("click", switchLanguage);
find("theme").addEventListener("click", () => {
  const { dataset } = document.documentElement;
  const dark = dataset.theme ? dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("vireo.theme", dataset.theme);
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
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches?.("input:not([type=range], [type=checkbox]), textarea, select")) return;
  if (event.key === "/") {
    event.preventDefault();
    input.focus();
    input.select();
  } else if (event.key === "?") {
    event.preventDefault();
    showKeys();
  } else if (event.key === "Escape" && selection.count()) selection.chooseNone();
  else if (event.key === "Escape") input.focus();
});

uploads.listen({
  take: (file) => {
    settle("drop");
    change({ image: uploads.keep(file), like: "", view: "" });
  },
  like: (id) => change({ like: id, image: "" }),
  refuse: (key, values) => notice("drop", key, values, { kind: "warn" }),
  limit: () => server.limit("upload_bytes"),
});
grid.listenToGrid({ open: openMatch, like: likeThis, leave: () => input.focus() });
selection.listenToSelection(() => {
  grid.drawSelection();
  viewer.drawChoice();
}, () => server.limit("download_files"));
filters.listenToFilters((patch, search = "now") => change(patch, { how: search === "soon" ? "replace" : "push", search }));
filters.listenToMenus();
indexing.listenToSheet();
jobs.listenToJobs(indexing.drawJobs, (job) => {
  indexing.announce(job);
  if (!jobs.isLive(job) || server.known().state !== "indexing") server.refresh();
});
listenToRecent((text) => {
  find("recent").open = false;
  searchFor(text);
});
addEventListener("popstate", () => {
  typing = false;
  query = read(location);
  apply();
});
document.addEventListener("language", () => bar.draw(query, searchFor));

// ---- Start ------------------------------------------------------------------------------------

translate();
onKeyNeeded(askForKey);
server.watch(follow);
query = read(location);
if (matchMedia("(hover: hover)").matches) input.focus();
if (isSearch(query)) apply();
server.refresh().then(() => apply());
