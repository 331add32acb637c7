// What a recipe, which may be anybody's JSON, asks for: whether it quantizes, entropy-codes, trains, or has the model read a text.

import type { RecipeDraft, RecipeInput } from "./options.js";
import type { Plan, Quantize, Recover, StoredAs } from "./types/statepress.js";

/** Whether a step of a recipe, which may be anybody's JSON, quantizes. */
export function quantizes(step: unknown): step is { quantize: object } {
  return typeof step === "object" && step !== null && "quantize" in step;
}

/** Whether a step of a recipe trains. */
export function recovers(step: unknown): step is { recover: Partial<Recover> } {
  return typeof step === "object" && step !== null && "recover" in step;
}

/** Whether a recipe, or anybody's JSON, has a step that trains. */
export function trains(recipe: RecipeInput | undefined): recipe is RecipeDraft {
  return typeof recipe === "object" && Array.isArray(recipe.steps) && recipe.steps.some(recovers);
}

/** The same recipe with these options in its quantize step. */
export function quantizing<R extends { steps: readonly unknown[] }>(recipe: R, options: Partial<Quantize>): R {
  const steps = recipe.steps.map((step) =>
    quantizes(step) ? { ...step, quantize: { ...step.quantize, ...options } } : step,
  );
  return { ...recipe, steps };
}

/** Whether a recipe has its codes entropy-coded. */
export function isCoded({ steps }: { steps: readonly unknown[] }): boolean {
  return steps.some((step) => quantizes(step) && "coded" in step.quantize && step.quantize.coded === true);
}

/** Whether a recipe that was planned stores anything in codes, whose rounding several workers can share. */
export function storesCodes({ tensors }: Pick<Plan, "tensors">): boolean {
  const isCode = (precision: StoredAs) => !["kept", "fp32", "fp16", "bf16"].includes(precision);
  return tensors.some(({ precision, rows = [] }) => isCode(precision) || rows.some((row) => isCode(row.precision)));
}

/** Whether a recipe that was planned has the model read a text. */
export function readsText({ findings }: Pick<Plan, "findings">): boolean {
  return findings.some(({ code }) => code === "needs-calibration");
}
