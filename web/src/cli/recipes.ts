// What options change of a recipe: --prune, --center and --basis put steps before its own and --recover one behind them, --coded says how codes are stored, --compensate how they are rounded.

import { quantizes, quantizing, trains } from "../api/coded.js";
import {
  type PruneDraft,
  type Recipe,
  type RecipeDraft,
  type RecipeInput,
  recipes,
  type StepDraft,
} from "../api/node.js";
import { PRUNE_KINDS, PRUNING } from "../api/types/statepress.js";
import { UsageError } from "./args.js";
import type { Run } from "./command.js";

/** The recipe as the options want it: after these steps, coded and trained if that is asked for. */
export async function changed({ args }: Run, recipe: RecipeInput, steps: readonly StepDraft[]): Promise<RecipeInput> {
  const [asked, compensated] = [args.flag("coded"), args.flag("compensate")];
  const trained = args.flag("recover") || args.flag("recover-ids");
  if (steps.length === 0 && !asked && !compensated && !trained) return recipe;
  const whole = typeof recipe === "string" ? (await recipes()).find(({ name }) => name === recipe) : recipe;
  // What is none is left to be refused.
  if (!Array.isArray(whole?.steps)) return recipe;
  if (asked && !whole.steps.some(quantizes)) {
    throw new UsageError(`--coded needs a quantize step, which the recipe ${whole.name} does not have`);
  }
  const pruned = { ...whole, steps: [...steps, ...whole.steps, ...(trained ? training(args, whole) : [])] };
  // A text has errors made up for by itself, but where scales clip by activations.
  return quantizing(pruned as Recipe, {
    ...(asked && { coded: true }),
    ...(compensated && { errorCompensation: "gptq" }),
  });
}

/** Refuses a recipe that trains without a text, and options that it says itself. */
export function checkTraining({ args }: Run, recipe: RecipeInput | undefined, asked: boolean): void {
  if (!trains(recipe)) return;
  if (!asked) {
    const need = "--recover TEXT or --recover-ids BIN says on what";
    throw new UsageError(`the recipe ${recipe.name} trains what it makes: ${need}`);
  }
  const said = TRAINING.find((option) => args.flag(option));
  if (said) throw new UsageError(`--${said} is for recipes without a recover step: ${recipe.name} says it there`);
}

/** Options that say how --recover trains. */
export const TRAINING = ["steps", "recover-weights", "alpha"] as const;

/** The step that --recover adds to a recipe that does not train by itself. */
function training(args: Run["args"], recipe: RecipeDraft): StepDraft[] {
  if (trains(recipe)) return [];
  const [steps, weights, alpha] = [args.number("steps"), args.one("recover-weights"), args.number("alpha")];
  return [
    {
      recover: {
        ...(steps !== undefined && { steps }),
        ...(weights && { weights }),
        ...(alpha !== undefined && { alpha }),
      },
    },
  ];
}

/** The steps that --prune, --center and --basis ask for. `reads`: whether there is a text for the model to read. */
export function firstSteps({ args }: Run, reads: boolean): StepDraft[] {
  const prunes = pruning(args, "prune", reads);
  const centers: StepDraft[] = args.flag("center") ? [{ center: {} }] : [];
  const bases: StepDraft[] = args.flag("basis") ? [{ basis: {} }] : [];
  return [...prunes, ...centers, ...bases];
}

/** The prune steps that an option asks for. */
export function pruning(args: Run["args"], name: "prune" | "student", reads: boolean): StepDraft[] {
  const parts = (args.values.get(name) ?? []).flatMap((text) => text.split(","));
  return parts.map((part) => ({ prune: step(name, part.trim(), reads) }));
}

/** Whether a step cannot do without a text: fewer rows of a step size are fitted to it, and it says which directions, layers and ids matter. */
export function needsText({ kind }: PruneDraft): boolean {
  return PRUNING[kind].needsText;
}

function isKind(kind: string): kind is PruneDraft["kind"] {
  return PRUNE_KINDS.some((known) => known === kind);
}

/** `inner=0.75` as a step: with a text ranked by what is lost, and repaired; without by magnitude. */
function step(name: string, part: string, reads: boolean): PruneDraft {
  const [kind = "", keep = "", ...more] = part.split("=");
  if (!/^[A-Za-z]+$/.test(kind) || !/^(\d+|\d*\.\d+)$/.test(keep) || more.length > 0) {
    throw new UsageError(`--${name} takes what is removed and what stays, inner=0.75,width=0.5, not '${part}'`);
  }
  if (!isKind(kind)) throw new UsageError(`--${name} takes one of ${PRUNE_KINDS.join(", ")}, not '${kind}'`);
  const draft = { kind, keep: Number(keep) };
  if (!reads && !needsText(draft)) return draft;
  const { by, repair } = PRUNING[kind];
  return { ...draft, by, repair };
}
