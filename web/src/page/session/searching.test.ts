// Searches as the session makes them: what they measure, what is found, and what goes on from what is known.

import type { StepDraft } from "statepress";
import { beforeEach, expect, test, vi } from "vitest";
import { stepsFirst } from "../state/pruning.js";
import { edited } from "../state/recipes.js";
import { fake, file, kept, page, renew, wait } from "./fake.js";

vi.mock("statepress", async () => (await import("./fake.js")).fakePackage);

beforeEach(renew);

const WANTED = { target: { ratio: 8 }, fast: true, coded: false, first: [] };

test("what is found by a search is asked for, kept and measured; another point of the front is only planned", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  it.tell({
    type: "asked",
    change: { calibration: { from: "typed", own: undefined, typed: "a text of my own", gradients: false } },
  });
  await it.session.search(WANTED);
  expect(fake.searched).toMatchObject([{ calibration: "a text of my own", fast: true, target: { ratio: 8 } }]);
  expect(it.state.search?.found).toMatchObject({ recipe: { name: "searched" }, reached: true, bytes: { after: 1 } });
  expect(it.state.asked.recipe.name).toBe("searched");
  expect(it.state.plan?.recipe.name).toBe("searched");
  expect(it.state.runs).toMatchObject([{ wanted: WANTED, comparison: { kl: { mean: 0 } }, textName: "heldout.txt" }]);
  expect([it.state.work, kept.records.length]).toEqual([undefined, 1]);
  await it.session.takePoint({ bytes: 1234, ratio: 1, kl: 1, perplexityChange: 1 });
  expect([it.state.asked.recipe.name, it.state.plan?.recipe.name]).toEqual(["at 1234", "at 1234"]);
  expect(it.state.runs.length).toBe(1);
  await it.session.undoRecipe();
  expect(it.state.asked.recipe.name).toBe("searched");
  await it.session.takePoint({ bytes: 0, ratio: 1, kl: 1, perplexityChange: 1 });
  expect(it.state.planProblem?.message, "what cannot be had is said where it would be planned").toContain("refused");
});

test("a search that fails or is stopped leaves no run; one whose result cannot be measured keeps it", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  await it.session.search(WANTED);
  expect(it.state.searchProblem?.message).toContain("has to read a text");
  it.tell({
    type: "asked",
    change: { calibration: { from: "typed", own: undefined, typed: "a text of my own", gradients: false } },
  });
  const stopped = it.session.search(WANTED);
  await wait(1);
  it.session.cancel();
  await stopped;
  expect(it.state.searchProblem?.code).toBe("aborted");
  expect([it.state.search?.found, it.state.work, it.state.runs.length]).toEqual([undefined, undefined, 0]);
  expect(it.state.search?.measured, "what there is stays").toMatchObject({ costs: { unmeasured: 7 }, front: [{}] });
  await it.session.takePoint({ bytes: 1234, ratio: 1, kl: 1, perplexityChange: 1 });
  expect(it.state.asked.recipe.name).toBe("at 1234");
  fake.unmeasured = true;
  await it.session.search(WANTED);
  expect([it.state.searchProblem, it.state.runs.length]).toEqual([undefined, 1]);
  expect(it.state.runs[0]?.problem?.message).toBe("nothing to measure.");
  expect(it.state.workProblem?.message).toBe("nothing to measure.");
});

