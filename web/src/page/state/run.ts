// What is to be said of a run.

import type { PrecisionShare } from "statepress";
import { hasOffset } from "./fields.js";
import { labelOf, readsText } from "./recipes.js";
import { secondText } from "./second.js";
import type { Asked, Calibration, Opened, Run, Source } from "./state.js";

/** What a run is called: its recipe, or the other model. */
export function nameOf({ report, other }: Run): string {
  return other ? other.name : report.recipe.name;
}

/** What a run is called among others: whether its recipe made up for rounding errors is said as well. */
export function titleOf({ report, other }: Run): string {
  return other ? other.name : labelOf(report.recipe);
}

/** What the two sides of a run are called. */
export function sidesOf(checkpoint: Opened, { other }: Run): [string, string] {
  return other ? [`A: ${checkpoint.name}`, `B: ${other.name}`] : ["original", "compressed"];
}

/** Bytes of the checkpoint's weights and of the run's, and how many times smaller these are. */
export function sizeOf(checkpoint: Opened, { report, other }: Run): { before: number; after: number; ratio: number } {
  if (report) return report.bytes;
  const [before, after] = [checkpoint.inspection.bytes, other.inspection.bytes];
  return { before, after, ratio: after === 0 ? 1 : before / after };
}

/** What a measured run has read, in words: of a comparison by text each side by itself. */
export function readBy(checkpoint: Opened, run: Run): string {
  const ahead = (it: Pick<Source, "inspection">, offset: number) =>
    hasOffset(it) ? `, predicting ${offset} ahead` : "";
  const { comparison, byText } = run;
  if (comparison) {
    const { windows, window, offset } = comparison.a;
    return `${windows} windows of ${window} tokens${ahead(checkpoint, offset)}`;
  }
  if (!byText) return "";
  const { a, b } = byText;
  const [nameA, nameB] = sidesOf(checkpoint, run);
  return (
    `${a.windows} windows of ${a.window} tokens of ${nameA}${ahead(checkpoint, a.offset)}; ` +
    `${b.windows} of ${nameB}${ahead(run.other ?? checkpoint, b.offset)}`
  );
}

/** What a run stores its parameters in: nothing that would be known of another model's. */
export function precisionsOf({ report }: Run): PrecisionShare[] {
  return report ? report.precisions : [];
}

/** Why a checkpoint cannot be run, in words. */
export function refusalOf({ inspection }: Pick<Source, "inspection">): string | undefined {
  return inspection.findings.find((finding) => finding.code === "cannot-run")?.message;
}

/** Whether a checkpoint can only be compressed: it cannot be run, or nothing makes tokens of a text for it. */
export function unmeasurable({ inspection, tokenizer }: Pick<Source, "inspection" | "tokenizer">): boolean {
  return refusalOf({ inspection }) !== undefined || tokenizer === undefined;
}

/** The settings that a measurement depends on, by which two measurements can be set side by side. */
export function sameProtocol(a: Asked, b: Asked): boolean {
  return (
    changes(a, {
      ...b,
      recipe: a.recipe,
      calibration: a.calibration,
      second: a.second,
      backend: a.backend,
      backendB: a.backendB,
    }).length === 0
  );
}

/** What has changed since a run, of what it depends on; as nouns. Another model depends on no recipe. */
export function changedSince(run: Run, asked: Asked): string[] {
  return changes(run.asked, run.other ? { ...asked, recipe: run.asked.recipe } : asked);
}

/** What has changed between two settings, of what a run depends on; as nouns. */
export function changes(a: Asked, b: Asked): string[] {
  return [
    ...(a.recipe !== b.recipe ? ["recipe"] : []),
    ...(calibratedOtherwise(a, b) ? ["calibration text"] : []),
    ...(readsOther(a, b) ? ["text"] : []),
    ...(secondText(a)?.text !== secondText(b)?.text ? ["second text"] : []),
    ...(a.limit !== b.limit ? ["amount of text"] : []),
    ...(a.window !== b.window ? ["window"] : []),
    ...(a.backend !== b.backend || a.backendB !== b.backendB ? ["CPU or GPU"] : []),
  ];
}

function readsOther(a: Asked, b: Asked): boolean {
  if (a.text !== b.text) return true;
  return (a.text === "typed" && a.typed !== b.typed) || (a.text === "own" && a.own?.text !== b.own?.text);
}

// A text that nothing is calibrated with makes no difference; nor does one of another recipe, which is said by itself.
function calibratedOtherwise({ recipe, calibration: a }: Asked, { calibration: b }: Asked): boolean {
  return readsText(recipe) && !sameCalibration(a, b);
}

/** Whether two settings have the model read the same, and in the same way. */
export function sameCalibration(a: Calibration, b: Calibration): boolean {
  if (a.from !== b.from || a.gradients !== b.gradients) return false;
  return a.from === "typed" ? a.typed === b.typed : a.from === "demo" || a.own?.text === b.own?.text;
}
