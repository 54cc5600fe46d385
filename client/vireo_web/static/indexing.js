// The sheet where a folder is chosen to index, and where jobs show how far they are.
import { ask } from "./api.js";
import { el, find, icon } from "./dom.js";
import { say } from "./language.js";
import * as jobs from "./jobs.js";
import { faultNotice, toast } from "./notices.js";
import { reason } from "./reasons.js";

const sheet = find("folders");
const chip = find("job-chip");
const parts = {};
const rows = new Map(); // a job's id -> its row

let info = null;
let here = null; // the folder that is shown; null for the list of allowed places

function build() {
  parts.now = el("p", { className: "muted" });
  parts.crumb = el("div", { className: "crumb" });
  parts.list = el("ul", { className: "folder-list" });
  parts.index = el("button", { type: "button", className: "button", on: { click: start } }, el("span", { say: "folders.index" }));
  parts.fault = el("p", { className: "fault", role: "alert", hidden: true });
  parts.jobsTitle = el("h3", { say: "job.title" });
  parts.jobs = el("ul", { className: "jobs" });
  sheet.append(
    el("header", {}, el("h2", { id: "folders-title", say: "folders.title" }),
      el("button", { type: "button", className: "plain", label: "folders.close", on: { click: () => sheet.close() } }, icon("close"))),
    el("div", { className: "sheet-body" },
      parts.now, parts.jobsTitle, parts.jobs,
      el("p", { className: "muted hint", say: "folders.hint" }),
      parts.crumb, parts.list, parts.fault),
    el("footer", {}, parts.index));
  sheet.addEventListener("click", (event) => event.target === sheet && sheet.close());
}

function fault(given) {
  parts.fault.hidden = false;
  parts.fault.replaceChildren(
    el("span", { say: given.message_key ?? "folders.failed" }), " ", el("small", {}, given.message));
}

function entry(name, path, images, note = "") {
  const count = images ? el("span", { className: "muted", say: ["folders.images", { n: images }] }) : null;
  return el("li", {}, el("button", { type: "button", className: "row", on: { click: () => go(path) } }, icon("folder"), el("span", { className: "grow" }, name, note ? el("small", { className: "note path" }, note) : null), count, icon("right")));
}

/** Show the allowed places, or what is within one folder. */
async function go(path, focus = true) {
  parts.fault.hidden = true;
  if (path === null) {
    here = null;
    parts.crumb.replaceChildren(el("strong", { say: "folders.places" }));
    parts.list.replaceChildren(...info.roots.map(({ label, path }) => entry(label, path, null, path)));
  } else {
    let answer;
    try {
      answer = await ask(`/v1/folders?${new URLSearchParams({ path })}`);
    } catch (given) {
      fault(given);
      return;
    }
    here = answer.path;
    parts.crumb.replaceChildren(
      el("button", { type: "button", className: "plain", label: "folders.up", on: { click: () => go(answer.parent) } }, icon("up")),
      el("strong", { className: "path" }, answer.path));
    parts.list.replaceChildren(...(answer.folders.length
      ? answer.folders.map((folder) => entry(folder.name, folder.path, folder.images))
      : [el("li", { className: "muted none", say: "folders.none" })]));
  }
  parts.index.disabled = here === null;
  if (focus) (parts.list.querySelector("button") ?? parts.index).focus();
}

async function start() {
  parts.fault.hidden = true;
  parts.index.disabled = true; // a second click would queue a second job
  try {
    await jobs.start(here);
    parts.jobsTitle.scrollIntoView({ block: "nearest" });
  } catch (given) {
    fault(given);
  } finally {
    parts.index.disabled = here === null;
  }
}

function control(key, run) {
  return el("button", { type: "button", className: "button quiet", say: key, on: { click: async (event) => {
    event.target.disabled = true;
    try {
      await run();
    } catch (given) {
      faultNotice("job", given);
    }
    event.target.disabled = false;
  } } });
}

