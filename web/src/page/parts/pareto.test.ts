import { expect, it } from "vitest";
import { type Better, type Point, paretoFront } from "./pareto.js";

const highLow = { x: "high", y: "low" } as const;

it("keeps what none beats, ordered by x", () => {
  const points = [
    { x: 7.2, y: 0.02 },
    { x: 1, y: 0 },
    { x: 3.6, y: 0.0006 },
    { x: 3.9, y: 0.0004 },
    { x: 7.25, y: 0.05 },
  ];
  expect(paretoFront(points, highLow).map(({ x }) => x)).toEqual([1, 3.9, 7.2, 7.25]);
});

it("keeps the first of equal points, and one of equal x", () => {
  const points = [
    { id: "a", x: 2, y: 1 },
    { id: "b", x: 2, y: 1 },
    { id: "c", x: 2, y: 3 },
  ];
  expect(paretoFront(points, highLow).map(({ id }) => id)).toEqual(["a"]);
});

it("leaves out NaN and stands infinities", () => {
  const points = [
    { x: 1, y: Number.NaN },
    { x: 2, y: Number.POSITIVE_INFINITY },
    { x: 1, y: 0 },
  ];
  expect(paretoFront(points, highLow)).toEqual([
    { x: 1, y: 0 },
    { x: 2, y: Number.POSITIVE_INFINITY },
  ]);
  expect(paretoFront([], highLow)).toEqual([]);
});

it("agrees with its definition on random points, in each sense", () => {
  let seed = 1;
  const random = () => {
    seed = (seed * 48271) % 2147483647;
    return Math.floor((seed / 2147483647) * 12);
  };
  const ends: Better[] = ["high", "low"];
  for (let round = 0; round < 100; round += 1) {
    const points = Array.from({ length: 1 + (round % 15) }, () => ({ x: random(), y: random() }));
    for (const x of ends) {
      for (const y of ends) {
        const gain = (value: number, end: Better) => (end === "high" ? value : -value);
        const beats = (a: Point, b: Point) =>
          gain(a.x, x) >= gain(b.x, x) && gain(a.y, y) >= gain(b.y, y) && (a.x !== b.x || a.y !== b.y);
        const expected = new Set(
          points.filter((p) => !points.some((other) => beats(other, p))).map((p) => `${p.x},${p.y}`),
        );
        const front = paretoFront(points, { x, y });
        expect(new Set(front.map((p) => `${p.x},${p.y}`))).toEqual(expected);
        expect(front.length).toBe(expected.size);
        expect(front.map((p) => p.x)).toEqual(front.map((p) => p.x).sort((a, b) => a - b));
      }
    }
  }
});
