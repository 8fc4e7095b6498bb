// The page: what is chosen, what is shown of it, and the address that restores both.

import { askJson, Refused, send, upload } from "./api.js";
import { histogram, scatter, short } from "./charts.js";
import { SceneMap } from "./map.js";

const $ = (id) => document.getElementById(id);
const READING = ["sensor", "bands", "scale", "offset"];
const STATE = { scene: "", model: "", sensor: "", bands: "", scale: "", offset: "", job: "", left: "", right: "", swipe: "50", opacity: "100", stretch: "scene", z: "", x: "", y: "", guide: "" };

const state = { ...STATE, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) };
let offer, about, map, polling;
const ranges = new Map(); // stretch of the scene, by layer
let viewRanges = {};
const controls = { scene: null, chart: null, values: null };

/** Begin a task of one kind, and break off the one before. */
function fresh(kind) {
  controls[kind]?.abort();
  controls[kind] = new AbortController();
  return controls[kind].signal;
}

function say(text) {
  $("status").textContent = text;
}

function fail(error) {
  if (error?.name === "AbortError") return;
  $("error").textContent = error instanceof Refused ? error.message : `The page failed: ${error?.message ?? error}`;
  $("error").hidden = false;
  say("");
  if (!(error instanceof Refused)) console.error(error);
}

const guarded = (work) => async (...given) => {
  $("error").hidden = true;
  try {
    await work(...given);
  } catch (error) {
    fail(error);
  }
};

function keep() {
  const used = Object.entries(state).filter(([key, value]) => value !== "" && value !== STATE[key]);
  history.replaceState(null, "", used.length ? `#${new URLSearchParams(used)}` : location.pathname + location.search);
}

function choice() {
  const { scene, model, sensor, bands, scale, offset, job } = state;
  return { scene, model, sensor, bands, scale, offset, job };
}

function option(select, value, text) {
  const made = document.createElement("option");
  made.value = value;
  made.textContent = text;
  select.append(made);
}

// ------------------------------------------------------------------------------------ choosing

async function start() {
  offer = await askJson("offer");
  for (const model of offer.models) option($("model"), model.name, `${model.name}: ${model.source.join(", ")} → ${model.target.join(", ")}`);
  for (const { name, title } of offer.sensors) {
    option($("sensor"), name, `${name}: ${title}`);
    option($("guide-sensor"), name, name);
  }
  if (!offer.models.some((m) => m.name === state.model)) state.model = offer.models[0].name;
  $("model").value = state.model;
  $("root").hidden = !offer.root;
  $("remote").hidden = !offer.remote;
  fillReading();
  tellModel();
  if (offer.root) await list("");
  if (state.guide) setGuide(state.guide, state.guide.split(/[:/]/).pop());
  if (state.scene) await openScene();
}

function fillReading() {
  for (const name of READING) $(name).value = state[name];
  $("opacity").value = state.opacity;
  $("swipe").value = state.swipe || "50";
  $("swiping").checked = state.swipe !== "off";
  const stretch = document.querySelector(`input[name=stretch][value="${CSS.escape(state.stretch)}"]`);
  if (stretch) stretch.checked = true;
}

function tellModel() {
  const model = offer.models.find((m) => m.name === state.model);
  $("model-about").textContent = `${model.about || model.task}. It takes ${model.units.join(" or ")}.` + (model.windows ? "" : " It sees the whole image: translate the scene to see its result.");
}

async function list(folder) {
  const found = await askJson("files", { folder });
  $("folder").textContent = found.folder || "/";
  const rows = [];
  const row = (...buttons) => {
    const line = document.createElement("li");
    line.append(...buttons);
    rows.push(line);
  };
  const button = (text, label, press, kind = "") => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    if (label) made.setAttribute("aria-label", label);
    if (kind) made.className = kind;
    made.addEventListener("click", guarded(press));
    return made;
  };
  if (found.folder) row(button("↑ up", "", () => list(found.folder.split("/").slice(0, -1).join("/")), "name"));
  for (const { name, folder: below } of found.folders) row(button(`${name}/`, "", () => list(below), "name"));
  for (const { name, scene } of found.files)
    row(
      button(name, "", () => choose(scene), "name"),
      button("guide", `Take ${name} as the guide`, () => setGuide(scene, name)),
    );
  if (!rows.length) row(document.createTextNode("no rasters here"));
  $("files").replaceChildren(...rows);
}

