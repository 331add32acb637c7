// Training: a student learns from a teacher, and tells how good it is at every look.

import { asStatepressError, StatepressError } from "../api/errors.js";
import type { Finding } from "../api/types/statepress.js";
import { type Backends, isOfGpu } from "./backends.js";
import { release, run } from "./jobs.js";
import { fallBack } from "./placed.js";
import type { Platform } from "./platform.js";
import type { Context, Data, Requests } from "./protocol.js";
import type { DistillReport, Job, Wasm, WasmBackend, WasmCheckpoint, WasmDistill, WasmSnapshot } from "./wasm.js";

/** The share of a text that is held out where no other text judges. */
const HELD_OUT = 1 / 10;

/** The most tokens that are held out: a look at them takes as long as training on them once. */
const MOST = 8192;

/** Parts a text: what is trained on, and its end, which judges. */
export function parted(ids: Uint32Array): { ids: Uint32Array; heldOut: Uint32Array; finding: Finding } {
  const count = Math.min(MOST, Math.floor(ids.length * HELD_OUT));
  const at = ids.length - count;
  const message = `the last ${count} of ${ids.length} tokens are held out: they judge, and are not trained on`;
  return { ids: ids.slice(0, at), heldOut: ids.slice(at), finding: { level: "info", code: "held-out", message } };
}

/** Reads a training run that was written down. */
export function openSnapshot({ TrainingSnapshot }: Wasm, snapshot: Uint8Array): WasmSnapshot {
  if (!TrainingSnapshot) throw new StatepressError("internal", "this module does not train");
  return TrainingSnapshot.open(snapshot);
}

/** What a training is asked for, but for its checkpoints. */
type Request = Omit<Requests["distill"][0], "student" | "original" | "uncoded">;

/** What a training reads. */
interface Checkpoints {
  student: WasmCheckpoint;
  original: WasmCheckpoint;
  uncoded: WasmCheckpoint;
}

/** What to do about a GPU that was asked for, and fails once something was learned. */
const GOES_ON =
  "What was learned up to the last look is in the last snapshot, if snapshots were kept: training goes on from it, on the CPU as well";

/** Trains `student` by what is asked for, and writes what it becomes. With `auto` the CPU goes on where a GPU has failed. */
export async function distill(
  platform: Platform,
  wasm: Wasm,
  backends: Backends,
  checkpoints: Checkpoints,
  request: Request,
  context: Context,
): Promise<{ report: DistillReport; data: Data }> {
  const { backend: wanted = "auto", backendOptions } = request;
  // A GPU is started, which cannot be counted and may take a while.
  if (wanted !== "cpu") context.onProgress?.({ stage: "prepare", done: 0, total: 1, unit: "steps" });
  const backend = await backends.choose(wanted, backendOptions);
  const { name, adapter, finding } = backend.info();
  const mayLeave = wanted === "auto" && name === "webgpu";
  const byGpu = adapter ? [trainedBy(adapter.name)] : [];
  let told = -1;
  let last: { snapshot: Uint8Array; step: number } | undefined;
  const watched: Context = {
    ...context,
    // What goes on has looks before it, which nobody is told twice.
    onPoint: (point) => {
      if (point.step <= told) return;
      told = point.step;
      context.onPoint?.(point);
    },
    ...(mayLeave && {
      onSnapshot: (snapshot) => {
        // Whoever is given it may take it away.
        last = { snapshot: context.onSnapshot ? snapshot.slice() : snapshot, step: told };
        context.onSnapshot?.(snapshot);
      },
    }),
  };
  const by = async (backend: WasmBackend, resume: Request["resume"], findings: Finding[]) => {
    const { report, data } = await trained(
      platform,
      wasm,
      backend,
      checkpoints,
      { ...request, ...(resume && { resume }) },
      watched,
    );
    return { report: { ...report, findings: [...findings, ...report.findings] }, data };
  };
  try {
    return await by(backend, request.resume, [...byGpu, ...(finding ? [finding] : [])]);
  } catch (thrown) {
    const error = asStatepressError(thrown);
    if (!isOfGpu(error)) throw error;
    backends.forget();
    if (!mayLeave)
      throw told > 0 ? new StatepressError(error.code, `${error.message}. ${GOES_ON}`, error.facts, error) : error;
    const cpu = await backends.choose("cpu");
    const why = fallBack(error);
    if (!last?.step) return by(cpu, last?.snapshot ?? request.resume, [why]);
    const message = `${why.message}; it went on from step ${last.step}`;
    return by(cpu, last.snapshot, [...byGpu, { ...why, message }]);
  }
}

function trainedBy(adapter: string): Finding {
  return { level: "info", code: "trained-by-gpu", message: `the GPU ${adapter} trained, by burn-wgpu` };
}

/** Trains `student` by a backend, which is its teacher's, too. */
async function trained(
  platform: Platform,
  wasm: Wasm,
  backend: WasmBackend,
  { student, original, uncoded }: Checkpoints,
  request: Request,
  context: Context,
): Promise<{ report: DistillReport; data: Data }> {
  const { ids, heldOut, beside, resume } = request;
  // What it goes on from says all else.
  const { init } = request.options;
  const options = resume ? { ...(init && { init }) } : request.options;
  await backend.readyToTrain?.();
  const teacher = await run(original.load(backend), context, platform.breathe);
  try {
    const scratch = platform.scratch(beside);
    let snapshot: WasmSnapshot | undefined;
    try {
      snapshot = resume && openSnapshot(wasm, resume);
      const job = snapshot
        ? student.resume?.(teacher, original, uncoded, snapshot, options, backend, scratch)
        : student.distill?.(teacher, original, uncoded, ids, heldOut, options, backend, scratch);
      if (!job) throw new StatepressError("internal", "this module does not train");
      const report = await run(telling(job, snapshot, request, context), context, platform.breathe);
      return { report, data: scratch.finish() };
    } catch (error) {
      if (snapshot) release(snapshot);
      scratch.discard();
      throw error;
    }
  } finally {
    release(teacher);
  }
}

/** The same job, which tells of every look, leaves a snapshot after it, and stops training when that is wanted. */
function telling(
  job: WasmDistill,
  from: WasmSnapshot | undefined,
  { about = "", sample, heldOut }: Pick<Request, "about" | "sample" | "heldOut">,
  { onPoint, onSnapshot, enough, pause }: Context,
): Job<DistillReport> {
  let begun = false;
  let told = 0;
  let stopped = false;
  const looks = async () => {
    const points = job.curve(told);
    told += points.length;
    const last = points.at(-1);
    for (const point of points) {
      // What it said at the looks before, it says no longer.
      const said = sample && point === last && (await job.sample(heldOut.slice(0, sample.prompt), sample.count));
      onPoint?.({ ...point, ...(said && { said }) });
    }
    return points.length > 0;
  };
  return {
    async step() {
      if (from && !begun) {
        begun = true;
        await job.goOn(from);
        // Those before it are told again.
        await looks();
      }
      // Before the first look there is nothing to keep.
      if (enough?.aborted && !stopped && told > 0) {
        stopped = true;
        await job.stop();
      }
      if (pause?.aborted) {
        const snapshot = await job.snapshot(about);
        if (snapshot) {
          onSnapshot?.(snapshot);
          throw new StatepressError("aborted", "training is paused; its snapshot takes it on from here");
        }
      }
      const progress = await job.step();
      if (progress?.stage === "validate" && (await looks()) && onSnapshot) {
        const snapshot = await job.snapshot(about);
        if (snapshot) onSnapshot(snapshot);
      }
      return progress;
    },
    finish: () => job.finish(),
    free: () => job.free(),
  };
}
