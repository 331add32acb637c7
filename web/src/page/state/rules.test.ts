// Rules in their order: which decide nothing, and where a new one has to stand.

import type { Inspection, Rule } from "statepress";
import { expect, test } from "vitest";
import { covers, idleRules, isAbout, subjectOf, withRule } from "./rules.js";

test("a pattern covers another where all that one matches is matched by it", () => {
  for (const [wide, narrow] of [
    ["*", "role:norm"],
    ["*", "a.b"],
    ["*.weight", "layers.*.weight"],
    ["layers.*", "layers.?.norm*"],
    ["a?c", "abc"],
    ["a?c", "a?c"],
    ["*a*", "*ba"],
    ["role:norm", "role:norm"],
  ] as const) {
    expect(covers(wide, narrow), `${wide} covers ${narrow}`).toBe(true);
  }
  for (const [wide, narrow] of [
    ["layers.*.weight", "*.weight"],
    ["a?c", "a*c"],
    ["?", "*"],
    ["role:norm", "*norm*"],
    ["*norm*", "role:norm"],
    ["role:*", "role:norm"],
    ["abc", "ab"],
  ] as const) {
    expect(covers(wide, narrow), `${wide} does not cover ${narrow}`).toBe(false);
  }
});

const tensors = [
  { name: "embedding.weight", role: "table", bytes: 100 },
  { name: "layers.0.in.weight", role: "in-proj", bytes: 40 },
  { name: "layers.0.norm.weight", role: "norm", bytes: 4 },
] as Inspection["tensors"];
const rules = (...matches: string[]): Rule[] => matches.map((match) => ({ match, precision: "int8" }));

test("a rule is about tensors by name or by role", () => {
  const about = (pattern: string) => tensors.filter((it) => isAbout(pattern, it)).map(({ name }) => name);
  expect(about("role:norm")).toEqual(["layers.0.norm.weight"]);
  expect(about("layers.*")).toHaveLength(2);
  expect(about("embedding.weight")).toHaveLength(1);
  expect(about("embedding")).toEqual([]);
});

test("a rule behind those that take all of it is idle; one that is about no tensor here is not", () => {
  expect(idleRules(rules("*", "*norm*"), tensors)[1]).toEqual({ before: 0, tensors: 1 });
  expect(idleRules(rules("role:table", "role:norm", "embedding.weight"), tensors)[2]).toEqual({
    before: 0,
    tensors: 1,
  });
  expect(idleRules(rules("*.weight", "nothing.weight"), tensors)[1]).toEqual({ before: 0, tensors: 0 });
  expect(idleRules(rules("*norm*", "nothing", "*"), tensors)).toEqual([undefined, undefined, undefined]);
});

test("a new rule stands before the first that would take what it is about", () => {
  const rule = { match: "layers.0.norm.weight", precision: "fp32" } as const;
  const placed = (...matches: string[]) => withRule(rules(...matches), rule, tensors).at;
  expect(placed("*embedding*", "*")).toBe(1);
  expect(placed("role:norm", "*")).toBe(0);
  expect(placed("*embedding*")).toBe(1);
  expect(withRule(rules("*"), rule, tensors).rules.map(({ match }) => match)).toEqual(["layers.0.norm.weight", "*"]);
});

test("a new rule is about the tensor that is looked at, or the largest that no rule names", () => {
  const inspection = { tensors };
  expect(subjectOf(inspection, [], "layers.0.norm.weight")).toBe("layers.0.norm.weight");
  expect(subjectOf(inspection, [], undefined)).toBe("embedding.weight");
  expect(subjectOf(inspection, rules("embedding.weight"), "embedding.weight")).toBe("layers.0.in.weight");
  expect(subjectOf({ tensors: [] }, [], undefined)).toBe("*.weight");
});
