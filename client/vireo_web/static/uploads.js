// Images that are searched by and are not of the index: picked, dropped or pasted. They live in this tab.
import { find } from "./dom.js";

const files = new Map();
const started = Date.now().toString(36);

/** Keep a file and return the token that stands for it in an address. */
export function keep(file) {
  const token = `${started}-${files.size + 1}`;
  files.set(token, file);
  return token;
}

export const upload = (token) => files.get(token);

/** Return the first image of what was dropped or pasted, else the first file, else nothing. */
function imageOf(transfer) {
  const given = [...(transfer?.files ?? [])];
  return given.find((file) => file.type.startsWith("image/")) ?? given[0] ?? null;
}

/**
 * Listen for images from all sides. `take(file)` gets a file that may be an image, `like(id)` an
 * image of the grid that was dragged to the box, `refuse(key, values)` says why not.
 */
export function listen({ take, like, refuse, limit }) {
  const offer = (file) => {
    const most = limit();
    // Some systems give HEIC no type; what is unknown is for the server to read.
    const named = file.type ? file.type.startsWith("image/") : !/\.(txt|pdf|docx?|zip|mp4|mov)$/i.test(file.name);
    if (!named) refuse("drop.not_image", { name: file.name });
    else if (file.size > most) refuse("drop.too_large", { name: file.name, size: file.size, most });
    else take(file);
  };

  const input = find("file");
  find("pick").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    if (input.files[0]) offer(input.files[0]);
    input.value = ""; // the same file can be picked again
  });

  addEventListener("paste", (event) => {
    const file = imageOf(event.clipboardData);
    if (!file) return; // text goes where the cursor is
    event.preventDefault();
    offer(file);
  });

  const shade = find("drop");
  let depth = 0; // enter and leave come for every element under the pointer
  const show = (on) => {
    depth = on ? depth : 0;
    shade.hidden = !on;
  };
  addEventListener("dragenter", (event) => {
    event.preventDefault();
    depth += 1;
    show(true);
  });
  addEventListener("dragleave", () => {
    depth -= 1;
    if (depth <= 0) show(false);
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    show(false);
    const id = event.dataTransfer?.getData("application/x-vireo-image");
    const file = imageOf(event.dataTransfer);
    if (id) like(id);
    else if (file) offer(file);
    else refuse("drop.no_file");
  });
}
