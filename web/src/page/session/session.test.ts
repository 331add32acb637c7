// The session against a package that answers when it is told to: what comes late, fails, or is asked for twice.

import { beforeEach, expect, test, vi } from "vitest";

// The package's answers, to be changed by a test.
const fake = vi.hoisted(() => ({
  openMilliseconds: 0,
  refusedPlan: "",
  notFinite: false,
  spec: {} as object,
  opened: [] as { files: string[]; set: object; disposed: boolean }[],
  produced: [] as { disposed: boolean }[],
  evaluated: [] as string[],
  texts: [] as { why?: string; offsetB?: string; backendB?: string }[],
  compared: [] as { offset?: number; backend?: string; backendB?: string; limit?: number }[],
  looked: [] as { block: number }[],
}));

// What evaluating says of an offset: a warning, and a note that is not part of a comparison.
const ODD = vi.hoisted(() => [
  { level: "warning", code: "offset", message: "odd" },
  { level: "info", code: "dropped", message: "two" },
]);

const wait = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

vi.mock("statepress", async () => {
  const names = await import("../../api/names.js");
  const { decodeText, withoutMark } = await import("../../api/text.js");
  const { weightsAmong } = await import("../../api/weights.js");
  const types = await import("../../api/types/statepress.js");
  class StatepressError extends Error {
    constructor(
      readonly code: string,
      message: string,
    ) {
      super(message);
    }
  }
  const later = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  const recipe = (name: string) => ({ version: 1, name, steps: [] });
  return {
    ...types,
    StatepressError,
    isTokenizerName: names.isTokenizerName,
    replacesTokenizer: names.replacesTokenizer,
    TOKENIZER_CONFIG: names.TOKENIZER_CONFIG,
    weightsAmong,
    decodeText,
    withoutMark,
    recipes: async () => ["int8", "nf4", "none"].map(recipe),
    open: async (files: File[], { set = {} }: { set?: object }) => {
      const about = { files: files.map((file) => file.name), set, disposed: false };
      fake.opened.push(about);
      await later(fake.openMilliseconds);
      if ("refused" in set) throw new StatepressError("bad-option", "refused is no field");
      const weights = files.find((file) => /safetensors|pt$/.test(file.name));
      if (weights?.name.startsWith("broken")) throw new StatepressError("malformed", "no checkpoint");
      if (!weights) throw new StatepressError("bad-input", `no weights among ${files.length} files`);
      return {
        inspection: {
          spec: {
            ...fake.spec,
            vocab_size: { origin: "counted", value: weights.name.startsWith("large") ? 8000 : 2000 },
          },
          findings: weights.name.startsWith("mute")
            ? [{ level: "warning", code: "cannot-run", message: "no reader" }]
            : [],
          tensors: [],
        },
        tokenizerName: files.find((file) => names.isTokenizerName(file.name))?.name,
        weightsName: weights.name,
        dispose() {
          about.disposed = true;
        },
        async plan(asked: { name: string }) {
          await later(2);
          if (asked.name === fake.refusedPlan) throw new StatepressError("bad-recipe", "refused");
          return { recipe: asked, bytes: { after: 1 }, tensors: [] };
        },
        async advise() {
          await later(10);
          return { recommended: [{ recipe: "int8" }], avoid: [], findings: [] };
        },
        async tensor(name: string, options: { precisions?: string[]; quantize?: { nf4: { block: number } } }) {
          await later(1);
          if (options.precisions && fake.notFinite) throw new StatepressError("bad-tensor", "holds NaN");
          if (options.quantize) fake.looked.push({ block: options.quantize.nf4.block });
          return { name, coded: options.precisions ?? [] };
        },
        async load() {
          return {
            dispose() {},
            async evaluate(text: string) {
              fake.evaluated.push(text);
              return { offset: text.includes("odd") ? 3 : 1, tokens: 1, nllByOffset: [], findings: ODD };
            },
          };
        },
        async compress(asked: object, { signal }: { signal: AbortSignal }) {
          await later(2);
          if (signal.aborted) throw new StatepressError("aborted", "stopped on request");
          const produced = { disposed: false };
          fake.produced.push(produced);
          return {
            report: { recipe: asked },
            save: async () => new Blob(["x"]),
            dispose() {
              produced.disposed = true;
            },
          };
        },
      };
    },
    tokensDiffer: (...both: { inspection: { spec: { vocab_size: { value: number } } } }[]) => {
      const [a, b] = both.map(({ inspection }) => inspection.spec.vocab_size.value);
      return a === b ? undefined : `${a} and ${b}`;
    },
    compareByText: async (_a: object, _b: object, options: object) => {
      fake.texts.push(options);
      await later(2);
      return { bitsPerByteChange: 1, a: { findings: [] } };
    },
    compare: async (_a: object, _b: object, options: object) => {
      fake.compared.push(options);
      await later(2);
      return { kl: { mean: 0 }, a: { findings: [] } };
    },
  };
});

