// Elements of the page, what is said to the visitor, and what controls wait for.

import { Refused } from "./api.js";

export const $ = (id) => document.getElementById(id);

export function say(text) {
  $("status").textContent = text;
}

/** Say something over the map; nothing takes it away. */
export function hint(text) {
  $("hint").textContent = text;
  $("hint").hidden = !text;
}

export function fail(error) {
  if (error?.name === "AbortError") return;
  $("error").textContent = error instanceof Refused ? error.message : `The page failed: ${error?.message ?? error}`;
  $("error").hidden = false;
  say("");
  if (!(error instanceof Refused)) console.error(error);
}

/** Return a function that does the work, and shows an error; its promise says whether it worked. */
export const guarded = (work) => async (...given) => {
  try {
    await work(...given);
    return true;
  } catch (error) {
    fail(error);
    return false;
  }
};

/** The start of the page, and the latest opening of a scene. */
const tasks = { start: Promise.resolve(false), scene: Promise.resolve(true) };

/** Begin a task that controls wait for. */
export function begin(name, work) {
  $("error").hidden = true;
  tasks[name] = guarded(work)();
  return tasks[name];
}

/** Wait until a task is done, also one that takes its place meanwhile; return whether it worked. */
async function done(name) {
  for (;;) {
    const task = tasks[name];
    const worked = await task;
    if (task === tasks[name]) return worked;
  }
}

/** Wait until a scene that is being opened is there. */
export const settled = () => done("scene");

/**
 * Do something at an event of a control, once what it needs is there.
 *
 * A control that acts on the open scene waits for its opening; one that chooses another scene waits
 * for the start of the page only (`after: "start"`), and takes the place of an opening.
 */
export function on(control, event, work, { after = "scene" } = {}) {
  control.addEventListener(event, async (happened) => {
    if (event === "submit") happened.preventDefault();
    if (!(await done("start")) || (after !== "start" && !(await done("scene")))) return;
    $("error").hidden = true;
    await guarded(work)(control);
  });
}

export function option(select, value, text) {
  const made = document.createElement("option");
  made.value = value;
  made.textContent = text;
  select.append(made);
}
