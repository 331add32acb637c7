// Planning: arithmetic on the headers, cheap enough for every recipe there is and for every key that is pressed.

import { type Recipe, StatepressError } from "statepress";
import { codesOf } from "../state/recipes.js";
import { NOTHING } from "../state/state.js";
import { look } from "./looking.js";
import type { OpenCheckpoint } from "./open-checkpoint.js";

/** Plans every built-in recipe and asks for advice; where nothing was chosen yet, the advice is followed. */
export async function advise(opened: OpenCheckpoint): Promise<void> {
  const { checkpoint, tell } = opened;
  const builtin = opened.state.recipes;
  const plans = await Promise.all(
    builtin.map(async (recipe) => {
      // A recipe that cannot be followed here has no plan; choosing it says why.
      const planned = await checkpoint.plan(recipe).catch(() => undefined);
      return planned ? [[recipe.name, planned] as const] : [];
    }),
  );
  const advice = await checkpoint.advise();
  tell({ type: "advised", checkpoint: opened.id, advice, plans: Object.fromEntries(plans.flat()) });
  if (opened.state.asked.recipe !== NOTHING) return;
  const best = advice.recommended[0]?.recipe ?? NOTHING.name;
  const recipe = builtin.find((it) => it.name === best);
  if (!recipe) return;
  tell({ type: "asked", change: { recipe } });
  await plan(opened, recipe);
}

/** Why a recipe with error compensation is refused. */
const TEXT =
  "it makes up for rounding errors, for which the model has to read a text: that is not in this page yet, but on the command line: statepress compress FILE --recipe RECIPE.json --calibrate TEXT";

/** Plans the recipe that is asked for. */
export async function plan(opened: OpenCheckpoint, recipe: Recipe): Promise<void> {
  const { tell } = opened;
  tell({ type: "planning" });
  try {
    const planned = await opened.checkpoint.plan(recipe);
    // Said here rather than when the work has begun.
    if (planned.findings.some(({ code }) => code === "needs-calibration"))
      throw new StatepressError("unsupported", TEXT);
    tell({ type: "planned", recipe, plan: planned });
  } catch (error) {
    tell({ type: "planFailed", recipe, problem: opened.failed(error) });
    return;
  }
  // The pictures of the codes are drawn by the recipe's options.
  const seen = opened.state.look;
  if (seen && seen.codes !== codesOf(opened.state.asked.recipe)) await look(opened, seen.tensor);
}
