import { describe, expect, it } from "vitest";
import { extent, linearAxis, logAxis, logTicks, tickTexts } from "./axes.js";

describe("texts of ticks", () => {
  it.each([
    [
      [0, 0.5, 1],
      ["0.0", "0.5", "1.0"],
    ],
    [
      [0, 50, 100],
      ["0", "50", "100"],
    ],
    [
      [-0.2, 0, 0.2],
      ["−0.2", "0.0", "0.2"],
    ],
    [
      [0, 10_000, 20_000],
      ["0", "10 k", "20 k"],
    ],
    [
      [0, 2_500_000, 5_000_000],
      ["0", "2.5 M", "5 M"],
    ],
    [
      [0.01, 0.1, 1, 10],
      ["0.01", "0.1", "1", "10"],
    ],
    [
      [1e-6, 1e-4, 1e-2, 1],
      ["10⁻⁶", "10⁻⁴", "10⁻²", "1"],
    ],
    [
      [2e-5, 5e-5],
      ["2×10⁻⁵", "5×10⁻⁵"],
    ],
    [
      [0, 0.1 + 0.2],
      ["0.0", "0.3"],
    ],
    [[0], ["0"]],
    [[], []],
  ])("%j", (values, texts) => expect(tickTexts(values)).toEqual(texts));
});

describe("logarithmic ticks", () => {
  it("are powers where there are several", () => {
    expect(logTicks(0.5, 2000, 6)).toEqual([1, 10, 100, 1000]);
    expect(logTicks(1e-9, 1, 5)).toEqual([1e-9, 1e-7, 1e-5, 1e-3, 1e-1]);
  });

  it("have steps between powers in few decades", () => {
    expect(logTicks(0.9, 60, 6)).toEqual([1, 3, 10, 30]);
    expect(logTicks(1, 9, 6)).toEqual([1, 2, 5]);
  });

  it("are plain inside a part of a decade", () => {
    const ticks = logTicks(2.1, 3.4, 5);
    expect(ticks.length).toBeGreaterThan(1);
    for (const tick of ticks) expect(tick >= 2.1 && tick <= 3.4).toBe(true);
  });
});

describe("a linear axis", () => {
  it("begins at zero when asked", () => {
    const axis = linearAxis({ values: [3, 9], range: [0, 100], ticks: 4, zero: true });
    expect(axis.at(0)).toBe(0);
    expect(axis.ticks[0]?.text).toBe("0");
  });

  it("gives room around a single value, and around none", () => {
    expect(linearAxis({ values: [5], range: [0, 100], ticks: 4 }).at(5)).toBeCloseTo(50);
    expect(linearAxis({ values: [0], range: [0, 100], ticks: 4, zero: true }).at(0)).toBe(0);
    expect(linearAxis({ values: [], range: [0, 100], ticks: 4 }).ticks.length).toBeGreaterThan(1);
  });

  it("has no place for what is no number", () => {
    const axis = linearAxis({ values: [1, Number.NaN, Number.POSITIVE_INFINITY, 2], range: [0, 100], ticks: 4 });
    expect(axis.at(Number.NaN)).toBeNaN();
    expect(axis.at(Number.POSITIVE_INFINITY)).toBeNaN();
    expect(axis.at(2)).toBe(100);
  });
});

describe("a logarithmic axis", () => {
  it("has equal steps for equal factors", () => {
    const axis = logAxis({ values: [1, 10, 100], range: [0, 100], ticks: 5 });
    expect(axis.at(10) - axis.at(1)).toBeCloseTo(axis.at(100) - axis.at(10));
    expect(axis.breakAt).toBeUndefined();
  });

  it("keeps zero apart, at its beginning, upside down too", () => {
    const axis = logAxis({ values: [0, 1e-6, 1e-2], range: [300, 0], ticks: 5 });
    expect(axis.at(0)).toBe(300);
    expect(axis.at(1e-6)).toBeLessThan(axis.breakAt ?? 0);
    expect(axis.breakAt).toBeLessThan(300);
    expect(axis.ticks[0]).toEqual({ at: 300, text: "0" });
  });

  it("puts values below zero there as well, and stands with zeros alone", () => {
    expect(logAxis({ values: [-1, 5], range: [0, 100], ticks: 5 }).at(-1)).toBe(0);
    const zeros = logAxis({ values: [0, 0], range: [0, 100], ticks: 5 });
    expect(zeros.ticks).toEqual([{ at: 0, text: "0" }]);
    expect(zeros.at(0)).toBe(0);
  });

  it("takes one value and none", () => {
    expect(logAxis({ values: [3], range: [0, 100], ticks: 5 }).at(3)).toBeCloseTo(50);
    expect(logAxis({ values: [], range: [0, 100], ticks: 5 }).ticks.length).toBeGreaterThan(0);
  });
});

it("extent leaves out what is not finite", () => {
  expect(extent([Number.NaN, 3, -1, Number.POSITIVE_INFINITY])).toEqual([-1, 3]);
  expect(extent([Number.NaN])).toBeUndefined();
});
