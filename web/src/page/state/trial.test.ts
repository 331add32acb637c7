// Where two models part, and the commands that repeat it.

import { type CompressReport, QUANTIZE_DEFAULTS, type Recipe, type StepDraft, vocabularyOf } from "statepress";
import { expect, test } from "vitest";
import { commandLine, compareLine, compareScript, loadCommand, nodeScript } from "./commands.js";
import { firstDifference } from "./difference.js";
import { hasOffset, layersOf } from "./fields.js";
import { findingsOf } from "./findings.js";
import { edited } from "./recipes.js";
import { changedSince, changes, nameOf, readBy, sameProtocol, sidesOf, sizeOf } from "./run.js";
import { initial, type Opened, type OtherRun, type RecipeRun, type Run, type Side, type Trial } from "./state.js";
import { partingOf, places } from "./trial.js";

function trial(a: number[], b: number[], busy = false): Trial {
  const side = (ids: number[]): Side => ({
    tokens: ids.map((id) => ({ id, text: "x", probability: 1 })),
    backend: undefined,
    tokensPerSecond: undefined,
  });
  return { id: 1, run: 1, asked: initial.asked, sides: [side(a), side(b)], busy, problem: undefined };
}

test("two continuations part where ids differ, or where one of them has ended", () => {
  expect(partingOf(trial([1, 2, 3], [1, 2, 4]))).toBe(2);
  expect(partingOf(trial([1, 2, 3], [1, 2]))).toBe(2);
  expect(partingOf(trial([1, 2, 3], [1, 2], true))).toBeUndefined();
  expect(partingOf(trial([], []))).toBeUndefined();
  expect(firstDifference([{ id: 1 }], [])).toBe(0);
  expect(places(trial([1, 2], [1])).map(({ original, compressed }) => [original?.at, compressed?.at])).toEqual([
    [0, 0],
    [1, undefined],
  ]);
});

test("what a run depends on is told apart from what it does not", () => {
  const { asked } = initial;
  expect(changes(asked, { ...asked, prompt: "x", seed: 9, typed: "not measured on" })).toEqual([]);
  expect(changes({ ...asked, text: "typed" }, { ...asked, text: "typed", typed: "y" })).toEqual(["text"]);
  expect(changes(asked, { ...asked, recipe: { ...asked.recipe }, backend: "cpu" })).toEqual(["recipe", "CPU or GPU"]);
  expect(sameProtocol(asked, { ...asked, recipe: { ...asked.recipe }, backend: "cpu" })).toBe(true);
  expect(sameProtocol(asked, { ...asked, limit: 4096 })).toBe(false);
  const own = (text: string) => ({ ...asked, text: "own" as const, own: { name: "a.txt", text } });
  expect(changes(own("x"), own("y"))).toEqual(["text"]);
  expect(sameProtocol(own("x"), own("x"))).toBe(true);
});

test("a finding that several parts of a run make is told once", () => {
  const finding = { level: "warning", code: "unknown-tokens", message: "many" } as const;
  const other = { ...finding, tensor: "a" };
  const comparison = { a: { findings: [finding] }, b: { findings: [finding, other] } };
  expect(findingsOf({ report: { findings: [finding] }, comparison } as unknown as Run)).toEqual([finding, other]);
});

test("another model is a run by its own name and bytes, and depends on no recipe", () => {
  const inspection = (bytes: number, findings: object[] = []) => ({ bytes, findings });
  const opened = { name: "mamba", inspection: inspection(600) } as unknown as Opened;
  const found = { level: "info", code: "assumed", message: "top-k" };
  const other = { name: "transformer", inspection: inspection(400, [found]) };
  const beside = { id: 1, asked: initial.asked, other } as unknown as OtherRun;
  expect(nameOf(beside)).toBe("transformer");
  expect(sidesOf(opened, beside)).toEqual(["A: mamba", "B: transformer"]);
  expect(sizeOf(opened, beside)).toEqual({ before: 600, after: 400, ratio: 1.5 });
  expect(findingsOf(beside)).toEqual([found]);
  const { asked } = initial;
  expect(changedSince(beside, { ...asked, recipe: { ...asked.recipe } })).toEqual([]);
  expect(changedSince(beside, { ...asked, limit: 4096 })).toEqual(["amount of text"]);
});

