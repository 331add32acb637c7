// The session compresses, compares and remembers: runs, under the settings of their start.

import type { Recipe } from "statepress";
import { beforeEach, expect, test, vi } from "vitest";
import { compensates, compensating, edited } from "../state/recipes.js";
import { fake, file, kept, page, renew, wait } from "./fake.js";

vi.mock("statepress", async () => (await import("./fake.js")).fakePackage);

beforeEach(renew);

test("a run may be made under settings of its own, which then are not asked for", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  await it.session.compress({ recipe: it.recipe("nf4"), limit: 4096 });
  expect(it.state.runs[0]?.asked).toMatchObject({ recipe: { name: "nf4" }, limit: 4096 });
  expect(it.state.asked).toMatchObject({ recipe: { name: "int8" }, limit: undefined });
});

test("a text is read where the recipe says so, and never the one that is judged by", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  const calibration = { from: "typed" as const, own: undefined, typed: "a text of my own", gradients: true };
  it.tell({ type: "asked", change: { calibration } });
  await it.session.compress();
  const gptq = compensating(edited(it.recipe("nf4"), { otherwise: "nf4" }), true, it.state.recipes);
  await it.session.askRecipe(gptq);
  await it.session.compress();
  expect(fake.calibrated).toEqual([undefined, "a text of my own"]);
  expect(fake.gradients, "where no text is read, none are taken").toEqual([false, true]);
  it.tell({ type: "asked", change: { text: "typed", typed: "a text of my own" } });
  await it.session.compress();
  expect(it.state.workProblem?.message).toContain("judged by the very text that it reads");
  it.tell({ type: "asked", change: { calibration: { ...calibration, typed: "" } } });
  await it.session.compress();
  expect(it.state.workProblem?.message).toContain("has to read a text");
  expect([fake.calibrated.length, it.state.runs.length, it.state.work]).toEqual([2, 2, undefined]);
});

test("a second text is measured on as well, unless it is the first one again", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  const second = { from: "typed" as const, own: undefined, typed: "another text" };
  it.tell({ type: "asked", change: { text: "typed", typed: "a text", second } });
  await it.session.compress();
  expect(fake.compared).toMatchObject([{ text: "a text", second: { text: "another text" } }]);
  expect(it.state.runs[0]?.secondName).toBe("a text that you typed");
  it.tell({ type: "asked", change: { typed: "another text" } });
  await it.session.compress();
  expect(it.state.workProblem?.message).toContain("measured on already");
  it.tell({ type: "asked", change: { second: { ...second, from: "none" } } });
  await it.session.compress();
  expect(fake.compared).toHaveLength(2);
  expect(fake.compared[1]).not.toHaveProperty("second");
});

test("the demo reads one part of the held-out text and is judged by the other", async () => {
  vi.stubGlobal("fetch", async () => new Response("read this line\nand judge by this"));
  const it = await page();
  await it.session.openDemo();
  await it.session.askRecipe(edited(it.recipe("nf4"), { otherwise: "nf4", errorCompensation: "gptq" }));
  await it.session.compress();
  // The text was fetched by another test before.
  expect(fake.calibrated[0] + (fake.compared[0]?.text ?? "")).toBe(it.state.heldout);
  expect(it.state.runs[0]).toMatchObject({ textName: "the last articles of heldout.txt", asked: { text: "last" } });
});

test("a recipe that is picked keeps rounding errors made up for", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  const [int8, nf4] = ["int8", "nf4"].map((name) => edited(it.recipe(name), { otherwise: "nf4" })) as [Recipe, Recipe];
  await it.session.pickRecipe(int8);
  expect(it.state.asked.recipe).toBe(int8);
  await it.session.askRecipe(compensating(int8, true, it.state.recipes));
  await it.session.pickRecipe(nf4);
  expect([it.state.asked.recipe.name, compensates(it.state.asked.recipe)]).toEqual(["my-nf4", true]);
  // One that brings it along, as a search's does, leaves nothing of it behind.
  const searched = { ...edited(nf4, { errorCompensation: "gptq" }), name: "searched-8.00x" };
  it.tell({ type: "asked", change: { recipe: searched, text: "last" } });
  await it.session.pickRecipe(nf4);
  expect([it.state.asked.recipe, it.state.asked.text]).toEqual([nf4, "demo"]);
});

