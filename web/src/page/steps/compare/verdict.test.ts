// The words of a verdict.

import type { Comparison } from "statepress";
import { expect, test } from "vitest";
import { verdictWords } from "./verdict.js";

test("a verdict says what came out and what success would take", () => {
  const verdict = { result: "partial", ratioTarget: 1.5, lossTarget: 5 } as const;
  const comparison = { verdict, bytes: { ratio: 7.5 }, perplexityChange: 7.25 } as Comparison;
  expect(verdictWords(comparison)).toEqual({
    title: "Partly successful",
    reason: "7.50x smaller (success needs 1.50x), perplexity +7.250 % (success allows +5 %)",
  });
});
