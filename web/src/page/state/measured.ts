// What was measured of the built-in recipes on the checkpoint that is open: by itself for advice, or as a run.

import type { MeasuredRecipe } from "statepress";
import type { State } from "./state.js";

/** All of it; of a recipe that was measured more often the last one counts. */
export function measuredOf({ checkpoint, runs, recipes }: State): MeasuredRecipe[] {
  const ran = runs.flatMap(({ report, comparison, asked }) => {
    // By identity: a recipe of the user's own may have the name of a built-in one.
    if (!report || !comparison || !recipes.includes(asked.recipe)) return [];
    const { a, b, kl, perplexityChange: loss, nllDifferenceStderr } = comparison;
    const stderr = 100 * (b.perplexity / a.perplexity) * nllDifferenceStderr;
    return [{ recipe: asked.recipe.name, loss, stderr, kl: kl.mean, ratio: report.bytes.ratio, tokens: b.tokens }];
  });
  return [...(checkpoint?.measured ?? []), ...ran];
}
