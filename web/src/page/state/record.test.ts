// Runs that are remembered and taken along: what was kept is checked, and spreadsheets read what they are given.

import type { Comparison, CompressReport, Recipe } from "statepress";
import { expect, test } from "vitest";
import { csvOf, MOST_RECORDS, recordOf, recordsIn } from "./record.js";
import { initial, type Opened, type RecipeRun } from "./state.js";

const recipe: Recipe = { version: 1, name: "my-int8", steps: [] };
const checkpoint = { name: "tiny, second", inspection: { family: "mamba", params: 7 } } as unknown as Opened;
const side = { perplexity: 8, tokens: 100, window: 64, backend: "cpu" };
const run = {
  id: 1,
  asked: initial.asked,
  report: { recipe, bytes: { before: 40, after: 10, ratio: 4 } } as unknown as CompressReport,
  comparison: { kl: { mean: 1e-3 }, top1Agreement: 0.9, a: side, b: { ...side, perplexity: 9 } } as Comparison,
  textName: "a.txt",
} as unknown as RecipeRun;
const record = recordOf(checkpoint, run, 0);

test("a run becomes its recipe and numbers", () => {
  expect(record).toMatchObject({ family: "mamba", recipe, ratio: 4, kl: 1e-3, top1: 0.9, text: "a.txt", window: 64 });
  expect(record).toMatchObject({ perplexityBefore: 8, perplexityAfter: 9, bitsPerByteAfter: null, backend: "cpu" });
  expect(JSON.stringify(record).length).toBeLessThan(600);
});

test("what was kept is read back; what is no record is left out", () => {
  expect(recordsIn(JSON.stringify([record]))).toEqual([record]);
  for (const bad of [null, "", "{", "7", '{"a":1}']) expect(recordsIn(bad), String(bad)).toEqual([]);
  const others = [{ ...record, ratio: "4" }, { ...record, kl: undefined }, { ...record, recipe: { name: 1 } }, null, 3];
  expect(recordsIn(JSON.stringify([...others, record]))).toEqual([record]);
  const many = Array.from({ length: MOST_RECORDS + 5 }, (_, at) => ({ ...record, at }));
  expect(recordsIn(JSON.stringify(many)).map(({ at }) => at)).toEqual(many.slice(5).map(({ at }) => at));
});

test("CSV quotes what it must, leaves out what was not measured, and is no formula", () => {
  const [head, first, second] = csvOf([record, { ...record, name: "=cmd()", text: 'a "quoted"', kl: null }]).split(
    "\r\n",
  );
  expect(head?.split(",").slice(0, 3)).toEqual(["measured at", "model", "family"]);
  expect(first).toContain(
    '1970-01-01T00:00:00.000Z,"tiny, second",mamba,7,my-int8,40,10,4,0.001,0.9,8,9,,,a.txt,100,64',
  );
  expect(first).toContain('"{""version"":1,""name"":""my-int8"",""steps"":[]}"');
  expect(second).toContain(`,'=cmd(),40,10,4,,0.9,`);
  expect(second).toContain('"a ""quoted"""');
});
