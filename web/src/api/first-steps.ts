// Several recipes of a checkpoint that begin alike: what their first steps leave is worked out once.

import type { Checkpoint } from "./checkpoint.js";
import type { Environment } from "./environment.js";

/** Does something while what the first steps of a recipe leave is kept, for the next one that begins with the same. */
export async function keepingFirstSteps<T>(
  { host }: Environment,
  { handle }: Checkpoint,
  work: () => Promise<T>,
): Promise<T> {
  await host.call("keepFirstSteps", { checkpoint: handle, whether: true });
  try {
    return await work();
  } finally {
    // What has crashed, or was disposed of, keeps nothing.
    await host.call("keepFirstSteps", { checkpoint: handle, whether: false }).catch(() => {});
  }
}
