// Where two models part, how long work takes, and the commands that repeat it.

import type { CompressReport, Recipe } from "statepress";
import { expect, test } from "vitest";
import { commandLine, loadCommand, nodeScript } from "./commands.js";
import { initial, type Opened, type Run, type Side, type Trial } from "./state.js";
import { firstDifference } from "./trial.js";
import { remaining } from "./work.js";

function trial(a: number[], b: number[]): Trial {
  const side = (ids: number[]): Side => ({
    tokens: ids.map((id) => ({ id, text: "x", probability: 1 })),
    backend: undefined,
    tokensPerSecond: undefined,
  });
  return { id: 1, run: 1, prompt: "", sides: [side(a), side(b)], busy: false, problem: undefined };
}

test("the first difference is by id, not by text, and a shorter side is no difference", () => {
  expect(firstDifference(trial([1, 2, 3], [1, 2, 4]))).toBe(2);
  expect(firstDifference(trial([1, 2, 3], [1, 2]))).toBeUndefined();
  expect(firstDifference(trial([], []))).toBeUndefined();
});

test("what remains follows the pace so far", () => {
  const work = { run: 1, doing: "compare", since: 1000, now: 3000 } as const;
  const progress = { stage: "compare", done: 20, total: 100, unit: "tokens" };
  expect(remaining({ ...work, progress })).toBe(8);
  expect(remaining({ ...work, progress: { ...progress, done: 0 } })).toBeUndefined();
  expect(remaining({ ...work, progress, now: 1100 })).toBeUndefined();
  expect(remaining({ ...work, progress: undefined })).toBeUndefined();
});

const recipe: Recipe = { version: 1, name: "my-int8", steps: [] };
const run = {
  report: { recipe, precisions: [{ precision: "int8", params: 1, bytes: 1 }] } as unknown as CompressReport,
  asked: { ...initial.asked, limit: 4096 },
  file: { name: "model-my-int8.safetensors", size: 1 },
} as Run;
const checkpoint = {
  name: "it's a model",
  place: "files",
  files: [
    { name: "config.json", size: 1 },
    { name: "it's a model.pt", size: 2 },
  ],
  given: { prediction_offset: 2 },
} as unknown as Opened;

test("command lines quote what a shell would take apart, and repeat every setting", () => {
  const lines = commandLine({ checkpoint, run, builtin: false });
  expect(lines).toContain(`compress 'it'\\''s a model.pt' -o model-my-int8.safetensors --recipe my-int8.json`);
  expect(lines).toContain("--set prediction_offset=2");
  expect(lines).toContain("--limit 4096");
});

test("scripts hold the whole recipe where no name stands for it", () => {
  expect(nodeScript({ checkpoint, run, builtin: false })).toContain('"version": 1');
  expect(nodeScript({ checkpoint, run, builtin: true })).toContain('const recipe = "my-int8";');
});

test("Python reads the file with what knows its types", () => {
  expect(loadCommand(run)).toContain("safetensors.numpy import load_file");
  expect(loadCommand(run)).toContain("'model-my-int8.safetensors'");
  const precisions = [{ precision: "bf16" as const, params: 1, bytes: 2 }];
  expect(loadCommand({ ...run, report: { ...run.report, precisions } })).toContain("safetensors.torch");
});
