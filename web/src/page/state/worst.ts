// Which tensors lost most.

import type { TensorPlan } from "statepress";
import type { Run } from "./state.js";

/** What a tensor lost: 1 - cosine of the angle between it and what its codes decode to. */
export interface Lost extends TensorPlan {
  loss: number;
}

// Without a cosine some of its numbers became infinite, and nothing is worse. Rounding above 1 is no gain.
function lossIn({ cosine }: NonNullable<TensorPlan["error"]>): number {
  return Math.max(0, 1 - (cosine ?? -1));
}

/** What each tensor lost in a run, by its name; nothing is known of a run of another model. */
export function lossesOf(run: Run | undefined): Map<string, number> {
  const tensors = run?.report?.tensors ?? [];
  return new Map(tensors.flatMap(({ name, error }) => (error ? [[name, lossIn(error)] as const] : [])));
}

/** Tensors that lost something, the worst first. */
export function worst(tensors: TensorPlan[]): Lost[] {
  return tensors
    .flatMap((tensor) => (tensor.error && lossIn(tensor.error) > 0 ? [{ ...tensor, loss: lossIn(tensor.error) }] : []))
    .sort((a, b) => b.loss - a.loss);
}