const { Session } = await import("./session.js");
const { reduce } = await import("../state/reducer.js");
const { edited } = await import("../state/recipes.js");
const { initial } = await import("../state/state.js");

async function page({ hurried = false } = {}) {
  let state = initial;
  const tell = (event: Parameters<typeof reduce>[1]) => {
    state = reduce(state, event);
  };
  const session = new Session({ state: () => state, tell });
  if (!hurried) await session.start();
  const recipe = (name: string) => {
    const found = state.recipes.find((it) => it.name === name);
    if (!found) throw new Error(`no recipe ${name}`);
    return found;
  };
  return {
    session,
    tell,
    recipe,
    get state() {
      return state;
    },
  };
}

const file = (name: string, text = "") => new File([text], name);
const MINE = file("mine.json", JSON.stringify({ version: 1, name: "mine", steps: [] }));

beforeEach(() => {
  Object.assign(fake, { openMilliseconds: 0, refusedPlan: "", notFinite: false });
  fake.spec = { prediction_offset: { origin: "assumed", value: 1 } };
  for (const list of [fake.opened, fake.produced, fake.evaluated, fake.compared, fake.texts, fake.looked])
    list.length = 0;
  vi.stubGlobal("fetch", async () => new Response("the held-out text"));
});

test("advice is followed where nothing was chosen, and not where something was, however late", async () => {
  const followed = await page();
  await followed.session.openFiles([file("a.pt")]);
  expect(followed.state.asked.recipe.name).toBe("int8");
  const it = await page();
  const opening = it.session.openFiles([file("a.pt")]);
  while (!it.state.plan) await wait(1);
  expect(it.state.checkpoint?.advice).toBeUndefined();
  await it.session.askRecipe(it.recipe("nf4"));
  await opening;
  expect(it.state.checkpoint?.advice).toBeDefined();
  expect(it.state.asked.recipe.name).toBe("nf4");
  expect(it.state.plan?.recipe.name).toBe("nf4");
});

test("files that are opened before the package has started are planned by every recipe", async () => {
  const it = await page({ hurried: true });
  await it.session.openFiles([file("a.pt")]);
  expect(Object.keys(it.state.checkpoint?.plans ?? {})).toEqual(["int8", "nf4", "none"]);
  expect(it.state.asked.recipe.name).toBe("int8");
});

test("a built-in recipe that cannot be followed keeps neither advice nor the others back", async () => {
  const it = await page();
  fake.refusedPlan = "nf4";
  await it.session.openFiles([file("a.pt")]);
  expect(it.state.openProblem).toBeUndefined();
  expect(it.state.checkpoint?.advice?.recommended).toHaveLength(1);
  expect(Object.keys(it.state.checkpoint?.plans ?? {})).toEqual(["int8", "none"]);
  expect(it.state.plan?.recipe.name).toBe("int8");
});

test("a second file that is opened overtakes the first", async () => {
  const it = await page();
  fake.openMilliseconds = 10;
  const first = it.session.openFiles([file("a.pt")]);
  await wait(3);
  fake.openMilliseconds = 1;
  await Promise.all([first, it.session.openFiles([file("b.pt")])]);
  await wait(15);
  expect(it.state.checkpoint?.name).toBe("b");
  expect(fake.opened.map(({ disposed }) => disposed)).toEqual([true, false]);
});