async function choose(scene) {
  for (const name of [...READING, "job", "z", "x", "y", "left", "right"]) state[name] = "";
  state.scene = scene;
  fillReading();
  await openScene();
}

async function sendFile(input) {
  const file = input.files[0];
  if (!file) return null;
  const bar = $("upload-progress");
  bar.hidden = false;
  say(`sending ${file.name}`);
  try {
    if (file.size > offer.max_upload) throw new Refused(`${file.name} is larger than ${offer.max_upload / 1e6} MB, the most`);
    return await upload(file, (share) => (bar.value = share));
  } finally {
    bar.hidden = true;
    input.value = "";
  }
}

function setGuide(scene, name) {
  state.guide = scene;
  $("guide-name").textContent = scene ? `guide: ${name}` : "";
  $("no-guide").hidden = !scene;
  say(scene ? `${name} guides the whole scene` : "without a guide");
  keep();
}

// ------------------------------------------------------------------------------------- showing

async function openScene() {
  const signal = fresh("scene");
  say("opening …");
  about = await askJson("scene", choice(), { signal });
  $("scene-name").textContent = about.name + (about.width ? `, ${about.width} × ${about.height} pixels` : "") + (about.crs ? `, ${about.crs}` : "");
  $("band-list").textContent = about.bands.length ? "In the file: " + about.bands.map((b) => `${b.number}=${b.label || b.name || "?"} (${b.dtype})`).join(", ") : "";
  $("reading").hidden = false;
  $("problem").textContent = about.problem;
  $("problem").hidden = !about.problem;
  ranges.clear();
  viewRanges = {};
  for (const id of ["layers", "pointed", "charts", "job"]) $(id).hidden = Boolean(about.problem);
  keep();
  if (about.problem) {
    say("The file does not say all that is needed.");
    showMap(null);
    return;
  }
  fillLayers();
  fillJob();
  showMap(about.view);
  say(`${about.name} is open: ${about.unit}.`);
  if (state.job) await followJob();
}

function layer(name) {
  return about.layers.find((l) => l.name === name);
}

function fillLayers() {
  for (const [side, first] of [["left", "source"], ["right", "synthetic"]]) {
    $(side).replaceChildren();
    for (const { name, title } of about.layers) option($(side), name, title);
    if (!layer(state[side])) state[side] = layer(first) ? first : about.layers[0].name;
    $(side).value = state[side];
  }
  $("indices").replaceChildren($("indices").firstElementChild);
  for (const name of about.indices) {
    const label = document.createElement("label");
    label.className = "check";
    const box = document.createElement("input");
    box.type = "checkbox";
    box.value = name;
    label.append(box, ` ${name}`);
    $("indices").append(label);
  }
  $("indices").hidden = !about.indices.length;
}

function showMap(view) {
  map?.remove();
  map = null;
  for (const id of ["empty", "swipe", "divider", "names"]) $(id).hidden = (id === "empty") === Boolean(view);
  $("hint").hidden = true;
  if (!view) return;
  map = new SceneMap($("map"), view, { told, moved, pointed });
  if (state.z !== "") map.map.setView(map.latLng(Number(state.x), Number(state.y)), Number(state.z));
  else map.start();
  swipe();
  setOpacity();
  refresh();
}

/** Show both layers with their stretch, and their legends. */
function refresh() {
  if (!map) return;
  for (const side of ["left", "right"]) {
    const shown = layer(state[side]);
    const used = stretchOf(shown);
    map.show(side, shown, { ...choice(), ranges: used.flat().map((v) => Number(v.toPrecision(4))).join(",") });
    $(`${side}-name`).textContent = shown.title;
  }
  drawLegends();
  keep();
}

function stretchOf({ name, ranges: first }) {
  if (state.stretch === "scene") return ranges.get(name) ?? first;
  if (state.stretch === "view") return viewRanges[name] ?? first;
  return first;
}

function unitOf({ unit }) {
  return unit === "1" ? "" : ` ${unit}`;
}

