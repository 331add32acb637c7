// A second text is another one than the first, and best one that was not read while compressing.

import type { Recipe } from "statepress";
import { expect, test } from "vitest";
import { stops } from "./calibration.js";
import { compensating, edited } from "./recipes.js";
import { changedSince, sameProtocol } from "./run.js";
import { objectionToSecond, secondText } from "./second.js";
import { type Asked, initial, type RecipeRun } from "./state.js";

const NF4: Recipe = edited({ version: 1, name: "nf4", steps: [] }, { otherwise: "nf4" });
const long = Array.from({ length: 40 }, (_, i) => `line ${i} of a text of one's own`).join("\n");
const asking = (second: Partial<Asked["second"]>, change: Partial<Asked> = {}): Asked => ({
  ...initial.asked,
  second: { ...initial.asked.second, ...second },
  ...change,
});

test("none is asked for, and none is missed", () => {
  expect(secondText(initial.asked)).toBeUndefined();
  expect(objectionToSecond(initial.asked, "held out")).toBeUndefined();
  expect(secondText(asking({ from: "none", typed: "kept for later" }))).toBeUndefined();
});

test("one that is missing, or the same as the first, stops", () => {
  for (const [asked, level, words] of [
    [asking({ from: "typed", typed: " \n" }), "info", "not there yet"],
    [asking({ from: "own" }), "info", "not there yet"],
    [asking({ from: "typed", typed: "held  out\n" }), "error", "measured on already"],
    [asking({ from: "typed", typed: "mine" }, { text: "typed", typed: "mine" }), "error", "measured on already"],
  ] as const) {
    const objection = objectionToSecond(asked, "held out");
    expect(objection?.level).toBe(level);
    expect(objection?.message).toContain(words);
    expect(stops(objection)).toBe(true);
  }
  expect(objectionToSecond(asking({ from: "typed", typed: "another" }), "held out")).toBeUndefined();
});

test("one that the model has read is warned of, where it reads one at all", () => {
  const read = { calibration: { from: "typed" as const, own: undefined, typed: long, gradients: false } };
  const second = { from: "own" as const, own: { name: "tale.txt", text: `A tale.\n${long}` } };
  expect(objectionToSecond(asking(second, { ...read, recipe: NF4 }), "held out")).toBeUndefined();
  const warned = objectionToSecond(asking(second, { ...read, recipe: compensating(NF4, true, []) }), "held out");
  expect([warned?.level, stops(warned)]).toEqual(["warning", false]);
});

test("numbers of the first text can be set side by side whatever the second is; a run says when it has changed", () => {
  const [before, after] = [asking({}), asking({ from: "typed", typed: "another" })];
  expect(sameProtocol(before, after)).toBe(true);
  expect(changedSince({ asked: before } as RecipeRun, after)).toEqual(["second text"]);
});
