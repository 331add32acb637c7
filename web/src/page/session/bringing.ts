// Another model beside the checkpoint: opened like any, and measured on the same text. It is a run like those of recipes.

import {
  type Checkpoint,
  type Finding,
  isTokenizerName,
  open,
  StatepressError,
  TOKENIZER_CONFIG,
  tokensDiffer,
  vocabularyOf,
} from "statepress";
import { refusalOf } from "../state/run.js";
import type { Other, Problem } from "../state/state.js";
import { tokenizersAmong } from "./choices.js";
import type { OpenCheckpoint } from "./open-checkpoint.js";
import { nameOf, type Origin } from "./origin.js";
import { isText } from "./texts.js";
import { comparePair } from "./working.js";

/** Another model, opened. */
export interface Brought {
  checkpoint: Checkpoint;
  other: Other;
}

/** Opens another model to be set beside the checkpoint; `own` are the files of the checkpoint. */
export async function openOther(
  opened: OpenCheckpoint,
  origin: Origin,
  own: File[],
  signal: AbortSignal,
): Promise<Brought> {
  // Texts among the files are not for this: both are measured on what is asked for.
  const files = origin.files.filter((file) => !isText(file));
  const first = await open(files, { signal });
  const { checkpoint, findings } = await withTokenizer(opened, first, files, own, signal);
  const { inspection, tokenizerName, weightsName } = checkpoint;
  const other: Other = {
    name: nameOf(origin, weightsName),
    weights: weightsName,
    place: origin.place,
    path: origin.path,
    inspection: { ...inspection, findings: [...inspection.findings, ...(origin.findings ?? []), ...findings] },
    tokenizer: tokenizerName,
    tokenizers: tokenizersAmong(files),
    apart: tokensDiffer(opened.checkpoint, checkpoint),
  };
  return { checkpoint, other };
}

// Weights that come alone are read with the checkpoint's tokenizer, where the vocabulary is as large.
async function withTokenizer(
  opened: OpenCheckpoint,
  checkpoint: Checkpoint,
  files: File[],
  own: File[],
  signal: AbortSignal,
): Promise<{ checkpoint: Checkpoint; findings: Finding[] }> {
  const name = opened.checkpoint.tokenizerName;
  const found = checkpoint.tokenizerName !== undefined || files.some((file) => isTokenizerName(file.name));
  const tokens = vocabularyOf(checkpoint.inspection);
  const alike = tokens !== undefined && tokens === vocabularyOf(opened.checkpoint.inspection);
  // All that is one tokenizer together, in the place of a part that came alone. One that weights hold cannot be taken out.
  const taken = own.filter((file) => isTokenizerName(file.name) || file.name === TOKENIZER_CONFIG);
  const isFile = taken.some((file) => isTokenizerName(file.name));
  if (found || name === undefined || !alike || !isFile) return { checkpoint, findings: [] };
  checkpoint.dispose();
  const others = files.filter((file) => file.name !== TOKENIZER_CONFIG);
  const message = `no tokenizer came with it: ${name} of the other model is taken, which has as many tokens`;
  return {
    checkpoint: await open([...others, ...taken], { signal }),
    findings: [{ level: "info", code: "tokenizer-of-a", message }],
  };
}

/** Puts what was opened among the runs, and measures it beside the checkpoint. */
export async function bring(opened: OpenCheckpoint, run: number, { checkpoint, other }: Brought): Promise<void> {
  const { asked } = opened.state;
  if (!opened.keep(run, checkpoint)) return;
  const problem = hindrance(opened, other);
  opened.tell({ type: "brought", run, asked, other, problem });
  if (problem) return;
  const signal = opened.begin("work");
  try {
    await comparePair(opened, { run, checkpoint, apart: other.apart }, asked, signal);
  } catch (error) {
    opened.tell({ type: "workFailed", run, problem: opened.failed(error) });
  }
}

// What is known before anything is loaded.
function hindrance(opened: OpenCheckpoint, other: Other): Problem | undefined {
  const mine = refusalOf(opened.checkpoint);
  const its = refusalOf(other);
  const message = mine ? `Of A, ${mine}.` : its && `Of B, ${its}.`;
  return message === undefined ? undefined : { code: "unknown-model", message };
}

/** What files without weights are told that were meant for a comparison. */
export function noWeights(what: string): StatepressError {
  return new StatepressError("bad-input", `no weights in ${what}: the other model's are needed`);
}