const recipe: Recipe = { version: 1, name: "my-int8", steps: [] };
const run = {
  report: { recipe, precisions: [{ precision: "int8", params: 1, bytes: 1 }] } as unknown as CompressReport,
  asked: { ...initial.asked, limit: 4096 },
  file: { name: "model-my-int8.safetensors", size: 1 },
} as RecipeRun;
const checkpoint = {
  name: "it's a model",
  weights: "it's a model.pt",
  place: "files",
  tokenizer: "tokenizer_2000.json",
  given: { top_k_experts: 1 },
  inspection: { spec: { prediction_offset: { value: 2, origin: "assumed", from: "" } } },
} as unknown as Opened;
const measured = { ...run, comparison: { a: { offset: 2 } }, asked: { ...run.asked, backendB: "webgpu" } } as RecipeRun;

test("command lines quote what a shell would take apart, and repeat every setting", () => {
  const lines = commandLine({ checkpoint, run: measured, builtin: false });
  expect(lines).toContain(`compress 'it'\\''s a model.pt' -o model-my-int8.safetensors --recipe my-int8.json`);
  expect(lines).toContain("--set top_k_experts=1");
  expect(lines).toContain("--text heldout.txt --tokenizer tokenizer_2000.json");
  expect(lines).toContain("--offset 2 --limit 4096 --backend-b webgpu");
  const strange = { ...checkpoint, weights: "-rf.pt" };
  expect(commandLine({ checkpoint: strange, run, builtin: true })).toContain("compress ./-rf.pt ");
  const pasted = { ...checkpoint, place: "path" as const, path: "models/a b" };
  expect(commandLine({ checkpoint: pasted, run, builtin: true })).not.toContain("--tokenizer");
  const whole = { ...checkpoint, tokenizer: "tokenizer of model.gguf" };
  expect(commandLine({ checkpoint: whole, run, builtin: true })).not.toContain("--tokenizer");
  expect(commandLine({ checkpoint: pasted, run, builtin: true })).toContain("compress 'models/a b' ");
});

test("what a search produced is repeated by a search, which leaves a part of its text to judge by", () => {
  const compensated: Recipe = {
    version: 1,
    name: "searched",
    steps: [{ quantize: { ...QUANTIZE_DEFAULTS, errorCompensation: "gptq" } }],
  };
  const report = { ...run.report, recipe: compensated };
  const wanted = { target: { maxLoss: 1.5 }, fast: true, coded: true, first: [] };
  const searched = { ...run, report, wanted };
  const lines = commandLine({ checkpoint, run: searched, builtin: false });
  expect(lines).toContain(
    "search 'it'\\''s a model.pt' -o model-my-int8.safetensors --max-loss 1.5 --fast --coded --calibrate calibration.txt",
  );
  expect(lines).not.toContain("--recipe");
  const script = nodeScript({ checkpoint, run: searched, builtin: false });
  expect(script).toContain('const target = {"maxLoss":1.5};');
  expect(script).toContain(
    "const { compressed } = await search(checkpoint, target, { calibration, fast: true, coded: true });",
  );
  expect(script).toContain('import { compare, open, search } from "statepress";');
  for (const [target, option] of [
    [{ ratio: 8 }, "--budget 8x"],
    [{ bytes: 950_000 }, "--budget 950000"],
    [{ maxKl: 0.01 }, "--max-kl 0.01"],
  ] as const) {
    const other = { ...searched, wanted: { ...wanted, target } };
    expect(commandLine({ checkpoint, run: other, builtin: false })).toContain(` ${option} --fast `);
  }
  const first: StepDraft[] = [{ prune: { kind: "delta", keep: 4 } }];
  const pruned = { ...searched, wanted: { ...wanted, first } };
  expect(commandLine({ checkpoint, run: pruned, builtin: false })).toContain(" --coded --prune delta=4 --calibrate ");
  expect(nodeScript({ checkpoint, run: pruned, builtin: false })).toContain(`, first: ${JSON.stringify(first)} });`);
});

