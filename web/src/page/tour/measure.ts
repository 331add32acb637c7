// The measurements of the tour: a built-in recipe carried out on a part of the held-out text.

import type { Page } from "../session/context.js";
import type { Run, State } from "../state/state.js";

/** Enough tokens to see the damage of 4 bits, few enough to wait for. */
const LIMIT = 4096;

/** The last complete run of a built-in recipe on that part of that text. */
export function measured({ runs, recipes }: State, name: string): Run | undefined {
  const recipe = recipes.find((it) => it.name === name);
  return runs.findLast(
    ({ asked, comparison }) => comparison && asked.recipe === recipe && asked.text === "demo" && asked.limit === LIMIT,
  );
}

/** Compresses by a built-in recipe and measures; the settings for it are put back. False when it did not come to an end. */
export async function measure({ store, session }: Page, name: string): Promise<boolean> {
  const recipe = store.state.recipes.find((it) => it.name === name);
  if (!recipe || store.state.work) return false;
  const { limit, text } = store.state.asked;
  const asking = session.askRecipe(recipe);
  store.tell({ type: "asked", change: { limit: LIMIT, text: "demo" } });
  // The session reads the settings as it starts: they need not stand any longer.
  const running = session.compress();
  store.tell({ type: "asked", change: { limit, text } });
  await Promise.all([asking, running]);
  return store.state.workProblem === undefined && measured(store.state, name) !== undefined;
}
