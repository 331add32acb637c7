// Training: a student learns from a teacher, and tells how good it is at every look.

import { StatepressError } from "../api/errors.js";
import type { Finding } from "../api/types/statepress.js";
import { release, run } from "./jobs.js";
import type { Platform } from "./platform.js";
import type { Context, Data } from "./protocol.js";
import type { DistillReport, Job, WasmBackend, WasmCheckpoint, WasmDistill } from "./wasm.js";

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

/** Trains `student`, and writes what it becomes. */
export async function distill(
  platform: Platform,
  cpu: WasmBackend,
  { student, original }: { student: WasmCheckpoint; original: WasmCheckpoint },
  {
    ids,
    heldOut,
    options,
    beside,
  }: { ids: Uint32Array; heldOut: Uint32Array; options: object; beside?: string | undefined },
  context: Context,
): Promise<{ report: DistillReport; data: Data }> {
  const teacher = await run(original.load(cpu), context, platform.breathe);
  try {
    const scratch = platform.scratch(beside);
    try {
      const job = student.distill?.(teacher, original, ids, heldOut, options, scratch);
      if (!job) throw new StatepressError("internal", "this module does not train");
      const report = await run(telling(job, context), context, platform.breathe);
      return { report, data: scratch.finish() };
    } catch (error) {
      scratch.discard();
      throw error;
    }
  } finally {
    release(teacher);
  }
}

/** The same job, which tells of every look, and stops training when that is wanted. */
function telling(job: WasmDistill, { onPoint, enough }: Context): Job<DistillReport> {
  let told = 0;
  let stopped = false;
  return {
    async step() {
      if (enough?.aborted && !stopped) {
        stopped = true;
        await job.stop();
      }
      const progress = await job.step();
      if (progress?.stage === "validate") {
        for (const point of job.curve(told)) {
          told += 1;
          onPoint?.(point);
        }
      }
      return progress;
    },
    finish: () => job.finish(),
    free: () => job.free(),
  };
}