test("a script measures by what the run was measured by, and by nothing that it was not", () => {
  const script = nodeScript({ checkpoint, run: measured, builtin: true });
  expect(script).toContain('{ text, offset: 2, limit: 4096, backendB: "webgpu" }');
  expect(nodeScript({ checkpoint, run, builtin: true })).toContain("{ text, limit: 4096 }");
});

test("a second text goes along, where the run was measured on one", () => {
  const second = { from: "typed" as const, own: undefined, typed: "another" };
  const both = { ...measured, secondName: "a text that you typed", asked: { ...measured.asked, second } } as RecipeRun;
  expect(commandLine({ checkpoint, run: both, builtin: true })).toContain(
    "--text heldout.txt --second-text second.txt ",
  );
  const script = nodeScript({ checkpoint, run: both, builtin: true });
  expect(script).toContain('const second = { text: await readFile("second.txt", "utf8") };');
  expect(script).toContain("{ text, second, offset: 2,");
  const own = { ...second, from: "own" as const, own: { name: "my tale.txt", text: "x" } };
  const named = { ...both, asked: { ...both.asked, second: own } };
  expect(commandLine({ checkpoint, run: named, builtin: true })).toContain("--second-text 'my tale.txt' ");
  expect(nodeScript({ checkpoint, run: measured, builtin: true })).not.toContain("second");
});

test("a calibration text goes along, under a name of its own", () => {
  const compensated = edited(recipe, { errorCompensation: "gptq" });
  const made = { ...run, report: { ...run.report, recipe: compensated } };
  const asked = (from: "demo" | "own" | "typed", text: "last" | "demo") => ({
    ...made.asked,
    text,
    calibration: { from, own: { name: "read me.txt", text: "" }, typed: "", gradients: false },
  });
  const demo = { checkpoint, run: { ...made, asked: asked("demo", "last") }, builtin: false };
  const [compress, compare] = commandLine(demo).split("\n");
  expect(compress).toContain("--recipe my-int8.json --calibrate heldout-first.txt --tokenizer tokenizer_2000.json");
  expect(compare).toContain("--text heldout-last.txt");
  const typed = { ...demo, run: { ...made, asked: asked("typed", "demo") } };
  expect(nodeScript(typed)).toContain(
    'await readFile("calibration.txt", "utf8");\nconst compressed = await checkpoint.compress(recipe, { calibration });',
  );
  const own = { ...demo, run: { ...made, asked: asked("own", "demo") } };
  expect(commandLine(own)).toContain("--calibrate 'read me.txt'");
  const calibration = { ...asked("own", "demo").calibration, gradients: true };
  const graded = { ...own, run: { ...own.run, asked: { ...own.run.asked, calibration } } };
  expect(commandLine(graded)).toContain("--calibrate 'read me.txt' --gradients");
  expect(nodeScript(graded)).toContain("{ calibration, gradients: true }");
  const without = { ...demo, run: { ...run, asked: asked("own", "demo") } };
  expect([commandLine(without), nodeScript(without)].join()).not.toContain("calibrat");
});

