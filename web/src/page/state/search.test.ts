import {
  type Cost,
  type Plan,
  type Precision,
  QUANTIZE_DEFAULTS,
  type Recipe,
  type SearchCosts,
  type SearchPoint,
  type StoredAs,
  type TensorCosts,
} from "statepress";
import { expect, test } from "vitest";
import { compensating, edited, withTensor } from "./recipes.js";
import {
  atThreeBits,
  isForeseen,
  measuredWeights,
  ofTensors,
  type Prediction,
  pointOf,
  predictionOf,
  roundsAsMeasured,
  spread,
  worthShowing,
} from "./search.js";

const front: SearchPoint[] = Array.from({ length: 300 }, (_, i) => {
  const bytes = Math.round(1000 * 1.006 ** i);
  return { bytes, ratio: 8000 / bytes, kl: 1 / (i + 1), perplexityChange: 1 };
});

test("a front is drawn by a few points from end to end, none of them crowded, with what was found", () => {
  const first = front[0] as SearchPoint;
  const points = spread(front, first);
  expect(points.length).toBeGreaterThan(15);
  expect(points.length).toBeLessThanOrEqual(25);
  expect(points[0]).toBe(front[0]);
  expect(points.at(-1)).toBe(front.at(-1));
  const gaps = points.slice(1).map((point, i) => point.bytes / (points[i]?.bytes ?? 1));
  // The last one is wherever the front ends.
  expect(Math.min(...gaps.slice(0, -1)) * 1.05).toBeGreaterThan(Math.max(...gaps.slice(0, -1)));
  const found = { ...first, bytes: 1501 };
  expect(spread(front, found)).toEqual([...points, found].sort((a, b) => a.bytes - b.bytes));
  const few = front.filter((_, i) => i % 40 === 0);
  expect(spread(few, few[2])).toEqual(few);
  expect(spread(few), "where nothing is found yet").toEqual(few);
  expect(spread([], first)).toEqual([]);
});

test("the planned recipe is one of the points, or none", () => {
  expect(pointOf(front, front[7])).toBe(7);
  expect(pointOf(front, { ...(front[7] as SearchPoint), kl: 0.9 }), "another one of that size").toBeUndefined();
  expect(pointOf(front, { ...(front[7] as SearchPoint), bytes: 999 })).toBeUndefined();
  expect(pointOf(front, undefined)).toBeUndefined();
});

const choice = (precision: Precision, bytes: number, kl: number, measured = true): Cost => {
  return { precision, bytes, kl, measured };
};
const base = {
  version: 1,
  name: "searched",
  steps: [{ quantize: { ...QUANTIZE_DEFAULTS, rules: [], otherwise: "nf4" } }],
} as Recipe;
const costs = {
  base,
  bytesBefore: 1000,
  fixedBytes: 50,
  unmeasured: 0,
  gradients: false,
  tensors: ["a", "b", "c"].map((tensor) => ({
    tensor,
    params: 80,
    choices: [choice("lm2", 20, 0.5), choice("lm3", 30, 0.1), choice("nf4", 40, 0.02), choice("int8", 80, 1e-4, false)],
  })),
} as unknown as SearchCosts;

function planOf(recipe: Recipe, ...stored: StoredAs[]): Plan {
  const tensors = stored.map((precision, i) => ({ name: "abc"[i], precision, bytesAfter: 200 }));
  return { recipe, tensors } as unknown as Plan;
}

test("what a recipe will lose is the sum of what its tensors cost alone, and its size what they take", () => {
  const recipe = compensating(base, true, []);
  const { point, tensors, unknown } = predictionOf(costs, planOf(recipe, "lm2", "nf4", "int8")) as Prediction;
  expect(point).toMatchObject({ bytes: 50 + 20 + 40 + 80, ratio: 1000 / 190 });
  expect(point.kl).toBeCloseTo(0.5201, 12);
  expect(point.perplexityChange).toBeCloseTo(100 * (Math.exp(0.5201) - 1), 9);
  expect(tensors.get("b")).toEqual({ precision: "nf4", step: undefined, mixed: false, kl: 0.02, bytes: 40 });
  expect(unknown).toBe(0);
  const changed = predictionOf(costs, planOf(withTensor(recipe, "a", "int4"), "int4", "nf4", "fp16")) as Prediction;
  expect(changed.point).toMatchObject({ bytes: 50 + 200 + 40 + 200, kl: 0.02 });
  expect(changed.unknown, "int4 was not measured, and half precision keeps its numbers").toBe(1);
  const part = predictionOf({ ...costs, unmeasured: 4 }, planOf(recipe, "lm2", "nf4", "int8"));
  expect(part?.unknown, "as long as it is going on").toBe(4);
});

