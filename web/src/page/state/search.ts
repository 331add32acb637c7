// What a search for the best recipe has measured, and what follows from it for any recipe.

import type {
  Cost,
  CostRows,
  Inspection,
  Plan,
  Recipe,
  RowsPlan,
  SearchCosts,
  SearchPoint,
  StoredAs,
  TensorCosts,
} from "statepress";
import { isExact } from "./calibration.js";
import { codesOf, compensates, countsAnew, firstOf, isCoded, recoveryOf } from "./recipes.js";
import { sameCalibration } from "./run.js";
import type { Calibration, Search, Wanted } from "./state.js";

/** The search that begins: what an earlier one of the same model has measured by the same text is not measured again. */
export function searchFrom(
  before: Search | undefined,
  { run, calibration, how }: { run: number; calibration: Calibration; how: Omit<Wanted, "target"> },
): Search {
  const { fast, coded, first } = how;
  const goesOn =
    before !== undefined &&
    sameCalibration(before.by.calibration, calibration) &&
    before.coded === coded &&
    JSON.stringify(before.by.first) === JSON.stringify(first) &&
    (fast || !before.by.fast);
  const measured = goesOn ? before.measured : undefined;
  // What is there already is as exact as it was.
  const isFast = measured?.costs.unmeasured === 0 ? before?.by.fast === true : fast;
  return { run, coded, by: { calibration, fast: isFast, first }, measured, found: undefined };
}

/** Points that can be told apart on a chart, and be gone through with the keys. */
const POINTS = 24;

/**
 * What was found, where something was, and a few others of the front, the smallest and the closest among them, about as far
 * from each other as can be; the smallest first.
 */
export function spread(front: SearchPoint[], found?: SearchPoint | undefined): SearchPoint[] {
  const [smallest, closest] = [front[0], front.at(-1)];
  if (!smallest || !closest) return [];
  const step = Math.log(closest.bytes / smallest.bytes) / (POINTS - 1);
  const taken = [smallest];
  for (const point of front) {
    const from = taken.at(-1) ?? smallest;
    if (point === closest ? point !== from : Math.log(point.bytes / from.bytes) >= step) taken.push(point);
  }
  if (!found) return taken;
  // A size that is kept to the byte may lie beside the front, where less room is left over.
  const others = taken.filter(({ bytes }) => bytes !== found.bytes);
  return [...others, found].sort((a, b) => a.bytes - b.bytes);
}

/** Which point is where a recipe is predicted to lie, where one is. */
export function pointOf(points: SearchPoint[], here: SearchPoint | undefined): number | undefined {
  const at = points.findIndex(
    ({ bytes, kl }) => here?.bytes === bytes && Math.abs(here.kl - kl) <= 1e-9 * Math.abs(kl),
  );
  return at < 0 ? undefined : at;
}

/** What a tensor is stored as, and what that costs. */
export interface Stored {
  precision: StoredAs;
  /** How far apart its levels are, where that was chosen for the entropy coder. */
  step: number | undefined;
  /** Whether its rows are of several precisions; `precision` is that of most. */
  mixed: boolean;
  /** Divergence with this tensor alone rounded; undefined where it is not known. */
  kl: number | undefined;
  bytes: number;
}

/** What a recipe is predicted to make of a model. */
export interface Prediction {
  /** The sum of what its tensors cost alone. */
  point: SearchPoint;
  /** Every tensor that was measured. */
  tensors: Map<string, Stored>;
  /** How many were not measured, or not as they are stored: they are left out of the sum. */
  unknown: number;
}

/** Whether a recipe rounds as was measured: the same model, with the same codes, and errors made up for. */
export function roundsAsMeasured({ base }: SearchCosts, recipe: Recipe): boolean {
  const before = (it: Recipe) => JSON.stringify(firstOf(it));
  return (
    compensates(recipe) &&
    recoveryOf(recipe) === undefined &&
    codesOf(recipe) === codesOf(base) &&
    isCoded(recipe) === isCoded(base) &&
    before(recipe) === before(base)
  );
}

/** Whether it is known beforehand what a recipe leaves: of layers of several sizes it is measured which of them go. */
export function isForeseen({ findings }: Pick<Plan, "findings">): boolean {
  return findings.every(({ code }) => code !== "estimated");
}