test("opening can be stopped: what was open stays", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  fake.openMilliseconds = 10;
  const second = it.session.openFiles([file("b.pt")]);
  await wait(3);
  it.session.cancelOpening();
  await second;
  expect(it.state.opening).toBe(false);
  expect(it.state.checkpoint?.name).toBe("a");
  expect(fake.opened[1]?.disposed).toBe(true);
});

test("fields add up; one that is refused is told of at its place, and leaves the model as it was", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt"), MINE]);
  await it.session.setField("top_k_experts", 2);
  await it.session.setField("prediction_offset", 2);
  expect(it.state.checkpoint?.given).toEqual({ top_k_experts: 2, prediction_offset: 2 });
  await it.session.setField("refused", 1);
  expect(it.state.fieldProblem?.field).toBe("refused");
  expect(it.state.openProblem).toBeUndefined();
  expect(it.state.checkpoint?.given).toEqual({ top_k_experts: 2, prediction_offset: 2 });
  await it.session.setField("top_k_experts", undefined);
  expect(it.state.checkpoint?.given).toEqual({ prediction_offset: 2 });
});

test("a recipe among the files is taken once, and one that comes alone is for what is there", async () => {
  const it = await page();
  await it.session.openFiles([MINE]);
  expect(it.state.asked.recipe.name).toBe("mine");
  await it.session.openFiles([file("a.pt"), MINE]);
  await it.session.askRecipe(it.recipe("nf4"));
  await it.session.setField("top_k_experts", 2);
  expect(it.state.asked.recipe.name).toBe("nf4");
  await it.session.openFiles([MINE]);
  expect(it.state.asked.recipe.name).toBe("mine");
  expect(it.state.plan?.recipe.name).toBe("mine");
  expect(fake.opened).toHaveLength(2);
});

test("texts: read-mes are none, of several the first is taken and said, others than UTF-8 are left out", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt"), file("README.txt", "x"), file("merges.txt", "x"), file("notes.md", "x")]);
  expect(it.state.asked.own).toBeUndefined();
  expect(it.state.asked.text).toBe("demo");
  await it.session.openFiles([file("a.pt"), file("one.txt", "\ufeffwords"), file("two.txt", "x")]);
  expect(it.state.asked.own).toEqual({ name: "one.txt", text: "words" });
  expect(it.state.asked.text).toBe("own");
  expect(it.state.checkpoint?.inspection.findings.map((finding) => finding.code)).toEqual(["several-texts"]);
  await it.session.openFiles([file("a.pt"), new File([new Uint8Array([0xe4, 0xf6])], "latin.txt")]);
  expect(it.state.asked.own).toBeUndefined();
  expect(it.state.checkpoint?.inspection.findings.map((finding) => finding.code)).toEqual(["text-left-out"]);
  await it.session.openFiles([file("late.txt", "words")]);
  await it.session.setField("top_k_experts", 2);
  expect(it.state.asked.own?.name).toBe("late.txt");
  expect(it.state.checkpoint?.name).toBe("a");
});

test("a folder gives its name where the file has none of its own", async () => {
  const it = await page();
  await it.session.openFiles([file("model.safetensors")], "itera-student");
  expect(it.state.checkpoint).toMatchObject({ name: "itera-student", weights: "model.safetensors" });
  await it.session.openFiles([file("tiny-v2.pt")], "downloads");
  expect(it.state.checkpoint?.name).toBe("tiny-v2");
  await it.session.openFiles([file("cat.png"), file("dog.png")]);
  expect(it.state.openProblem?.what).toBe("cat.png and 1 more");
  expect(it.state.checkpoint?.name).toBe("tiny-v2");
});

test("a tokenizer that comes later is put beside the weights, in the place of the one before", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt"), file("tokenizer.json", "{}")]);
  await it.session.openFiles([file("tokenizer.json", "[]")]);
  expect(fake.opened.at(-1)?.files).toEqual(["tokenizer.json", "a.pt"]);
  expect(it.state.checkpoint?.name).toBe("a");
});

