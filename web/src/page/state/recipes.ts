// Recipes as the page edits them.

import {
  type ClipBy,
  GROUPED,
  type Precision,
  QUANTIZE_DEFAULTS,
  type Quantize,
  RECOVER_DEFAULTS,
  type Recipe,
  type Recover,
  type StepDraft,
} from "statepress";

/** The step that quantizes, with what it leaves to the package's defaults. */
export function quantizeOf(recipe: Recipe): Quantize | undefined {
  for (const step of recipe.steps) if (quantizes(step)) return whole(step.quantize);
  return undefined;
}

function quantizes(step: Recipe["steps"][number]): step is { quantize: Quantize } {
  return typeof step === "object" && step !== null && "quantize" in step;
}

/** The step that trains what the others have made, with what it leaves to the package's defaults. */
export function recoveryOf(recipe: Recipe): Recover | undefined {
  for (const step of recipe.steps) if (recovers(step)) return { ...RECOVER_DEFAULTS, ...step.recover };
  return undefined;
}

function recovers(step: Recipe["steps"][number]): step is { recover: Recover } {
  return typeof step === "object" && step !== null && "recover" in step;
}

// Recipes from links and files are shown before the package has refused them: nothing in them is sure to be there.
function whole(quantize: Partial<Quantize> | null): Quantize {
  const { rules, int8, nf4, int4, groups, ...rest } = { ...QUANTIZE_DEFAULTS, ...current(quantize) };
  return {
    ...rest,
    rules: Array.isArray(rules) ? rules.filter((rule) => typeof rule === "object" && rule !== null) : [],
    int8: { ...QUANTIZE_DEFAULTS.int8, ...int8 },
    nf4: { ...QUANTIZE_DEFAULTS.nf4, ...nf4 },
    int4: { ...QUANTIZE_DEFAULTS.int4, ...int4 },
    groups: { ...QUANTIZE_DEFAULTS.groups, ...groups },
  };
}

/** Of an older recipe. */
type Older = { calibration?: string; symmetric?: boolean };

// Older recipes of version 1: one option had another name, and one had one value only. What that cannot be is left for
// the package to refuse.
function current(quantize: Partial<Quantize> | null): Partial<Quantize> {
  const rest: Partial<Quantize> = quantize ?? {};
  const { calibration, ...int8 }: Partial<Quantize["int8"]> & Older = rest.int8 ?? {};
  const { symmetric, ...int4 }: Partial<Quantize["int4"]> & Older = rest.int4 ?? {};
  const whole = {
    ...rest,
    ...(rest.int8 && { int8: { ...(calibration !== undefined && { clip: calibration }), ...int8 } }),
    ...(rest.int4 && { int4: { ...int4, ...(symmetric === false && { symmetric }) } }),
  };
  return whole as Partial<Quantize>;
}

/** The steps of a recipe before anything is quantized or trained. */
export function firstOf(recipe: Recipe): StepDraft[] {
  return recipe.steps.filter((step) => !quantizes(step) && !recovers(step)) as StepDraft[];
}

/** What a recipe prunes, as one comparable text; undefined is a recipe that prunes nothing. */
export function prunesOf(recipe: Recipe | undefined): string {
  return JSON.stringify(recipe ? firstOf(recipe).filter((step) => "prune" in step) : []);
}

/** Whether a recipe takes whole layers out, so that those behind them are counted anew: a name is another tensor's then. */
export function countsAnew(recipe: Recipe): boolean {
  return firstOf(recipe).some((step) => "prune" in step && step.prune.kind === "layers");
}

/** How a recipe does its codes, as one comparable text. */
export function codesOf(recipe: Recipe): string {
  const { int8, int4, nf4, groups } = quantizeOf(recipe) ?? QUANTIZE_DEFAULTS;
  return JSON.stringify([int8, int4, nf4, groups]);
}

/** Whether a recipe has its codes entropy-coded. */
export function isCoded(recipe: Recipe): boolean {
  return quantizeOf(recipe)?.coded === true;
}

/** Whether a recipe makes up for rounding errors, for which the model has to read a text. */
export function compensates(recipe: Recipe): boolean {
  return quantizeOf(recipe)?.errorCompensation === "gptq";
}

/** Whether the model has to read a text for a recipe: to round by what it computes, or to be trained. */
export function readsText(recipe: Recipe): boolean {
  return roundsByText(recipe) || recoveryOf(recipe) !== undefined;
}

/** Whether a recipe rounds by what the model computes: errors are made up for, or scales clip by it. */
export function roundsByText(recipe: Recipe): boolean {
  const quantize = quantizeOf(recipe);
  return quantize !== undefined && (compensates(recipe) || precisionsOf(quantize).some((it) => byText(quantize, it)));
}

