// Distillation: a student is made of a teacher, and trained to predict as it does, by a host whose module trains.

import type { Data, Handle, Host } from "../worker/protocol.js";
import type { DistillReport } from "../worker/wasm.js";
import { shown } from "./check.js";
import type { Checkpoint } from "./checkpoint.js";
import { quantizes, readsText } from "./coded.js";
import type { Environment } from "./environment.js";
import { badOption } from "./errors.js";
import {
  type CompareOptions,
  type DistillOptions,
  present,
  type RecoverOptions,
  type ResumeOptions,
  type Running,
  type TrainingOptions,
} from "./options.js";
import type { Compared } from "./second.js";
import type { CompressReport, Finding, Inspection } from "./types/statepress.js";

export async function distill(
  environment: Environment,
  teacher: Checkpoint,
  options: DistillOptions | ResumeOptions,
): Promise<Checkpoint> {
  const { signal, onProgress } = options;
  if (options.pause && !options.onSnapshot) {
    throw badOption(
      "pause",
      "given without onSnapshot",
      "a signal where onSnapshot is told what training goes on from",
    );
  }
  const read = isResumed(options)
    ? await goneOn(environment, teacher, options)
    : await begun(environment, teacher, options);
  const { host, original, ids, findings, steps, init } = read;
  try {
    const student = await made(host, { original, steps, ids }, { signal, onProgress });
    try {
      const how: How = { init, trains: "all", about: JSON.stringify({ steps, ...present(read, "init") }) };
      const { opened, report } = await train(environment, read, student.checkpoint, how, options);
      const { recipe, pruned } = student.report;
      const told = [...findings, ...student.report.findings, ...report.findings];
      return teacher.made({ ...opened, report: { ...report, recipe, ...(pruned && { pruned }), findings: told } });
    } finally {
      await host.call("release", { handle: student.checkpoint }).catch(() => {});
    }
  } finally {
    await host.call("release", { handle: original }).catch(() => {});
  }
}

function isResumed(options: DistillOptions | ResumeOptions): options is ResumeOptions {
  return (options as Partial<ResumeOptions>).resume !== undefined;
}

/** A training, and what makes its student. */
type Begun = Read & { steps: DistillOptions["student"]; init: DistillOptions["init"] };

async function begun(environment: Environment, teacher: Checkpoint, options: DistillOptions): Promise<Begun> {
  const { student: steps, init } = options;
  checkSteps(steps);
  // What begins with weights that know something is moved less.
  const { learningRate = init === "fresh" ? 3e-3 : 1e-3 } = options;
  const read = await textsOf(environment, teacher, options);
  return { ...read, asked: { ...read.asked, learningRate }, steps, init };
}

/** What a snapshot says, and nobody else. */
const OF_THE_SNAPSHOT = [
  ...["student", "init", "text", "heldOut", "steps", "minutes", "batch", "window", "alpha", "temperature"],
  ...["learningRate", "warmUp", "validateEvery", "patience", "seed"],
];

async function goneOn(environment: Environment, teacher: Checkpoint, options: ResumeOptions): Promise<Begun> {
  const { resume, signal } = options;
  if (!(resume instanceof Uint8Array))
    throw badOption("resume", shown(resume), "a Uint8Array: what onSnapshot was given");
  const given: Readonly<Record<string, unknown>> = { ...options };
  const more = OF_THE_SNAPSHOT.find((name) => given[name] !== undefined);
  if (more) throw badOption(more, "given with resume", "none, as training goes on as it began");
  const host = environment.trainer();
  const { student, at, ids, heldOut } = await host.call("trainingSnapshot", { snapshot: resume }, { signal });
  const { steps, init } = ofSnapshot(student);
  checkSteps(steps);
  const { checkpoint: original } = await host.call("open", teacher.opening, { signal });
  const message = `training goes on from step ${at}, as it began: with the texts and the options of then`;
  const findings: Finding[] = [{ level: "info", code: "resumed", message }];
  return { host, original, ids, heldOut, findings, asked: {}, resume, steps, init };
}

/** What a snapshot says of its student. */
function ofSnapshot(about: string): Pick<Begun, "steps" | "init"> {
  try {
    const { steps, init } = JSON.parse(about);
    return { steps, init };
  } catch {
    throw badOption("resume", "a snapshot that does not say what makes the student", "one that distill has made");
  }
}

// In place of what a report said before training: bytes as they are now, and no rounding errors of codes that were trained since.
function written(
  report: CompressReport,
  before: CompressReport | undefined,
  trains: "rounded" | "vectors",
): Partial<CompressReport> {
  const now = new Map(report.tensors.map((it) => [it.name, it]));
  const tensors = before?.tensors.map((it) => {
    const { error, ...kept } = it;
    const { bytesAfter } = now.get(it.name) ?? it;
    return { ...kept, bytesAfter, ...(error && trains === "vectors" && { error }) };
  });
  return { fileBytes: report.fileBytes, bytes: report.bytes, ...(tensors && { tensors }) };
}

/** What the weights that are asked for are called where they are trained. */
const TRAINS = { vectors: "vectors", all: "rounded" } as const;

/** What the library lends. */
type Compare = (a: Checkpoint, b: Checkpoint, options: CompareOptions) => Promise<Compared>;

/**
 * Trains a compressed checkpoint to predict as the original does: what no codes stand for, which costs next to nothing and
 * leaves every code (norms, biases, and how states decay, skip and step), or all weights as their codes can hold them.
 */
