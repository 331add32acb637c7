import { expect, it } from "vitest";
import { sorted } from "./sorting.js";

it("sorts numbers by size and words with their numbers", () => {
  expect(sorted([10, 9, 1e-3], (x) => x, false)).toEqual([1e-3, 9, 10]);
  expect(sorted(["layers.10", "layers.9", "embed"], (x) => x, false)).toEqual(["embed", "layers.9", "layers.10"]);
  expect(sorted([1, Number.POSITIVE_INFINITY, 2], (x) => x, true)).toEqual([Number.POSITIVE_INFINITY, 2, 1]);
});

it("puts what is missing last in both directions", () => {
  expect(sorted([Number.NaN, 1, 2], (x) => x, false)).toEqual([1, 2, Number.NaN]);
  expect(sorted([Number.NaN, 1, 2], (x) => x, true)).toEqual([2, 1, Number.NaN]);
  expect(sorted(["", "b", "a"], (x) => x, true)).toEqual(["b", "a", ""]);
});

it("keeps the order of equals and the rows as they were", () => {
  const rows = [
    { n: 1, id: "a" },
    { n: 1, id: "b" },
    { n: 0, id: "c" },
  ];
  expect(sorted(rows, ({ n }) => n, true).map(({ id }) => id)).toEqual(["a", "b", "c"]);
  expect(sorted(rows, ({ n }) => n, false).map(({ id }) => id)).toEqual(["c", "a", "b"]);
  expect(rows[0]?.id).toBe("a");
});
