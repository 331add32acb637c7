// What is to be said of a run.

import type { Finding } from "statepress";
import type { Asked, Run } from "./state.js";

/** Findings of compressing and of measuring, each once. */
export function findingsOf({ report, comparison }: Pick<Run, "report" | "comparison">): Finding[] {
  const all = [...report.findings, ...(comparison?.a.findings ?? []), ...(comparison?.b.findings ?? [])];
  return [...new Map(all.map((it) => [`${it.code} ${it.message} ${it.tensor ?? ""}`, it])).values()];
}

/** The settings that a measurement depends on, by which two measurements can be set side by side. */
export function sameProtocol(a: Asked, b: Asked): boolean {
  return changes(a, { ...b, recipe: a.recipe, backend: a.backend, backendB: a.backendB }).length === 0;
}

/** What has changed between two settings, of what a run depends on; in words. */
export function changes(a: Asked, b: Asked): string[] {
  return [
    ...(a.recipe !== b.recipe ? ["the recipe"] : []),
    ...(readsOther(a, b) ? ["the text"] : []),
    ...(a.limit !== b.limit ? ["how much of it is read"] : []),
    ...(a.backend !== b.backend || a.backendB !== b.backendB ? ["what computes"] : []),
  ];
}

function readsOther(a: Asked, b: Asked): boolean {
  if (a.text !== b.text) return true;
  return (a.text === "typed" && a.typed !== b.typed) || (a.text === "own" && a.own?.text !== b.own?.text);
}
