// Elements of the page, and what is said to the visitor.

import { Refused } from "./api.js";

export const $ = (id) => document.getElementById(id);

export function say(text) {
  $("status").textContent = text;
}

export function fail(error) {
  if (error?.name === "AbortError") return;
  $("error").textContent = error instanceof Refused ? error.message : `The page failed: ${error?.message ?? error}`;
  $("error").hidden = false;
  say("");
  if (!(error instanceof Refused)) console.error(error);
}

export const guarded = (work) => async (...given) => {
  $("error").hidden = true;
  try {
    await work(...given);
  } catch (error) {
    fail(error);
  }
};

export function option(select, value, text) {
  const made = document.createElement("option");
  made.value = value;
  made.textContent = text;
  select.append(made);
}