export async function recover(
  environment: Environment,
  compare: Compare,
  [original, compressed]: [Checkpoint, Checkpoint],
  options: RecoverOptions,
): Promise<Checkpoint> {
  const { weights = "vectors", signal, onProgress } = options;
  const trains = Object.hasOwn(TRAINS, weights) ? TRAINS[weights] : undefined;
  if (!trains) throw badOption("weights", String(weights), Object.keys(TRAINS).join(", "));
  const read = await textsOf(environment, original, options);
  const { host, heldOut, findings } = read;
  try {
    const { checkpoint: student } = await host.call("open", compressed.opening, { signal });
    try {
      // Nothing is to be learned but what the original knows, and there is little to move; codes by the bits that they have.
      const { alpha = 1, learningRate = trains === "vectors" ? 1e-3 : undefined } = options;
      const asked = { ...read.asked, alpha, ...present({ learningRate }, "learningRate") };
      const { opened, report } = await train(environment, { ...read, asked }, student, { trains }, options);
      const before = compressed.report;
      const told = [...findings, ...(before?.findings ?? []), ...report.findings];
      const recovered = compressed.made({
        ...opened,
        report: { ...report, ...before, ...written(report, before, trains), findings: told },
      });
      const kl = async (it: Checkpoint) =>
        (await compare(original, it, { ids: heldOut, backend: "cpu", signal, onProgress })).kl.mean;
      try {
        const measured = {
          klBefore: await kl(compressed),
          klAfter: await kl(recovered),
          bytesBefore: compressed.inspection.bytes,
          bytesAfter: recovered.inspection.bytes,
          ...present(report.training, "codesChanged"),
        };
        return recovered.reporting({ training: report.training, recovered: measured });
      } catch (error) {
        recovered.dispose();
        throw error;
      }
    } finally {
      await host.call("release", { handle: student }).catch(() => {});
    }
  } finally {
    await host.call("release", { handle: read.original }).catch(() => {});
  }
}

/** A teacher in the host that trains, and the texts. */
interface Read {
  host: Host;
  original: Handle;
  ids: Uint32Array;
  heldOut: Uint32Array;
  findings: Finding[];
  /** How it is trained, where that is not as usual. */
  asked: object;
  /** What it goes on from. */
  resume?: Uint8Array;
}

async function textsOf(environment: Environment, teacher: Checkpoint, options: TrainingOptions): Promise<Read> {
  const { text, heldOut, minutes, signal } = options;
  if (minutes !== undefined && !(minutes > 0 && Number.isFinite(minutes))) {
    throw badOption("minutes", String(minutes), "a number above 0");
  }
  const host = environment.trainer();
  const judges = heldOut === undefined ? {} : { heldOut: teacher.tokenizer.input(heldOut) };
  const texts = await host.call("trainingTexts", { text: teacher.tokenizer.input(text), ...judges }, { signal });
  const { checkpoint: original } = await host.call("open", teacher.opening, { signal });
  const asked = {
    ...present(options, "steps", "batch", "window", "alpha", "temperature", "learningRate"),
    ...present(options, "warmUp", "validateEvery", "patience", "seed"),
    ...(minutes !== undefined && { seconds: 60 * minutes }),
  };
  return { host, original, ...texts, asked };
}

/** What is trained, and from where. */
interface How {
  init?: DistillOptions["init"];
  trains: "all" | "rounded" | "vectors";
  /** What makes the student, to snapshots. */
  about?: string;
}

/** Trains a student that the host has, and opens what it becomes for everybody. */
async function train(
  environment: Environment,
  { host, original, ids, heldOut, asked, resume }: Read,
  student: Handle,
  { init, trains, about }: How,
  options: Omit<ResumeOptions, "resume">,
): Promise<{ opened: Produced; report: DistillReport }> {
  const { onPoint, onSnapshot, enough, pause, signal, onProgress } = options;
  const beside = options.beside === undefined ? undefined : await environment.beside(options.beside);
  const request = {
    ...{ student, original, ids, heldOut },
    options: { ...asked, ...present({ init }, "init"), ...(!resume && { trains }) },
    ...present({ beside, about, resume }, "beside", "about", "resume"),
  };
  const context = { signal, onProgress, onPoint, onSnapshot, enough, pause };
  const { report, data } = await host.call("distill", request, context);
  const opened = await environment.host.call("open", { data, produced: true }, { signal });
  return { opened: { ...opened, data }, report };
}

/** A checkpoint that was produced. */
interface Produced {
  checkpoint: Handle;
  inspection: Inspection;
  data: Data;
}

/** What the steps make of a checkpoint: what is trained. */
async function made(
  host: Host,
  { original, steps, ids }: { original: Handle; steps: DistillOptions["student"]; ids: Uint32Array },
  running: Running,
): Promise<{ checkpoint: Handle; report: CompressReport }> {
  const recipe = { version: 1, name: "student", steps };
  const plan = await host.call("plan", { checkpoint: original, recipe });
  const { pruned: [first] = [], pruned } = plan;
  const left = pruned?.at(-1)?.paramsAfter;
  if (!first || left === undefined || left >= first.paramsBefore)
    throw badOption("student", "steps that remove nothing", SMALLER);
  const calibration = readsText(plan) && { calibration: { ids } };
  return host.call("compress", { checkpoint: original, recipe, ...calibration }, running);
}

/** What a student may be made by. */
const SMALLER = "a list of the steps of a recipe that make it smaller, as prune does";

function checkSteps(steps: unknown): void {
  if (!Array.isArray(steps)) throw badOption("student", shown(steps), SMALLER);
  if (steps.length === 0) throw badOption("student", "a list without steps", SMALLER);
  if (steps.some(quantizes)) throw badOption("student", "with a quantize step", SMALLER);
}
