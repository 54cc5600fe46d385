// One image, large: where it lies, what is known of it, sentences that describe it.
import { Problem, ask } from "./api.js";
import { el, find, icon } from "./dom.js";
import { date, say, t } from "./language.js";
import { ratio, thumbnail } from "./grid.js";
import { faultNotice } from "./notices.js";
import { save } from "./saving.js";
import * as selection from "./selection.js";

const dialog = find("viewer");
const SENTENCES = 5;
const LARGE = 4e6; // bytes
const large = ({ thumbnail }) => `${thumbnail}?size=2048`;
const STANDARD = new Set(["folder", "name", "bytes", "modified", "taken", "latitude", "longitude", "make", "model", "width", "height"]);

let match = null;
let asked = null; // what is still asked for of the image that is shown
let act = {};
const parts = {};

function build() {
  const button = (key, picture, run, className = "button quiet") =>
    el("button", { type: "button", className, on: { click: run } }, icon(picture), el("span", { say: key }));
  const round = (key, picture, run, className) =>
    el("button", { type: "button", className: `round ${className}`, label: key, on: { click: run } }, icon(picture));
  parts.image = el("img", { className: "large", alt: "" });
  parts.under = el("img", { className: "under", alt: "", ariaHidden: "true" });
  parts.note = el("p", { className: "stage-note", role: "status", hidden: true });
  parts.title = el("h2", { id: "viewer-title" });
  parts.path = el("p", { className: "path" });
  parts.marks = el("p", { className: "marks" });
  parts.select = button("viewer.select", "check", () => selection.choose(match));
  parts.captions = el("ul", { className: "captions" });
  parts.captionsTitle = el("h3", { say: "viewer.captions" });
  parts.sentences = el("ul", { className: "sentences" });
  parts.details = el("dl", { className: "details" });
  parts.previous = round("viewer.previous", "left", () => act.step(-1), "previous");
  parts.next = round("viewer.next", "right", () => act.step(1), "next");
  dialog.append(
    el("div", { className: "stage" }, parts.under, parts.image, parts.note, parts.previous, parts.next),
    el("div", { className: "side", tabIndex: 0, role: "region", label: "viewer.details" },
      parts.title, parts.path, parts.marks,
      el("div", { className: "actions" },
        button("viewer.like", "like", () => act.like(match), "button"),
        parts.select,
        button("viewer.copy", "copy", () => selection.copyPaths([match])),
        button("viewer.download", "download", download)),
      parts.captionsTitle, parts.captions,
      el("h3", { say: "viewer.describe" }), parts.sentences,
      el("h3", { say: "viewer.details" }), parts.details),
    round("viewer.close", "close", () => dialog.close(), "close"));
  dialog.lastElementChild.autofocus = true;

  dialog.addEventListener("close", () => {
    if (dialog.open) return; // opened again before this was told
    asked?.abort();
    const { id } = match;
    match = null;
    act.closed(id);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.classList.contains("stage")) dialog.close();
  });
  dialog.addEventListener("keydown", (event) => {
    const run = { ArrowLeft: () => act.step(-1), ArrowRight: () => act.step(1), m: () => act.like(match) }[event.key];
    if (!run || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    run();
  });
  parts.image.addEventListener("load", () => parts.image.classList.add("here"));
  parts.image.addEventListener("error", failed);
  document.addEventListener("language", () => match && fill());
}

const isGone = (fault) => fault instanceof Problem && (fault.status === 404 || fault.status === 410);

async function download() {
  const { id, name } = match;
  try {
    await save(`/v1/images/${id}`, name);
  } catch (fault) {
    if (isGone(fault) && match?.id === id) note("viewer.gone");
    else faultNotice("download", fault);
  }
}

function note(key) {
  parts.image.parentElement.classList.toggle("gone", key === "viewer.gone");
  parts.note.hidden = false;
  say(parts.note, key);
}

/** The file did not show: it is gone, or the browser does not know its format. */
async function failed() {
  const failing = match;
  if (!failing || parts.image.dataset.fallback) return;
  parts.image.dataset.fallback = "1";
  try {
    const { present } = await ask(`/v1/images/${failing.id}/info`);
    if (match?.id !== failing.id) return;
    if (!present) return note("viewer.gone");
    note("viewer.unreadable");
    parts.image.src = large(failing);
  } catch (fault) {
    if (isGone(fault) && match?.id === failing.id) note("viewer.gone");
  }
}

