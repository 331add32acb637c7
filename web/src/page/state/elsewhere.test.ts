// What a produced file is called and loaded by in each format.

import { formats } from "statepress";
import { expect, test } from "vitest";
import { FORMATS, loadingOf, makingOf, nameElsewhere } from "./elsewhere.js";
import { initial, type Opened, type RecipeRun } from "./state.js";

const recipe = { version: 1, name: "nf4", steps: [] };
const checkpoint = (family: string, tokenizer: string | undefined = "tokenizer.json") =>
  ({
    weights: "it's a model.pt",
    place: "files",
    given: { a: 1 },
    tokenizer,
    inspection: { family, spec: {} },
  }) as unknown as Opened;
const mamba = checkpoint("mamba");
const run = {
  asked: { ...initial.asked, recipe, prompt: `it's "so"` },
  report: { recipe, precisions: [] },
  file: { name: "model-nf4.safetensors", size: 10 },
} as unknown as RecipeRun;
const as = (format: (typeof formats)[number], ggufType?: "Q4_K", layout?: "original") => ({ format, ggufType, layout });

test("every format of the package is offered, our own first", () => {
  expect(FORMATS.map(({ format }) => format)).toEqual([...formats]);
});

test("a folder and a file of another tool have names of their own", () => {
  const named = (...asked: Parameters<typeof as>) => nameElsewhere(run, as(...asked));
  expect(formats.map((format) => named(format))).toEqual([
    "model-nf4.safetensors",
    "model-nf4",
    "model-nf4-bitsandbytes",
    "model-nf4-compressed-tensors",
    "model-nf4.gguf",
    "model-nf4.onnx",
  ]);
  expect(named("gguf", "Q4_K")).toBe("model-nf4-Q4_K.gguf");
});

test("what loads it is shown for each, and no prompt does harm in it", () => {
  expect(loadingOf(mamba, run, as("gguf", "Q4_K")).text).toBe(
    `llama-cli -m model-nf4-Q4_K.gguf -p 'it'\\''s "so"' -n 64`,
  );
  const plain = loadingOf(mamba, run, as("plain")).text;
  expect(plain).toContain('AutoModelForCausalLM.from_pretrained("model-nf4")');
  expect(plain).toContain(`tokenizer("it's \\"so\\"", return_tensors="pt")`);
  expect(loadingOf(mamba, run, as("bitsandbytes")).text).toMatch(
    /^# pip install accelerate bitsandbytes\n[\s\S]*from_pretrained\("model-nf4-bitsandbytes"\)/,
  );
  expect(loadingOf(mamba, run, as("compressed-tensors")).text).toMatch(
    /^# pip install compressed-tensors\n[\s\S]*from_pretrained\("model-nf4-compressed-tensors"\)/,
  );
  expect(loadingOf(checkpoint("mamba", undefined), run, as("plain")).text).toContain("from_pretrained");
  const silent = { ...mamba, tokenizer: undefined };
  expect(loadingOf(silent, run, as("plain")).text).not.toContain("AutoTokenizer");
  // transformers has no class for it.
  expect(loadingOf(checkpoint("itera-lite"), run, as("plain")).text).toContain(
    'load_file("model-nf4/model.safetensors")',
  );
  const example =
    'import numpy\nMODEL, TOKENIZER, PROMPT = "model.onnx", "tokenizer.json", "The film was"\nprint(MODEL)';
  expect(loadingOf(mamba, run, as("onnx"), example).text).toBe(
    `import numpy\nMODEL, TOKENIZER, PROMPT = "model-nf4.onnx", "tokenizer.json", "it's \\"so\\""\nprint(MODEL)`,
  );
  const whole = checkpoint("mamba", "tokenizer of model.gguf");
  expect(loadingOf(whole, run, as("onnx"), example).text).toContain('"tokenizer.json"');
  expect(loadingOf(mamba, run, as("safetensors")).text).toContain('reader.load("model-nf4.safetensors")');
});

test("the command line writes that format by the same recipe", () => {
  expect(makingOf(mamba, run, [], as("gguf", "Q4_K")).text).toBe(
    "./pkg-scripts/statepress compress 'it'\\''s a model.pt' -o model-nf4-Q4_K.gguf --recipe nf4.json --set a=1 --format gguf --gguf-type Q4_K",
  );
  const builtin = { ...run, asked: { ...run.asked, recipe } };
  expect(makingOf(mamba, builtin, [recipe], as("plain")).text).toMatch(/ -o model-nf4 --recipe nf4.* --format plain$/);
  const original = as("plain", undefined, "original");
  expect(makingOf(mamba, builtin, [recipe], original).text).toMatch(/ --format plain --layout original$/);
  expect(loadingOf(mamba, run, original).text).toContain('load_file("model-nf4/model.safetensors")');
});
