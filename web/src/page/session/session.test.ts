// The session opens, plans and looks: what comes late, fails, or is asked for twice.

import { beforeEach, expect, test, vi } from "vitest";
import { edited } from "../state/recipes.js";
import { fake, file, MINE, page, renew, wait } from "./fake.js";
import { nameOf } from "./origin.js";

vi.mock("statepress", async () => (await import("./fake.js")).fakePackage);

beforeEach(renew);

test("a text that is none is told of, and nothing is said of weights", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  await it.session.openFiles([new File([new Uint8Array([0xff, 0xfe, 0x41, 0])], "wide.txt")]);
  expect(it.state.openProblem).toMatchObject({ code: "unknown", what: "wide.txt" });
  expect(it.state.openProblem?.message).toMatch(/wide\.txt is not UTF-8.*UTF-16LE.*left out/);
  expect(it.state.checkpoint?.name).toBe("a");
});

test("files that belong to a model need one: alone they are refused by name", async () => {
  const it = await page();
  await it.session.openFiles([file("tokenizer.model"), file("config.json", "{}")]);
  expect(it.state.openProblem?.message).toMatch(/no weights in tokenizer\.model, config\.json: open it together/);
  expect(fake.opened).toEqual([]);
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

test("among several tokenizers one is chosen, and kept when a field is set", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt"), file("tokenizer_1.json", "{}"), file("tokenizer_2.json", "{}")]);
  expect(it.state.checkpoint).toMatchObject({
    tokenizer: undefined,
    tokenizers: ["tokenizer_1.json", "tokenizer_2.json"],
  });
  await it.session.choose({ tokenizer: "tokenizer_2.json" });
  expect(fake.opened.at(-1)?.files).toEqual(["a.pt", "tokenizer_2.json"]);
  expect(it.state.checkpoint).toMatchObject({
    tokenizer: "tokenizer_2.json",
    tokenizers: ["tokenizer_1.json", "tokenizer_2.json"],
  });
  await it.session.setField("top_k_experts", 2);
  expect(fake.opened.at(-1)?.files).toEqual(["a.pt", "tokenizer_2.json"]);
});

test("weights that were chosen inside a file stay chosen, until another file is opened", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  await it.session.choose({ weights: "ema.module" });
  expect(it.state.checkpoint?.weightsPath).toBe("ema.module");
  await it.session.setField("top_k_experts", 2);
  await it.session.openFiles([file("tokenizer.json", "{}")]);
  await it.session.openFiles([file("b.pt")]);
  expect(fake.opened.map(({ weights }) => weights)).toEqual([
    undefined,
    "ema.module",
    "ema.module",
    "ema.module",
    undefined,
  ]);
});

test("all files are passed on together: shards, their index, and what lies beside them", async () => {
  const it = await page();
  const shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
  const names = [...shards, "model.safetensors.index.json", "config.json"];
  await it.session.openFiles(
    names.map((name) => file(name)),
    "mamba",
  );
  expect(fake.opened.at(-1)?.files).toEqual(names);
});

test("shards without a folder are called by what they are together", () => {
  const origin = { place: "files" as const, files: [] };
  expect(nameOf(origin, "mamba.safetensors.index.json")).toBe("mamba");
  expect(nameOf({ ...origin, folder: "tiny" }, "model.safetensors.index.json")).toBe("tiny");
  expect(nameOf(origin, "a.b.pt")).toBe("a.b");
});

test("recipes are undone one by one, those typed in one field as a whole", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  const named = (name: string) => ({ ...it.recipe("nf4"), name });
  await it.session.askRecipe(named("my-a"), "match-0");
  await it.session.askRecipe(named("my-ab"), "match-0");
  await it.session.askRecipe(named("my-abc"), "match-1");
  await it.session.undoRecipe();
  expect([it.state.asked.recipe.name, it.state.plan?.recipe.name]).toEqual(["my-ab", "my-ab"]);
  await it.session.undoRecipe();
  expect(it.state.asked.recipe.name).toBe("int8");
  await it.session.undoRecipe();
  expect(it.state.asked.recipe.name, "nothing was chosen before the advice").toBe("int8");
});