/** Write what is known of the image. */
function fill() {
  parts.title.textContent = match.name;
  parts.path.textContent = match.path;
  parts.image.alt = match.caption || match.name;
  const marks = [];
  if (typeof match.relevance === "number") marks.push(["viewer.relevance", t("card.relevance", { relevance: match.relevance })]);
  if (typeof match.score === "number") marks.push(["viewer.score", t("card.score", { score: match.score })]);
  parts.marks.replaceChildren(...marks.map(([key, value]) => el("span", {}, el("span", { say: key }), " ", el("strong", {}, value))));
  const captions = match.captions ?? (match.caption ? [match.caption] : []);
  parts.captionsTitle.hidden = captions.length === 0;
  parts.captions.replaceChildren(...captions.map((caption) => el("li", {}, caption.text ?? caption)));

  const known = match.metadata ?? {};
  const rows = [];
  const row = (name, value) => value !== undefined && value !== null && value !== "" && rows.push(el("dt", {}, name), el("dd", {}, String(value)));
  const width = match.width ?? known.width;
  const height = match.height ?? known.height;
  row(t("field.taken"), known.taken && date(known.taken));
  if (width && height) row(t("field.size"), t("field.size_value", { width, height }));
  if (known.bytes) row(t("field.bytes"), t("field.bytes_value", { size: known.bytes }));
  row(t("field.camera"), [known.make, known.model].filter(Boolean).join(" "));
  if (typeof known.latitude === "number" && typeof known.longitude === "number") {
    row(t("field.place"), `${known.latitude.toFixed(5)}, ${known.longitude.toFixed(5)}`);
  }
  row(t("field.folder"), known.folder);
  row(t("field.modified"), known.modified && date(known.modified));
  for (const [name, value] of Object.entries(known)) if (!STANDARD.has(name)) row(name, value);
  parts.details.replaceChildren(...rows);
  drawChoice();
}

export function drawChoice() {
  if (!match) return;
  const on = selection.isChosen(match.id);
  parts.select.setAttribute("aria-pressed", String(on));
  say(parts.select.lastChild, on ? "viewer.selected" : "viewer.select");
}

async function describe(signal) {
  const id = match.id;
  const bars = Array.from({ length: 3 }, () => el("li", { className: "bone" }));
  parts.sentences.replaceChildren(...bars);
  try {
    const { sentences } = await ask(`/v1/describe?image_id=${id}&k=${SENTENCES}`, { signal });
    if (!sentences.length) parts.sentences.replaceChildren(el("li", { className: "muted", say: "viewer.describe_none" }));
    else {
      parts.sentences.replaceChildren(...sentences.map(({ text }) =>
        el("li", {}, el("button", { type: "button", className: "sentence", label: ["viewer.describe_search", { text }], on: { click: () => act.search(text) } }, text))));
    }
  } catch (fault) {
    if (fault.name !== "AbortError") parts.sentences.replaceChildren(el("li", { className: "muted", say: "viewer.describe_failed" }));
  }
}

/** Ask for what the list of hits does not hold: all captions, and facts of the file. */
async function complete(signal) {
  const id = match.id;
  try {
    const info = await ask(`/v1/images/${id}/info`, { signal });
    if (match?.id !== id) return;
    match = { ...match, ...info, score: match.score, relevance: match.relevance, rank: match.rank };
    fill();
    if (!info.present) note("viewer.gone");
  } catch (fault) {
    if (isGone(fault) && match?.id === id) note("viewer.gone");
  }
}

/** Show a match; `steps` says whether there is one before it and one after it. */
export function open(given, steps) {
  if (!parts.image) build();
  asked?.abort();
  asked = new AbortController();
  match = given;
  parts.note.hidden = true;
  parts.image.parentElement.classList.remove("gone");
  parts.image.classList.remove("here");
  delete parts.image.dataset.fallback;
  const shape = ratio(match);
  for (const image of [parts.image, parts.under]) image.style.setProperty("--ratio", shape.toFixed(4));
  parts.under.src = thumbnail(match);
  // The bytes of a large file take longer than drawing it smaller once does.
  parts.image.src = match.metadata?.bytes > LARGE ? large(match) : match.image;
  parts.previous.hidden = !steps.before;
  parts.next.hidden = !steps.after;
  fill();
  if (!dialog.open) dialog.showModal();
  dialog.querySelector(".side").scrollTop = 0;
  describe(asked.signal);
  complete(asked.signal);
}

export const isOpen = () => dialog.open;
export const close = () => dialog.open && dialog.close();

/** `closed(id)`, `step(by)`, `like(match)`, `search(text)`. */
export function listenToViewer(actions) {
  act = actions;
}
