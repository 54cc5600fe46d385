// The search box's image: where it comes from, how much it counts, and what describes it.
import { ask } from "./api.js";
import { el, find } from "./dom.js";
import { t } from "./language.js";
import { upload } from "./uploads.js";

const image = find("chip-image");
const range = find("mix-range");
const sentences = find("described");

/** Let the box show a query; `search(text)` runs when a sentence is chosen. */
export function draw(query, search) {
  const file = query.image ? upload(query.image) : null;
  const address = file ? `upload:${query.image}` : query.like ? `/v1/images/${query.like}/thumbnail?size=128` : "";
  find("chip").hidden = !address;
  find("clear").hidden = !query.q && !address;
  find("mix").hidden = !(address && query.q.trim());
  if (Number(range.value) !== query.weight) range.value = query.weight;
  range.setAttribute("aria-valuetext", t("mix.value", { weight: query.weight, rest: 1 - query.weight }));
  if (image.dataset.shows === address) return;
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  image.dataset.shows = address;
  if (file) image.src = URL.createObjectURL(file);
  else if (address) image.src = address;
  else image.removeAttribute("src");
  describe(file, search);
}

/** Offer the sentences that describe an upload, to search on with one of them. */
async function describe(file, search) {
  sentences.hidden = true;
  if (!file) return;
  const { shows } = image.dataset;
  const form = new FormData();
  form.append("image", file);
  // They are a courtesy: where they fail, the search itself says why.
  const found = await ask("/v1/describe", { form }).then((answer) => answer.sentences, () => []);
  if (image.dataset.shows !== shows || !found.length) return;
  sentences.replaceChildren(el("h3", { say: "described.title" }), ...found.map(({ text }) =>
    el("button", { type: "button", className: "pill", on: { click: () => search(text) } }, text)));
  sentences.hidden = false;
}
