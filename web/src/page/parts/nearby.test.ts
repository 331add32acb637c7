import { expect, it } from "vitest";
import { directionOf, nearestIndex, neighbour } from "./nearby.js";

// a wide box, two small ones right of it, one under them
const boxes = [
  { x: 0, y: 0, width: 100, height: 100 },
  { x: 100, y: 0, width: 50, height: 50 },
  { x: 150, y: 0, width: 50, height: 50 },
  { x: 100, y: 50, width: 100, height: 50 },
];

it("moves to what lies that way", () => {
  expect(neighbour(boxes, 0, "right")).toBe(1);
  expect(neighbour(boxes, 1, "right")).toBe(2);
  expect(neighbour(boxes, 2, "down")).toBe(3);
  expect(neighbour(boxes, 3, "left")).toBe(0);
  expect(neighbour(boxes, 0, "left")).toBeUndefined();
  expect(neighbour([], 0, "left")).toBeUndefined();
});

it("reaches every box of a grid from the first", () => {
  const grid = Array.from({ length: 12 }, (_, i) => ({
    x: (i % 4) * 10,
    y: Math.floor(i / 4) * 10,
    width: 9,
    height: 9,
  }));
  const reached = new Set([0]);
  for (const from of reached) {
    for (const way of ["left", "right", "up", "down"] as const) {
      const to = neighbour(grid, from, way);
      if (to !== undefined) reached.add(to);
    }
  }
  expect(reached.size).toBe(12);
});

it("knows the arrow keys", () => {
  expect(directionOf("ArrowLeft")).toBe("left");
  expect(directionOf("Enter")).toBeUndefined();
});

it("finds the nearest, the earlier of two", () => {
  expect(nearestIndex([], 1)).toBe(-1);
  expect(nearestIndex([5], 1)).toBe(0);
  const values = [0, 1, 4, 9];
  expect([-3, 0.4, 0.5, 0.6, 6.4, 6.6, 99].map((x) => nearestIndex(values, x))).toEqual([0, 0, 0, 1, 2, 3, 3]);
});
