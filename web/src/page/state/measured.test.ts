// What counts as measured on the checkpoint that is open.

import type { Comparison, CompressReport, Recipe } from "statepress";
import { expect, test } from "vitest";
import { measuredOf } from "./measured.js";
import { initial, type Opened, type RecipeRun } from "./state.js";

const int8: Recipe = { version: 1, name: "int8", steps: [] };
const comparison = {
  a: { perplexity: 10 },
  b: { perplexity: 11, tokens: 100 },
  kl: { mean: 0.1 },
  perplexityChange: 10,
  perplexityChangeStderr: 1.1,
} as Comparison;
const run = (recipe: Recipe, id = 1) =>
  ({
    id,
    asked: { ...initial.asked, recipe },
    report: { bytes: { ratio: 4 } } as CompressReport,
    comparison,
  }) as RecipeRun;
const ran = { recipe: "int8", loss: 10, stderr: 1.1, kl: 0.1, ratio: 4, tokens: 100 };
const before = { recipe: "nf4", loss: 2, kl: 0.02, ratio: 7 };

test("runs of built-in recipes are measurements, as those for advice are: the last one stands last", () => {
  const checkpoint = { measured: { run: 2, recipes: [before] } } as unknown as Opened;
  const state = { ...initial, recipes: [int8], checkpoint, runs: [run(int8, 3), run(int8, 1)] };
  expect(measuredOf(state)).toEqual([ran, before, ran]);
});

test("neither a recipe of the same name nor a run that was not measured is one", () => {
  const runs = [run({ ...int8 }), { ...run(int8), comparison: undefined }];
  expect(measuredOf({ ...initial, recipes: [int8], runs })).toEqual([]);
});
