// What was measured of the built-in recipes on the checkpoint that is open: by itself for advice, or as a run.

import type { MeasuredRecipe } from "statepress";
import type { State } from "./state.js";

/** All of it; of a recipe that was measured more often the last one counts. */
export function measuredOf({ checkpoint, runs, recipes }: State): MeasuredRecipe[] {
  const ran = runs.flatMap(({ id, report, comparison, asked }) => {
    // By identity: a recipe of the user's own may have the name of a built-in one.
    if (!report || !comparison || !recipes.includes(asked.recipe)) return [];
    const { b, kl, perplexityChange: loss, perplexityChangeStderr: stderr } = comparison;
    const recipe = asked.recipe.name;
    return [{ run: id, recipes: [{ recipe, loss, stderr, kl: kl.mean, ratio: report.bytes.ratio, tokens: b.tokens }] }];
  });
  const all = [...ran, ...(checkpoint ? [checkpoint.measured] : [])];
  return all.sort((a, b) => a.run - b.run).flatMap((it) => it.recipes);
}
