// A query as the page's address, and as the filter that the server reads.

/** A query without anything in it. `image` is an upload's token, `like` an image of the index. */
export const NOTHING = Object.freeze({
  q: "", like: "", image: "", weight: 0.5, folder: "", from: "", to: "", camera: "", min: 0, words: false, view: "",
});

/** Read the query of an address; what is out of range counts as not given. */
export function read(location) {
  const given = new URLSearchParams(location.search);
  const text = (name) => given.get(name) ?? "";
  const share = (name, otherwise) => {
    const value = Number.parseFloat(text(name));
    return value >= 0 && value <= 1 ? value : otherwise;
  };
  const day = (name) => (/^\d{4}-\d\d-\d\d$/.test(text(name)) ? text(name) : "");
  const id = (name) => (/^\d{1,18}$/.test(text(name)) ? text(name) : "");
  return {
    q: text("q"), like: id("like"), image: text("image"), weight: share("weight", NOTHING.weight),
    folder: text("folder"), from: day("from"), to: day("to"), camera: text("camera"),
    min: share("min", NOTHING.min), words: text("words") === "1", view: id("view"),
  };
}

/** Write the address of a query. An upload's token stays in: it means something in this tab alone. */
export function write(query) {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== NOTHING[name]) parts.set(name, value === true ? "1" : String(value));
  }
  const text = parts.toString();
  return text ? `/?${text}` : "/";
}

/** Return whether a query asks for anything. */
export const isSearch = (query) => Boolean(query.q.trim() || query.like || query.image);

/** Return whether a query is a text alone: only then is relevance known, and words are looked up. */
export const isText = (query) => Boolean(query.q.trim()) && !query.like && !query.image;

const quoted = (text) => `"${text.replace(/[\\"]/g, "\\$&")}"`;

/** A camera is called by its maker and its model, either of which may be missing: any split may be meant. */
function ofCamera(name) {
  const words = name.split(" ");
  const splits = words.map((_, index) => {
    const model = `model = ${quoted(words.slice(index).join(" "))}`;
    return index ? `make = ${quoted(words.slice(0, index).join(" "))} and ${model}` : `make is null and ${model}`;
  });
  return [...splits, `make = ${quoted(name)} and model is null`].map((split) => `(${split})`).join(" or ");
}

/** Write the filter of a query in the language of `vireo search --filter`. */
export function filterOf(query) {
  const conditions = [];
  if (query.folder) conditions.push(`folder ^= ${quoted(query.folder)}`);
  if (query.from) conditions.push(`taken >= ${query.from}`);
  if (query.to) conditions.push(`taken <= ${query.to}`);
  if (query.camera) conditions.push(`(${ofCamera(query.camera)})`);
  return conditions.join(" and ");
}
