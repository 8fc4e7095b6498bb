// What is measured of the view: distributions, agreement with a true band, values at a point.

import { askJson } from "./api.js";
import { histogram, scatter, short } from "./charts.js";
import { layer, refresh } from "./layers.js";
import { $, fail, guarded, hint } from "./page.js";
import { fresh, keep, ranges, shared, state, unitOf, viewRanges } from "./state.js";

/** Say over the map why there is no preview. */
export function hintGuide() {
  const { guide_wanted: wanted, guide_note: note } = shared.about;
  hint(wanted.length ? "Choose a guide: this model needs one to make its result." : note);
}

/** Measure the distribution in the view, and once that of the scene. */
export const measure = guarded(async () => {
  if (!shared.map) return;
  const signal = fresh("chart");
  const seen = shared.map.seen();
  const shown = layer(state.right);
  const bounds = seen?.map((v) => v.toFixed(3)).join(",");
  const said = seen ? await askJson(`distribution/${shown.name}`, { ...shared.choice, bounds }, { signal }) : {};
  $("histogram").hidden = !said.ranges;
  if (said.ranges) {
    histogram($("histogram"), said.bands, said.histograms);
    $("histogram-said").textContent = said.ranges.map(([low, high], i) => `${said.bands[i]}: 2 to 98 % lie between ${short(low)} and ${short(high)}${unitOf(shown)}`).join("; ");
    viewRanges.set(shown.name, said.ranges);
  } else {
    $("histogram-said").textContent = said.why === "far" ? "Zoom in to see it." : "Nothing of the scene is in the view.";
  }
  if (state.stretch === "view" && seen && state.left !== state.right) {
    const name = state.left;
    const left = await askJson(`distribution/${name}`, { ...shared.choice, bounds }, { signal });
    if (left.ranges) viewRanges.set(name, left.ranges);
  }
  if (state.stretch === "scene")
    for (const name of [state.left, state.right]) {
      if (ranges.has(name)) continue;
      const whole = await askJson(`distribution/${name}`, { ...shared.choice, of: "scene" }, { signal });
      if (whole.ranges) ranges.set(name, whole.ranges);
    }
  refresh();
  await agree(bounds, signal);
  if (shared.choice.guide && !shared.about.result) {
    const { said: words, poor } = await askJson("guide", shared.choice, { signal });
    if (words) $("guide-said").textContent = words;
    $("guide-poor").hidden = !poor;
    $("guide-poor").textContent = poor ?? "";
  }
});

/** Measure the agreement with a true band in the view. */
async function agree(bounds, signal) {
  $("scatter-figure").hidden = !shared.about.scatter || !bounds;
  if (!shared.about.scatter || !bounds) return;
  const agreement = await askJson("scatter", { ...shared.choice, bounds }, { signal });
  $("scatter-figure").hidden = agreement.counts === undefined;
  if (agreement.counts === undefined) return;
  scatter($("scatter"), agreement);
  const unit = agreement.unit === "1" ? "" : ` ${agreement.unit}`;
  $("scatter-said").textContent = `Synthetic (up) over measured (right) ${agreement.band}, both from ${short(agreement.low)} to ${short(agreement.high)}${unit}: MAE ${short(agreement.mae)}, RMSE ${short(agreement.rmse)}, bias ${short(agreement.bias)}, r ${short(agreement.r)}`;
}

let later;
let pointing;

/** Ask nothing more about a view that is left. */
export function forgetView() {
  clearTimeout(later);
  clearTimeout(pointing);
  $("values").replaceChildren();
}

export function moved() {
  if (!shared.map) return;
  const at = shared.map.middle();
  Object.assign(state, { z: String(shared.map.map.getZoom()), x: at.x.toFixed(2), y: at.y.toFixed(2) });
  keep();
  hintGuide();
  clearTimeout(later);
  later = setTimeout(measure, 500);
  if (document.activeElement === $("map")) pointed(at);
}

export function pointed(at) {
  clearTimeout(pointing);
  pointing = setTimeout(async () => {
    const signal = fresh("values");
    try {
      const found = await askJson("values", { ...shared.choice, x: at.x, y: at.y }, { signal });
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