test("texts and recipes that come with a tokenizer are taken with it", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt"), file("one.txt", "old")]);
  await it.session.openFiles([file("late.txt", "words"), file("tokenizer.json", "{}"), MINE]);
  expect(it.state.asked.own?.name).toBe("late.txt");
  expect(it.state.asked.recipe.name).toBe("mine");
  expect(it.state.checkpoint?.name).toBe("a");
});

test("files without weights are for those that are there, or are refused", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt"), file("tokenizer_old.json", "{}")]);
  await it.session.openFiles([file("tokenizer_new.json", "{}")]);
  expect(fake.opened.at(-1)?.files).toEqual(["tokenizer_new.json", "a.pt"]);
  await it.session.openFiles([file("notes.json", "[]")]);
  expect(it.state.openProblem).toMatchObject({ what: "notes.json", message: expect.stringContaining("no weights") });
  await it.session.openFiles([new File([new Uint8Array([0xe4, 0xf6])], "latin.txt")]);
  expect(it.state.openProblem).toMatchObject({ what: "latin.txt", message: expect.stringContaining("is not UTF-8") });
  expect(it.state.checkpoint?.name).toBe("a");
});

test("a run may be made under settings of its own, which then are not asked for", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  await it.session.compress({ recipe: it.recipe("nf4"), limit: 4096 });
  expect(it.state.runs[0]?.asked).toMatchObject({ recipe: { name: "nf4" }, limit: 4096 });
  expect(it.state.asked).toMatchObject({ recipe: { name: "int8" }, limit: undefined });
});

test("the prediction offset is measured on each text, and once on the same", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  it.tell({ type: "asked", change: { text: "typed", typed: "odd words" } });
  await it.session.compress();
  await it.session.compress();
  it.tell({ type: "asked", change: { text: "demo" } });
  await it.session.compress();
  expect(fake.compared.map(({ offset }) => offset)).toEqual([3, 3, 1]);
  expect(fake.evaluated).toEqual(["odd words", "the held-out text"]);
  expect(it.state.checkpoint?.offsets?.textName).toBe("heldout.txt");
  const codes = it.state.runs.map((run) => run.comparison?.a.findings.map((finding) => finding.code));
  expect(codes, "what is odd about the offset is a finding of every run that used it").toEqual([
    ["offset"],
    ["offset"],
    ["offset"],
  ]);
});

test("of a family without the field no offset is measured or asked for", async () => {
  fake.spec = {};
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  await it.session.measureOffsets();
  await it.session.compress();
  expect(fake.evaluated).toEqual([]);
  expect(fake.compared.map(({ offset }) => offset)).toEqual([undefined]);
  expect(it.state.checkpoint?.offsets).toBeUndefined();
});

test("vocab.json and merges.txt join each other, and take the place of another tokenizer", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt"), file("tokenizer.json", "{}")]);
  await it.session.openFiles([file("vocab.json", "{}")]);
  await it.session.openFiles([file("merges.txt", "")]);
  await it.session.openFiles([file("tokenizer_config.json", "{}")]);
  expect(fake.opened.at(-1)?.files.sort()).toEqual(["a.pt", "merges.txt", "tokenizer_config.json", "vocab.json"]);
  await it.session.openFiles([file("tokenizer.json", "{}")]);
  expect(fake.opened.at(-1)?.files.sort()).toEqual(["a.pt", "tokenizer.json", "tokenizer_config.json"]);
});

test("a run is made under the settings of its start", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  it.tell({ type: "asked", change: { backend: "cpu", backendB: "webgpu", limit: 4096 } });
  const running = it.session.compress();
  it.tell({ type: "asked", change: { limit: undefined, backend: "auto" } });
  await it.session.askRecipe(it.recipe("nf4"));
  await running;
  expect(it.state.runs[0]?.asked).toMatchObject({ recipe: { name: "int8" }, backend: "cpu", limit: 4096 });
  expect(fake.compared[0]).toMatchObject({ backend: "cpu", backendB: "webgpu", limit: 4096 });
});

