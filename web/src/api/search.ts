// The search for the best recipe: costs are measured, bits are spent, and the result is carried out and measured.

import type { Host, Input } from "../worker/protocol.js";
import type { Checkpoint } from "./checkpoint.js";
import { isCoded, quantizes, readsText } from "./coded.js";
import { compareBy } from "./compare.js";
import type { Environment } from "./environment.js";
import { badOption, StatepressError } from "./errors.js";
import { fisherOf } from "./gradients.js";
import { library } from "./library.js";
import type { CompressOptions, SearchOptions, StepDraft } from "./options.js";
import { type Preset, stepsBefore } from "./presets.js";
import type {
  Bytes,
  CompressReport,
  Finding,
  Fisher,
  Plan,
  Recipe,
  SearchCosts,
  SearchPoint,
  SearchResult,
  SearchTarget,
  Training,
} from "./types/statepress.js";
import { Workers } from "./workers.js";

/** What a search was for, and what came of it. */
export interface Outcome {
  target: SearchTarget;
  /** What the sum of single costs says of the recipe. */
  predicted: SearchPoint;
  /** What was measured of it on the part of the calibration text that it was not fitted to. */
  measured: { kl: number; perplexityChange: number; tokens: number };
  /** Whether the target is reached by what was measured. */
  reached: boolean;
}

/** What compressing did; where the recipe was searched for, also for what, and what came of that; of a student, how it was trained. */
export type Report = CompressReport & Partial<Outcome> & { training?: Training; recovered?: Recovered };

/** What recovery has healed: mean divergence from the original on the held-out text, nats a token. */
export interface Recovered {
  klBefore: number;
  klAfter: number;
  /** Bytes of the tensors; only entropy-coded ones may change. */
  bytesBefore: number;
  bytesAfter: number;
  /** The share of the codes that are others than before, where codes were trained. */
  codesChanged?: number;
}

/** What a search found, carried out. */
export interface Found extends Outcome {
  /** The compressed checkpoint. Its report holds the outcome as well. */
  compressed: Checkpoint;
  /** An ordinary recipe that anybody can follow again. */
  recipe: Recipe;
  /** Every recipe on the way from the smallest to the closest. */
  front: SearchPoint[];
  /** What each tensor costs alone, at every precision. */
  costs: SearchCosts;
  /** What is to be known of the text, and of measuring on it; what compressing found is in `compressed.report`. */
  findings: Finding[];
}

/** How many recipes are made at the most, each after the first by what was measured of the one before. */
const TRIES = 5;

export async function search(environment: Environment, checkpoint: Checkpoint, ...asked: Asked): Promise<Found> {
  const { host } = environment;
  const keep = (whether: boolean) => host.call("keepFirstSteps", { checkpoint: checkpoint.handle, whether });
  const [, , options] = asked;
  // All that is tried begins alike.
  await keep(true);
  try {
    const workers = new Workers(environment, checkpoint.inspection.params, options.workers);
    try {
      return await searched({ environment, workers }, checkpoint, ...asked);
    } finally {
      await workers.close();
    }
  } finally {
    // What has crashed, or was disposed of, keeps nothing.
    await keep(false).catch(() => {});
  }
}

type Asked = [input: Input, target: SearchTarget, options: SearchOptions];

