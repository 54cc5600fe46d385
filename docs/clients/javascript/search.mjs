// Searches through the HTTP API of `vireo web`, with a text or with an image's file.
//
//     node search.mjs http://127.0.0.1:8080 "hai con chó"
//     node search.mjs http://127.0.0.1:8080 --image photo.jpg
import { readFile } from "node:fs/promises";

const [address, ...words] = process.argv.slice(2);
const headers = process.env.VIREO_WEB_KEY
  ? { Authorization: `Bearer ${process.env.VIREO_WEB_KEY}` }
  : {};

let answer;
if (words[0] === "--image") {
  const form = new FormData();
  form.set("image", new Blob([await readFile(words[1])]), "image");
  form.set("k", "5");
  answer = await fetch(`${address}/v1/search/image`, { method: "POST", body: form, headers });
} else {
  const query = new URLSearchParams({ q: words.join(" "), k: 5 });
  answer = await fetch(`${address}/v1/search?${query}`, { headers });
}
const body = await answer.json();
if (!answer.ok) {
  console.error(`${body.status} ${body.error}: ${body.detail}`);
  process.exit(1);
}
for (const match of body.matches) {
  console.log(`${match.score.toFixed(3)} ${match.path}`);
}
