import { describe, expect, test } from "vitest";
import { CODES, coded, experiment, halfLife, run } from "./recurrence.js";

// Close to those of the demo's first layer.
const A_LOGS = [-1.15, -0.66, -0.1, 0.6, 1.02, 1.71, 2.23, 2.7];

describe("the recurrence", () => {
  test("is the geometric series", () => {
    const states = run(0.5, 3);
    expect(states).toEqual([1, 1.5, 1.75]);
    expect(run(1, 128).at(-1)).toBe(128);
    expect(run(0.9, 400).at(-1)).toBeCloseTo(10, 10);
  });

  test("halves in its half-life", () => {
    const factor = Math.exp(-0.75 * Math.exp(-0.3));
    expect(factor ** halfLife(-0.3, 0.75)).toBeCloseTo(0.5, 12);
  });
});

describe("codes", () => {
  test("integers keep the largest magnitude, and move nothing by more than half a step", () => {
    for (const code of CODES.filter((it) => it !== "FP16")) {
      const step = 2.7 / (2 ** (Number(code.slice(3)) - 1) - 1);
      const back = coded(A_LOGS, code);
      expect(back.at(-1)).toBeCloseTo(2.7, 12);
      for (const [i, value] of back.entries()) {
        expect(Math.abs(value - (A_LOGS[i] ?? 0))).toBeLessThanOrEqual(step / 2 + 1e-12);
      }
    }
  });

  test("ties go to the even neighbour", () => {
    expect(coded([7, 0.5, 1.5, 2.5, -0.5, -1.5], "INT4").map((x) => x + 0)).toEqual([7, 0, 2, 2, 0, -2]);
  });

  test("half precision has 11 significant bits, and fewer when very small", () => {
    expect(coded([0, 1, 1 + 2 ** -10, 1 + 2 ** -12, -2049], "FP16")).toEqual([0, 1, 1 + 2 ** -10, 1, -2048]);
    expect(coded([2 ** -24, 2 ** -26], "FP16")).toEqual([2 ** -24, 0]);
  });

  test("nothing but zeros stays so", () => {
    expect(coded([0, 0], "INT8")).toEqual([0, 0]);
  });
});

describe("the experiment", () => {
  test("a small error of one step becomes a larger one of the state", () => {
    const { oneStep, atEnd } = experiment(A_LOGS, "A", "INT8", 0.75, 128);
    expect(oneStep).toBeGreaterThan(0);
    expect(atEnd).toBeGreaterThan(2 * oneStep);
  });

  test("rounding the rates to 4 bits makes the slowest one 0: nothing fades, the state runs away", () => {
    const { factor, states } = experiment(A_LOGS, "A", "INT4", 0.75, 128);
    expect(factor.rounded).toBe(1);
    expect(states.rounded.at(-1)).toBe(128);
    expect(states.exact.at(-1)).toBeLessThan(5);
  });

  test("the logarithm is the better thing to round", () => {
    for (const code of ["INT4", "INT5", "INT6"] as const) {
      const [log, rate] = (["A_log", "A"] as const).map((what) => experiment(A_LOGS, what, code, 0.75, 128).atEnd);
      expect(log).toBeLessThan(rate ?? 0);
    }
  });

  test("half precision is exact to the eye", () => {
    expect(experiment(A_LOGS, "A", "FP16", 0.75, 128).atEnd).toBeLessThan(1e-3);
  });
});
