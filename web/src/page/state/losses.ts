// What is known of the loss of a recipe that is advised: measured here, measured elsewhere, or not at all.

import type { Recipe, Recommendation } from "statepress";
import type { Run } from "./state.js";

/** A loss, in percent of perplexity, and whose it is. */
export type Loss = { kind: "here"; change: number; run: number } | { kind: "elsewhere"; change: number; on: string };

/** The loss of a recipe: what was measured on this model comes before what another one lost; undefined where nobody knows. */
export function lossOf(advised: Recommendation, recipe: Recipe | undefined, runs: Run[]): Loss | undefined {
  const run = runs.findLast((it) => it.report && it.comparison && it.asked.recipe === recipe);
  if (run?.comparison) return { kind: "here", change: run.comparison.perplexityChange, run: run.id };
  const { expectedLoss, measuredOn } = advised;
  if (expectedLoss === undefined || measuredOn === undefined) return undefined;
  return { kind: "elsewhere", change: expectedLoss, on: measuredOn };
}
