// Training as distillation and recovery do it: the texts are read, and a host whose module trains makes a checkpoint of another.

import type { Data, Handle, Host, Look } from "../worker/protocol.js";
import type { DistillReport } from "../worker/wasm.js";
import type { Checkpoint } from "./checkpoint.js";
import type { Environment } from "./environment.js";
import { badOption } from "./errors.js";
import { type DistillOptions, present, type ResumeOptions, type TrainingOptions } from "./options.js";
import type { TokenizerChoice } from "./tokenizers.js";
import type { Finding, Inspection } from "./types/statepress.js";

/** A teacher in the host that trains, and the texts. */
export interface Read {
  host: Host;
  original: Handle;
  tokenizer: TokenizerChoice;
  ids: Uint32Array;
  heldOut: Uint32Array;
  findings: Finding[];
  /** How it is trained, where that is not as usual. */
  asked: object;
  /** What it goes on from. */
  resume?: Uint8Array;
}

export async function textsOf(environment: Environment, teacher: Checkpoint, options: TrainingOptions): Promise<Read> {
  const { text, heldOut, minutes, sample, signal } = options;
  if (sample !== undefined && !(Number.isSafeInteger(sample) && sample >= 0 && sample <= MOST_SAMPLE)) {
    throw badOption("sample", String(sample), `a whole number of tokens, at most ${MOST_SAMPLE}`);
  }
  if (minutes !== undefined && !(minutes > 0 && Number.isFinite(minutes))) {
    throw badOption("minutes", String(minutes), "a number above 0");
  }
  const host = environment.trainer();
  const judges = heldOut === undefined ? {} : { heldOut: teacher.tokenizer.input(heldOut) };
  const request = {
    text: teacher.tokenizer.input(text),
    ...judges,
    ...present(options, "backend", "backendOptions"),
  };
  const texts = await host.call("trainingTexts", request, { signal });
  const { checkpoint: original } = await host.call("open", teacher.opening, { signal });
  const asked = {
    ...present(options, "steps", "batch", "window", "alpha", "temperature", "learningRate"),
    ...present(options, "warmUp", "validateEvery", "patience", "seed"),
    ...(minutes !== undefined && { seconds: 60 * minutes }),
  };
  return { host, original, tokenizer: teacher.tokenizer, ...texts, asked };
}

/** Tokens of the held-out text that a student goes on behind, and the most that it goes on for: each is a pass over all. */
const PROMPT = 16;
const MOST_SAMPLE = 256;

/** What is trained, and from where. */
export interface How {
  init?: DistillOptions["init"];
  trains: "all" | "rounded" | "vectors";
  /** What codes were rounded from, where they are trained; the original when left out. */
  uncoded?: Handle;
  /** What makes the student, to snapshots. */
  about?: string;
}

/** Trains a student that the host has, and opens what it becomes for everybody. */
export async function train(
  environment: Environment,
  { host, original, tokenizer, ids, heldOut, asked, resume }: Read,
  student: Handle,
  { init, trains, about, uncoded }: How,
  options: Omit<ResumeOptions, "resume">,
): Promise<{ opened: Produced; report: DistillReport }> {
  const { onSnapshot, enough, pause, signal, onProgress } = options;
  const onPoint = telling(options, tokenizer, heldOut);
  const beside = options.beside === undefined ? undefined : await environment.beside(options.beside);
  const request = {
    ...{ student, original, ids, heldOut },
    options: { ...asked, ...present({ init }, "init"), ...(!resume && { trains }) },
    ...(options.sample && { sample: { prompt: PROMPT, count: options.sample } }),
    ...present({ uncoded, beside, about, resume }, "uncoded", "beside", "about", "resume"),
    ...present(options, "backend", "backendOptions"),
  };
  const context = { signal, onProgress, onPoint, onSnapshot, enough, pause };
  const { report, data } = await host.call("distill", request, context);
  const opened = await environment.host.call("open", { data, produced: true }, { signal });
  return { opened: { ...opened, data }, report };
}

/** What is told of every look: with what the student says as text, where that is asked for. */
function telling(
  { onPoint, sample }: Pick<TrainingOptions, "onPoint" | "sample">,
  tokenizer: TokenizerChoice,
  heldOut: Uint32Array,
): ((look: Look) => void) | undefined {
  if (sample === undefined || !onPoint) return onPoint;
  // Whose tokenizer is not known trains by ids, and has no text to show.
  const known = tokenizer.known ? tokenizer.get() : undefined;
  const ids = [...heldOut.subarray(0, PROMPT)];
  const prompt = known?.decode(ids) ?? "";
  return ({ said, ...point }) => {
    // What it says begins as it does behind the prompt: with its blank.
    const text = said && known?.decode([...ids, ...said]).slice(prompt.length);
    onPoint({ ...point, ...(text !== undefined && { sample: { prompt, text } }) });
  };
}

/** A checkpoint that was produced. */
export interface Produced {
  checkpoint: Handle;
  inspection: Inspection;
  data: Data;
}
