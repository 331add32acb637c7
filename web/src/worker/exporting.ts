// Exports: a checkpoint written for another tool, by the module that can.

import { StatepressError } from "../api/errors.js";
import { run } from "./jobs.js";
import type { Platform } from "./platform.js";
import type { Context, Data } from "./protocol.js";
import type { Exported, Job, Sink, WasmCheckpoint } from "./wasm.js";

/** Writes it. */
export async function exported(
  platform: Platform,
  checkpoint: WasmCheckpoint,
  options: object,
  context: Context,
): Promise<Exported & { data: Data }> {
  const scratch = platform.scratch();
  try {
    const done = await run(begun(checkpoint, options, scratch), context, platform.breathe);
    return { ...done, data: scratch.finish() };
  } catch (error) {
    scratch.discard();
    throw error;
  }
}

/** Refuses what could not be written. */
export function checkExport(checkpoint: WasmCheckpoint, options: object): void {
  begun(checkpoint, options, { write: () => {} }).free();
}

function begun(checkpoint: WasmCheckpoint, options: object, sink: Sink): Job<Exported> {
  const job = checkpoint.export?.(options, sink);
  if (!job) throw new StatepressError("internal", "this module does not export");
  return job;
}