function drawLegends() {
  const made = [...new Set([state.left, state.right])].map((name) => {
    const shown = layer(name);
    const box = document.createElement("div");
    box.className = "legend";
    const title = document.createElement("div");
    title.textContent = shown.title;
    box.append(title);
    const used = stretchOf(shown);
    if (used.length === 1) {
      const bar = document.createElement("div");
      bar.className = "bar";
      bar.style.backgroundImage = `linear-gradient(90deg, ${offer.colours[shown.colours].map((c) => `rgb(${c.join(",")})`).join(",")})`;
      box.append(bar);
    }
    used.forEach(([low, high], i) => {
      const ends = document.createElement("div");
      ends.className = "ends";
      for (const text of [`${used.length > 1 ? `${shown.bands[i]} ` : ""}${short(low)}`, `${short(high)}${unitOf(shown)}`]) {
        const end = document.createElement("span");
        end.textContent = text;
        ends.append(end);
      }
      box.append(ends);
    });
    return box;
  });
  $("legends").replaceChildren(...made);
}

function told({ far, error }) {
  if (error) fail(error);
  if (far) {
    $("hint").textContent = "The model computes from near: zoom in, or translate the whole scene.";
    $("hint").hidden = false;
  }
}

let later;
function moved() {
  if (!map) return;
  const at = map.middle();
  Object.assign(state, { z: String(map.map.getZoom()), x: at.x.toFixed(2), y: at.y.toFixed(2) });
  keep();
  $("hint").hidden = true;
  clearTimeout(later);
  later = setTimeout(measure, 500);
  if (document.activeElement === $("map")) pointed(at);
}

/** Measure the distribution in the view, and once that of the scene. */
const measure = guarded(async () => {
  if (!map) return;
  const signal = fresh("chart");
  const seen = map.seen();
  const shown = layer(state.right);
  const bounds = seen?.map((v) => v.toFixed(3)).join(",");
  const said = seen ? await askJson(`distribution/${shown.name}`, { ...choice(), bounds }, { signal }) : {};
  $("histogram").hidden = !said.ranges;
  if (said.ranges) {
    histogram($("histogram"), said.bands, said.histograms);
    $("histogram-said").textContent = said.ranges.map(([low, high], i) => `${said.bands[i]}: 2 to 98 % lie between ${short(low)} and ${short(high)}${unitOf(shown)}`).join("; ");
    viewRanges[shown.name] = said.ranges;
  } else {
    $("histogram-said").textContent = said.why === "far" ? "Zoom in to see it." : "Nothing of the scene is in the view.";
  }
  if (state.stretch === "view" && seen && state.left !== state.right) {
    const left = await askJson(`distribution/${state.left}`, { ...choice(), bounds }, { signal });
    if (left.ranges) viewRanges[state.left] = left.ranges;
  }
  if (state.stretch === "scene")
    for (const name of [state.left, state.right]) {
      if (ranges.has(name)) continue;
      const whole = await askJson(`distribution/${name}`, { ...choice(), of: "scene" }, { signal });
      if (whole.ranges) ranges.set(name, whole.ranges);
    }
  refresh();
  $("scatter-figure").hidden = !about.scatter || !seen;
  if (!about.scatter || !seen) return;
  const agreement = await askJson("scatter", { ...choice(), bounds }, { signal });
  $("scatter-figure").hidden = agreement.counts === undefined;
  if (agreement.counts === undefined) return;
  scatter($("scatter"), agreement);
  const unit = agreement.unit === "1" ? "" : ` ${agreement.unit}`;
  $("scatter-said").textContent = `Synthetic (up) over measured (right) ${agreement.band}, both from ${short(agreement.low)} to ${short(agreement.high)}${unit}: MAE ${short(agreement.mae)}, RMSE ${short(agreement.rmse)}, bias ${short(agreement.bias)}, r ${short(agreement.r)}`;
});

let pointing;
function pointed(at) {
  clearTimeout(pointing);
  pointing = setTimeout(async () => {
    const signal = fresh("values");
    try {
      const found = await askJson("values", { ...choice(), x: at.x, y: at.y }, { signal });
      $("pixel").textContent = found.pixel ? `row ${found.pixel[0]}, column ${found.pixel[1]}` : "beside the scene";
      const rows = found.layers.flatMap((l) =>
        l.values.map((value, i) => {
          const row = document.createElement("tr");
          const text = value === null ? "–" : `${short(value)}${l.unit === "1" ? "" : ` ${l.unit}`}`;
          for (const cell of [i ? "" : l.title, l.bands[i], text]) {
            const made = document.createElement("td");
            made.textContent = cell;
            row.append(made);
          }
          return row;
        }),
      );
      $("values").replaceChildren(...rows);
    } catch (error) {
      fail(error);
    }
  }, 60);
}

