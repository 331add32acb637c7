// Work that several hosts share: each rounds its tensors, or measures them, and one joins what the shares have made.

import { StatepressError } from "../api/errors.js";
import type { Comparison, CompressReport, Evaluation, Fisher } from "../api/types/statepress.js";
import { run } from "./jobs.js";
import type { OpenFile, Platform } from "./platform.js";
import type { Context, Made, Requests, Share } from "./protocol.js";
import type { Job, SharedWindow, ShareReport, Sink, WasmCheckpoint, WasmCosts, WasmModel } from "./wasm.js";

/** What a recipe is followed by. */
export interface Followed {
  recipe: object | string;
  ids: Uint32Array;
  fisher: Fisher | undefined;
}

/** Rounds a share. */
export function rounded(
  platform: Platform,
  checkpoint: WasmCheckpoint,
  model: WasmModel,
  { recipe, ids, fisher }: Followed,
  { index, count }: Share,
  context: Context,
): Promise<Made<ShareReport>> {
  return produced(platform, undefined, context, (sink) =>
    checkpoint.compressShare?.(recipe, sink, model, ids, fisher, index, count),
  );
}

/** Writes what all shares are together. */
export async function joined(
  platform: Platform,
  checkpoint: WasmCheckpoint,
  model: WasmModel,
  { recipe, ids, fisher }: Followed,
  { shares, beside }: { shares: Made<ShareReport>[]; beside: string | undefined },
  context: Context,
): Promise<Made<CompressReport>> {
  const files: OpenFile[] = [];
  try {
    for (const { data } of shares) files.push(platform.open(data));
    const reports = shares.map(({ report }) => report);
    return await produced(platform, beside, context, (sink) =>
      checkpoint.compressJoined?.(recipe, sink, model, ids, fisher, files, reports),
    );
  } finally {
    for (const file of files) file.close();
  }
}

/** Measures a share of what a search measures. */
export function costs(
  checkpoint: WasmCheckpoint,
  model: WasmModel,
  { read, judged, fast, coded, known, fisher }: Omit<Requests["searchCosts"][0], "checkpoint" | "share">,
  { index, count }: Share,
): WasmCosts {
  return begun(checkpoint.searchCostsShare?.(model, read, judged, fast, coded, known, fisher, index, count));
}

/** Evaluates on a share of the windows. */
export function evaluated(
  model: WasmModel,
  ids: Uint32Array,
  options: object,
  { index, count }: Share,
): Job<SharedWindow[]> {
  return begun(model.evaluateShare?.(ids, options, index, count));
}

/** The evaluation of what all shares have measured. */
export function evaluatedBy(
  model: WasmModel,
  ids: Uint32Array,
  options: object,
  shares: SharedWindow[][],
): Job<Evaluation> {
  return begun(model.evaluateJoined?.(ids, options, shares));
}

/** Compares on a share of the windows. */
export function compared(
  [a, b]: [WasmModel, WasmModel],
  ids: Uint32Array,
  options: object,
  { index, count }: Share,
): Job<SharedWindow[]> {
  return begun(a.compareShare?.(b, ids, options, index, count));
}

/** The card of what all shares have measured. */
export function comparedBy(
  [a, b]: [WasmModel, WasmModel],
  ids: Uint32Array,
  options: object,
  shares: SharedWindow[][],
): Job<Comparison> {
  return begun(a.compareJoined?.(b, ids, options, shares));
}

async function produced<T>(
  platform: Platform,
  beside: string | undefined,
  context: Context,
  job: (sink: Sink) => Job<T> | undefined,
): Promise<Made<T>> {
  const scratch = platform.scratch(beside);
  try {
    const report = await run(begun(job(scratch)), context, platform.breathe);
    return { report, data: scratch.finish() };
  } catch (error) {
    scratch.discard();
    throw error;
  }
}

function begun<T>(job: T | undefined): T {
  if (!job) throw new StatepressError("internal", "this module shares no work");
  return job;
}
