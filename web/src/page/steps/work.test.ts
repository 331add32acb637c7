// The words of the progress line: what is being done, and how long it will take.

import { expect, test } from "vitest";
import { remaining, stageOf, unknown, waiting } from "./work.js";

test("what remains follows the pace so far", () => {
  const work = { run: 1, doing: "compare", since: 1000, now: 3000 } as const;
  const progress = { stage: "compare", done: 20, total: 100, unit: "tokens" };
  expect(remaining({ ...work, progress })).toBe(8);
  expect(remaining({ ...work, progress: { ...progress, done: 0 } })).toBeUndefined();
  expect(remaining({ ...work, progress, now: 1100 })).toBeUndefined();
  expect(remaining({ ...work, progress: undefined })).toBeUndefined();
  expect(remaining({ ...work, progress: { ...progress, done: 100 } }), "what follows is not counted").toBeUndefined();
});

test("a stage that cannot be counted says what it is, and how long it has been silent", () => {
  const work = { run: 1, doing: "compare", since: 1000, now: 3000, progress: undefined } as const;
  expect([stageOf(work), unknown(work), waiting(work, 4000)]).toEqual(["Loading the models", true, ""]);
  const progress = { stage: "prepare", done: 0, total: 1, unit: "steps" };
  expect(stageOf({ ...work, progress })).toBe("Starting the GPU");
  expect(waiting({ ...work, progress }, 45_000)).toBe("42 s in this step so far");
  const counted = { stage: "load", done: 1, total: 84, unit: "tensors", item: "a" };
  expect(stageOf({ ...work, progress: counted })).toBe("Loading the models: 1 of 84 tensors, a");
  expect(stageOf({ ...work, doing: "compress", progress: counted })).toBe("Loading the model: 1 of 84 tensors, a");
  const read = { stage: "calibrate", done: 256, total: 4096, unit: "tokens" };
  expect(stageOf({ ...work, progress: read })).toBe("Reading the calibration text: 256 of 4,096 tokens");
  expect(unknown({ ...work, progress: counted })).toBe(false);
  expect(unknown({ ...work, progress: { ...counted, done: 84 } })).toBe(true);
});