function swipe() {
  if (!map) return;
  const on = $("swiping").checked;
  const at = map.setSwipe(on ? Number($("swipe").value) / 100 : null);
  $("divider").style.left = `${at}px`;
  $("divider").hidden = $("swipe").hidden = !on;
  state.swipe = on ? $("swipe").value : "off";
  keep();
}

function setOpacity() {
  state.opacity = $("opacity").value;
  $("opacity-said").textContent = `${state.opacity} %`;
  map?.setOpacity(Number(state.opacity) / 100);
  keep();
}

// ------------------------------------------------------------------------------ the whole scene

function fillJob() {
  $("translate").disabled = false;
  $("running").hidden = true;
  $("downloads").replaceChildren();
}

async function translate() {
  const { scene, model, sensor, bands, scale, offset, guide } = state;
  const indices = [...$("indices").querySelectorAll("input:checked")].map((box) => box.value);
  const order = { scene, model, sensor, bands, scale, offset, indices, dtype: $("dtype").value };
  if (guide) Object.assign(order, { guide, guide_sensor: $("guide-sensor").value, guide_bands: $("guide-bands").value, guide_method: $("guide-method").value });
  state.job = (await send("jobs", order)).id;
  keep();
  await followJob(true);
}

/** Show how a job goes on, until it ends. */
async function followJob(shows = false) {
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
  about = { ...about, ...(await askJson("scene", choice())) };
  const kept = [state.left, state.right];
  fillLayers();
  [state.left, state.right] = kept.map((name, i) => (layer(name) ? name : state[["left", "right"][i]]));
  refresh();
  measure();
}

// --------------------------------------------------------------------------------------- events

$("file").addEventListener("change", guarded(async ({ target }) => {
  const made = await sendFile(target);
  if (made) await choose(made.scene);
}));
$("guide-file").addEventListener("change", guarded(async ({ target }) => {
  const made = await sendFile(target);
  if (made) setGuide(made.scene, made.name);
}));
$("no-guide").addEventListener("click", () => setGuide("", ""));
$("remote").addEventListener("submit", guarded(async (event) => {
  event.preventDefault();
  await choose(`remote:${$("address").value.trim()}`);
}));
$("reading").addEventListener("submit", guarded(async (event) => {
  event.preventDefault();
  for (const name of READING) state[name] = $(name).value.trim();
  state.job = "";
  await openScene();
}));
$("model").addEventListener("change", guarded(async ({ target }) => {
  Object.assign(state, { model: target.value, job: "", left: "", right: "" });
  tellModel();
  if (state.scene) await openScene();
  keep();
}));
for (const side of ["left", "right"])
  $(side).addEventListener("change", guarded(async ({ target }) => {
    state[side] = target.value;
    refresh();
    await measure();
  }));
for (const input of document.querySelectorAll("input[name=stretch]"))
  input.addEventListener("change", guarded(async ({ target }) => {
    state.stretch = target.value;
    refresh();
    await measure();
  }));
$("swipe").addEventListener("input", swipe);
$("swiping").addEventListener("change", swipe);
$("opacity").addEventListener("input", setOpacity);
$("whole").addEventListener("click", () => map?.whole());
$("native").addEventListener("click", () => map?.native());
$("translate").addEventListener("click", guarded(translate));
$("cancel").addEventListener("click", guarded(async () => {
  await send(`jobs/${state.job}/cancel`);
  await followJob(true);
}));
$("resume").addEventListener("click", guarded(async () => {
  await send(`jobs/${state.job}/resume`);
  await followJob(true);
}));
$("copy").addEventListener("click", guarded(async () => {
  keep();
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(location.href);
    say("The link is copied.");
  } else say("The link is in the address bar.");
}));
addEventListener("resize", swipe);
addEventListener("hashchange", () => location.reload());
guarded(start)();
