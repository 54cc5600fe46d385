// Searches as a user types: one at a time, and the newest always wins.
import { ask } from "./api.js";
import { filterOf, isText } from "./address.js";
import { upload } from "./uploads.js";

const PAUSE = 100; // milliseconds between the last key and the search
const LONGEST_ADDRESS = 1500; // characters of a query that still go into a GET

/** Send a query, by the smallest request that carries it. */
function send(query, k, signal) {
  const text = isText(query);
  const fields = { k, filter: filterOf(query) || null, min_relevance: (text && query.min) || null, hybrid: text && query.words ? 1 : null };
  if (query.q.trim()) fields.q = query.q;
  if (query.like) fields.image_id = query.like;
  if (query.q.trim() && (query.like || query.image)) fields.text_weight = query.weight;
  const given = Object.entries(fields).filter(([, value]) => value !== null);
  if (query.image) {
    const form = new FormData();
    form.append("image", upload(query.image));
    for (const [name, value] of given) form.append(name, String(value));
    return ask("/v1/search/image", { form, signal });
  }
  if (query.q.length > LONGEST_ADDRESS) {
    const json = Object.fromEntries(given);
    if (json.image_id) json.image_id = Number(json.image_id);
    if (json.hybrid) json.hybrid = true;
    return ask("/v1/search", { json, signal });
  }
  return ask(`/v1/search?${new URLSearchParams(given)}`, { signal });
}

/** Runs searches; `answer` hears of the newest alone, whatever the order of arrival. */
export class Searcher {
  #turn = 0;
  #running = null;
  #timer = 0;

  constructor({ answer, fault, busy }) {
    Object.assign(this, { answer, fault, busy });
  }

  /** Ask after a pause in typing; a further call within it replaces this one. */
  soon(query, k) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.now(query, k), PAUSE);
  }

  /** Ask now, and drop what is still asked for. */
  async now(query, k) {
    this.stop();
    const turn = this.#turn;
    const running = (this.#running = new AbortController());
    this.busy(true);
    try {
      const answer = await send(query, k, running.signal);
      if (turn === this.#turn) this.answer(answer, query, k);
    } catch (fault) {
      if (turn === this.#turn && fault.name !== "AbortError") this.fault(fault, query, k);
    } finally {
      if (turn === this.#turn) this.busy(false);
    }
  }

  /** Drop what is asked for; its answer will not be heard. */
  stop() {
    clearTimeout(this.#timer);
    this.#turn += 1;
    this.#running?.abort();
    this.busy(false);
  }
}
