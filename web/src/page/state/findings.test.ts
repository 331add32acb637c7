// Findings that are alike are said once, with every tensor named.

import type { Finding } from "statepress";
import { expect, test } from "vitest";
import { grouped } from "./findings.js";

const clipped = (tensor: string, values: number): Finding => ({
  level: "warning",
  code: "clipped",
  message: `${values} of the 64 numbers of ${tensor} are beyond the last code of int8 and were clipped to it`,
  tensor,
});

test("what several tensors say alike is one group, with each one's own words", () => {
  const groups = grouped([
    { level: "info", code: "order", message: "first" },
    clipped("layers.0.a", 12),
    clipped("layers.1.a", 13),
  ]);
  expect(groups.map(({ level, message }) => [level, message])).toEqual([
    ["warning", "… of the 64 numbers of this tensor are beyond the last code of int8 and were clipped to it"],
    ["info", "first"],
  ]);
  expect(groups[0]?.about.map(({ tensor, message }) => [tensor, message.slice(0, 9)])).toEqual([
    ["layers.0.a", "12 of the"],
    ["layers.1.a", "13 of the"],
  ]);
  expect(grouped([clipped("a", 3)])[0]?.message).toBe(clipped("a", 3).message);
});

test("names of one letter, digits in words, and what is about no tensor stay as they are", () => {
  const rows = (tensor: string, row: number): Finding => ({
    level: "warning",
    code: "shape",
    message: `${tensor} has rows of ${row}: stored as fp16`,
    tensor,
  });
  const [group, ...others] = grouped([rows("a", 48), rows("b", 50)]);
  expect(others).toEqual([]);
  expect(group?.message).toBe("this tensor has rows of …: stored as fp16");
  expect(group?.about.map(({ message }) => message)).toEqual([
    "a has rows of 48: stored as fp16",
    "b has rows of 50: stored as fp16",
  ]);
  const alone: Finding = { level: "warning", code: "x", message: "1 of 2" };
  expect(grouped([alone, { ...alone, message: "2 of 2" }])).toHaveLength(2);
  expect(grouped([rows("a", 1), { ...rows("b", 1), level: "error" }]).map(({ level }) => level)).toEqual([
    "error",
    "warning",
  ]);
});
