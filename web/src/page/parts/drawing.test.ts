// Bars, labels and levels: what the charts draw, without drawing it.

import { describe, expect, it } from "vitest";
import { barSpans } from "./bars.js";
import { placeLabels } from "./labels.js";
import { largestError, visibleLevels } from "./levels.js";

describe("bars", () => {
  it("have lengths in proportion, and a sliver for the small", () => {
    const [large, half, small, none] = barSpans([100, 50, 1e-9, 0], false);
    expect(large).toEqual({ from: 0, length: 1 });
    expect(half).toEqual({ from: 0, length: 0.5 });
    expect(small?.length).toBeGreaterThan(0);
    expect(none?.length).toBe(0);
  });

  it("go both ways from zero", () => {
    const [less, more] = barSpans([-1, 3], false);
    expect(less).toEqual({ from: 0, length: 0.25 });
    expect(more).toEqual({ from: 0.25, length: 0.75 });
  });

  it("count powers on a logarithmic scale", () => {
    const [large, small, none] = barSpans([1e-2, 1e-4, 0], true);
    expect(large?.length).toBe(1);
    expect(small?.length).toBeCloseTo(1 / 3);
    expect(none?.length).toBe(0);
  });

  it.each([false, true])("stay on their track whatever comes (logarithmic: %s)", (logarithmic) => {
    for (const values of [[], [0], [0, 0], [-1], [5], [Number.NaN, Number.POSITIVE_INFINITY, 1], [-1e300, 1e-300]]) {
      for (const { from, length } of barSpans(values, logarithmic)) {
        expect(from).toBeGreaterThanOrEqual(0);
        expect(length).toBeGreaterThanOrEqual(0);
        expect(from + length).toBeLessThanOrEqual(1 + 1e-12);
      }
    }
  });
});

describe("labels", () => {
  const frame = { x: 0, y: 0, width: 400, height: 200 };

  it("stand right of a point, and left of it at the edge", () => {
    expect(placeLabels([{ x: 100, y: 100, width: 50 }], frame)[0]?.anchor).toBe("start");
    expect(placeLabels([{ x: 390, y: 100, width: 50 }], frame)[0]?.anchor).toBe("end");
  });

  it("cover no other point and no other label", () => {
    const points = [
      { x: 100, y: 100, width: 60 },
      { x: 130, y: 100, width: 60 },
      { x: 132, y: 106, width: 60 },
    ];
    const boxes = placeLabels(points, frame).flatMap((place, i) => {
      if (!place) return [];
      const width = points[i]?.width ?? 0;
      const left = { start: 0, middle: width / 2, end: width }[place.anchor];
      return [{ x: place.x - left, y: place.y - 7, width, height: 14 }];
    });
    boxes.forEach((a, i) => {
      for (const b of boxes.slice(i + 1)) {
        expect(a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + 14 <= b.y || b.y + 14 <= a.y).toBe(true);
      }
    });
  });

  it("are left out where there is no room", () => {
    expect(placeLabels([{ x: 10, y: 10, width: 900 }], frame)).toEqual([undefined]);
  });
});

describe("levels", () => {
  it("say which value is moved furthest", () => {
    expect(largestError([0.1, 0.5, -0.4], [0.1, 0.4, -0.2])).toMatchObject({ index: 2, value: -0.4, decoded: -0.2 });
    expect(largestError([1, 2], [1, 2])).toBeUndefined();
    expect(largestError([Number.NaN, 2], [1])).toBeUndefined();
  });

  it("are all drawn when they can be told apart, else those in use", () => {
    expect(visibleLevels([0, 1, 1, 2], [1], 100)).toEqual([0, 1, 2]);
    const many = Array.from({ length: 255 }, (_, i) => (i - 127) / 127);
    expect(visibleLevels(many, [0, Math.fround(1 / 127)], 200)).toEqual([0, 1 / 127]);
  });
});
