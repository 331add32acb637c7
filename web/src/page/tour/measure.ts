// The measurements of the tour: a built-in recipe carried out on a part of the held-out text.

import type { Page } from "../session/context.js";
import type { RecipeRun, State } from "../state/state.js";

/** Enough tokens to see the damage of 4 bits, few enough to wait for. */
const LIMIT = 4096;

/** The last complete run of a built-in recipe on that part of that text. */
export function measured({ runs, recipes }: State, name: string): RecipeRun | undefined {
  const recipe = recipes.find((it) => it.name === name);
  return runs.findLast(
    (run): run is RecipeRun =>
      run.report !== undefined &&
      run.comparison !== undefined &&
      run.asked.recipe === recipe &&
      run.asked.text === "demo" &&
      run.asked.limit === LIMIT,
  );
}

/** Compresses by a built-in recipe and measures; what is asked for stays as it is. False when it did not come to an end. */
export async function measure({ store, session }: Page, name: string): Promise<boolean> {
  const recipe = store.state.recipes.find((it) => it.name === name);
  if (!recipe || store.state.work) return false;
  await session.compress({ recipe, limit: LIMIT, text: "demo" });
  return store.state.workProblem === undefined && measured(store.state, name) !== undefined;
}
