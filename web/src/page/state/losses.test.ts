// Losses of advised recipes and of tensors: whose they are, and how grave.

import type { Comparison, CompressReport, Recipe, Recommendation } from "statepress";
import { expect, test } from "vitest";
import { lossOf } from "./losses.js";
import { shadesOf } from "./shades.js";
import { initial, type RecipeRun } from "./state.js";
import { lossesOf } from "./worst.js";

const recipe: Recipe = { version: 1, name: "int8", steps: [] };
const unmeasured = { recipe: "int8", why: "", risk: "low", basis: "unmeasured" } as Recommendation;
const known = { ...unmeasured, basis: "measured", expectedLoss: 0.6, measuredOn: "itera-tiny" } as Recommendation;
const run = (id: number, perplexityChange: number) =>
  ({
    id,
    asked: { ...initial.asked, recipe },
    report: {
      tensors: [
        { name: "a", error: { cosine: 0.9 } },
        { name: "b", error: { cosine: 1.0000001 } },
        { name: "c" },
        { name: "d", error: { cosine: null } },
      ],
    } as unknown as CompressReport,
    comparison: { perplexityChange } as Comparison,
  }) as unknown as RecipeRun;

test("a loss is of this model if it was measured here, else of the one it was measured on, else of none", () => {
  expect(lossOf(unmeasured, recipe, [])).toBeUndefined();
  expect(lossOf(known, recipe, [])).toEqual({ kind: "elsewhere", change: 0.6, on: "itera-tiny" });
  expect(lossOf(unmeasured, recipe, [run(1, 2), run(2, 3)])).toEqual({ kind: "here", change: 3, run: 2 });
  // A recipe of the user's own may have the same name.
  expect(lossOf(unmeasured, { ...recipe }, [run(1, 2)])).toBeUndefined();
  expect(lossOf(known, recipe, [{ ...run(1, 2), comparison: undefined }])?.kind).toBe("elsewhere");
});

test("losses of tensors are shaded by their logarithm; rounding above 1 is no gain", () => {
  expect([...lossesOf(run(1, 0))]).toEqual([
    ["a", expect.closeTo(0.1)],
    ["b", 0],
    // Infinities have no angle: nothing is worse.
    ["d", 2],
  ]);
  expect(lossesOf(undefined).size).toBe(0);
  const { of, steps } = shadesOf([0, 1e-6, 1e-3]);
  expect([of(0), of(1e-6), of(1e-3)]).toEqual([0, expect.closeTo(0.2), expect.closeTo(1)]);
  expect(steps).toEqual([1e-6, 1e-5, 1e-4, 1e-3].map((it) => expect.closeTo(it, 9)));
  expect(shadesOf([0, 0]).steps).toEqual([]);
  expect(shadesOf([0.5]).of(0.5)).toBe(1);
});
