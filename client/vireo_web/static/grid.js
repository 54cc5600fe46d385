// The hits: one list of images that arrow keys walk through, as a listbox with several choices.
import { el, find, icon } from "./dom.js";
import { label } from "./language.js";
import * as selection from "./selection.js";

const grid = find("grid");
const NARROWEST = 0.62; // sides of a frame; what is narrower or wider is cropped
const WIDEST = 2.4;

/** The relevance from which a hit counts as likely: at most one in ten queries about nothing gets there. */
export const LIKELY = 0.9;

let matches = [];
let current = 0; // the one card that Tab reaches

export const shown = () => matches;
export const position = (id) => matches.findIndex((match) => String(match.id) === String(id));

/** Return an image's sides as width / height; 4 / 3 where they are not known. */
export const ratio = (match) => (match.width && match.height ? match.width / match.height : 4 / 3);

/** Return the address of an image's thumbnail, large enough for a frame on a dense screen. */
export const thumbnail = (match) => `${match.thumbnail}?size=512`;

/** Return what an image is called: its caption, else its file's name. */
export const title = (match) => match.caption || match.name;

function card(match) {
  const image = el("img", { alt: "", loading: "lazy", decoding: "async", draggable: true });
  const frame = el("div", { className: "frame" }, image, el("span", { className: "tick tip" }, icon("check")));
  const node = el("li", { className: "card", role: "option", tabIndex: -1, data: { id: match.id } }, frame,
    el("div", { className: "facts" }, el("span", { className: "title" }), el("span", { className: "score tip" }), el("span", { className: "relevance tip" })));
  node.style.setProperty("--ratio", Math.min(WIDEST, Math.max(NARROWEST, ratio(match))).toFixed(4));
  image.addEventListener("load", () => image.classList.add("here"));
  image.addEventListener("error", () => {
    node.classList.add("gone");
    frame.append(el("p", { className: "gone-note", say: "card.gone" }));
  }, { once: true });
  image.addEventListener("dragstart", (event) => event.dataTransfer.setData("application/x-vireo-image", node.dataset.id));
  image.src = thumbnail(match);
  return node;
}

/** Write a match's rank, score and relevance into its card. */
function fill(node, match) {
  const known = typeof match.relevance === "number";
  const [name, score, relevance] = node.lastElementChild.children;
  name.textContent = title(match);
  name.title = match.path;
  score.hidden = typeof match.score !== "number";
  if (!score.hidden) {
    score.replaceChildren(el("span", { say: ["card.score", { score: match.score }] }));
    label(score, "card.score_title", { score: match.score });
  }
  relevance.hidden = !known;
  if (known) {
    relevance.replaceChildren(el("span", { say: ["card.relevance", { relevance: match.relevance }] }));
    relevance.classList.toggle("low", match.relevance < LIKELY);
    label(relevance, "card.relevance_title", { relevance: match.relevance });
  }
  label(node, known ? "card.label_relevance" : "card.label",
    { rank: match.rank, title: title(match), score: match.score, relevance: match.relevance });
}

/** Show matches. Cards of images that were there before are kept, so that nothing flickers. */
export function draw(found) {
  const had = new Map([...grid.children].map((node) => [node.dataset.id, node]));
  const focused = grid.contains(document.activeElement);
  const nodes = found.map((match) => {
    const old = had.get(String(match.id));
    const node = old && !old.classList.contains("gone") ? old : card(match);
    fill(node, match);
    return node;
  });
  matches = found;
  grid.replaceChildren(...nodes);
  grid.hidden = nodes.length === 0;
  current = Math.min(current, Math.max(0, nodes.length - 1));
  drawSelection();
  point(current, focused);
}

export function drawSelection() {
  for (const node of grid.children) node.setAttribute("aria-selected", String(selection.isChosen(node.dataset.id)));
}

/** Let Tab reach the card at `index`, and focus it if wanted. */
export function point(index, focus = true) {
  const nodes = grid.children;
  if (!nodes.length) return;
  current = Math.max(0, Math.min(index, nodes.length - 1));
  for (const node of nodes) if (node.tabIndex === 0) node.tabIndex = -1;
  nodes[current].tabIndex = 0;
  if (focus) nodes[current].focus();
}

/** Start at the first card again: the query is a new one. */
export function restart() {
  current = 0;
}

/** Find the nearest card in the row above or below. */
function across(step) {
  const here = grid.children[current].getBoundingClientRect();
  const middle = here.left + here.width / 2;
  let best = current;
  let row = null;
  let least = Infinity;
  for (let index = current + step; index >= 0 && index < grid.children.length; index += step) {
    const box = grid.children[index].getBoundingClientRect();
    if (Math.abs(box.top - here.top) < 4) continue;
    row ??= box.top;
    if (Math.abs(box.top - row) > 4) break;
    const distance = Math.abs(box.left + box.width / 2 - middle);
    if (distance < least) [least, best] = [distance, index];
  }
  return best;
}

/** `open(match)`, `like(match)`, `leave()` (upwards out of the grid). */
export function listenToGrid({ open, like, leave }) {
  const at = (event) => {
    const node = event.target.closest(".card");
    return node ? [...grid.children].indexOf(node) : -1;
  };
  let anchor = 0; // where a range of choices begins

  grid.addEventListener("click", (event) => {
    const index = at(event);
    if (index < 0) return;
    point(index);
    if (event.shiftKey) {
      for (let i = Math.min(anchor, index); i <= Math.max(anchor, index); i += 1) selection.choose(matches[i], true);
    } else if (event.target.closest(".tick") || event.ctrlKey || event.metaKey) {
      anchor = index;
      selection.choose(matches[index]);
    } else open(matches[index]);
  });
  grid.addEventListener("focusin", (event) => {
    const index = at(event);
    if (index >= 0 && index !== current) point(index, false);
  });
  grid.addEventListener("keydown", (event) => {
    if (!matches.length || event.altKey) return;
    const control = event.ctrlKey || event.metaKey;
    const moves = {
      ArrowRight: () => current + 1, ArrowLeft: () => current - 1,
      ArrowDown: () => across(1), ArrowUp: () => across(-1),
      Home: () => 0, End: () => matches.length - 1,
    };
    if (event.key in moves && !control) {
      const next = moves[event.key]();
      if (event.key === "ArrowUp" && next === current) leave();
      else {
        if (event.shiftKey) for (const i of [current, next]) if (matches[i]) selection.choose(matches[i], true);
        point(next);
      }
    } else if (control && event.key.toLowerCase() === "a") {
      for (const match of matches) selection.choose(match, true);
    } else if (control && event.key.toLowerCase() === "c" && selection.count() && !getSelection().toString()) {
      selection.copyPaths();
    } else if (control) return;
    else if (event.key === "Enter") open(matches[current]);
    else if (event.key === " ") {
      anchor = current;
      selection.choose(matches[current]);
    } else if (event.key.toLowerCase() === "m") like(matches[current]);
    else return;
    event.preventDefault();
  });
}
