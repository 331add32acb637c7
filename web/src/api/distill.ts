// Distillation: a student is made of a teacher, and trained to predict as it does, by a host whose module trains.

import type { Handle, Host } from "../worker/protocol.js";
import { shown } from "./check.js";
import type { Checkpoint } from "./checkpoint.js";
import { quantizes } from "./coded.js";
import type { Environment } from "./environment.js";
import { StatepressError } from "./errors.js";
import { type DistillOptions, present, type Running } from "./options.js";
import type { CompressReport, Finding } from "./types/statepress.js";

export async function distill(
  environment: Environment,
  teacher: Checkpoint,
  options: DistillOptions,
): Promise<Checkpoint> {
  const { student: steps, text, heldOut, minutes, onPoint, enough, signal, onProgress } = options;
  checkSteps(steps);
  if (minutes !== undefined && !(minutes > 0 && Number.isFinite(minutes))) {
    throw refused("minutes", String(minutes), "a number above 0");
  }
  const running = { signal, onProgress };
  const input = teacher.tokenizer.input(text);
  const judges = heldOut === undefined ? {} : { heldOut: teacher.tokenizer.input(heldOut) };
  const beside = options.beside === undefined ? undefined : await environment.beside(options.beside);
  const host = environment.trainer();
  const texts = await host.call("trainingTexts", { text: input, ...judges }, running);
  return within(host, async (keep) => {
    const { checkpoint: original } = await host.call("open", teacher.opening, { signal });
    keep(original);
    const student = await made(host, { original, steps, ids: texts.ids }, running);
    keep(student.checkpoint);
    const asked = {
      ...present(options, "init", "steps", "batch", "window", "alpha", "temperature", "learningRate"),
      ...present(options, "warmUp", "validateEvery", "patience", "seed"),
      ...(minutes !== undefined && { seconds: 60 * minutes }),
    };
    const { ids, heldOut } = texts;
    const request = {
      student: student.checkpoint,
      original,
      ids,
      heldOut,
      options: asked,
      ...(beside !== undefined && { beside }),
    };
    const { report, data } = await host.call("distill", request, { ...running, onPoint, enough });
    const opened = await environment.host.call("open", { data, produced: true }, { signal });
    const findings = [...texts.findings, ...student.report.findings, ...report.findings];
    const { recipe, pruned } = student.report;
    return teacher.made({ ...opened, data, report: { ...report, recipe, ...(pruned && { pruned }), findings } });
  });
}

/** What the steps make of a checkpoint: what is trained. */
async function made(
  host: Host,
  { original, steps, ids }: { original: Handle; steps: DistillOptions["student"]; ids: Uint32Array },
  running: Running,
): Promise<{ checkpoint: Handle; report: CompressReport }> {
  const recipe = { version: 1, name: "student", steps };
  const { findings } = await host.call("plan", { checkpoint: original, recipe });
  const reads = findings.some(({ code }: Finding) => code === "needs-calibration");
  return host.call("compress", { checkpoint: original, recipe, ...(reads && { calibration: { ids } }) }, running);
}

/** Lets go in the end of all that was kept. */
async function within<T>(host: Host, work: (keep: (handle: Handle) => void) => Promise<T>): Promise<T> {
  const kept: Handle[] = [];
  try {
    return await work((handle) => kept.push(handle));
  } finally {
    for (const handle of kept) await host.call("release", { handle }).catch(() => {});
  }
}

function checkSteps(steps: unknown): void {
  const allowed = "a list of the steps of a recipe that make it smaller, as prune does";
  if (!Array.isArray(steps)) throw refused("student", shown(steps), allowed);
  if (steps.length === 0) throw refused("student", "a list without steps", allowed);
  if (steps.some(quantizes)) throw refused("student", "with a quantize step", allowed);
}

function refused(option: string, value: string, allowed: string): StatepressError {
  const facts = { option, value, allowed };
  return new StatepressError("bad-option", `option ${option} is ${value}; allowed: ${allowed}`, facts);
}
