// Which tensors lost most.

import type { TensorPlan } from "statepress";
import type { Run } from "./state.js";

/** What a tensor lost: 1 - cosine of the angle between it and what its codes decode to. */
export interface Lost extends TensorPlan {
  loss: number;
}

/** What each tensor lost in a run, by its name; nothing is known of a run of another model. */
export function lossesOf(run: Run | undefined): Map<string, number> {
  const tensors = run?.report?.tensors ?? [];
  return new Map(tensors.flatMap(({ name, error }) => (error ? [[name, Math.max(0, 1 - error.cosine)] as const] : [])));
}

/** Tensors that lost something, the worst first. */
export function worst(tensors: TensorPlan[]): Lost[] {
  return tensors
    .flatMap((tensor) =>
      // Without a cosine: some of its numbers became infinite, and nothing is worse.
      tensor.error && tensor.error.cosine !== 1 ? [{ ...tensor, loss: 1 - (tensor.error.cosine ?? -1) }] : [],
    )
    .sort((a, b) => b.loss - a.loss);
}
