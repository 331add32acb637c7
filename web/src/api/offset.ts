// How many tokens ahead a model predicts: a matter of families whose files do not say.
//
// Such a family has the field `prediction_offset`. Of every other family the offset is 1: it is not looked for, not shown
// and not to be changed.

import { StatepressError } from "./errors.js";
import type { EvaluationProtocol } from "./options.js";
import type { Inspection } from "./types/statepress.js";

/** Whether the offset of a model is a question at all. */
export function hasOffset({ spec }: Pick<Inspection, "spec">): boolean {
  return spec["prediction_offset"] !== undefined;
}

/**
 * The options of an evaluation with the offset that makes sense for a model: `detect` finds 1 where it is known to be 1.
 *
 * @throws StatepressError `bad-option` where another one is asked of a model that predicts the next token.
 */
export function withOffset<T extends EvaluationProtocol>(inspection: Inspection, options: T): T {
  const { offset } = options;
  if (offset === undefined || hasOffset(inspection)) return options;
  if (offset === "detect" || offset === 1) return { ...options, offset: undefined };
  const message = `option offset is ${offset}: ${inspection.family} predicts the next token; allowed: 1`;
  throw new StatepressError("bad-option", message, { option: "offset", value: offset, allowed: "1" });
}
