// Opening a scene: what it holds, or what must be said first, and the map of it.

import { askJson } from "./api.js";
import { fillJob, followJob } from "./job.js";
import { fillLayers, refresh, setOpacity, swipe } from "./layers.js";
import { SceneMap } from "./map.js";
import { moved, pointed } from "./measuring.js";
import { $, fail, say } from "./page.js";
import { READING, choice, fillReading, fresh, keep, ranges, shared, state, viewRanges } from "./state.js";

export async function openScene() {
  const signal = fresh("scene");
  say("opening …");
  shared.about = await askJson("scene", choice(), { signal });
  $("scene-name").textContent = shared.about.name + (shared.about.width ? `, ${shared.about.width} × ${shared.about.height} pixels` : "") + (shared.about.crs ? `, ${shared.about.crs}` : "");
  $("band-list").textContent = shared.about.bands.length ? "In the file: " + shared.about.bands.map((b) => `${b.number}=${b.label || b.name || "?"} (${b.dtype})`).join(", ") : "";
  $("reading").hidden = false;
  $("problem").textContent = shared.about.problem;
  $("problem").hidden = !shared.about.problem;
  ranges.clear();
  viewRanges.clear();
  for (const id of ["layers", "pointed", "charts", "job"]) $(id).hidden = Boolean(shared.about.problem);
  keep();
  if (shared.about.problem) {
    say("The file does not say all that is needed.");
    showMap(null);
    return;
  }
  fillLayers();
  fillJob();
  showMap(shared.about.view);
  say(`${shared.about.name} is open: ${shared.about.unit}.`);
  if (state.job) await followJob();
}

export async function choose(scene) {
  for (const name of [...READING, "job", "z", "x", "y", "left", "right"]) state[name] = "";
  state.scene = scene;
  fillReading();
  await openScene();
}

function showMap(view) {
  shared.map?.remove();
  shared.map = null;
  for (const id of ["empty", "swipe", "divider", "names"]) $(id).hidden = (id === "empty") === Boolean(view);
  $("hint").hidden = true;
  if (!view) return;
  shared.map = new SceneMap($("map"), view, { told, moved, pointed });
  if (state.z !== "") shared.map.map.setView(shared.map.latLng(Number(state.x), Number(state.y)), Number(state.z));
  else shared.map.start();
  swipe();
  setOpacity();
  refresh();
}

function told({ far, error }) {
  if (error) fail(error);
  if (far) {
    $("hint").textContent = "The model computes from near: zoom in, or translate the whole scene.";
    $("hint").hidden = false;
  }
}