function precisionsOf({ rules, otherwise }: Quantize): Precision[] {
  return [
    otherwise,
    ...rules.flatMap(({ precision, rows }) => [
      precision,
      ...(Array.isArray(rows) ? rows : []).map((row) => row?.precision),
    ]),
  ];
}

function byText({ int8, int4, nf4, groups }: Quantize, precision: Precision): boolean {
  const own: Partial<Record<Precision, { clip?: ClipBy }>> = { int8, int4, nf4 };
  const codec = GROUPED.some((it) => it === precision) ? groups : own[precision];
  return codec?.clip === "activation";
}

/** What a recipe is called where it stands among others. */
export function labelOf(recipe: Recipe): string {
  return `${recipe.name}${compensates(recipe) ? ", compensated" : ""}${recoveryOf(recipe) ? ", trained" : ""}`;
}

/**
 * The same recipe, with rounding errors made up for or not. What becomes a built-in recipe again by that is that recipe;
 * one that rounds nothing has nothing to make up for.
 */
export function compensating(recipe: Recipe, on: boolean, builtin: Recipe[]): Recipe {
  if (!quantizeOf(recipe) || compensates(recipe) === on) return recipe;
  // Steps between levels are fitted to what a text sends through the model: without it there are none.
  const rules = (quantizeOf(recipe)?.rules ?? []).map(({ step, ...rule }) => (on && step ? { ...rule, step } : rule));
  return builtinAgain(edited(recipe, { rules, errorCompensation: on ? "gptq" : "none" }), builtin);
}

/** The same recipe, with a last step that trains as is said there, or without one; as `compensating`. */
export function recovering(recipe: Recipe, recover: Recover | undefined, builtin: Recipe[]): Recipe {
  const before = recipe.steps.filter((step) => !recovers(step));
  // What changes nothing leaves nothing to recover from.
  const steps = recover && before.length > 0 ? [...before, { recover }] : before;
  if (steps.length === recipe.steps.length && recover === undefined) return recipe;
  return builtinAgain({ version: 1, name: ownName(recipe.name), steps }, builtin);
}

function builtinAgain(changed: Recipe, builtin: Recipe[]): Recipe {
  const origin = originOf(changed, builtin);
  return origin && sameSteps(origin, changed) ? origin : changed;
}

function sameSteps(a: Recipe, b: Recipe): boolean {
  const steps = (it: Recipe) => JSON.stringify(edited(it, {}).steps);
  return steps(a) === steps(b);
}

/** The built-in recipe that is meant, whether or not its rounding errors are made up for, and it is trained; or the recipe itself. */
export function chosenOf(recipe: Recipe, builtin: Recipe[]): Recipe {
  if (builtin.includes(recipe)) return recipe;
  return compensating(recovering(recipe, undefined, builtin), false, builtin);
}

/** A recipe that is picked in place of another one: what the user wants of any recipe stays, as far as that was a built-in one. */
export function picked(recipe: Recipe, before: Recipe, builtin: Recipe[]): Recipe {
  if (!originOf(before, builtin)) return recipe;
  const compensated = compensates(before) ? compensating(recipe, true, builtin) : recipe;
  return recovering(compensated, recoveryOf(before), builtin);
}

/** A recipe of the user's own, made from another one. */
export function edited(recipe: Recipe, change: Partial<Quantize>): Recipe {
  const quantize = { ...(quantizeOf(recipe) ?? QUANTIZE_DEFAULTS), ...change };
  const [others, last] = [firstOf(recipe) as Recipe["steps"], recipe.steps.filter(recovers)];
  return { version: 1, name: ownName(recipe.name), steps: [...others, { quantize }, ...last] };
}

// A changed built-in recipe must not go by its name.
function ownName(name: string): string {
  return name.startsWith("my-") ? name : `my-${name}`;
}

/** The built-in recipe that a recipe of the user's own was made from; undefined where that cannot be told. */
export function originOf(recipe: Recipe, builtin: Recipe[]): Recipe | undefined {
  if (builtin.includes(recipe)) return undefined;
  return builtin.find(({ name }) => ownName(name) === recipe.name);
}

/** The same recipe with a rule before all others: the precision of one tensor. */
export function withTensor(recipe: Recipe, tensor: string, precision: Precision, step?: number): Recipe {
  const rules = (quantizeOf(recipe)?.rules ?? []).filter((rule) => rule.match !== tensor);
  return edited(recipe, { rules: [{ match: tensor, precision, ...(step !== undefined && { step }) }, ...rules] });
}
