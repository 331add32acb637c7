// Compressing by a recipe, and measuring what was produced.

import {
  type Checkpoint,
  compare,
  compareByText,
  type Evaluation,
  type Progress,
  type Recipe,
  StatepressError,
} from "statepress";
import { type Asked, backendsOf } from "../state/state.js";
import { heldout } from "./demo.js";
import type { OpenCheckpoint } from "./open-checkpoint.js";
import type { OwnText } from "./texts.js";

/** Tokens on which the prediction offset is looked for, as `compare` does: wrong offsets are worse by far than noise. */
const OFFSET_TOKENS = 4096;

/** Compresses, and compares the produced file with the original. */
export async function compress(opened: OpenCheckpoint, run: number, asked: Asked): Promise<void> {
  const { checkpoint, tell } = opened;
  const signal = opened.begin("work");
  const onProgress = (progress: Progress) => {
    if (!signal.aborted) tell({ type: "progressed", run, progress, now: performance.now() });
  };
  try {
    tell({ type: "compressing", run, now: performance.now() });
    const produced = await checkpoint.compress(asked.recipe, { signal, onProgress });
    const { report } = produced;
    if (signal.aborted || !report) {
      produced.dispose();
      throw new StatepressError("aborted", "stopped on request");
    }
    if (!opened.keep(run, produced)) return;
    const { size } = await produced.save("blob");
    const name = fileName(opened.state.checkpoint?.name ?? "model", asked.recipe);
    tell({ type: "compressed", run, asked, report, file: { name, size } });
    // What cannot be run cannot be measured: the page has said so before.
    if (checkpoint.inspection.findings.some((finding) => finding.code === "cannot-run")) {
      tell({ type: "workEnded" });
      return;
    }
    await comparePair(opened, { run, checkpoint: produced, apart: undefined }, asked, signal);
  } catch (error) {
    tell({ type: "workFailed", run, problem: opened.failed(error) });
  }
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
  const onProgress = (progress: Progress) => {
    if (!signal.aborted) tell({ type: "progressed", run, progress, now: performance.now() });
  };
  tell({ type: "comparing", run, now: performance.now() });
  const text = await textOf(asked);
  const detected = await offsetsOn(opened, text, asked, signal);
  const [backend, backendB] = backendsOf(asked);
  const offset = detected?.offset;
  const options = { text: text.text, backend, backendB, limit: asked.limit, offset, signal, onProgress };
  // What was found odd about the offset is part of what was measured with it.
  const odd = detected?.findings.filter((finding) => finding.level === "warning") ?? [];
  const told = <T extends Evaluation>(a: T): T => ({ ...a, findings: [...a.findings, ...odd] });
  if (apart === undefined) {
    const { a, ...comparison } = await compare(checkpoint, second, options);
    tell({ type: "compared", run, comparison: { ...comparison, a: told(a) }, textName: text.name });
  } else {
    const offsetB = offsetIsAssumed(second) ? ("detect" as const) : undefined;
    const { a, ...byText } = await compareByText(checkpoint, second, { ...options, offsetB, why: apart });
    tell({ type: "comparedByText", run, byText: { ...byText, a: told(a) }, textName: text.name });
  }
}

function offsetIsAssumed({ inspection }: Checkpoint): boolean {
  return inspection.spec["prediction_offset"]?.origin === "assumed";
}

/** Measures how far ahead the model predicts: its perplexity at offsets 0 to 3. */
export async function measureOffsets(opened: OpenCheckpoint): Promise<void> {
  const { asked } = opened.state;
  const signal = opened.begin("offsets");
  opened.offsets = undefined;
  try {
    await offsetsOn(opened, await textOf(asked), asked, signal);
  } catch (error) {
    opened.tell({ type: "offsetsFailed", checkpoint: opened.id, problem: opened.failed(error) });
  }
}

// An offset that is in no file is measured on each text anew, because every other number depends on it.
async function offsetsOn(
  opened: OpenCheckpoint,
  { name, text }: OwnText,
  asked: Asked,
  signal: AbortSignal,
): Promise<Evaluation | undefined> {
  const { checkpoint } = opened;
  if (!offsetIsAssumed(checkpoint)) return undefined;
  const limit = Math.min(asked.limit ?? OFFSET_TOKENS, OFFSET_TOKENS);
  const known = opened.offsets;
  if (known?.text === text && known.limit === limit) return known.evaluation;
  const model = await checkpoint.load({ backend: asked.backend, signal });
  try {
    const evaluation = await model.evaluate(text, { offset: "detect", limit, signal });
    opened.offsets = { text, limit, evaluation };
    opened.tell({ type: "offsetsMeasured", checkpoint: opened.id, evaluation, textName: name });
    return evaluation;
  } finally {
    model.dispose();
  }
}

async function textOf(asked: Asked): Promise<OwnText> {
  if (asked.text === "own" && asked.own) return asked.own;
  if (asked.text === "typed") return { name: "your text", text: asked.typed };
  return { name: "heldout.txt", text: await heldout() };
}

// A name that came with a link is a stranger's: no path in it, and nothing that a command takes for an option.
function fileName(name: string, recipe: Recipe): string {
  return `${name}-${recipe.name}.safetensors`.replace(/[^\w.+-]+/g, "-").replace(/^[-.]+/, "");
}
