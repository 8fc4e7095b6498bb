// What is chosen and what is shown; the address of the page keeps what is chosen.

import { $ } from "./page.js";

export const READING = ["sensor", "bands", "scale", "offset"];
export const GUIDING = ["guide_sensor", "guide_bands", "guide_method", "guide_days"];
const STATE = { scene: "", model: "", sensor: "", bands: "", scale: "", offset: "", job: "", left: "", right: "", swipe: "50", opacity: "100", stretch: "scene", z: "", x: "", y: "", guide: "", guide_sensor: "", guide_bands: "", guide_method: "", guide_days: "", indices: "", dtype: "", interval: "", promise: "", familiarity: "" };

export const state = { ...STATE, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) };

/**
 * What the server offers, what it said of the open scene, for which choice, and the map that shows it.
 * What is asked about pixels is asked for `choice`: `state` may be ahead of it while a scene is opened.
 */
export const shared = { offer: null, about: null, choice: null, map: null };
/** Stretch by layer: of the scene, and of the view. */
export const ranges = new Map();
export const viewRanges = new Map();
const controls = {};

/** Begin a task of one kind, and break off the one before. */
export function fresh(kind) {
  stop(kind);
  controls[kind] = new AbortController();
  return controls[kind].signal;
}

/** Break off tasks, so that their answers are not shown any more. */
export function stop(...kinds) {
  for (const kind of kinds) controls[kind]?.abort();
}

export function keep() {
  const used = Object.entries(state).filter(([key, value]) => value !== "" && value !== STATE[key]);
  history.replaceState(null, "", used.length ? `#${new URLSearchParams(used)}` : location.pathname + location.search);
}

export function choice() {
  const { scene, model, sensor, bands, scale, offset, job, guide } = state;
  const how = guide ? Object.fromEntries(GUIDING.map((name) => [name, state[name]])) : {};
  // A model that was trained with a guide knows no other method.
  if (shared.offer.models.find((m) => m.name === model)?.guide.length) delete how.guide_method;
  return { scene, model, sensor, bands, scale, offset, job, guide, ...how };
}

export function fillReading() {
  for (const name of READING) $(name).value = state[name];
  for (const name of GUIDING) $(name.replace("_", "-")).value = state[name];
  $("opacity").value = state.opacity;
  $("swipe").value = state.swipe || "50";
  $("swiping").checked = state.swipe !== "off";
  const stretch = document.querySelector(`input[name=stretch][value="${CSS.escape(state.stretch)}"]`);
  if (stretch) stretch.checked = true;
}

export function unitOf({ unit }) {
  return unit === "1" ? "" : ` ${unit}`;
}
