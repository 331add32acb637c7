// Planning: arithmetic on the headers, cheap enough for every recipe there is and for every key that is pressed.

import type { Recipe } from "statepress";
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
  const advice = await checkpoint.advise({ ...opened.state.wishes });
  tell({ type: "advised", checkpoint: opened.id, advice, plans: Object.fromEntries(plans.flat()) });
  if (opened.state.asked.recipe !== NOTHING) return;
  const best = advice.recommended[0]?.recipe ?? NOTHING.name;
  const recipe = builtin.find((it) => it.name === best);
  if (!recipe) return;
  tell({ type: "asked", change: { recipe } });
  await plan(opened, recipe);
}

/** Plans the recipe that is asked for. */
export async function plan(opened: OpenCheckpoint, recipe: Recipe): Promise<void> {
  const { tell } = opened;
  tell({ type: "planning" });
  try {
    tell({ type: "planned", recipe, plan: await opened.checkpoint.plan(recipe) });
  } catch (error) {
    tell({ type: "planFailed", recipe, problem: opened.failed(error) });
    return;
  }
  // The pictures of the codes are drawn by the recipe's options.
  const seen = opened.state.look;
  if (seen && seen.codes !== codesOf(opened.state.asked.recipe)) await look(opened, seen.tensor);
}
