import type { StepDraft } from "statepress";
import { expect, test } from "vitest";
import { keptOf, ofStudents, pruneOption, stepsFirst, stepsOf } from "./pruning.js";

test("a pruned model has less of what is asked for, fitted to do without the rest", () => {
  expect(stepsOf({})).toEqual([]);
  expect(stepsOf({ inner: 1, width: 0.5, experts: 0.5, layers: 0.75 })).toEqual([
    { prune: { kind: "layers", keep: 0.75, by: "loss", repair: false } },
    { prune: { kind: "width", keep: 0.5, by: "loss", repair: true } },
    { prune: { kind: "experts", keep: 0.5, by: "loss", repair: false } },
  ]);
  expect(keptOf({ inner: 0.5, experts: 0.5 }, ["inner", "width"]), "of another checkpoint").toEqual({ inner: 0.5 });
  expect(keptOf({ inner: 0.5 }), "while nobody knows what there is").toEqual({});
  const vocabulary = { prune: { kind: "vocabulary", keep: 0.25, by: "usage", repair: false } };
  expect(stepsOf({ vocabulary: 0.25 }), "which ids matter, a text says").toEqual([vocabulary]);
  expect(ofStudents(["layers", "vocabulary"])).toEqual(["layers"]);
});

test("a search begins with the step size, or other structure, or all of it", () => {
  const delta: StepDraft = { prune: { kind: "delta", keep: 4 } };
  const first = (ofStepSize: StepDraft[], keeps = {}) => pruneOption(stepsFirst(ofStepSize, keeps));
  expect([first([]), first([delta])]).toEqual(["", "delta=4"]);
  expect(first([delta], { inner: 0.75, width: 0.5 })).toBe("delta=4,inner=0.75,width=0.5");
  expect(first([], { width: 0.5 })).toBe("width=0.5");
});