test("work ends with its checkpoint: nothing of it is kept, and nothing is said of it", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  const running = it.session.compress();
  await wait(0);
  await it.session.openFiles([file("b.pt")]);
  await running;
  expect(it.state.runs).toEqual([]);
  expect(it.state.work).toBeUndefined();
  expect(it.state.workProblem).toBeUndefined();
  expect(fake.opened[0]?.disposed).toBe(true);
  expect(fake.produced.every(({ disposed }) => disposed)).toBe(true);
});

test("cancelled work says so and can be done again; a forgotten run is disposed of", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  const running = it.session.compress();
  it.session.cancel();
  await running;
  expect(it.state.workProblem?.code).toBe("aborted");
  expect(it.state.work).toBeUndefined();
  await it.session.compress();
  expect(it.state.runs).toHaveLength(1);
  const run = it.state.runs[0]?.id ?? 0;
  expect(await it.session.file(run)).toBeInstanceOf(Blob);
  it.session.forget(run);
  expect(it.state.runs).toEqual([]);
  expect(fake.produced.at(-1)?.disposed).toBe(true);
  expect(await it.session.file(run)).toBeUndefined();
});

test("a run that is forgotten while it is measured ends that, and nothing is lost", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  const running = it.session.compress();
  await vi.waitFor(() => expect(it.state.runs).toHaveLength(1));
  it.session.forget(it.state.runs[0]?.id ?? 0);
  await running;
  expect(it.state.lost).toBe(false);
  expect(it.state.work).toBeUndefined();
});

test("a tensor that no code can hold still shows its numbers", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  fake.notFinite = true;
  await it.session.look("layers.0.A");
  expect(it.state.look?.view?.name).toBe("layers.0.A");
  expect(it.state.look?.problem).toBeUndefined();
  expect(it.state.look?.picturesProblem?.message).toBe("holds NaN.");
});

test("pictures follow the recipe's options, even past a recipe that was refused", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  const nf4 = (block: number, name: string) => ({
    ...edited(it.recipe("nf4"), { nf4: { block, doubleQuant: true, absmax: "fp32" } }),
    name,
  });
  await it.session.askRecipe(nf4(64, "x"));
  await it.session.look("layers.0.A");
  fake.refusedPlan = "bad";
  await it.session.askRecipe(nf4(4096, "bad"));
  await it.session.askRecipe(nf4(4096, "good"));
  expect(fake.looked.map(({ block }) => block)).toEqual([64, 4096]);
});

test("files that come while a checkpoint is open are asked about, and what belongs to it is not", async () => {
  const it = await page();
  await it.session.take([file("a.pt")]);
  expect(it.state.checkpoint?.name).toBe("a");
  await it.session.take([file("late.txt", "words"), file("tokenizer.json", "{}"), MINE]);
  expect(it.state.offer).toBeUndefined();
  await it.session.take([file("b.pt")]);
  expect(it.state.offer).toEqual({ what: "b.pt" });
  await it.session.answerOffer("neither");
  expect(it.state.offer).toBeUndefined();
  expect(it.state.checkpoint?.name).toBe("a");
  await it.session.take([file("b.pt")]);
  await it.session.answerOffer("open");
  expect(it.state.checkpoint?.name).toBe("b");
  await it.session.take([file("c.pt")]);
  await it.session.answerOffer("compare");
  expect(it.state.checkpoint?.name).toBe("b");
  expect(it.state.runs.map(({ other }) => other?.name)).toEqual(["c"]);
});

