// The page before the first query: what it is, and some queries to try, each with its best image.
import { ask } from "./api.js";
import { el, find } from "./dom.js";
import { LIKELY, thumbnail } from "./grid.js";
import { recent } from "./recent.js";

const EXAMPLES = 6;
// For photos without captions. The model reads Vietnamese, whatever the page speaks.
const QUERIES = ["hoàng hôn trên biển", "món ăn Việt Nam", "trẻ em đang chơi", "đường phố đông xe máy", "một con mèo", "núi và mây"];

let drawn = null; // the generation of the index whose examples are shown

/** Take captions of the index as examples; their images are sure to be found. */
async function fromCaptions() {
  const { matches } = await ask(`/v1/search?${new URLSearchParams({ q: QUERIES[0], k: 60 })}`);
  const texts = new Map();
  for (const match of matches) {
    if (match.caption && match.caption.length <= 90 && !texts.has(match.caption)) texts.set(match.caption, match);
  }
  const found = [...texts];
  if (found.length < EXAMPLES) return [];
  // Neighbours are alike; of all that came, every n-th.
  const step = Math.floor(found.length / EXAMPLES);
  return Array.from({ length: EXAMPLES }, (_, index) => found[index * step]);
}

/** Take what our queries find; a text stands only on an image that is likely to be a hit. */
async function fromQueries() {
  const answers = await Promise.all(QUERIES.map((q) => ask(`/v1/search?${new URLSearchParams({ q, k: 1 })}`)));
  const found = new Map(); // an image's id -> its example, as several queries may find one image
  for (const [index, { matches: [best] }] of answers.entries()) {
    if (!best) continue;
    if (best.relevance >= LIKELY) found.set(best.id, [QUERIES[index], best]);
    else if (!found.has(best.id)) found.set(best.id, ["", best]);
  }
  return [...found.values()];
}

function tile(text, match, search, like) {
  const image = el("img", { alt: "", decoding: "async" });
  image.addEventListener("load", () => image.classList.add("here"));
  image.addEventListener("error", () => image.remove());
  image.src = thumbnail(match);
  if (text) return el("button", { type: "button", className: "tile", on: { click: () => search(text) } }, image, el("span", {}, el("b", {}, text)));
  return el("button", { type: "button", className: "tile", label: ["welcome.like", { name: match.name }], on: { click: () => like(match) } }, image);
}

/** Draw the start page for an index; examples come when they come. A tile is a text or an image to search by. */
export async function draw(info, search, like) {
  const box = find("welcome");
  const generation = `${info.index.folder} ${info.index.generation}`;
  const texts = recent().slice(0, 6);
  const chips = texts.length
    ? el("div", { className: "chips" }, el("h3", { say: "welcome.recent" }), ...texts.map((q) =>
        el("button", { type: "button", className: "pill", on: { click: () => search(q) } }, q)))
    : null;
  const tiles = drawn === generation ? box.querySelector(".tiles") : el("div", { className: "tiles", hidden: true });
  box.replaceChildren(
    el("h2", { say: "welcome.title" }),
    el("p", { className: "lead", say: "welcome.hint" }),
    el("p", { className: "ready" }, el("span", { say: ["welcome.index", { n: info.index.images }] })),
    ...[chips, tiles].filter(Boolean));
  if (drawn === generation) return;
  drawn = generation;
  try {
    const found = await fromCaptions();
    const examples = found.length ? found : await fromQueries();
    if (drawn !== generation || !examples.length) return;
    tiles.replaceChildren(...examples.map(([text, match]) => tile(text, match, search, like)));
    tiles.hidden = false;
  } catch {
    drawn = null; // examples are a courtesy; a search will say what is wrong
  }
}
