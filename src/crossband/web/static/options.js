// Options of the whole scene as a job; the address of the page keeps them.

import { $, option } from "./page.js";
import { keep, shared, state } from "./state.js";

const chosenIndices = () => state.indices.split(",").filter(Boolean);

/** Show the options that the open scene and the model have, as they are chosen. */
export function fillOptions() {
  const { indices, levels, familiarity } = shared.about;
  const boxes = indices.map((name) => {
    const label = document.createElement("label");
    label.className = "check";
    const box = document.createElement("input");
    box.type = "checkbox";
    box.value = name;
    box.checked = chosenIndices().includes(name);
    label.append(box, ` ${name}`);
    return label;
  });
  $("indices").replaceChildren($("indices").firstElementChild, ...boxes);
  $("indices").hidden = !indices.length;
  $("interval").replaceChildren();
  option($("interval"), "", "none");
  for (const level of levels.mean) option($("interval"), String(level), `${Math.round(100 * level)} %`);
  $("interval").value = offers("mean", state.interval) ? state.interval : "";
  $("promise").value = state.promise;
  fillPromise();
  $("familiarity").checked = familiarity && state.familiarity === "yes";
  $("familiar").hidden = !familiarity;
  $("uncertain").hidden = !levels.mean.length && !familiarity;
  $("dtype").value = state.dtype;
}

const offers = (promise, level) => shared.about.levels[promise].map(String).includes(level);

/** Offer the promises that can be made of the chosen level. */
function fillPromise() {
  const level = $("interval").value;
  $("promise").disabled = !level;
  const places = $("promise").querySelector("[value=places]");
  places.disabled = !!level && !offers("places", level);
  if (places.disabled) $("promise").value = "";
}

/** Keep what a visitor has chosen in the address of the page. */
export function keepOptions() {
  const { indices, levels, familiarity } = shared.about;
  // What this scene does not have stays as it was, for the next one.
  const others = chosenIndices().filter((name) => !indices.includes(name));
  const checked = [...$("indices").querySelectorAll("input:checked")].map((box) => box.value);
  state.indices = [...others, ...checked].join(",");
  state.dtype = $("dtype").value;
  fillPromise();
  if (levels.mean.length) Object.assign(state, { interval: $("interval").value, promise: $("promise").value });
  if (familiarity) state.familiarity = $("familiarity").checked ? "yes" : "";
  keep();
}

/** Return the options as a job is ordered with them. */
export function orderedOptions() {
  const { indices } = shared.about;
  return {
    indices: chosenIndices().filter((name) => indices.includes(name)),
    dtype: state.dtype,
    interval: $("interval").value,
    promise: $("interval").value && $("promise").value,
    familiarity: $("familiarity").checked,
  };
}
