import { expect, test, vi } from "vitest";
import { choose, MAX_TEXT } from "./local-choice.js";

// The part of the package that is asked, from its source.
vi.mock("statepress", async () => ({
  ...(await import("../../api/names.js")),
  ...(await import("../../api/weights.js")),
}));

const listed = (sizes: Record<string, number>) =>
  Object.entries(sizes).map(([name, size]) => ({ name, size, path: `/models/${name}` }));

function names(sizes: Record<string, number>): string[] {
  return choose(listed(sizes)).files.map(({ name }) => name);
}

test("of a folder the weights are taken, and what says how to read them", () => {
  const folder = {
    "model.safetensors": 5e9,
    "config.json": 700,
    "tokenizer.json": 2e6,
    "tokenizer-chars.json": 900,
    "tokenizer_config.json": 300,
    "generation_config.json": 100,
    "heldout.txt": 70_000,
    "README.md": 4000,
    "training.log": 9e8,
    "films.mp4": 4e9,
  };
  expect(names(folder)).toEqual([
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "tokenizer-chars.json",
    "tokenizer_config.json",
    "heldout.txt",
  ]);
});

test("a single file is taken whatever its name is", () => {
  expect(names({ checkpoint: 5 })).toEqual(["checkpoint"]);
  expect(names({ "recipe.json": 5 })).toEqual(["recipe.json"]);
});

test("texts are taken up to a size", () => {
  expect(names({ "a.pt": 1, "small.TXT": MAX_TEXT - 1, "large.txt": MAX_TEXT })).toEqual(["a.pt", "small.TXT"]);
});

test("model.safetensors is taken among several weights", () => {
  expect(names({ "model.safetensors": 1, "pytorch_model.bin": 1, "config.json": 1 })).toEqual([
    "model.safetensors",
    "config.json",
  ]);
});

test("several weights of which none is the usual one are named, not fetched", () => {
  const folder = { "step-1.pt": 1e9, "step-2.pt": 1e9, "config.json": 1 };
  expect(() => names(folder)).toThrow(/name one: step-1\.pt, step-2\.pt$/);
});

test("weights that are not fetched are known", () => {
  const several = listed({ "model.safetensors": 1, "pytorch_model.bin": 1, "config.json": 1 });
  expect(choose(several).findings.map(({ message }) => message)).toEqual([
    "model.safetensors was taken for the weights, not pytorch_model.bin",
  ]);
  const one = listed({ "model.safetensors": 1, "films.mp4": 1 });
  expect(choose(one).findings).toEqual([]);
});

test("an index stands for its shards", () => {
  const shards = { "model-00001-of-00002.safetensors": 1e9, "model-00002-of-00002.safetensors": 1e9 };
  expect(names({ ...shards, "model.safetensors.index.json": 900, "config.json": 1 })).toEqual([
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "config.json",
  ]);
});

test("a folder without weights says so", () => {
  for (const folder of [{}, { "config.json": 1, "notes.txt": 1 }]) {
    expect(() => names(folder)).toThrow(/no weights(, for there are no| among 2) files/);
  }
});
