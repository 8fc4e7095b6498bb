// The two layers that are shown, with stretch, legends, swipe and opacity.

import { short } from "./charts.js";
import { $, option } from "./page.js";
import { keep, ranges, shared, state, unitOf, viewRanges } from "./state.js";

export function layer(name) {
  return shared.about.layers.find((l) => l.name === name);
}

export function fillLayers() {
  for (const [side, first] of [["left", "source"], ["right", "synthetic"]]) {
    $(side).replaceChildren();
    for (const { name, title } of shared.about.layers) option($(side), name, title);
    if (!layer(state[side])) state[side] = layer(first) ? first : shared.about.layers[0].name;
    $(side).value = state[side];
  }
}

/** Show both layers with their stretch, and their legends. */
export function refresh() {
  if (!shared.map) return;
  for (const side of ["left", "right"]) {
    const shown = layer(state[side]);
    const used = stretchOf(shown);
    shared.map.show(side, shown, { ...shared.choice, ranges: used.flat().map((v) => Number(v.toPrecision(4))).join(",") });
    $(`${side}-name`).textContent = shown.title;
  }
  drawLegends();
  keep();
}

function stretchOf({ name, ranges: first }) {
  if (state.stretch === "scene") return ranges.get(name) ?? first;
  if (state.stretch === "view") return viewRanges.get(name) ?? first;
  return first;
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
      bar.style.backgroundImage = `linear-gradient(90deg, ${shared.offer.colours[shown.colours].map((c) => `rgb(${c.join(",")})`).join(",")})`;
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

export function swipe() {
  if (!shared.map) return;
  const on = $("swiping").checked;
  const at = shared.map.setSwipe(on ? Number($("swipe").value) / 100 : null);
  $("divider").style.left = `${at}px`;
  $("divider").hidden = $("swipe").hidden = !on;
  state.swipe = on ? $("swipe").value : "off";
  keep();
}

export function setOpacity() {
  state.opacity = $("opacity").value;
  $("opacity-said").textContent = `${state.opacity} %`;
  shared.map?.setOpacity(Number(state.opacity) / 100);
  keep();
}
