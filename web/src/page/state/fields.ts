// What a configuration says that families say each in their own way, or not at all.

import type { Source } from "./state.js";

type Said = Pick<Source, "inspection">;

/** Whether how far ahead a model predicts is a question: a matter of families that have the field. */
export function hasOffset({ inspection }: Said): boolean {
  return inspection.spec["prediction_offset"] !== undefined;
}

/** How many layers a model has; undefined where no field says so. */
export function layersOf({ inspection: { spec } }: Said): number | undefined {
  const fields = [spec["num_hidden_layers"], spec["num_layers"], spec["n_layers"], spec["n_layer"]];
  const value = fields.find((field) => field !== undefined)?.value;
  return typeof value === "number" ? value : undefined;
}