async function searched(
  { environment, workers }: { environment: Environment; workers: Workers },
  checkpoint: Checkpoint,
  ...[input, target, options]: Asked
): Promise<Found> {
  const { host } = environment;
  const { costs: known, first: steps = [], coded = false, gradients, signal, onProgress, beside } = options;
  const first = await planned(checkpoint, steps, coded);
  if (known) checkCosts(known, checkpoint, { coded, gradients: Boolean(gradients), first: first?.recipe.steps ?? [] });
  const texts = await host.call("searchTexts", { calibration: input, target }, options);
  const { read, judged } = texts;
  const findings = [
    ...texts.findings,
    ...(coded && !first?.recipe.steps.some(writesInBasis) ? withoutBasis(checkpoint) : []),
  ];
  const running = { signal, onProgress };
  const fisher = gradients ? await fisherOf(environment, checkpoint, gradients, { ids: read }, running) : undefined;
  const costs = await costsOf({ host, workers }, checkpoint, { read, judged, fisher }, first, options);
  const how = { ids: judged, window: costs.window, backend: "cpu" as const, signal, onProgress };
  const allocated = (wanted: SearchTarget) => host.call("allocate", { costs, target: wanted });
  const attempt = async ({ recipe, chosen: predicted, front }: SearchResult): Promise<[Found, number]> => {
    const rounding = { calibration: read, gradients: fisher, beside, signal, onProgress };
    const compressed = await checkpoint.compressBy(recipe, rounding, workers);
    try {
      const card = await compareBy(environment, checkpoint, compressed, how, workers);
      const measured = { kl: card.kl.mean, perplexityChange: card.perplexityChange, tokens: card.b.tokens };
      const over = excess(target, measured, compressed.report?.bytes);
      const told = [...findings, ...card.b.findings];
      const outcome = { target, predicted, measured, reached: over <= 1 };
      return [{ compressed, recipe, ...outcome, front, costs, findings: told }, over];
    } catch (error) {
      compressed.dispose();
      throw error;
    }
  };
  // The next recipe to try after one that misses, or leaves room; undefined where there is no other.
  const next = async (wanted: SearchTarget, { front, chosen }: SearchResult): Promise<SearchResult | undefined> => {
    const found = await allocated(wanted).catch(outOfReach);
    if (isSize(target)) return found?.chosen.bytes === chosen.bytes ? undefined : found;
    if (found && found.chosen.bytes > chosen.bytes) return found;
    // What is scaled is the same recipe again, or closer than any is predicted to be: the next one there is.
    const closer = found ? front.find(({ bytes }) => bytes > chosen.bytes) : front.at(-1);
    return closer && closer.bytes > chosen.bytes ? allocated({ bytes: closer.bytes }) : undefined;
  };
  let wanted = target;
  // Coding leaves room that no arithmetic knows of beforehand; a size without it is exact. So a size below all that are
  // known is tried with the smallest of them.
  if (options.coded && isSize(target)) {
    const least = costs.tensors.map(({ choices: [smallest] }) => smallest?.bytes ?? 0);
    const smallest = least.reduce((sum, bytes) => sum + bytes, costs.fixedBytes);
    wanted = { bytes: Math.max(target.bytes ?? costs.bytesBefore / (target.ratio ?? 1), smallest) };
  }
  let allocation: SearchResult | undefined = await allocated(wanted);
  let [best, over] = await attempt(allocation);
  let excessOfLast = over;
  const isDone = () => best.reached && !(options.coded && isSize(target) && over < ROOM);
  try {
    for (let tries = 1; tries < TRIES && !isDone(); tries++) {
      wanted = scaled(wanted, excessOfLast);
      allocation = await next(wanted, allocation);
      if (!allocation) break;
      const [found, excess] = await attempt(allocation);
      excessOfLast = excess;
      // What reaches the target fills it better than what did before; what misses it may be closer.
      const better = best.reached ? found.reached : found.reached || excess < over;
      (better ? best : found).compressed.dispose();
      if (better) [best, over] = [found, excess];
      else if (best.reached) break;
    }
  } catch (error) {
    best.compressed.dispose();
    throw error;
  }
  if (isSize(target) && !best.reached) {
    best.compressed.dispose();
    throw tooSmall(target, best.compressed.report?.bytes);
  }
  const { predicted, measured, reached } = best;
  return { ...best, compressed: best.compressed.reporting({ target, predicted, measured, reached }) };
}

/** Carries a built-in search out, as `compress` does: all that is to be said is in the report. */
export async function searchPreset(
  environment: Environment,
  checkpoint: Checkpoint,
  { name, search: { target, coded } }: Preset,
  { calibration, gradients, beside, workers, signal, onProgress }: CompressOptions,
): Promise<Checkpoint> {
  if (calibration === undefined) {
    const message = `${name} is searched for while the model reads a text: give it as option calibration`;
    throw new StatepressError("bad-option", message, { option: "calibration", allowed: "a text, or ids" });
  }
  const first = stepsBefore(checkpoint.inspection);
  const asked = { calibration, gradients, coded, first, beside, workers, signal, onProgress };
  const { compressed, findings } = await library(environment).search(checkpoint, target, asked);
  return compressed.reporting({ findings: [...findings, ...(compressed.report?.findings ?? [])] });
}

// What each tensor costs: of the checkpoint, or of what the steps that come first leave of it.
async function costsOf(
  { host, workers }: { host: Host; workers: Workers },
  checkpoint: Checkpoint,
  { read, judged, fisher }: { read: Uint32Array; judged: Uint32Array; fisher: Fisher | undefined },
  first: Plan | undefined,
  { fast = false, coded = false, costs: known, onCosts, beside, signal, onProgress }: SearchOptions,
): Promise<SearchCosts> {
  // Where all is known, no model is needed.
  if (known?.unmeasured === 0) return known;
  const running = { signal, onProgress };
  const measured = async (of: Checkpoint, whole = (costs: SearchCosts) => costs) => {
    const team = await workers.team(signal);
    const request = { read, judged, fast, coded, known: known?.tensors ?? [], ...(fisher && { fisher }) };
    const context = { ...running, ...(onCosts && { onCosts: (costs: SearchCosts) => onCosts(whole(costs)) }) };
    const costs = team
      ? await team.costs(of, request, context)
      : await host.call("searchCosts", { checkpoint: of.handle, ...request }, context);
    return whole(costs);
  };
  if (!first) return measured(checkpoint);
  const left = await checkpoint.compress(first.recipe, {
    ...(readsText(first) && { calibration: read, gradients: fisher }),
    beside,
    ...running,
  });
  try {
    const { report } = left;
    if (!report) throw new StatepressError("internal", "compressing left no report");
    return await measured(left, (costs) => {
      const base = { ...costs.base, steps: [...report.recipe.steps, ...costs.base.steps] };
      return { ...costs, bytesBefore: report.bytes.before, base };
    });
  } finally {
    left.dispose();
  }
}