test("an offset that is in no file is looked for by the package, once on each text", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  it.tell({ type: "asked", change: { text: "typed", typed: "odd words" } });
  await it.session.compress();
  expect(it.state.checkpoint?.offsets).toMatchObject({ textName: "your text", evaluation: { offset: 3 } });
  await it.session.compress();
  it.tell({ type: "asked", change: { text: "demo" } });
  await it.session.compress();
  expect(it.state.checkpoint?.offsets).toMatchObject({ textName: "heldout.txt", evaluation: { offset: 1 } });
  expect(fake.compared.map(({ offset }) => offset)).toEqual(["detect", 3, "detect"]);
  const codes = it.state.runs.map((run) => run.comparison?.a.findings.map((finding) => finding.code));
  expect(codes, "what is odd about the offset is a finding of every run that used it").toEqual([
    ["offset-unclear"],
    ["offset-unclear"],
    [],
  ]);
  expect(fake.evaluated).toEqual([]);
  await it.session.measureOffsets();
  expect(fake.evaluated).toEqual(["the held-out text"]);
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

test("without a tokenizer a model is compressed and not measured, which is no failure", async () => {
  const it = await page();
  await it.session.openFiles([file("bare.pt")]);
  await it.session.compress();
  expect(it.state.runs[0]?.file).toMatchObject({ size: 1 });
  expect(it.state.runs[0]?.problem).toBeUndefined();
  expect([it.state.work, it.state.workProblem]).toEqual([undefined, undefined]);
  expect(fake.compared).toEqual([]);
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

test("another model is measured token by token where its tokens are the same, else by the text", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt"), file("tokenizer_a.json")]);
  it.tell({ type: "asked", change: { backend: "cpu", limit: 4096 } });
  await it.session.compareFiles([file("bare.pt"), file("notes.txt", "left alone")]);
  expect(fake.compared).toHaveLength(1);
  expect(it.state.runs[0]).toMatchObject({
    other: { name: "bare", apart: undefined },
    comparison: { kl: { mean: 0 } },
  });
  expect(fake.opened.at(-1)?.files, "with the tokenizer of the first, which has as many tokens").toEqual([
    "bare.pt",
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
  await it.session.compareFiles([file("bare.pt"), file("tokenizer_config.json", "[]")]);
  expect(fake.opened.at(-1)?.files).toEqual(["bare.pt", "vocab.json", "merges.txt", "tokenizer_config.json"]);
  expect(it.state.runs[0]?.other?.inspection.findings[0]?.message).toContain("vocab.json of the other model");
  await it.session.compareFiles([file("c.pt"), file("vocab.json", "[]"), file("merges.txt"), file("late.txt", "x")]);
  expect(fake.opened.at(-1)?.files).toEqual(["c.pt", "vocab.json", "merges.txt"]);
  await it.session.compareFiles([file("merges.txt"), file("tokenizer_config.json", "{}")]);
  expect(it.state.openProblem?.message).toContain("no weights");
});

test("another model that holds its tokenizer keeps it, and one that the first holds is not taken out", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  await it.session.compareFiles([file("bare.pt")]);
  expect(fake.opened.at(-1)?.files).toEqual(["bare.pt"]);
  expect(it.state.runs[0]?.other).toMatchObject({ tokenizer: undefined, inspection: { findings: [] } });
  await it.session.openFiles([file("a.pt"), file("tokenizer_a.json")]);
  await it.session.compareFiles([file("b.pt")]);
  expect(fake.opened.at(-1)?.files).toEqual(["b.pt"]);
  expect(it.state.runs[0]?.other).toMatchObject({ tokenizer: "tokenizer.json", inspection: { findings: [] } });
});

test("another model of a family without the field is not asked for its offset", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt"), file("tokenizer_a.json")]);
  fake.spec = {};
  await it.session.compareFiles([file("large.pt"), file("tokenizer_b.json")]);
  expect(fake.texts).toMatchObject([{ offset: "detect", offsetB: undefined }]);
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

test("what is measured is remembered with its recipe, what is cancelled is not; all can be forgotten", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  const running = it.session.compress();
  it.session.cancel();
  await running;
  expect(kept.records).toEqual([]);
  await it.session.compress({ recipe: it.recipe("nf4"), window: 64 });
  expect(fake.compared.at(-1)).toMatchObject({ window: 64 });
  expect(kept.records).toMatchObject([
    { model: "a", name: "nf4", ratio: 4, perplexityAfter: 9, recipe: { name: "nf4" } },
  ]);
  expect(it.state.remembered, "the run itself is on the page").toEqual([]);
  const later = await page();
  expect(later.state.remembered).toHaveLength(1);
  await later.session.openFiles([file("b.pt")]);
  expect(later.state.remembered).toHaveLength(1);
  later.session.clearMemory();
  expect([kept.records, later.state.remembered]).toEqual([[], []]);
});

test("cancelling does not wait for a step that takes long, and what comes of it later is let go", async () => {
  let finish: (produced: object) => void = () => {};
  const slow = new Promise<object>((resolve) => {
    finish = resolve;
  });
  const { promptly } = await import("./promptly.js");
  const controller = new AbortController();
  const late = vi.fn();
  const answer = promptly(controller.signal, slow, late);
  controller.abort();
  await expect(answer).rejects.toMatchObject({ code: "aborted" });
  const produced = {};
  finish(produced);
  await wait(0);
  expect(late).toHaveBeenCalledWith(produced);
});
