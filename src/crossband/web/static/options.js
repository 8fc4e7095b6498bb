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
  for (const level of levels) option($("interval"), String(level), `${Math.round(100 * level)} %`);
  $("interval").value = levels.map(String).includes(state.interval) ? state.interval : "";
  $("familiarity").checked = familiarity && state.familiarity === "yes";
  $("familiar").hidden = !familiarity;
  $("uncertain").hidden = !levels.length && !familiarity;
  $("dtype").value = state.dtype;
}

/** Keep what a visitor has chosen in the address of the page. */
export function keepOptions() {
  const { indices, levels, familiarity } = shared.about;
  // What this scene does not have stays as it was, for the next one.
  const others = chosenIndices().filter((name) => !indices.includes(name));
  const checked = [...$("indices").querySelectorAll("input:checked")].map((box) => box.value);
  state.indices = [...others, ...checked].join(",");
  state.dtype = $("dtype").value;
  if (levels.length) state.interval = $("interval").value;
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
    familiarity: $("familiarity").checked,
  };
}
