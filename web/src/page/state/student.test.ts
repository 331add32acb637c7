import { expect, test } from "vitest";
import { stepsOf } from "./student.js";

test("a student has less of what is asked for, fitted to do without the rest", () => {
  expect(stepsOf({ keeps: {} })).toEqual([]);
  expect(stepsOf({ keeps: { inner: 1, width: 0.5, experts: 0.5, layers: 0.75 } })).toEqual([
    { prune: { kind: "layers", keep: 0.75, by: "loss", repair: false } },
    { prune: { kind: "width", keep: 0.5, by: "loss", repair: true } },
    { prune: { kind: "experts", keep: 0.5, by: "loss", repair: false } },
  ]);
});
