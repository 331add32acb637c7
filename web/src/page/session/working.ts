// Compressing by a recipe, and measuring what was produced.

import {
  type Checkpoint,
  compare,
  compareByText,
  type Evaluation,
  type Model,
  type Progress,
  type Recipe,
  StatepressError,
} from "statepress";
import { type NamedText, objectionTo } from "../state/calibration.js";
import { hasOffset } from "../state/fields.js";
import { readsText, recoveryOf, roundsByText } from "../state/recipes.js";
import { unmeasurable } from "../state/run.js";
import { type Asked, backendsOf, type RecipeRun } from "../state/state.js";
import { calibrationOf, secondOf, textOf } from "./asked-texts.js";
import { FoundOffset } from "./found-offset.js";
import type { OpenCheckpoint } from "./open-checkpoint.js";
import { promptly } from "./promptly.js";

/** Compresses, and compares the produced file with the original. `enough` ends what it trains: with what was best. */
export async function compress(opened: OpenCheckpoint, run: number, asked: Asked, enough: AbortSignal): Promise<void> {
  const { checkpoint, tell } = opened;
  const signal = opened.begin("work");
  const onProgress = watching(opened, run, signal);
  try {
    tell({ type: "compressing", run, now: performance.now() });
    const { recipe } = asked;
    const reading = readsText(recipe) ? calibrationOf(opened, asked, objectionTo) : undefined;
    const text = await promptly(signal, Promise.resolve(reading));
    const calibration = roundsByText(recipe) ? text : undefined;
    const gradients = calibration !== undefined && asked.calibration.gradients;
    const recover = text !== undefined && recoveryOf(recipe) ? { text, enough, backend: asked.backend } : undefined;
    const compressing = checkpoint.compress(recipe, { calibration, gradients, recover, signal, onProgress });
    const produced = await promptly(signal, compressing, dispose);
    await take(opened, run, produced, { asked, wanted: undefined }, signal);
  } catch (error) {
    tell({ type: "workFailed", run, problem: opened.failed(error) });
  }
}

/** Keeps what was produced by the recipe that is asked for, and compares it with the original. */
export async function take(
  opened: OpenCheckpoint,
  run: number,
  produced: Checkpoint,
  { asked, wanted }: Pick<RecipeRun, "asked" | "wanted">,
  signal: AbortSignal,
): Promise<void> {
  const { tell } = opened;
  const { report } = produced;
  if (signal.aborted || !report) {
    produced.dispose();
    throw new StatepressError("aborted", "stopped on request");
  }
  if (!opened.keep(run, produced)) return;
  const { size } = await produced.save("blob");
  const name = fileName(opened.state.checkpoint?.name ?? "model", asked.recipe);
  tell({ type: "compressed", run, asked, wanted, report, file: { name, size } });
  // The page has said so before.
  if (opened.state.checkpoint && unmeasurable(opened.state.checkpoint)) {
    tell({ type: "workEnded" });
    return;
  }
  await comparePair(opened, { run, checkpoint: produced, apart: undefined }, asked, signal);
}

/** What is compared with the checkpoint, and why its tokens are not the same, where they are not. */
interface Second {
  run: number;
  checkpoint: Checkpoint;
  apart: string | undefined;
}

/** Measures a run beside the checkpoint: token by token, or by the text where the tokens are not the same. */
export async function comparePair(
  opened: OpenCheckpoint,
  { run, checkpoint: second, apart }: Second,
  asked: Asked,
  signal: AbortSignal,
): Promise<void> {
  const { checkpoint, tell } = opened;
  tell({ type: "comparing", run, now: performance.now() });
  const text = await textOf(asked);
  const beside = apart === undefined ? await secondOf(asked) : undefined;
  const [backend, backendB] = backendsOf(asked);
  const { limit, window } = asked;
  const found = opened.offsets?.find(text.text, asked);
  const options = {
    text: text.text,
    backend,
    backendB,
    limit,
    window,
    offset: found?.offset ?? detected(checkpoint),
    signal,
    onProgress: watching(opened, run, signal),
  };
  if (apart === undefined) {
    const both = { ...options, ...(beside && { second: { text: beside.text } }) };
    const comparison = await promptly(signal, compare(checkpoint, second, both));
    const a = withOffsets(opened, comparison.a, text, asked);
    const [textName, secondName] = [text.name, beside?.name];
    tell({ type: "compared", run, comparison: { ...comparison, a }, textName, secondName });
  } else {
    const both = { ...options, offsetB: detected(second), why: apart };
    const byText = await promptly(signal, compareByText(checkpoint, second, both));
    const a = withOffsets(opened, byText.a, text, asked);
    tell({ type: "comparedByText", run, byText: { ...byText, a }, textName: text.name });
  }
}

/** Tells of progress; what is too late is not shown, for other work may be on the page by then. */
export function watching(opened: OpenCheckpoint, run: number, signal: AbortSignal): (progress: Progress) => void {
  return (progress) => {
    if (!signal.aborted) opened.tell({ type: "progressed", run, progress, now: performance.now() });
  };
}

/** A family without the field predicts the next token; what a file says, or the user, is not looked for. */
export function detected({ inspection }: Checkpoint): "detect" | undefined {
  return inspection.spec["prediction_offset"]?.origin === "assumed" ? "detect" : undefined;
}

// What the package has found out of an offset is kept for the next run on the same text: looking for it takes as long as
// a third of a comparison. What was odd about it is part of every run that used it.
function withOffsets<T extends Evaluation>(opened: OpenCheckpoint, measured: T, text: NamedText, asked: Asked): T {
  const known = opened.offsets?.find(text.text, asked);
  if (known) {
    const odd = known.findings.filter(({ level }) => level === "warning");
    return { ...measured, nllByOffset: known.nllByOffset, findings: [...measured.findings, ...odd] };
  }
  if (measured.nllByOffset === undefined) return measured;
  opened.offsets = new FoundOffset(measured, text.text, asked);
  opened.tell({ type: "offsetsMeasured", checkpoint: opened.id, evaluation: measured, textName: text.name });
  return measured;
}

/** Tokens on which the prediction offset is looked for by itself: wrong offsets are worse by far than noise. */
const OFFSET_TOKENS = 4096;

/** Measures how far ahead the model predicts: its perplexity at offsets 0 to 3. */
export async function measureOffsets(opened: OpenCheckpoint): Promise<void> {
  const { checkpoint, state } = opened;
  if (!hasOffset(checkpoint)) return;
  const { asked } = state;
  const signal = opened.begin("offsets");
  let model: Model | undefined;
  try {
    const text = await textOf(asked);
    const limit = Math.min(asked.limit ?? OFFSET_TOKENS, OFFSET_TOKENS);
    model = await checkpoint.load({ backend: asked.backend, signal });
    const { window } = asked;
    opened.offsets = undefined;
    withOffsets(opened, await model.evaluate(text.text, { offset: "detect", limit, window, signal }), text, asked);
  } catch (error) {
    opened.tell({ type: "offsetsFailed", checkpoint: opened.id, problem: opened.failed(error) });
  } finally {
    model?.dispose();
  }
}

function dispose(produced: Checkpoint): void {
  produced.dispose();
}

// A name that came with a link is a stranger's: no path in it, and nothing that a command takes for an option.
function fileName(name: string, recipe: Recipe): string {
  return `${name}-${recipe.name}.safetensors`.replace(/[^\w.+-]+/g, "-").replace(/^[-.]+/, "");
}
