// Findings that are alike are said once, with every tensor named.

import { type Finding, QUANTIZE_DEFAULTS, type Recipe } from "statepress";
import { expect, test } from "vitest";
import { grouped } from "./findings.js";

const clipped = (tensor: string, values: number): Finding => ({
  level: "warning",
  code: "clipped",
  message: `${values} values do not fit int8 and were clipped`,
  tensor,
});

test("what several tensors say alike is one group, with their counts added and each one's own words", () => {
  const groups = grouped([
    { level: "info", code: "order", message: "first" },
    clipped("layers.0.a", 12),
    clipped("layers.1.a", 1300),
  ]);
  expect(groups.map(({ level, message }) => [level, message])).toEqual([
    ["warning", "1,312 values do not fit int8 and were clipped"],
    ["info", "first"],
  ]);
  expect(groups[0]?.about).toEqual([
    { tensor: "layers.0.a", message: "12 values do not fit int8 and were clipped" },
    { tensor: "layers.1.a", message: "1300 values do not fit int8 and were clipped" },
  ]);
});

test("other numbers are not added, and what is about no tensor stays by itself", () => {
  const rows = (tensor: string, row: number): Finding => ({
    level: "warning",
    code: "shape",
    message: `${tensor} has rows of ${row}: stored as fp16`,
    tensor,
  });
  const [group] = grouped([rows("a", 48), rows("b", 50)]);
  expect(group?.message).toBe("this tensor has rows of …: stored as fp16");
  expect(group?.about.map(({ message }) => message)).toEqual([
    "a has rows of 48: stored as fp16",
    "b has rows of 50: stored as fp16",
  ]);
  const alone: Finding = { level: "warning", code: "x", message: "1 of 2" };
  expect(grouped([alone, { ...alone, message: "2 of 2" }])).toHaveLength(2);
});

test("what a recipe does on purpose is a note; what it does not mean stays a warning", () => {
  const recipe = (clip: "minmax" | "percentile"): Recipe => ({
    version: 1,
    name: "mine",
    steps: [{ quantize: { ...QUANTIZE_DEFAULTS, int8: { ...QUANTIZE_DEFAULTS.int8, clip, percentile: 99 } } }],
  });
  const findings = [clipped("a", 1), clipped("b", 2)];
  expect(grouped(findings, recipe("percentile"))).toMatchObject([
    { level: "info", message: "3 values do not fit int8 and were clipped, as the recipe asks: its percentile is 99" },
  ]);
  expect(grouped(findings, recipe("minmax"))[0]?.level).toBe("warning");
  const overflow = { ...clipped("a", 1), message: "1 values do not fit fp16 and were clipped" };
  expect(grouped([overflow], recipe("percentile"))[0]?.level).toBe("warning");
});
