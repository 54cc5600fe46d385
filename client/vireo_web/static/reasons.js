// Why a file or a folder was not indexed. The server says it in English; the usual ones are known here.
import { el } from "./dom.js";

const KNOWN = [
  [/no images in this folder/, "job.no_images"],
  [/another process is writing/, "fault.locked"],
  [/No space left|disk is full/, "reason.disk_full"],
  [/[Pp]ermission denied/, "reason.forbidden"],
  [/too large an image/, "reason.too_large"],
  [/not a readable image/, "reason.unreadable"],
  [/[Nn]o such file/, "reason.gone"],
];

/** Write a reason in the user's language, with the server's own words after it. */
export function reason(text) {
  const known = KNOWN.find(([words]) => words.test(text));
  return known ? [el("span", { say: known[1] }), el("small", {}, text)] : [text];
}
