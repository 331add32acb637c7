// Which tensors matter: by what was measured of each. How far codes are from their numbers does not say it.

import { firstOf, isCoded, prunesOf, readsText } from "./recipes.js";
import { sameCalibration } from "./run.js";
import { atThreeBits, predictionOf } from "./search.js";
import type { Asked, Calibration, RecipeRun, Run, Search, Wanted } from "./state.js";

/** What tensors cost the model, each rounded alone. */
export interface Damage {
  /** How they were rounded: as the run stores them, or at about three bits. */
  at: "stored" | "three";
  /** The divergence with that tensor alone rounded, nats a token, by its name: as far as it is known. */
  kl: Map<string, number>;
  /** How many are not measured yet. */
  left: number;
}

/**
 * What was measured of the tensors of a run, or, without one, of the checkpoint's; undefined where nothing was. Each is known
 * as it is stored where the run rounds as was measured, while it reads the same; else at three bits.
 */
export function damageOf(search: Search | undefined, run: Run | undefined): Damage | undefined {
  const costs = search?.measured?.costs;
  if (!search || !costs || costs.tensors.length === 0) return undefined;
  const report = run?.report;
  // What was pruned otherwise is another model.
  if (prunesOf(costs.base) !== prunesOf(report?.recipe)) return undefined;
  const left = costs.unmeasured;
  const alike = report && sameCalibration(search.by.calibration, run.asked.calibration);
  const prediction = alike ? predictionOf(costs, report) : undefined;
  if (prediction?.unknown === left) {
    const known = [...prediction.tensors].flatMap(([name, { kl }]) => (kl === undefined ? [] : [[name, kl] as const]));
    return { at: "stored", kl: new Map(known), left };
  }
  const three = [...atThreeBits(costs.tensors)].map(([name, { kl }]) => [name, kl] as const);
  return { at: "three", kl: new Map(three), left };
}

/** Tensors that cost something, those that matter most first. */
export function ranked({ kl }: Damage): { name: string; kl: number }[] {
  return [...kl].flatMap(([name, kl]) => (kl > 0 ? [{ name, kl }] : [])).sort((a, b) => b.kl - a.kl);
}

/**
 * What is measured so that the damage in a run is known: of the same pruned model, while it reads what it read then; without a
 * run, of the checkpoint.
 */
export function measuringFor(
  run: RecipeRun | undefined,
  asked: Asked,
): { calibration: Calibration; how: Omit<Wanted, "target"> } {
  if (!run) return { calibration: asked.calibration, how: { fast: false, coded: false, first: [] } };
  const { wanted, asked: then } = run;
  const { recipe } = run.report;
  const how = { fast: wanted?.fast ?? false, coded: isCoded(recipe), first: wanted?.first ?? firstOf(recipe) };
  return { calibration: readsText(recipe) ? then.calibration : asked.calibration, how };
}

/** How far the codes of a run's tensors are from their numbers, 1 - cosine, by name: a fact of each, and no rank. */
export function errorsOf(run: Run | undefined): Map<string, number> {
  const tensors = run?.report?.tensors ?? [];
  return new Map(tensors.flatMap(({ name, error }) => (error ? [[name, errorIn(error)] as const] : [])));
}

// Without a cosine some of its numbers became infinite, and nothing is worse. Rounding above 1 is no gain.
function errorIn({ cosine }: { cosine: number | null }): number {
  return Math.max(0, 1 - (cosine ?? -1));
}
