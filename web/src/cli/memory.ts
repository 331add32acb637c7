// The memory of the process: how much it had at most, and work that stops where it would take more than it may.

import { StatepressError } from "../api/errors.js";
import type { Progress } from "../api/types/statepress.js";

/** The most bytes that this process has had in memory at once, the engine of JavaScript included. */
export function peakBytes(): number {
  // The operating system counts kibibytes.
  return process.resourceUsage().maxRSS * 1024;
}

/** Looks at the memory whenever work tells how far it is, which it does between tensors; beyond the limit it is an error. */
export function withinMemory(
  limit: number | undefined,
  told: (progress: Progress) => void,
): (progress: Progress) => void {
  if (limit === undefined) return told;
  return (progress) => {
    const taken = process.memoryUsage.rss();
    if (taken > limit) {
      const where = progress.item === undefined ? "" : ` at ${progress.item}`;
      const message = `it does not fit: ${taken} bytes of memory are taken${where}, and --max-memory allows ${limit}`;
      throw new StatepressError("too-large", message, {
        taken,
        limit,
        ...(progress.item && { tensor: progress.item }),
      });
    }
    told(progress);
  };
}
