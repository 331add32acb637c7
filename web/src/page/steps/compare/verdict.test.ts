// The words of a verdict.

import type { Comparison } from "statepress";
import { expect, test } from "vitest";
import { verdictWords } from "./verdict.js";

test("a verdict says what came out and what success would take", () => {
  const verdict: Comparison["verdict"] = {
    result: "partial",
    compression: { value: 7.5, limit: 1.5, reached: true },
    degradation: { value: 7.25, limit: 5, reached: false },
  };
  expect(verdictWords({ verdict } as Comparison)).toEqual({
    title: "Partial",
    reason: "7.50x smaller (success needs 1.50x), perplexity +7.250 % (success allows +5 %)",
  });
});