/** What a recipe that is planned, or was followed, loses; undefined where it rounds in another way than was measured. */
export function predictionOf(
  costs: SearchCosts,
  { recipe, tensors: planned }: Pick<Plan, "recipe" | "tensors">,
): Prediction | undefined {
  if (!roundsAsMeasured(costs, recipe)) return undefined;
  const plans = new Map(planned.map((tensor) => [tensor.name, tensor]));
  const tensors = new Map<string, Stored>();
  for (const { tensor, rows, choices } of costs.tensors) {
    const plan = plans.get(tensor);
    if (!plan) continue;
    const { precision, step, bytesAfter } = plan;
    const classes = plan.rows ?? [];
    const now = rows && classes.length > 0 ? precisionOf(rows, classes) : precision;
    const cost = choices.find((it) => it.precision === now && it.step === step);
    const kl = cost?.kl ?? (now && isExact(now) ? 0 : undefined);
    const before = tensors.get(tensor);
    // Of rows that are not stored as was measured the bytes are known of all together.
    const bytes = cost ? (before?.bytes ?? 0) + cost.bytes : bytesAfter;
    const sum = before ? (before.kl === undefined || kl === undefined ? undefined : before.kl + kl) : kl;
    tensors.set(tensor, { precision, step, mixed: classes.length > 0, kl: sum, bytes });
  }
  const all = [...tensors.values()];
  const bytes = all.reduce((sum, it) => sum + it.bytes, costs.fixedBytes);
  const kl = all.reduce((sum, it) => sum + (it.kl ?? 0), 0);
  const point = { bytes, ratio: costs.bytesBefore / bytes, kl, perplexityChange: 100 * Math.expm1(kl) };
  return { point, tensors, unknown: costs.unmeasured + all.filter((it) => it.kl === undefined).length };
}

/** The precision of rows that are used so often, where all of them have the same; most used classes come first. */
function precisionOf({ after, count }: CostRows, classes: RowsPlan[]): StoredAs | undefined {
  let begin = 0;
  for (const { rows, precision } of classes) {
    if (begin <= after && after + count <= begin + rows) return precision;
    begin += rows;
  }
  return undefined;
}

/** What whole tensors cost: of one that is measured in classes of rows, each precision for all of them. */
export function ofTensors(tensors: TensorCosts[]): TensorCosts[] {
  const whole = new Map<string, TensorCosts>();
  for (const { rows, ...it } of tensors) {
    const before = whole.get(it.tensor);
    const sum = ({ precision, bytes, kl, ...rest }: Cost): Cost => {
      const other = before?.choices.find((choice) => choice.precision === precision);
      return { ...rest, precision, bytes: bytes + (other?.bytes ?? 0), kl: kl + (other?.kl ?? 0) };
    };
    const all = before && rows ? { ...it, params: it.params + before.params, choices: it.choices.map(sum) } : it;
    whole.set(it.tensor, all);
  }
  return [...whole.values()];
}

/**
 * The tensors of the model that was measured. What was pruned has fewer numbers, in a shape of its own; where layers are counted
 * anew, other tensors have the names of the checkpoint's, and no more is known than was measured.
 */
export function measuredWeights(
  weights: Row[],
  costs: SearchCosts | undefined,
): (Pick<Row, "name" | "params"> & Partial<Row>)[] {
  const measured = new Map(ofTensors(costs?.tensors ?? []).map(({ tensor, params }) => [tensor, params]));
  if (costs && countsAnew(costs.base)) return [...measured].map(([name, params]) => ({ name, params }));
  return weights.map((it) => {
    const params = measured.get(it.name) ?? it.params;
    if (params === it.params) return it;
    const { shape: _, ...rest } = it;
    return { ...rest, params };
  });
}

type Row = Inspection["tensors"][number];

/** What each tensor costs where it was measured at about three bits: by that they can be set side by side. */
export function atThreeBits(tensors: TensorCosts[]): Map<string, Cost> {
  return new Map(
    ofTensors(tensors).flatMap(({ tensor, params, choices }) => {
      const off = ({ bytes }: Cost) => Math.abs((8 * bytes) / params - 3);
      const [cost] = choices.filter(({ measured }) => measured).sort((a, b) => off(a) - off(b));
      return cost ? [[tensor, cost] as const] : [];
    }),
  );
}

/** What a tensor is stored as, in words: of steps, the bits that they come to in the file, and likewise of several precisions. */
export function storedAs(
  { precision, step, mixed, bytes }: { precision: StoredAs; step?: number | undefined; mixed?: boolean; bytes: number },
  params: number,
): string {
  return step === undefined && !mixed ? precision : `${((8 * bytes) / params).toFixed(1)} bits`;
}

/** Those of a tensor's choices that are worth showing: of steps, which lie close together, one for each bit, and the one now. */
export function worthShowing(choices: Cost[], now: number | undefined): Cost[] {
  const [first] = choices;
  if (first?.step === undefined) return choices;
  const coarsest = first.step;
  const octaves = (step: number) => Math.log2(coarsest / step);
  const isWhole = (step: number) => Math.abs(octaves(step) - Math.round(octaves(step))) < 0.01;
  return choices.filter(({ step, measured }) => step === undefined || step === now || measured || isWhole(step));
}
