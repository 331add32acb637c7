// The fading rates of the demo's first layer: which tensor, its numbers, and the step they are looked at with.

import type { TensorView } from "statepress";

/** The tensor. */
export const RATES = "layers.0.ssm.ssm.A_log";

/** The median step of that layer over the first window of the held-out text; nine in ten are between 0.3 and 1.2. */
export const DT = 0.75;

/** All numbers of a vector that is short enough to be one block; none before it was read. */
export function exactOf(view: TensorView | undefined): number[] {
  return view?.coded.find((it) => it.precision === "fp16")?.block.values ?? [];
}
