// Advice by what was measured: asked for anew after each run, and after measuring every recipe.

import { beforeEach, expect, test, vi } from "vitest";
import { fake, file, page, renew } from "./fake.js";

vi.mock("statepress", async () => (await import("./fake.js")).fakePackage);

beforeEach(renew);

test("after a run of a built-in recipe the advice knows what it lost", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  expect(fake.advised).toEqual([[]]);
  await it.session.compress();
  expect(fake.advised).toEqual([[], ["int8"]]);
  expect(it.state.checkpoint?.advice?.measured).toMatchObject([{ recipe: "int8", ratio: 4 }]);
  // What is asked for stays: advice is followed only where nothing was chosen.
  expect(it.state.asked.recipe.name).toBe("int8");
});

test("advice keeps to what is wished for, of the next checkpoint too", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  await it.session.wish({ maxLoss: 0.5 });
  expect(fake.advised).toEqual([[], ["0.5 %"]]);
  await it.session.openFiles([file("b.pt")]);
  expect(fake.advised.at(-1)).toEqual(["0.5 %"]);
  await it.session.wish({ maxLoss: undefined });
  expect(fake.advised.at(-1)).toEqual([]);
});

test("every recipe is measured on a click, and what that found outlives later runs", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  const measuring = it.session.measure();
  expect(it.state.work?.doing).toBe("measure");
  await measuring;
  expect([it.state.work, it.state.runs.length]).toEqual([undefined, 0]);
  expect(it.state.checkpoint?.measured.recipes).toMatchObject([{ recipe: "nf4", loss: 1 }]);
  await it.session.compress();
  expect(fake.advised.at(-1)).toEqual(["nf4", "int8"]);
});

test("what cannot be measured, or is stopped, leaves the advice as it was and says why", async () => {
  const it = await page();
  await it.session.openFiles([file("a.pt")]);
  const { advice } = it.state.checkpoint ?? {};
  fake.unmeasured = true;
  await it.session.measure();
  expect(it.state.measureProblem).toMatchObject({ code: "evaluation", message: "nothing to measure." });
  fake.unmeasured = false;
  const measuring = it.session.measure();
  it.session.cancel();
  await measuring;
  expect(it.state.measureProblem?.code).toBe("aborted");
  expect(it.state.checkpoint?.advice).toBe(advice);
  expect(it.state.work).toBeUndefined();
});
