// Opening a scene: what it holds, or what must be said first, and the map of it.

import { askJson } from "./api.js";
import { followJob } from "./job.js";
import { fillLayers, layer, refresh, setOpacity, swipe } from "./layers.js";
import { SceneMap } from "./map.js";
import { fillOptions } from "./options.js";
import { forgetView, hintGuide, measure, moved, pointed } from "./measuring.js";
import { $, begin, fail, guarded, hint, say } from "./page.js";
import { GUIDING, READING, choice, fillReading, fresh, keep, ranges, shared, state, stop, viewRanges } from "./state.js";

const SECTIONS = ["guiding", "layers", "pointed", "charts", "job"];

/** Open what is chosen; an opening that is under way is broken off. */
export const openScene = () =>
  begin("scene", async () => {
    const signal = fresh("scene");
    closeScene();
    keep();
    say("opening …");
    const chosen = choice();
    let about = null;
    try {
      about = await askJson("scene", chosen, { signal });
    } finally {
      // Where another opening has taken the place of this one, that one says what is shown.
      if (!signal.aborted) showSections(about && !about.problem);
    }
    adopt(about, chosen);
    $("scene-name").textContent = about.name + (about.width ? `, ${about.width} × ${about.height} pixels` : "") + (about.crs ? `, ${about.crs}` : "");
    $("band-list").textContent = about.bands.length ? "In the file: " + about.bands.map((b) => `${b.number}=${b.label || b.name || "?"} (${b.dtype})`).join(", ") : "";
    $("reading").hidden = false;
    $("problem").textContent = about.problem;
    $("problem").hidden = !about.problem;
    if (about.problem) {
      say("The file does not say all that is needed.");
      return;
    }
    fillLayers();
    fillOptions();
    showGuide();
    showMap(about.view);
    say(`${about.name} is open: ${about.unit}.`);
    guarded(followJob)();
  });

/** Ask anew what can be shown of the open scene; the map stays, and where this fails, all does. */
export const updateScene = () => begin("scene", guarded(update));

async function update() {
  const signal = fresh("scene");
  const chosen = choice();
  const about = await askJson("scene", chosen, { signal });
  stop("chart", "values");
  const before = layer("synthetic");
  adopt(about, chosen);
  if (!before && layer("synthetic")) state.right = "synthetic"; // now that it can be shown
  ranges.clear();
  viewRanges.clear();
  fillLayers();
  fillOptions();
  showGuide();
  refresh();
  measure();
}

export async function choose(scene) {
  stop("guide");
  fresh("choice"); // an upload that is on its way is not opened any more
  for (const name of [...READING, "guide", ...GUIDING, "job", "z", "x", "y", "left", "right"]) state[name] = "";
  state.scene = scene;
  fillReading();
  await openScene();
}

/** Take over what the server has said of a choice. */
function adopt(about, chosen) {
  // Then what it said is of the result without a guide.
  if (about.guide_problem) for (const name of ["guide", ...GUIDING, "job"]) chosen[name] = "";
  Object.assign(shared, { about, choice: chosen });
}

function showGuide() {
  const { guide_name: name, guide_problem: problem, guide_note: note, guide_wanted: wanted } = shared.about;
  const taken = shared.offer.models.find((m) => m.name === shared.choice.model).guide;
  $("guide-about").textContent = taken.length ? "A measurement of the same place, which this model takes" : "A measurement of the same place corrects the result";
  $("guide-list").hidden = !shared.offer.root;
  $("guide-methods").hidden = taken.length > 0;
  $("guide-wanted").textContent = `This model needs a guide: a raster of the same place with ${listed(taken)}.`;
  $("guide-wanted").hidden = $("job-wanted").hidden = !wanted.length;
  $("guide-name").textContent = name ? `guide: ${name}` : "";
  $("no-guide").hidden = !name;
  $("guide-problem").textContent = problem ? `It cannot be used, so you see the ${taken.length ? "source only" : "result without it"}. ${problem}` : "";
  $("guide-problem").hidden = !problem;
  $("guide-said").textContent = note;
  $("guide-poor").hidden = true;
  if (name || wanted.length) $("guide-details").open = true;
  hintGuide();
}

const listed = (names) => (names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names.join());

/** Forget the scene that was open, and what was asked about it. */
function closeScene() {
  stop("chart", "values");
  forgetView();
  shared.map?.remove();
  Object.assign(shared, { about: null, choice: null, map: null });
  ranges.clear();
  viewRanges.clear();
  for (const id of ["swipe", "divider", "names", "hint", "problem"]) $(id).hidden = true;
  $("empty").hidden = false;
  $("scene-name").textContent = $("band-list").textContent = "";
  // They keep their place until it is known what follows, so that nothing jumps.
  for (const id of SECTIONS) $(id).inert = true;
}

function showSections(shown) {
  for (const id of SECTIONS) {
    $(id).hidden = !shown;
    $(id).inert = false;
  }
}

function showMap(view) {
  for (const id of ["swipe", "divider", "names"]) $(id).hidden = false;
  $("empty").hidden = true;
  shared.map = new SceneMap($("map"), view, { told, moved, pointed });
  const [z, x, y] = [state.z, state.x, state.y].map((text) => (text === "" ? NaN : Number(text)));
  if ([z, x, y].every(Number.isFinite)) shared.map.map.setView(shared.map.latLng(x, y), z);
  else shared.map.start();
  swipe();
  setOpacity();
  refresh();
}

function told({ far, error }) {
  if (error) fail(error);
  if (far) hint("The model computes from near: zoom in, or translate the whole scene.");
}