function row(job) {
  const node = el("li", { className: "job", data: { job: job.id } },
    el("div", { className: "job-head" }, el("strong", { className: "path" }, job.folder), el("span", { className: "state" })),
    el("progress", { max: 1, ariaLabel: job.folder }),
    el("p", { className: "job-facts" }),
    el("p", { className: "fault", hidden: true }),
    el("details", { className: "skipped", hidden: true }, el("summary", {}), el("ul", {})),
    el("div", { className: "actions" }, control("job.cancel", () => jobs.cancel(job.id)), control("job.resume", () => jobs.resume(job.id))));
  rows.set(job.id, node);
  parts.jobs.prepend(node);
  return node;
}

function drawJob(job) {
  const node = rows.get(job.id) ?? row(job);
  const live = jobs.isLive(job);
  node.dataset.state = job.state;
  say(node.querySelector(".state"), `job.${job.state}`);
  const bar = node.querySelector("progress");
  bar.hidden = !live;
  if (jobs.share(job) === null) bar.removeAttribute("value");
  else bar.value = jobs.share(job);

  const facts = [];
  if (job.state === "running") {
    facts.push(job.total ? ["job.progress", { done: job.done, total: job.total }] : ["job.counting"]);
    if (job.rate > 0) facts.push(["job.rate", { rate: job.rate }]);
    if (job.seconds_left > 0) facts.push(["job.left", { left: job.seconds_left }]);
  } else if (!live && (job.state !== "failed" || job.added)) {
    facts.push(["job.outcome", { added: job.added, removed: job.removed, unchanged: job.unchanged }]);
    if (job.state === "cancelled") facts.push(["job.kept"]);
  }
  node.querySelector(".job-facts").replaceChildren(...facts.map((fact) => el("span", { say: fact })));

  const error = node.querySelector(".fault");
  error.hidden = !job.error;
  error.replaceChildren(...(job.error ? reason(job.error) : []));

  const skipped = node.querySelector(".skipped");
  skipped.hidden = job.skipped_count === 0;
  say(skipped.firstChild, "job.skipped", { n: job.skipped_count });
  const rest = job.skipped_count - job.skipped.length;
  skipped.lastChild.replaceChildren(
    ...job.skipped.map((file) => el("li", {}, el("span", { className: "path" }, file.path), " ", el("div", { className: "muted" }, ...reason(file.reason)))),
    rest > 0 ? el("li", { className: "muted", say: ["job.skipped_more", { n: rest }] }) : "");

  const [cancel, resume] = node.querySelector(".actions").children;
  cancel.hidden = !live;
  resume.hidden = job.state !== "cancelled" && job.state !== "failed";
}

/** Draw the jobs again, here and in the header. */
export function drawJobs() {
  if (parts.jobs) {
    const known = jobs.all();
    for (const [id, node] of rows) {
      if (known.some((job) => job.id === id)) continue;
      node.remove();
      rows.delete(id);
    }
    for (const job of known) drawJob(job);
    parts.jobsTitle.hidden = known.length === 0;
  }
  const job = jobs.live();
  chip.hidden = job === null;
  if (job) {
    const done = jobs.share(job);
    say(find("job-chip-text"), done === null ? "job.chip_plain" : "job.chip", { share: done });
    chip.style.setProperty("--share", done ?? 0);
  }
}

/** Tell of a job's end, where the sheet does not show it. */
export function announce(job) {
  if (job.state === "done") toast("job.finished", { n: job.added });
}

function drawNow() {
  parts.now.hidden = !info.index;
  if (!info.index) return;
  parts.now.replaceChildren(
    el("span", { say: ["folders.now_value", { n: info.index.images, folder: info.index.folder }] }),
    info.model ? el("span", { className: "model", say: ["folders.model", { name: info.model.name }] }) : "");
}

/** Tell the sheet what the server says of itself. */
export function inform(given) {
  info = given;
  if (parts.now) drawNow();
}

/** Open the sheet. */
export function openSheet() {
  if (!info) return;
  if (!parts.list) build();
  drawNow();
  drawJobs();
  if (!sheet.open) sheet.showModal();
  go(here ?? (info.roots.length === 1 ? info.roots[0].path : null));
}

export function listenToSheet() {
  find("open-folders").addEventListener("click", openSheet);
  chip.addEventListener("click", openSheet);
}
