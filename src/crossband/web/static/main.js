// The page: its start, and what each of its controls does.

import { askJson } from "./api.js";
import { list, sendFile, setGuide, tellModel } from "./choosing.js";
import { change, startJobs, translate } from "./job.js";
import { refresh, setOpacity, swipe } from "./layers.js";
import { measure } from "./measuring.js";
import { $, begin, guarded, on, option, say } from "./page.js";
import { keepOptions } from "./options.js";
import { choose, openScene } from "./scene.js";
import { GUIDING, READING, fillReading, fresh, keep, shared, state } from "./state.js";

const started = begin("start", async () => {
  shared.offer = await askJson("offer");
  for (const model of shared.offer.models) option($("model"), model.name, `${model.name}${model.guide.length ? " (with a guide)" : ""}: ${model.source.join(", ")} → ${model.target.join(", ")}`);
  for (const { name, title } of shared.offer.sensors) {
    option($("sensor"), name, `${name}: ${title}`);
    option($("guide-sensor"), name, name);
  }
  if (!shared.offer.models.some((m) => m.name === state.model)) state.model = shared.offer.models[0].name;
  $("model").value = state.model;
  $("root").hidden = !shared.offer.root;
  $("remote").hidden = !shared.offer.remote;
  fillReading();
  tellModel();
  if (shared.offer.root) await list("");
  guarded(startJobs)();
});

const any = { after: "start" };
on($("file"), "change", async (input) => {
  // Another scene that is chosen meanwhile breaks the upload off.
  const made = await sendFile(input, fresh("choice"));
  if (made) await choose(made.scene);
}, any);
// A file may also be dropped anywhere.
addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  $("empty").classList.add("over");
});
for (const end of ["dragleave", "drop"]) addEventListener(end, () => $("empty").classList.remove("over"));
addEventListener("drop", (event) => {
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  $("file").files = event.dataTransfer.files;
  $("file").dispatchEvent(new Event("change"));
});
on($("guide-file"), "change", async (input) => {
  const made = await sendFile(input, fresh("guide"));
  if (made) await setGuide(made.scene, made.name);
});
on($("guide-list"), "click", () => {
  $("root").open = true;
  $("files").querySelector(".guide")?.focus();
});
on($("no-guide"), "click", () => setGuide("", ""));
for (const name of GUIDING)
  on($(name.replace("_", "-")), "change", async (control) => {
    state[name] = control.value.trim();
    keep();
    if (state.guide) await setGuide(state.guide, shared.about.guide_name);
  });
for (const id of ["indices", "dtype", "interval", "promise", "familiarity"]) on($(id), "change", keepOptions);
on($("remote"), "submit", () => choose(`remote:${$("address").value.trim()}`), any);
on($("reading"), "submit", async () => {
  for (const name of READING) state[name] = $(name).value.trim();
  state.job = "";
  await openScene();
}, any);
on($("model"), "change", async (select) => {
  Object.assign(state, { model: select.value, job: "", left: "", right: "" });
  tellModel();
  if (state.scene) await openScene();
  keep();
}, any);
for (const side of ["left", "right"])
  on($(side), "change", async (select) => {
    state[side] = select.value;
    refresh();
    await measure();
  });
for (const input of document.querySelectorAll("input[name=stretch]"))
  on(input, "change", async () => {
    state.stretch = input.value;
    refresh();
    await measure();
  });
$("swipe").addEventListener("input", swipe);
$("swiping").addEventListener("change", swipe);
$("opacity").addEventListener("input", setOpacity);
$("whole").addEventListener("click", () => shared.map?.whole());
$("native").addEventListener("click", () => shared.map?.native());
on($("translate"), "click", translate);
on($("cancel"), "click", () => change(state.job, "cancel"));
on($("resume"), "click", () => change(state.job, "resume"));
on($("copy"), "click", async () => {
  keep();
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(location.href);
    say("The link is copied.");
  } else say("The link is in the address bar.");
});
addEventListener("resize", swipe);
addEventListener("hashchange", () => location.reload());

// A file that was chosen before this script was there, and the scene that the address names.
if ($("file").files.length) $("file").dispatchEvent(new Event("change"));
else if ((await started) && state.scene) await openScene();