// What the steps that come first will do; what is quantized is for the search to find. A table that is centered, and that is
// written in a basis of its own, has codes of which an entropy coder makes fewer bytes; nothing else gains by either.
async function planned(checkpoint: Checkpoint, first: unknown, coded: boolean): Promise<Plan | undefined> {
  if (!Array.isArray(first) || first.some(quantizes)) {
    const value = Array.isArray(first) ? "with a quantize step" : String(first);
    throw badOption("first", value, "a list of steps of a recipe that come before quantize");
  }
  const steps = coded ? [...first, ...readied(checkpoint, first)] : first;
  return steps.length === 0 ? undefined : checkpoint.plan({ version: 1, name: "first", steps });
}

// Costs of another search would become rules that match nothing, or predict what is not so.
function checkCosts(
  { tensors, base, gradients: isGraded }: SearchCosts,
  { inspection }: Checkpoint,
  { coded, gradients, first }: { coded: boolean; gradients: boolean; first: Recipe["steps"] },
): void {
  const allowed =
    "what a search of this checkpoint has told to onCosts, with the same `coded`, `gradients` and `first`";
  const params = new Map(inspection.tensors.map((tensor) => [tensor.name, tensor.params]));
  // A class of rows has a part of them.
  const fits = (it: SearchCosts["tensors"][number], of: number) => (it.rows ? it.params <= of : it.params === of);
  const isOther = (it: SearchCosts["tensors"][number] | null) => {
    // What steps leave of a tensor is not known here, nor what they put beside it.
    if (!it || first.length > 0) return !it;
    const known = params.get(it.tensor);
    return known === undefined || !fits(it, known);
  };
  if (!Array.isArray(tensors)) throw badOption("costs", "without tensors", allowed);
  const other = tensors.find(isOther);
  if (other !== undefined) throw badOption("costs", `of ${other?.tensor ?? other}`, allowed);
  const isAlike = JSON.stringify(base?.steps?.slice(0, -1)) === JSON.stringify(first) && isCoded(base) === coded;
  if (!isAlike || (isGraded ?? false) !== gradients)
    throw badOption("costs", "of a search with other options", allowed);
}

const writesInBasis = (step: object) => "basis" in step;

// The head, where it has a storage of its own; else the table is the head.
function ownHead({ tensors }: Checkpoint["inspection"]): string | undefined {
  return tensors.find(({ role, tiedTo }) => role === "head" && tiedTo === undefined)?.name;
}

// Says why a table is coded as it is.
function withoutBasis({ inspection }: Checkpoint): Finding[] {
  const head = ownHead(inspection);
  if (head === undefined) return [];
  const message =
    "stored by itself: the table is not written in a basis of its own, which takes a table that is the head as well";
  return [{ level: "info", code: "no-basis", message, tensor: head }];
}

// What an entropy coder wants of a table, as far as steps do not do it already. A head of its own rules a basis out.
function readied({ inspection }: Checkpoint, first: readonly (StepDraft | object)[]): StepDraft[] {
  const does = (name: string) => first.some((step) => typeof step === "object" && step !== null && name in step);
  const hasBasis = inspection.tensors.some(({ role }) => role === "basis");
  return [
    ...(does("center") || does("basis") || hasBasis ? [] : [{ center: {} }]),
    ...(does("basis") || hasBasis || ownHead(inspection) ? [] : [{ basis: {} }]),
  ];
}

// What no recipe is predicted to reach is an error of its option; any other error is one of the search.
function outOfReach(error: unknown): undefined {
  if (!(error instanceof StatepressError && error.code === "bad-option")) throw error;
}

// A size is not missed by a little: what is larger does not go where it was to go.
function tooSmall({ ratio, bytes }: SearchTarget, least: Bytes | undefined): StatepressError {
  const value = bytes !== undefined ? `${bytes} bytes` : `${ratio}x`;
  return badOption("target", value, `up to ${least?.ratio.toFixed(2)}x, from ${least?.after} bytes on`);
}

/** A file that fills less than this of its size is worth another try. */
const ROOM = 0.99;

const isSize = ({ ratio, bytes }: SearchTarget) => ratio !== undefined || bytes !== undefined;

// How many times too much it is, or was lost.
function excess(target: SearchTarget, measured: Found["measured"], bytes: Bytes | undefined): number {
  const { ratio, bytes: most, maxKl, maxLoss } = target;
  if (maxKl !== undefined) return measured.kl / maxKl;
  if (maxLoss !== undefined) return measured.perplexityChange / maxLoss;
  if (!bytes) return 0;
  return most !== undefined ? bytes.after / most : (ratio ?? 0) / bytes.ratio;
}

// A little less than in proportion, so that the next try does not miss by a hair.
function scaled({ ratio, ...others }: SearchTarget, over: number): SearchTarget {
  const by = 0.99 / over;
  if (ratio !== undefined) return { ratio: Math.max(ratio / by, 1 + Number.EPSILON) };
  return Object.fromEntries(Object.entries(others).map(([name, value]) => [name, value * by]));
}
