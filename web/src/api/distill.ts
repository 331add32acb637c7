// Distillation: a student is made of a teacher, and trained to predict as it does, by a host whose module trains.

import type { Handle, Host } from "../worker/protocol.js";
import { shown } from "./check.js";
import type { Checkpoint } from "./checkpoint.js";
import { quantizes, readsText, recovers } from "./coded.js";
import type { Environment } from "./environment.js";
import { badOption } from "./errors.js";
import { type DistillOptions, present, type ResumeOptions, type Running } from "./options.js";
import { type How, type Read, textsOf, train } from "./training.js";
import type { CompressReport, Finding } from "./types/statepress.js";

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
  const { tokenizer } = teacher;
  return { host, original, tokenizer, ids, heldOut, findings, asked: {}, resume, steps, init };
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
  if (steps.some(recovers)) throw badOption("student", "with a recover step", SMALLER);
}