test("nothing is predicted of a recipe that rounds in another way than was measured", () => {
  const recipe = compensating(base, true, []);
  const otherwise = edited(recipe, { nf4: { block: 32, doubleQuant: false, absmax: "fp16" } });
  expect([recipe, base, otherwise].map((it) => roundsAsMeasured(costs, it))).toEqual([true, false, false]);
  expect(predictionOf(costs, planOf(base, "lm2", "nf4", "int8"))).toBeUndefined();
  const prune = { prune: { kind: "delta", keep: 4, by: "loss", repair: true } };
  const first = (it: Recipe) => ({ ...it, steps: [prune, ...it.steps] }) as Recipe;
  const pruned = { ...costs, base: first(base) };
  expect(
    [recipe, first(recipe)].map((it) => [roundsAsMeasured(costs, it), roundsAsMeasured(pruned, it)]),
    "a pruned model is another one",
  ).toEqual([
    [true, false],
    [false, true],
  ]);
});

test("of rows in classes every class counts, and a whole tensor is the sum of its classes", () => {
  const [a, ...others] = costs.tensors;
  const unit = (after: number, count: number) => ({ ...(a as TensorCosts), rows: { after, count } });
  const cut = { ...costs, tensors: [unit(0, 10), unit(10, 70), ...others] };
  const recipe = compensating(base, true, []);
  const planned = planOf(recipe, "lm3", "nf4", "int8");
  const classes = (...rows: [number, StoredAs][]) => {
    const [first, ...rest] = planned.tensors;
    return {
      ...planned,
      tensors: [{ ...first, rows: rows.map(([rows, precision]) => ({ rows, precision })) }, ...rest],
    } as Plan;
  };
  const found = predictionOf(cut, classes([10, "nf4"], [70, "lm3"])) as Prediction;
  expect(found.tensors.get("a")).toMatchObject({ precision: "lm3", mixed: true, bytes: 70 });
  expect(found.point.kl).toBeCloseTo(0.02 + 0.1 + 0.02 + 1e-4, 12);
  expect(predictionOf(cut, planned)?.tensors.get("a"), "all rows alike").toMatchObject({
    mixed: false,
    bytes: 60,
    kl: 0.2,
  });
  expect(predictionOf(cut, classes([20, "nf4"], [60, "lm3"]))?.unknown, "other classes than were measured").toBe(1);
  const [whole] = ofTensors(cut.tensors);
  expect(whole).toMatchObject({ tensor: "a", params: 160 });
  expect(whole?.choices[0]).toMatchObject({ precision: "lm2", bytes: 40, kl: 1 });
  expect(ofTensors(cut.tensors).length).toBe(3);
});

test("of steps those a bit apart are shown, with what was measured and the one that is chosen", () => {
  const step = (octaves: number, measured = false): Cost => ({
    precision: "int8",
    step: 2 ** -octaves,
    bytes: 10 + octaves,
    kl: 1,
    measured,
  });
  const choices = [step(0), step(0.25), step(0.5, true), step(0.75), step(1), step(1.25), step(2)];
  const shown = worthShowing(choices, 2 ** -0.75).map((it) => Math.round(100 * Math.log2(1 / (it.step ?? 0))));
  expect(shown).toEqual([0, 50, 75, 100, 200]);
  const [a] = costs.tensors;
  expect(worthShowing(a?.choices ?? [], undefined), "numbers of bits are few").toEqual(a?.choices);
});

test("which layers go is measured, and foreseen only where all of them are alike", () => {
  const planned = (code: string) => ({ findings: [{ level: "info" as const, code, message: "" }] });
  expect([planned("clipped"), planned("estimated")].map(isForeseen)).toEqual([true, false]);
});

test("the map is of the model that was measured: pruned tensors have fewer numbers, and layers other names", () => {
  const weights = ["a", "d"].map((name) => ({ name, params: 160, shape: [16, 10], role: "x" })) as never[];
  expect(measuredWeights(weights, undefined)).toEqual(weights);
  const [a, d] = measuredWeights(weights, costs);
  expect([a, d]).toEqual([{ name: "a", params: 80, role: "x" }, weights[1]]);
  const layers = { prune: { kind: "layers", keep: 0.5 } };
  const anew = { ...costs, base: { ...base, steps: [layers, ...base.steps] } } as unknown as SearchCosts;
  expect(measuredWeights(weights, anew)).toEqual(["a", "b", "c"].map((name) => ({ name, params: 80 })));
});

test("tensors are set side by side at three bits", () => {
  expect([...atThreeBits(costs.tensors)].map(([name, { kl }]) => [name, kl])).toEqual([
    ["a", 0.1],
    ["b", 0.1],
    ["c", 0.1],
  ]);
});
