// Files of the server, saved by the browser.
import { call } from "./api.js";

/** Save an address of the server as a file; a fault is the caller's to say. */
export async function save(address, name, options) {
  const blob = await (await call(address, { accept: "*/*", ...options })).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000); // the browser may still be reading it
}