test("another model is measured token by token where its tokens are the same, else by the text", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt"), file("tokenizer_a.json")]);
  it.tell({ type: "asked", change: { backend: "cpu", limit: 4096 } });
  await it.session.compareFiles([file("b.pt"), file("notes.txt", "left alone")]);
  expect(fake.compared).toHaveLength(1);
  expect(it.state.runs[0]).toMatchObject({ other: { name: "b", apart: undefined }, comparison: { kl: { mean: 0 } } });
  expect(fake.opened.at(-1)?.files, "with the tokenizer of the first, which has as many tokens").toEqual([
    "b.pt",
    "tokenizer_a.json",
  ]);
  expect(it.state.runs[0]?.other?.inspection.findings.map(({ code }) => code)).toEqual(["tokenizer-of-a"]);
  expect(it.state.asked.own, "both are measured on what is asked for").toBeUndefined();
  await it.session.compareFiles([file("large.pt"), file("tokenizer_b.json")]);
  expect(fake.texts).toMatchObject([{ why: "2000 and 8000", offsetB: "detect", limit: 4096, backend: "cpu" }]);
  expect(it.state.runs[1]).toMatchObject({
    other: { tokenizer: "tokenizer_b.json" },
    byText: { bitsPerByteChange: 1 },
  });
  it.tell({ type: "asked", change: { limit: undefined } });
  await it.session.compareAgain(2);
  expect(it.state.runs.map(({ id, asked }) => [id, asked.limit])).toEqual([
    [1, 4096],
    [2, 4096],
    [3, undefined],
  ]);
});

test("another model without a tokenizer is read with all files of the first's", async () => {
  const it = await page();
  const pair = [file("vocab.json", "{}"), file("merges.txt"), file("tokenizer_config.json", "{}")];
  await it.session.openFiles([file("a.pt"), ...pair]);
  await it.session.compareFiles([file("b.pt"), file("tokenizer_config.json", "[]")]);
  expect(fake.opened.at(-1)?.files).toEqual(["b.pt", "vocab.json", "merges.txt", "tokenizer_config.json"]);
  expect(it.state.runs[0]?.other?.inspection.findings[0]?.message).toContain("vocab.json of the other model");
  await it.session.compareFiles([file("c.pt"), file("vocab.json", "[]"), file("merges.txt"), file("late.txt", "x")]);
  expect(fake.opened.at(-1)?.files).toEqual(["c.pt", "vocab.json", "merges.txt"]);
  await it.session.compareFiles([file("merges.txt"), file("tokenizer_config.json", "{}")]);
  expect(it.state.openProblem?.message).toContain("no weights");
});

test("another model of a family without the field is not asked for its offset", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt"), file("tokenizer_a.json")]);
  fake.spec = {};
  await it.session.compareFiles([file("large.pt"), file("tokenizer_b.json")]);
  expect(fake.texts).toMatchObject([{ offset: 1, offsetB: undefined }]);
});

test("another model that is none is refused, one that cannot run is set beside, and the first stays", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  await it.session.compareFiles([file("broken.pt")]);
  expect(it.state.openProblem).toMatchObject({ code: "malformed", what: "broken.pt" });
  await it.session.compareFiles([file("tokenizer.json"), file("one.txt")]);
  expect(it.state.openProblem?.message).toContain("no weights in tokenizer.json and 1 more");
  expect(it.state).toMatchObject({ runs: [], opening: false, checkpoint: { name: "a" } });
  await it.session.compareFiles([file("mute.pt")]);
  expect(it.state.openProblem).toBeUndefined();
  expect(it.state.runs[0]?.problem).toEqual({ code: "unknown-model", message: "Of B, no reader." });
  expect(it.state.work).toBeUndefined();
  expect(fake.compared).toEqual([]);
});

test("another model waits for no work and takes none over; forgetting it closes it", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  const running = it.session.compress();
  await it.session.compareFiles([file("b.pt")]);
  expect(fake.opened).toHaveLength(1);
  await running;
  await it.session.compareFiles([file("b.pt")]);
  it.session.forget(2);
  expect(fake.opened.at(-1)?.disposed).toBe(true);
  await it.session.compareAgain(2);
  expect(it.state.runs.map(({ id }) => id)).toEqual([1]);
});

test("closing lets everything go", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  await it.session.compress();
  it.session.drop();
  expect(it.state.checkpoint).toBeUndefined();
  expect(fake.opened[0]?.disposed).toBe(true);
  expect(fake.produced[0]?.disposed).toBe(true);
  await it.session.compress();
  await it.session.look("a");
  expect(it.state.work).toBeUndefined();
  expect(it.state.look).toBeUndefined();
});
