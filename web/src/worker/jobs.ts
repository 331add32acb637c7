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
      const progress = await job.step();
      if (progress === undefined) break;
      shown = progress;
      // What has only begun may take long: it is told at once.
      if (pace.due || progress.done === 0) {
        context.onProgress?.(progress);
        shown = undefined;
        await pace.rest();
      }
    }
    if (shown) context.onProgress?.(shown);
  } catch (error) {
    release(job);
    throw error;
  }
  return job.finish();
}

/** Frees what failed. After a trap the module refuses even that; the first error is the one that counts. */
export function release(object: { free(): void }): void {
  try {
    object.free();
  } catch {}
}

/** Milliseconds that a step of decoding should take: half of the slice between two looks at the messages. */
const DECODE = SLICE / 2;

/** The most tokens of a step: what a GPU makes of one submission. */
const MOST = 64;

/** How many tokens to make at a time, so that there are few steps and none is long. */
export class Batch {
  count = 1;

  /** A step of `count` tokens took so long. */
  took(milliseconds: number): void {
    if (milliseconds < DECODE / 2) this.count = Math.min(MOST, this.count * 2);
    else if (milliseconds > DECODE) this.count = Math.max(1, this.count >> 1);
  }
}
