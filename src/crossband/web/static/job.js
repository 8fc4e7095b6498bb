// Whole scenes as jobs: ordered, followed until they end, their files.

import { Refused, askJson, send } from "./api.js";
import { tellModel } from "./choosing.js";
import { $, guarded, on, say } from "./page.js";
import { orderedOptions } from "./options.js";
import { openScene, updateScene } from "./scene.js";
import { choice, fillReading, fresh, keep, shared, state } from "./state.js";

/** Jobs of this visitor by their ids, as the server last described them; null before it has. */
const jobs = new Map();
const lines = new Map();
const KEPT = `crossband ${location.pathname}`;
let ordering = false;
let later;

const isOpen = (job) => ["waiting", "running"].includes(job?.state);
const shareOf = (job) => (job.total ? job.done / job.total : 0);

function words(job) {
  const share = `${Math.floor(100 * shareOf(job))} %`;
  return {
    waiting: "waits for other jobs",
    running: `${share}, ${Math.round(job.seconds)} s`,
    cancelled: `cancelled at ${share}; what is computed is kept`,
    failed: job.error,
    done: "done",
  }[job.state];
}

/** Take up the jobs that were ordered in this window before it was loaded anew. */
export async function startJobs() {
  let kept = [];
  try {
    kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
  } catch {
    // a browser that keeps nothing
  }
  for (const id of kept) jobs.set(id, null);
  await poll();
}

function follow(id, job) {
  jobs.set(id, job);
  try {
    sessionStorage.setItem(KEPT, JSON.stringify([...jobs.keys()].slice(-20)));
  } catch {
    // likewise
  }
}

export async function translate() {
  if (ordering) return;
  if (shared.about.guide_wanted.length) throw new Refused("This model needs a guide: choose one first.");
  const used = shared.choice;
  // A guide that cannot be used is refused, and not left out.
  const order = { ...choice(), ...orderedOptions() };
  ordering = true;
  draw();
  try {
    const job = await send("jobs", order);
    follow(job.id, job);
    // Another scene may be open by now: the job goes on beside it.
    if (shared.choice === used) state.job = job.id;
    keep();
  } finally {
    ordering = false;
    draw();
  }
  await poll();
}

/** Follow the job that the address names, if there is one. */
export async function followJob() {
  if (state.job && !jobs.has(state.job)) follow(state.job, null);
  await poll();
}

export async function change(id, what) {
  jobs.set(id, await send(`jobs/${id}/${what}`));
  await poll();
}

/** Ask how the jobs go on, as long as one of them is not at its end. */
async function poll() {
  clearTimeout(later);
  const signal = fresh("jobs");
  const before = state.job && jobs.get(state.job)?.state;
  for (const [id, job] of jobs) {
    if (job && !isOpen(job)) continue;
    try {
      jobs.set(id, await askJson(`jobs/${id}`, {}, { signal }));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      jobs.delete(id); // it was too old
      if (id !== state.job) continue;
      state.job = "";
      keep();
      throw error;
    } finally {
      if (!signal.aborted) draw();
    }
  }
  draw();
  if ([...jobs.values()].some(isOpen)) later = setTimeout(guarded(poll), 600);
  const own = jobs.get(state.job);
  if (own && !isOpen(own) && before !== own.state) tellEnd(own);
  // From now on the layers are those of the file, at every zoom.
  if (own?.state === "done" && shared.map && !shared.about.result) await updateScene();
}

function tellEnd(job) {
  if (job.state === "failed") say("The job failed.");
  if (job.state === "cancelled") say("The job is cancelled.");
  if (job.state === "done") say(`The whole scene is translated, in ${Math.round(job.seconds)} s.`);
}

function draw() {
  const own = jobs.get(state.job);
  $("translate").disabled = ordering || isOpen(own);
  $("running").hidden = !own || own.state === "done";
  if (own) {
    $("job-progress").value = shareOf(own);
    $("job-said").textContent = words(own);
    $("cancel").hidden = !isOpen(own);
    $("resume").hidden = !["cancelled", "failed"].includes(own.state);
  }
  const warnings = own?.warnings ?? [];
  if ($("job-warnings").children.length !== warnings.length || warnings.some((text, i) => $("job-warnings").children[i].textContent !== text))
    $("job-warnings").replaceChildren(...warnings.map((text) => Object.assign(document.createElement("p"), { textContent: text })));
  $("job-warnings").hidden = !warnings.length;
  drawFiles(own);
  drawOthers();
}

function drawFiles(job) {
  const shown = job?.state === "done" ? job.id : "";
  if ($("downloads").dataset.job === shown) return;
  $("downloads").dataset.job = shown;
  const link = (text, path) => {
    const line = document.createElement("li");
    const made = document.createElement("a");
    made.href = `api/jobs/${job.id}/${path}`;
    made.textContent = text;
    made.download = "";
    line.append(made);
    return line;
  };
  const links = shown ? [...job.files.map((name) => link(`Download ${name}`, `file/${encodeURIComponent(name)}`)), link("Report of the translation (HTML)", "report")] : [];
  $("downloads").replaceChildren(...links);
}

/** Show jobs of other scenes and models; a line stays, so that the keyboard keeps its place. */
function drawOthers() {
  for (const [id, job] of jobs) {
    if (!job || id === state.job || lines.has(id)) continue;
    const line = document.createElement("li");
    const said = document.createElement("span");
    said.className = "job";
    const open = document.createElement("button");
    open.type = "button";
    open.textContent = "open";
    open.setAttribute("aria-label", `Open ${job.name} with the job`);
    on(open, "click", () => openJob(jobs.get(id)), { after: "start" });
    line.append(said, open);
    lines.set(id, { line, said });
    $("other-jobs").append(line);
  }
  for (const [id, { line, said }] of lines) {
    const job = jobs.get(id);
    if (!job || id === state.job) {
      line.remove();
      lines.delete(id);
    } else said.textContent = `${job.name}, ${job.order.choice.model}: ${words(job)}`;
  }
  $("jobs").hidden = !lines.size;
}

/** Open the scene of a job as it was ordered. */
async function openJob({ id, order }) {
  const { choice: ordered, indices, dtype, interval, promise } = order;
  const options = { indices: indices.join(","), dtype, interval, promise, familiarity: order.familiarity ? "yes" : "" };
  Object.assign(state, ordered, options, { job: id, left: "", right: "", z: "", x: "", y: "" });
  $("model").value = state.model;
  tellModel();
  fillReading();
  await openScene();
}
