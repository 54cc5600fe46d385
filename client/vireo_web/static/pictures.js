// Image addresses of the server. An <img> cannot send a key, so with one the bytes are fetched here.
import { call, hasKey } from "./api.js";

const wanted = new WeakMap(); // img -> address, until it comes into view
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    watcher.unobserve(target);
    fetched(target, wanted.get(target));
  }
}, { rootMargin: "400px" });

async function fetched(img, address) {
  try {
    const blob = await (await call(address, { accept: "image/*" })).blob();
    if (wanted.get(img) !== address) return; // shows another image by now
    img.addEventListener("load", () => URL.revokeObjectURL(img.src), { once: true });
    img.src = URL.createObjectURL(blob);
  } catch {
    img.dispatchEvent(new Event("error"));
  }
}

/** Let an image show an address of the server, once it is near the window. */
export function show(img, address) {
  if (!hasKey()) {
    img.src = address;
    return;
  }
  wanted.set(img, address);
  watcher.observe(img);
}

/** Save an address of the server as a file. */
export async function save(address, name, options) {
  const blob = await (await call(address, { accept: "*/*", ...options })).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
