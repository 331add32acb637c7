// The search for the best recipe: costs are measured, bits are spent, and the result is carried out and measured.

import type { Host, Input } from "../worker/protocol.js";
import type { Checkpoint } from "./checkpoint.js";
import { isCoded } from "./coded.js";
import { compareBy } from "./compare.js";
import type { Environment } from "./environment.js";
import { badOption, StatepressError } from "./errors.js";
import { keepingFirstSteps } from "./first-steps.js";
import { fisherOf } from "./gradients.js";
import { library } from "./library.js";
import type { CompressOptions, SearchOptions } from "./options.js";
import { type Preset, stepsBefore } from "./presets.js";
import type {
  Bytes,
  CompressReport,
  Finding,
  Fisher,
  Recipe,
  SearchCosts,
  SearchPoint,
  SearchResult,
  SearchSteps,
  SearchTarget,
  SearchTry,
  Training,
} from "./types/statepress.js";
import { Workers } from "./workers.js";

/** What a search was for, and what came of it. */
export interface Outcome {
  target: SearchTarget;
  /** What the sum of single costs says of the recipe. */
  predicted: SearchPoint;
  /** What was measured of it on the part of the calibration text that it was not fitted to. */
  measured: Pick<SearchTry, "kl" | "perplexityChange"> & { tokens: number };
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

export async function search(environment: Environment, checkpoint: Checkpoint, ...asked: Asked): Promise<Found> {
  const [, , options] = asked;
  // All that is tried begins alike.
  return keepingFirstSteps(environment, checkpoint, async () => {
    const workers = new Workers(environment, checkpoint.inspection.params, options.workers);
    try {
      return await searched({ environment, workers }, checkpoint, ...asked);
    } finally {
      await workers.close();
    }
  });
}

/** A recipe that was tried. */
type Attempt = Omit<Found, "reached">;

type Asked = [input: Input, target: SearchTarget, options: SearchOptions];

async function searched(
  { environment, workers }: { environment: Environment; workers: Workers },
  checkpoint: Checkpoint,
  ...[input, target, options]: Asked
): Promise<Found> {
  const { host } = environment;
  const { costs: known, first: given = [], coded = false, gradients, signal, onProgress, beside } = options;
  const steps = await firstSteps(host, checkpoint, given, coded);
  const { first } = steps;
  if (known) checkCosts(known, checkpoint, { coded, gradients: Boolean(gradients), first: first.steps });
  const texts = await host.call("searchTexts", { calibration: input, target }, options);
  const { read, judged } = texts;
  const running = { signal, onProgress };
  const fisher = gradients ? await fisherOf(environment, checkpoint, gradients, { ids: read }, running) : undefined;
  const costs = await costsOf({ host, workers }, checkpoint, { read, judged, fisher }, steps, options);
  const rounding = { calibration: read, gradients: fisher, beside, signal, onProgress };
  const how = { ids: judged, window: costs.window, backend: "cpu" as const, signal, onProgress };
  const attempt = async ({ recipe, chosen: predicted, front }: SearchResult): Promise<Attempt> => {
    const compressed = await checkpoint.compressBy(recipe, rounding, workers);
    try {
      const card = await compareBy(environment, checkpoint, compressed, how, workers);
      const measured = { kl: card.kl.mean, perplexityChange: card.perplexityChange, tokens: card.b.tokens };
      const findings = [...texts.findings, ...steps.findings, ...card.b.findings];
      return { compressed, recipe, target, predicted, measured, front, costs, findings };
    } catch (error) {
      compressed.dispose();
      throw error;
    }
  };
  const tried: SearchTry[] = [];
  let best: Attempt | undefined;
  let last: Attempt | undefined;
  try {
    for (;;) {
      const { next, best: at, reached } = await host.call("nextTry", { costs, target, tried });
      if (last && at === tried.length - 1) [best, last] = [last, best];
      last?.compressed.dispose();
      last = undefined;
      if (!next) {
        if (!best) throw new StatepressError("internal", "a search tried nothing");
        const { predicted, measured } = best;
        return { ...best, reached, compressed: best.compressed.reporting({ target, predicted, measured, reached }) };
      }
      last = await attempt(next);
      tried.push({ ...last.measured, bytes: bytesOf(last.compressed).after });
    }
  } catch (error) {
    for (const it of [best, last]) it?.compressed.dispose();
    throw error;
  }
}

function bytesOf({ report }: Checkpoint): Bytes {
  if (!report) throw new StatepressError("internal", "compressing left no report");
  return report.bytes;
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

// What the search begins with; what is quantized is for it to find.
async function firstSteps(host: Host, checkpoint: Checkpoint, steps: unknown, coded: boolean): Promise<SearchSteps> {
  if (!Array.isArray(steps)) {
    throw badOption("first", String(steps), "a list of steps of a recipe that come before quantize");
  }
  const first = { version: 1, name: "first", steps } as const;
  return host.call("searchSteps", { checkpoint: checkpoint.handle, first, coded });
}

// What each tensor costs: of the checkpoint, or of what the steps that come first leave of it.
async function costsOf(
  { host, workers }: { host: Host; workers: Workers },
  checkpoint: Checkpoint,
  { read, judged, fisher }: { read: Uint32Array; judged: Uint32Array; fisher: Fisher | undefined },
  { first, readsText }: SearchSteps,
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
  if (first.steps.length === 0) return measured(checkpoint);
  const left = await checkpoint.compress(first, {
    ...(readsText && { calibration: read, gradients: fisher }),
    beside,
    ...running,
  });
  try {
    const bytesBefore = bytesOf(left).before;
    return await measured(left, (costs) => {
      const base = { ...costs.base, steps: [...first.steps, ...costs.base.steps] };
      return { ...costs, bytesBefore, base };
    });
  } finally {
    left.dispose();
  }
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
