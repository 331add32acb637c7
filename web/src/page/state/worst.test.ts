// How grave the losses of tensors are.

import type { CompressReport } from "statepress";
import { expect, test } from "vitest";
import { shadesOf } from "./shades.js";
import { initial, type RecipeRun } from "./state.js";
import { lossesOf } from "./worst.js";

const run = {
  id: 1,
  asked: initial.asked,
  report: {
    tensors: [
      { name: "a", error: { cosine: 0.9 } },
      { name: "b", error: { cosine: 1.0000001 } },
      { name: "c" },
      { name: "d", error: { cosine: null } },
    ],
  } as unknown as CompressReport,
} as unknown as RecipeRun;

test("losses of tensors are shaded by their logarithm; rounding above 1 is no gain", () => {
  expect([...lossesOf(run)]).toEqual([
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
