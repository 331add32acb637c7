// Which tensors lost most.

import type { TensorPlan } from "statepress";

/** What a tensor lost: 1 - cosine of the angle between it and what its codes decode to. */
export interface Lost extends TensorPlan {
  loss: number;
}

/** Tensors that lost something, the worst first. */
export function worst(tensors: TensorPlan[]): Lost[] {
  return tensors
    .flatMap((tensor) =>
      tensor.error && tensor.error.cosine < 1 ? [{ ...tensor, loss: 1 - tensor.error.cosine }] : [],
    )
    .sort((a, b) => b.loss - a.loss);
}
