// How long work will take.

import type { Work } from "./state.js";

/** Seconds left of the running stage at its pace so far; undefined before there is a pace to speak of. */
export function remaining({ progress, since, now }: Work): number | undefined {
  if (!progress || progress.done <= 0 || now - since < 300) return undefined;
  return ((now - since) / 1000 / progress.done) * (progress.total - progress.done);
}
