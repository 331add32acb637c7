// Which tensors matter, and how grave that is.

import { type CompressReport, QUANTIZE_DEFAULTS, type Recipe, type SearchCosts } from "statepress";
import { expect, test } from "vitest";
import { type Damage, damageOf, errorsOf, measuringFor, ranked } from "./damage.js";
import { compensating, countsAnew, withTensor } from "./recipes.js";
import { shadesOf } from "./shades.js";
import { initial, type RecipeRun, type Search } from "./state.js";

const { calibration } = initial.asked;
const prune = (kind: string) => ({ prune: { kind, keep: 4 } });
const plain = {
  version: 1,
  name: "searched",
  steps: [{ quantize: { ...QUANTIZE_DEFAULTS, rules: [], otherwise: "nf4" } }],
} as Recipe;
const recipe = compensating(plain, true, []);
const pruned = { ...recipe, steps: [prune("delta"), ...recipe.steps] } as Recipe;

function searchOf(base: Recipe, unmeasured = 0): Search {
  const choices = (scale: number) => [
    { precision: "lm3", bytes: 30, kl: 0.1 * scale, measured: true },
    { precision: "nf4", bytes: 40, kl: 0.02 / scale, measured: true },
  ];
  const tensors = ["a", "b"].map((tensor, i) => ({ tensor, params: 80, choices: choices(i + 1) }));
  const costs = { base, tensors, unmeasured, fixedBytes: 0, bytesBefore: 640 } as unknown as SearchCosts;
  return {
    run: 1,
    coded: false,
    by: { calibration, fast: false, first: [] },
    measured: { costs, front: [] },
    found: undefined,
  };
}

function runOf(recipe: Recipe, ...stored: string[]): RecipeRun {
  const tensors = stored.map((precision, i) => ({ name: "abc"[i], precision, bytesAfter: 40 }));
  return { id: 2, asked: initial.asked, report: { recipe, tensors } as unknown as CompressReport } as RecipeRun;
}

const known = (damage: Damage | undefined) => damage && [damage.at, ranked(damage).map(({ name }) => name)];

test("tensors are ranked by what was measured of them as the run stores them", () => {
  const damage = damageOf(searchOf(recipe), runOf(recipe, "nf4", "nf4", "fp16"));
  expect(damage).toMatchObject({ at: "stored", left: 0 });
  expect(damage && ranked(damage)).toEqual([
    { name: "a", kl: 0.02 },
    { name: "b", kl: 0.01 },
  ]);
  const whole = damageOf(searchOf(recipe), runOf(recipe, "fp16", "nf4"));
  expect(whole && ranked(whole), "what keeps its numbers costs nothing").toEqual([{ name: "b", kl: 0.01 }]);
  expect(damageOf(searchOf(recipe, 3), runOf(recipe, "nf4", "nf4"))).toMatchObject({ at: "stored", left: 3 });
});

test("where a run rounds in another way, by what each costs at three bits", () => {
  const search = searchOf(recipe);
  const other = { ...initial.asked, calibration: { ...calibration, typed: "another text" } };
  expect(known(damageOf(search, runOf(plain, "nf4", "nf4"))), "errors are not made up for").toEqual([
    "three",
    ["b", "a"],
  ]);
  expect(known(damageOf(search, { ...runOf(recipe, "nf4", "nf4"), asked: other }))?.[0], "by another text").toBe(
    "three",
  );
  const changed = withTensor(recipe, "a", "int4");
  expect(known(damageOf(search, runOf(changed, "int4", "nf4")))?.[0], "what was not measured").toBe("three");
  expect(known(damageOf(search, undefined)), "where nothing is compressed yet").toEqual(["three", ["b", "a"]]);
});

test("nothing is ranked by what was not measured, nor by what was measured of a model that was pruned otherwise", () => {
  const run = runOf(recipe, "nf4", "nf4");
  expect(damageOf(undefined, run)).toBeUndefined();
  expect(damageOf({ ...searchOf(recipe), measured: undefined }, run)).toBeUndefined();
  expect(damageOf(searchOf(pruned), run)).toBeUndefined();
  expect(damageOf(searchOf(pruned), undefined)).toBeUndefined();
  expect(damageOf(searchOf(recipe), runOf(pruned, "nf4", "nf4"))).toBeUndefined();
  expect(known(damageOf(searchOf(pruned), runOf(pruned, "nf4", "nf4")))?.[0]).toBe("stored");
});

test("what is measured for a run is the model that it has pruned, by the text that it has read", () => {
  const asked = { ...initial.asked, calibration: { ...calibration, typed: "now" } };
  const run = runOf(pruned);
  expect(measuringFor(run, asked)).toEqual({
    calibration,
    how: { fast: false, coded: false, first: [prune("delta")] },
  });
  expect(measuringFor(runOf(plain), asked).calibration, "it has read none").toBe(asked.calibration);
  const whole = { calibration: asked.calibration, how: { fast: false, coded: false, first: [] } };
  expect(measuringFor(undefined, asked), "of the checkpoint").toEqual(whole);
  const wanted = { target: { ratio: 8 }, fast: true, coded: false, first: [] };
  expect(measuringFor({ ...run, wanted }, asked).how, "as it was searched for").toMatchObject({
    fast: true,
    first: [],
  });
});

test("only whole layers that go leave other tensors with the names of those before", () => {
  expect([recipe, pruned, { ...recipe, steps: [prune("layers")] } as Recipe].map(countsAnew)).toEqual([
    false,
    false,
    true,
  ]);
});

test("errors of weights are facts of a run; rounding above 1 is no gain", () => {
  const tensors = [
    { name: "a", error: { cosine: 0.9 } },
    { name: "b", error: { cosine: 1.0000001 } },
    { name: "c" },
    { name: "d", error: { cosine: null } },
  ];
  const run = { id: 1, asked: initial.asked, report: { tensors } } as unknown as RecipeRun;
  expect([...errorsOf(run)]).toEqual([
    ["a", expect.closeTo(0.1)],
    ["b", 0],
    // Infinities have no angle: nothing is worse.
    ["d", 2],
  ]);
  expect(errorsOf(undefined).size).toBe(0);
});

test("damage is shaded by its logarithm", () => {
  const { of, steps } = shadesOf([0, 1e-6, 1e-3]);
  expect([of(0), of(1e-6), of(1e-3)]).toEqual([0, expect.closeTo(0.2), expect.closeTo(1)]);
  expect(steps).toEqual([1e-6, 1e-5, 1e-4, 1e-3].map((it) => expect.closeTo(it, 9)));
  expect(shadesOf([0, 0]).steps).toEqual([]);
  expect(shadesOf([0.5]).of(0.5)).toBe(1);
});
