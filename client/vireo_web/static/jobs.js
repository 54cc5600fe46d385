// Indexing jobs as they go on: one stream a job, taken up again after a break.
import { Problem, ask, events } from "./api.js";

const RETRY = 2000; // milliseconds
const jobs = new Map(); // id -> job, in the order of arrival
const followed = new Set();
let changed = () => {};
let turned = () => {};

export const all = () => [...jobs.values()];
export const isLive = (job) => job.state === "queued" || job.state === "running";
export const live = () => all().find((job) => job.state === "running") ?? all().find(isLive) ?? null;

/** Return how much of a job is done, from 0 to 1; null while its images are counted. */
export const share = (job) => (job.total ? Math.min(1, job.done / job.total) : null);

function put(job) {
  const before = jobs.get(job.id);
  jobs.set(job.id, job);
  changed(job);
  if (before ? isLive(before) !== isLive(job) : isLive(job)) turned(job);
  return isLive(job);
}

/** Follow a job until it ends; a server that is gone for a while is asked again. */
async function follow(id) {
  if (followed.has(id)) return;
  followed.add(id);
  try {
    for (;;) {
      try {
        for await (const job of events(`/v1/index/${id}/events`)) if (!put(job)) return;
        if (!put((await ask(`/v1/index/${id}`)).job)) return;
      } catch (fault) {
        // A server that was started anew knows nothing of the job any more.
        if (fault instanceof Problem && fault.status === 404) {
          jobs.delete(id);
          changed(null);
          return;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY));
    }
  } finally {
    followed.delete(id);
  }
}

/** Take over a job, and follow it while it is not at an end. */
export function take(job) {
  if (put(job)) follow(job.id);
}

export async function start(folder) {
  take((await ask("/v1/index", { json: { folder } })).job);
}

export async function cancel(id) {
  const answer = await ask(`/v1/index/${id}`, { method: "DELETE" });
  take(answer.job);
}

export async function resume(id) {
  take((await ask(`/v1/index/${id}/resume`, { method: "POST" })).job);
}

/** `onChange(job)` hears of all progress, `onTurn(job)` of each beginning and each end. */
export function listenToJobs(onChange, onTurn) {
  changed = onChange;
  turned = onTurn;
}
