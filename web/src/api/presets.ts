// Built-in searches: recipes that are found by measuring a checkpoint, each for a target of its own. They stand by name among the
// built-in recipes, and `compress` carries them out.

import { StatepressError } from "./errors.js";
import type { StepDraft } from "./options.js";
import type { Inspection, SearchTarget } from "./types/statepress.js";

/** A built-in search. */
export interface Preset {
  name: string;
  description: string;
  /** What is searched for: `target` and `coded` of a search. That this is here says that there are no steps yet. */
  search: { target: Required<Pick<SearchTarget, "maxLoss">>; coded: boolean };
}

/** The built-in searches, the closest to the original first. */
export const PRESETS: readonly Preset[] = [
  preset("auto-close", 0.5, "hardly anything is lost"),
  preset("auto-balanced", 2, "a good deal smaller for a little loss"),
  preset("auto-small", 8, "for where size counts most"),
];

// Entropy-coded: of a file that is found by measuring, that saves most for the same loss.
function preset(name: string, maxLoss: number, why: string): Preset {
  const description = `found by measuring: the smallest entropy-coded file that loses at most ${maxLoss} % of perplexity on the last quarter of the calibration text, which it needs; ${why}`;
  return { name, description, search: { target: { maxLoss }, coded: true } };
}

/** The built-in search of that name; undefined where it is a recipe, or no name at all. */
export function presetOf(recipe: unknown): Preset | undefined {
  return PRESETS.find(({ name }) => name === recipe);
}

/** Refuses a built-in search where only a recipe will do. */
export function refusePreset(recipe: unknown): void {
  const preset = presetOf(recipe);
  if (!preset) return;
  const { name } = preset;
  const message = `${name} is searched for: what it makes of a checkpoint is known only after measuring. Compress with ${name} and a calibration text; the report has the recipe that was found`;
  throw new StatepressError("bad-recipe", message, { recipe: name });
}

/** Rows of a step size that stay: fitted, four of them follow the mean of all by 0.04 % of perplexity on the demo model. */
const ROWS = 4;

/**
 * The steps of a built-in search: those that are given, and before them what the checkpoint can do without, which its
 * inspection says: the rows of a projection of which only the mean is used.
 */
export function stepsBefore({ tensors }: Pick<Inspection, "tensors">, given: readonly StepDraft[] = []): StepDraft[] {
  const isGiven = given.some((step) => "prune" in step && step.prune.kind === "delta");
  if (isGiven || !tensors.some(({ role }) => role === "delta-proj")) return [...given];
  return [{ prune: { kind: "delta", keep: ROWS, by: "loss", repair: true } }, ...given];
}
