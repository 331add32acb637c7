// Runs jobs step by step: shows progress, lets messages in, and stops when asked.

import { throwIfAborted } from "../api/errors.js";
import type { Progress } from "../api/types/statepress.js";
import type { Context } from "./protocol.js";
import type { Job } from "./wasm.js";

/** Milliseconds of work between two looks at the message queue: one frame of a 60 Hz screen. */
const SLICE = 16;

/** Says when it is time to let messages in, and lets them in. */
export class Pace {
  #last = performance.now();

  constructor(readonly breathe: () => Promise<void>) {}

  /** Whether a slice of work is over. */
  get due(): boolean {
    return performance.now() - this.#last >= SLICE;
  }

  /** Lets messages in. */
  async rest(): Promise<void> {
    await this.breathe();
    this.#last = performance.now();
  }
}

/** Runs a job to its end, or frees it. */
export async function run<T>(job: Job<T>, context: Context, breathe: () => Promise<void>): Promise<T> {
  const pace = new Pace(breathe);
  try {
    let shown: Progress | undefined;
    for (;;) {
      throwIfAborted(context.signal);
      const progress = job.step();
      if (progress === undefined) break;
      shown = progress;
      if (pace.due) {
        context.onProgress?.(progress);
        shown = undefined;
        await pace.rest();
      }
    }
    if (shown) context.onProgress?.(shown);
  } catch (error) {
    job.free();
    throw error;
  }
  return job.finish();
}
