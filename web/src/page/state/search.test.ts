import type { SearchCosts, SearchPoint } from "statepress";
import { expect, test } from "vitest";
import { costliest, pointOf, spread } from "./search.js";

const front: SearchPoint[] = Array.from({ length: 300 }, (_, i) => {
  const bytes = Math.round(1000 * 1.006 ** i);
  return { bytes, ratio: 8000 / bytes, kl: 1 / (i + 1), perplexityChange: 1 };
});

test("a front is drawn by a few points from end to end, none of them crowded, with what was found", () => {
  const first = front[0] as SearchPoint;
  const points = spread({ front, predicted: first });
  expect(points.length).toBeGreaterThan(15);
  expect(points.length).toBeLessThanOrEqual(25);
  expect(points[0]).toBe(front[0]);
  expect(points.at(-1)).toBe(front.at(-1));
  const gaps = points.slice(1).map((point, i) => point.bytes / (points[i]?.bytes ?? 1));
  // The last one is wherever the front ends.
  expect(Math.min(...gaps.slice(0, -1)) * 1.05).toBeGreaterThan(Math.max(...gaps.slice(0, -1)));
  const found = { ...first, bytes: 1501 };
  expect(spread({ front, predicted: found })).toEqual([...points, found].sort((a, b) => a.bytes - b.bytes));
  const few = front.filter((_, i) => i % 40 === 0);
  expect(spread({ front: few, predicted: few[2] as SearchPoint })).toEqual(few);
  expect(spread({ front: [], predicted: first })).toEqual([]);
});

test("the planned recipe is one of the points, or none", () => {
  expect(pointOf(front, front[7]?.bytes)).toBe(7);
  expect(pointOf(front, 999)).toBeUndefined();
  expect(pointOf(front, undefined)).toBeUndefined();
});

test("tensors stand by what was measured of them, never by what only follows", () => {
  const choice = (precision: "lm2" | "lm3" | "nf4", kl: number, measured: boolean) => ({
    precision,
    bytes: 1,
    kl,
    measured,
  });
  const tensor = (name: string, ...choices: ReturnType<typeof choice>[]) => ({ tensor: name, params: 1, choices });
  const costs = {
    tensors: [
      tensor("small", choice("lm2", 9, false), choice("lm3", 0.1, true)),
      tensor("large", choice("lm2", 0.5, true), choice("lm3", 0.2, true)),
    ],
  } as unknown as SearchCosts;
  expect(costliest(costs).map(({ tensor, cost }) => [tensor, cost.precision, cost.kl])).toEqual([
    ["large", "lm2", 0.5],
    ["small", "lm3", 0.1],
  ]);
});