test("what is measured is not measured again, whatever the target, unless the text is another or more is wanted", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  const typed = (text: string) =>
    it.tell({
      type: "asked",
      change: { calibration: { from: "typed", own: undefined, typed: text, gradients: false } },
    });
  typed("a text of my own");
  fake.refusedTarget = "allowed: up to 12x";
  await it.session.search({ ...WANTED, target: { ratio: 100 } });
  expect(it.state.searchProblem?.message).toContain("up to 12x");
  await wait(1);
  expect(it.state.search?.measured?.costs.unmeasured).toBe(0);
  fake.refusedTarget = "";
  await it.session.search(WANTED);
  await it.session.search({ ...WANTED, fast: false });
  await it.session.search({ ...WANTED, coded: true });
  const first: StepDraft[] = [{ prune: { kind: "delta", keep: 4 } }];
  await it.session.search({ ...WANTED, coded: true, first });
  await it.session.search({ ...WANTED, coded: true, first: structuredClone(first) });
  typed("another text of my own");
  await it.session.search(WANTED);
  const known = fake.searched.map(({ costs }) => costs !== undefined);
  // Other precisions are measured for a file that is entropy-coded, and another model after steps that come first.
  expect(known).toEqual([false, true, false, false, false, true, false]);
});

test("which tensors of a run matter is measured without a recipe being made; a search by the same goes on with it", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  await it.session.askRecipe(edited(it.recipe("nf4"), { errorCompensation: "gptq" }));
  const calibration = { from: "typed" as const, own: undefined, typed: "a text of my own", gradients: false };
  it.tell({ type: "asked", change: { calibration } });
  await it.session.compress();
  const { recipe } = it.state.asked;
  it.tell({ type: "asked", change: { calibration: { ...calibration, typed: "another text" } } });
  const stopped = it.session.measureDamage(1);
  await wait(1);
  expect(it.state.work?.doing).toBe("search");
  it.session.cancel();
  await stopped;
  expect([it.state.searchProblem?.code, it.state.search?.measured?.costs.unmeasured]).toEqual(["aborted", 7]);
  await it.session.measureDamage(1);
  expect(fake.searched.map(({ calibration, costs }) => [calibration, costs !== undefined])).toEqual([
    ["a text of my own", false],
    ["a text of my own", true],
  ]);
  expect([it.state.work, it.state.runs.length, it.state.asked.recipe]).toEqual([undefined, 1, recipe]);
  expect(it.state.search).toMatchObject({ found: undefined, measured: { costs: { unmeasured: 0 }, front: [{}] } });
  it.tell({ type: "asked", change: { calibration } });
  await it.session.search({ ...WANTED, fast: false });
  expect(fake.searched.at(-1)?.costs).toMatchObject({ unmeasured: 0 });
});

test("what was measured goes when something else is pruned first, and what that leaves is known before", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  const calibration = { from: "typed" as const, own: undefined, typed: "a text of my own", gradients: false };
  it.tell({ type: "asked", change: { calibration } });
  const first = stepsFirst([], { inner: 0.5 });
  expect(it.state.first).toBeUndefined();
  await it.session.planPruning("first", first);
  expect(it.state.first).toMatchObject({ planned: { params: 10, bytes: 1 }, problem: undefined });
  expect(it.state.first?.kinds).toContain("inner");
  expect(it.state.students, "a student is another matter").toBeUndefined();
  await it.session.search(WANTED);
  const searching = it.session.search({ ...WANTED, first });
  expect(it.state.search).toMatchObject({ by: { first }, measured: undefined, found: undefined });
  await searching;
  expect(fake.searched.map(({ costs, first }) => [costs !== undefined, first])).toEqual([
    [false, []],
    [false, first],
  ]);
  expect(it.state.runs.at(-1)).toMatchObject({ wanted: { first } });
  fake.refusedPlan = "pruned";
  await it.session.planPruning("first", first);
  expect(it.state.first).toMatchObject({ planned: undefined, problem: { message: "refused." } });
  await it.session.planPruning("first", []);
  expect(it.state.first).toMatchObject({ planned: undefined, problem: undefined });
});

test("the demo is searched with one part of the held-out text, and what is found judged by the other", async () => {
  const it = await page();
  await it.session.openDemo();
  await it.session.search(WANTED);
  expect((fake.searched[0]?.calibration ?? "") + (fake.compared[0]?.text ?? "")).toBe(it.state.heldout);
});
