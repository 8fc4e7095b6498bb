// What is chosen and what is shown; the address of the page keeps what is chosen.

import { $ } from "./page.js";

export const READING = ["sensor", "bands", "scale", "offset"];
const STATE = { scene: "", model: "", sensor: "", bands: "", scale: "", offset: "", job: "", left: "", right: "", swipe: "50", opacity: "100", stretch: "scene", z: "", x: "", y: "", guide: "" };

export const state = { ...STATE, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) };

/** What the server offers, what it said of the open scene, and the map that shows it. */
export const shared = { offer: null, about: null, map: null };
/** Stretch by layer: of the scene, and of the view. */
export const ranges = new Map();
export const viewRanges = new Map();
const controls = { scene: null, chart: null, values: null };

/** Begin a task of one kind, and break off the one before. */
export function fresh(kind) {
  controls[kind]?.abort();
  controls[kind] = new AbortController();
  return controls[kind].signal;
}

export function keep() {
  const used = Object.entries(state).filter(([key, value]) => value !== "" && value !== STATE[key]);
  history.replaceState(null, "", used.length ? `#${new URLSearchParams(used)}` : location.pathname + location.search);
}

export function choice() {
  const { scene, model, sensor, bands, scale, offset, job } = state;
  return { scene, model, sensor, bands, scale, offset, job };
}

export function fillReading() {
  for (const name of READING) $(name).value = state[name];
  $("opacity").value = state.opacity;
  $("swipe").value = state.swipe || "50";
  $("swiping").checked = state.swipe !== "off";
  const stretch = document.querySelector(`input[name=stretch][value="${CSS.escape(state.stretch)}"]`);
  if (stretch) stretch.checked = true;
}

export function unitOf({ unit }) {
  return unit === "1" ? "" : ` ${unit}`;
}
