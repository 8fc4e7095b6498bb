// The whole scene as a job: ordered, followed, its files.

import { askJson, send } from "./api.js";
import { fillLayers, layer, refresh } from "./layers.js";
import { measure } from "./measuring.js";
import { $, guarded, say } from "./page.js";
import { choice, keep, shared, state } from "./state.js";

let polling;

export function fillJob() {
  $("translate").disabled = false;
  $("running").hidden = true;
  $("downloads").replaceChildren();
}

export async function translate() {
  const { scene, model, sensor, bands, scale, offset, guide } = state;
  const indices = [...$("indices").querySelectorAll("input:checked")].map((box) => box.value);
  const order = { scene, model, sensor, bands, scale, offset, indices, dtype: $("dtype").value };
  if (guide) Object.assign(order, { guide, guide_sensor: $("guide-sensor").value, guide_bands: $("guide-bands").value, guide_method: $("guide-method").value });
  state.job = (await send("jobs", order)).id;
  keep();
  await followJob(true);
}

/** Show how a job goes on, until it ends. */
export async function followJob(shows = false) {
  clearTimeout(polling);
  const id = state.job;
  const job = await askJson(`jobs/${id}`);
  if (id !== state.job) return;
  const open = ["waiting", "running"].includes(job.state);
  const share = job.total ? job.done / job.total : 0;
  $("running").hidden = job.state === "done";
  $("translate").disabled = open;
  $("job-progress").value = share;
  $("cancel").hidden = !open;
  $("resume").hidden = !["cancelled", "failed"].includes(job.state);
  $("job-said").textContent = { waiting: "waits for other jobs", running: `${Math.floor(100 * share)} %, ${Math.round(job.seconds)} s`, cancelled: `cancelled at ${Math.floor(100 * share)} %; what is computed is kept`, failed: job.error, done: "done" }[job.state];
  if (open) {
    polling = setTimeout(guarded(() => followJob(true)), 600);
    return;
  }
  if (job.state !== "done") {
    say(job.state === "failed" ? "The job failed." : "The job is cancelled.");
    return;
  }
  const link = (text, path) => {
    const line = document.createElement("li");
    const made = document.createElement("a");
    made.href = `api/jobs/${id}/${path}`;
    made.textContent = text;
    made.download = "";
    line.append(made);
    return line;
  };
  $("downloads").replaceChildren(...job.files.map((name) => link(`Download ${name}`, `file/${encodeURIComponent(name)}`)), link("Report of the translation (HTML)", "report"));
  say(`The whole scene is translated, in ${Math.round(job.seconds)} s.`);
  if (!shows) return;
  // From now on the layers are those of the file, at every zoom.
  shared.about = { ...shared.about, ...(await askJson("scene", choice())) };
  const kept = [state.left, state.right];
  fillLayers();
  [state.left, state.right] = kept.map((name, i) => (layer(name) ? name : state[["left", "right"][i]]));
  refresh();
  measure();
}
