// The page: its start, and what each of its controls does.

import { askJson, send } from "./api.js";
import { list, sendFile, setGuide, tellModel } from "./choosing.js";
import { followJob, translate } from "./job.js";
import { refresh, setOpacity, swipe } from "./layers.js";
import { measure } from "./measuring.js";
import { $, guarded, option, say } from "./page.js";
import { choose, openScene } from "./scene.js";
import { READING, fillReading, keep, shared, state } from "./state.js";

async function start() {
  shared.offer = await askJson("offer");
  for (const model of shared.offer.models) option($("model"), model.name, `${model.name}: ${model.source.join(", ")} → ${model.target.join(", ")}`);
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
  if (state.guide) setGuide(state.guide, state.guide.split(/[:/]/).pop());
  if (state.scene) await openScene();
}

$("file").addEventListener("change", guarded(async ({ target }) => {
  const made = await sendFile(target);
  if (made) await choose(made.scene);
}));
$("guide-file").addEventListener("change", guarded(async ({ target }) => {
  const made = await sendFile(target);
  if (made) setGuide(made.scene, made.name);
}));
$("no-guide").addEventListener("click", () => setGuide("", ""));
$("remote").addEventListener("submit", guarded(async (event) => {
  event.preventDefault();
  await choose(`remote:${$("address").value.trim()}`);
}));
$("reading").addEventListener("submit", guarded(async (event) => {
  event.preventDefault();
  for (const name of READING) state[name] = $(name).value.trim();
  state.job = "";
  await openScene();
}));
$("model").addEventListener("change", guarded(async ({ target }) => {
  Object.assign(state, { model: target.value, job: "", left: "", right: "" });
  tellModel();
  if (state.scene) await openScene();
  keep();
}));
for (const side of ["left", "right"])
  $(side).addEventListener("change", guarded(async ({ target }) => {
    state[side] = target.value;
    refresh();
    await measure();
  }));
for (const input of document.querySelectorAll("input[name=stretch]"))
  input.addEventListener("change", guarded(async ({ target }) => {
    state.stretch = target.value;
    refresh();
    await measure();
  }));
$("swipe").addEventListener("input", swipe);
$("swiping").addEventListener("change", swipe);
$("opacity").addEventListener("input", setOpacity);
$("whole").addEventListener("click", () => shared.map?.whole());
$("native").addEventListener("click", () => shared.map?.native());
$("translate").addEventListener("click", guarded(translate));
$("cancel").addEventListener("click", guarded(async () => {
  await send(`jobs/${state.job}/cancel`);
  await followJob(true);
}));
$("resume").addEventListener("click", guarded(async () => {
  await send(`jobs/${state.job}/resume`);
  await followJob(true);
}));
$("copy").addEventListener("click", guarded(async () => {
  keep();
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(location.href);
    say("The link is copied.");
  } else say("The link is in the address bar.");
}));
addEventListener("resize", swipe);
addEventListener("hashchange", () => location.reload());
guarded(start)();
