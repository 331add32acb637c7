// A closer look at one tensor: its numbers first, then what each code would make of them.

import type { Precision } from "statepress";
import { codesOf, quantizeOf } from "../state/recipes.js";
import type { OpenCheckpoint } from "./open-checkpoint.js";

/** Codes of which a picture is drawn. */
const PICTURED: Precision[] = ["fp16", "int8", "int4", "nf4", "int3", "lm3", "lm2"];

/** Looks at a tensor. Numbers that no code can hold (NaN, infinities) do not hide the numbers that are there. */
export async function look(opened: OpenCheckpoint, tensor: string): Promise<void> {
  const { checkpoint, tell } = opened;
  const signal = opened.begin("look");
  const { recipe } = opened.state.asked;
  tell({ type: "looking", tensor, codes: codesOf(recipe) });
  try {
    // What is already seen of it stays until the new pictures are there.
    if (!opened.state.look?.view) {
      const view = await checkpoint.tensor(tensor, { signal });
      if (signal.aborted) return;
      tell({ type: "looked", view });
    }
  } catch (error) {
    if (!signal.aborted) tell({ type: "lookFailed", tensor, problem: opened.failed(error) });
    return;
  }
  try {
    const quantize = quantizeOf(recipe);
    const options = quantize && {
      int8: quantize.int8,
      int4: quantize.int4,
      nf4: quantize.nf4,
      groups: quantize.groups,
    };
    const asked = { precisions: PICTURED, ...(options && { quantize: options }), signal };
    const view = await checkpoint.tensor(tensor, asked);
    if (!signal.aborted) tell({ type: "looked", view });
  } catch (error) {
    if (!signal.aborted) tell({ type: "picturesFailed", tensor, problem: opened.failed(error) });
  }
}
