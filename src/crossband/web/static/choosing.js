// What can be chosen: a model, files on the server and of the visitor, a guide.

import { Refused, askJson, upload } from "./api.js";
import { $, on, say, settled } from "./page.js";
import { choose, updateScene } from "./scene.js";
import { fresh, keep, shared, state, stop } from "./state.js";

export function tellModel() {
  const model = shared.offer.models.find((m) => m.name === state.model);
  $("model-about").textContent = `${model.about || model.task}. It takes ${model.units.join(" or ")}.` + (model.guide.length ? " It needs a guide." : "") + (model.windows ? "" : " It sees the whole image: translate the scene to see its result.");
}

export async function list(folder) {
  const found = await askJson("files", { folder }, { signal: fresh("files") });
  $("folder").textContent = found.folder || "/";
  const rows = [];
  const row = (...buttons) => {
    const line = document.createElement("li");
    line.append(...buttons);
    rows.push(line);
  };
  const button = (text, label, press, kind = "", after = "start") => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    if (label) made.setAttribute("aria-label", label);
    if (kind) made.className = kind;
    on(made, "click", press, { after });
    return made;
  };
  if (found.folder) row(button("↑ up", "", () => list(found.folder.split("/").slice(0, -1).join("/")), "name"));
  for (const { name, folder: below } of found.folders) row(button(`${name}/`, "", () => list(below), "name"));
  for (const { name, scene } of found.files)
    row(
      button(name, "", () => choose(scene), "name"),
      button("guide", `Take ${name} as the guide`, () => setGuide(scene, name), "guide", "scene"),
    );
  if (!rows.length) row(document.createTextNode("no rasters here"));
  $("files").replaceChildren(...rows);
}

let sending; // signal of the upload whose progress is shown

export async function sendFile(input, signal) {
  const file = input.files[0];
  if (!file) return null;
  input.value = ""; // so that the same file can be chosen again
  const bar = $("upload-progress");
  bar.hidden = false;
  bar.value = 0;
  sending = signal;
  say(`sending ${file.name}`);
  try {
    if (file.size > shared.offer.max_upload) throw new Refused(`${file.name} is larger than ${shared.offer.max_upload / 1e6} MB, the most`);
    return await upload(file, (share) => (bar.value = share), signal);
  } finally {
    if (sending === signal) bar.hidden = true;
  }
}

export async function setGuide(scene, name) {
  stop("guide"); // an upload that is on its way is not taken any more
  await settled();
  if (!shared.map) throw new Refused("choose the scene first, then its guide");
  Object.assign(state, { guide: scene, job: "" });
  keep();
  say(scene ? `${name} guides the result` : "without a guide");
  await updateScene();
}