test("two models are compared by one line, each with its own tokenizer, by the text where tokens differ", () => {
  const other = { weights: "b.safetensors", place: "files", tokenizer: "tokenizer_b.json", apart: undefined };
  const beside = { asked: { ...initial.asked, limit: 4096 }, other, comparison: { a: { offset: 2 } } };
  const alike = beside as unknown as OtherRun;
  expect(compareLine(checkpoint, alike)).toBe(
    `./pkg-scripts/statepress compare 'it'\\''s a model.pt' b.safetensors --text heldout.txt --tokenizer tokenizer_2000.json ` +
      "--tokenizer-b tokenizer_b.json --offset 2 --limit 4096",
  );
  expect(compareScript(checkpoint, alike)).toContain("await compare(a, b, { text, offset: 2, limit: 4096 })");
  const apart = { ...beside, comparison: undefined, byText: {}, other: { ...other, apart: "the vocabularies differ" } };
  const script = compareScript(checkpoint, apart as unknown as OtherRun);
  expect(script).toContain('const b = await open("b.safetensors", {"tokenizer":"tokenizer_b.json"});');
  expect(script).toContain('await compareByText(a, b, { text, offset: "detect", limit: 4096 })');
});

test("an offset that is no question is not asked for", () => {
  const mamba = { ...checkpoint, inspection: { spec: {} } } as unknown as Opened;
  expect(commandLine({ checkpoint: mamba, run: measured, builtin: true })).not.toContain("--offset");
  expect(nodeScript({ checkpoint: mamba, run: measured, builtin: true })).not.toContain("offset");
  const apart = { asked: initial.asked, byText: {} };
  const beside = (of: Opened) =>
    ({ ...apart, other: { ...of, apart: "the vocabularies differ" } }) as unknown as OtherRun;
  expect(compareLine(mamba, beside(mamba))).not.toContain("--offset");
  expect(compareScript(mamba, beside(mamba))).not.toContain("offset");
  expect(compareLine(mamba, beside(checkpoint)), "the second is asked").toContain("--offset detect");
  const alike = { asked: initial.asked, comparison: { a: { offset: 1 } }, other: { ...checkpoint, apart: undefined } };
  expect(compareLine(mamba, alike as unknown as OtherRun)).not.toContain("--offset");
});

test("layers and tokens are found under each name, and where none says so there is none", () => {
  const said = (spec: object) => ({ inspection: { spec } }) as unknown as Opened;
  for (const name of ["num_layers", "n_layers", "n_layer", "num_hidden_layers"]) {
    expect(layersOf(said({ [name]: { value: 24 } })), name).toBe(24);
  }
  expect([layersOf(said({})), hasOffset(said({}))]).toEqual([undefined, false]);
  const fields = { vocab_size: { value: 184 }, original_vocab_size: { value: 2000 } };
  expect(vocabularyOf(said(fields).inspection), "ids, of which some have rows").toBe(2000);
  expect(vocabularyOf(said({ vocab_size: fields.vocab_size }).inspection)).toBe(184);
  expect(vocabularyOf(said({}).inspection)).toBeUndefined();
});

test("what was read is told in words, with the offset of those of which it is a question", () => {
  const mamba = { ...checkpoint, name: "mamba", inspection: { spec: {} } } as unknown as Opened;
  const comparison = { a: { windows: 3, window: 256, offset: 2 } };
  const alone = { ...run, comparison } as unknown as Run;
  expect(readBy(checkpoint, alone)).toBe("3 windows of 256 tokens, predicting 2 ahead");
  expect(readBy(mamba, alone)).toBe("3 windows of 256 tokens");
  const byText = { a: { windows: 3, window: 256, offset: 1 }, b: { windows: 4, window: 256, offset: 2 } };
  const beside = { asked: initial.asked, byText, other: { ...checkpoint, name: "other" } } as unknown as Run;
  expect(readBy(mamba, beside)).toBe("3 windows of 256 tokens of A: mamba; 4 of B: other, predicting 2 ahead");
});

test("scripts hold the whole recipe where no name stands for it", () => {
  expect(nodeScript({ checkpoint, run, builtin: false })).toContain('"version": 1');
  expect(nodeScript({ checkpoint, run, builtin: true })).toContain('const recipe = "my-int8";');
});

test("Python reads the file with the reader that lies beside it", () => {
  expect(loadCommand(run)).toContain('reader.load("model-my-int8.safetensors")');
});
