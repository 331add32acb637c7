// The playground trains a student: from the first click to a file, with its module loaded only when it is asked for.

import assert from "node:assert/strict";
import { test } from "node:test";
import { open } from "statepress";
import {
  choose,
  downloaded,
  numberIn,
  openDemo,
  overflow,
  planned,
  seriousIn,
  walkthrough,
  wordsOf,
} from "../support/playground.mjs";

const { page, problems } = await walkthrough();
const words = (selector) => wordsOf(page, selector);
const fetched = [];
page.on("request", (request) => fetched.push(request.url()));
const ofTraining = () => fetched.filter((url) => url.includes("/wasm/distill/"));

test("what a student can have less of, and what it comes to, is said before anything is trained", async () => {
  await openDemo(page);
  await page.check("#way-train");
  await page.locator("#keep-inner").waitFor();
  await page.locator("#student-size b").waitFor();
  const params = numberIn(await words("#student-size b"));
  assert.ok(params > 1_000_000 && params < 1_900_000, `${params}`);
  await page.locator("#keep-width").fill("0.25");
  await page.waitForFunction((n) => {
    const text = document.querySelector("#student-size b")?.textContent ?? "";
    return Number(text.replaceAll(",", "")) < n;
  }, params);
  // Nothing is asked of the worker while nothing changes: once what was typed is answered, a second passes without a call.
  const asked = await page.evaluate(async () => {
    const post = Worker.prototype.postMessage;
    let count = 0;
    Worker.prototype.postMessage = function (...message) {
      count += 1;
      return post.apply(this, message);
    };
    for (let seconds = 0; seconds < 10; seconds++) {
      count = 0;
      await new Promise((passed) => setTimeout(passed, 1000));
      if (count === 0) break;
    }
    Worker.prototype.postMessage = post;
    return count;
  });
  assert.equal(asked, 0);
  // Structure that the model does not have is not offered.
  assert.equal(await page.locator("#keep-attentionHead").count(), 0);
  await page.fill("#train-minutes", "0");
  assert.equal(await page.getAttribute("#train-now", "aria-disabled"), "true");
  await page.fill("#train-minutes", "0.2");
  assert.equal(await page.getAttribute("#train-now", "aria-disabled"), "false");
  assert.deepEqual(ofTraining(), [], "nothing of what trains is loaded before it is asked for");
  assert.deepEqual(await seriousIn(page), []);
});

test("a training that was paused goes on after a reload, and can be forgotten", async () => {
  await page.click("#train-now");
  await page.locator("#train-pause[aria-disabled=false]").waitFor();
  await page.click("#train-pause");
  await page.locator("#train-left").waitFor();
  assert.match(await words("#train"), /Paused: it goes on from here/);
  await page.reload();
  await openDemo(page);
  await page.check("#way-train");
  await page.locator("#train-left").waitFor();
  assert.match(await words("#train-left"), /was left after \d+ steps, at a held-out perplexity of \d/);
  assert.deepEqual(await seriousIn(page), []);
  await page.click("#train-go-on");
  await page.locator("#train [role=progressbar]").waitFor();
  // The looks before are on the page again.
  await page.locator("#trained").waitFor();
  await page.click("#train-cancel");
  // Where it had come to is not lost by that.
  await page.locator("#train-left").waitFor();
  await page.click("#train-forget");
  await page.locator("#train-left").waitFor({ state: "detached" });
  await page.fill("#train-minutes", "0.2");
});

test("a student learns while one looks on, and is measured and taken away like whatever else was made", async (t) => {
  await page.selectOption("#limit", "4096");
  await page.click("#train-now");
  await page.locator("#train [role=progressbar]").waitFor();
  assert.equal(await page.getAttribute("#compress-now", "aria-disabled"), "true", "one work at a time");
  await page.locator("#trained").waitFor();
  assert.ok(ofTraining().length > 0);
  await page.locator("#card").waitFor();
  await page.locator("#train svg").first().waitFor();
  assert.ok((await words("#train-says b")).length > 10, "it goes on behind the held-out text");
  const trained = await words("#trained");
  t.diagnostic(trained);
  const [before, best] = trained.match(/[\d,]+\.\d/g).map(numberIn);
  assert.ok(best < before, trained);
  // A run like any other: on the card, in the list of runs, and to be taken away.
  assert.match(await words("#compare"), /student/);
  const { bytes } = await downloaded(page, "#download");
  const student = await open(new Uint8Array(bytes));
  assert.equal(student.inspection.family, "itera-lite");
  assert.ok(student.inspection.params < 1_500_000, `${student.inspection.params}`);
  student.dispose();
  assert.equal(await overflow(page), "");
});

test("what was compressed is trained afterwards, as the last step of its recipe", async (t) => {
  await choose(page, "int4");
  await page.check("#recover");
  await planned(page, "my-int4");
  assert.equal(await page.getAttribute("#recipe-int4", "aria-pressed"), "true", "it is int4 that is trained");
  await page.fill("#recover-steps", "500");
  await page.locator("#recover-steps").blur();
  assert.deepEqual(await seriousIn(page), []);
  // It is judged by other articles than it is trained on.
  await page.selectOption("#limit", "4096");
  await page.click("#compress-now");
  // Nobody has to wait for all of it.
  await page.click("#recovered-enough[aria-disabled=false]");
  await page.locator("#cancel[aria-disabled=true]").first().waitFor();
  const told = (await words("#compare")).match(/It was trained on .* nats a token/)?.[0] ?? "";
  t.diagnostic(told);
  assert.match(told, /^It was trained on the first articles of heldout.txt afterwards: .* from [\d.]+ to [\d.]+ nats/);
  const { bytes } = await downloaded(page, "#download");
  const healed = await open(new Uint8Array(bytes));
  const { recover } = healed.inspection.recipe.steps.at(-1);
  assert.ok(recover.steps >= 1 && recover.steps < 500, `${recover.steps} updates were done`);
  assert.deepEqual({ ...recover, steps: 0 }, { weights: "vectors", steps: 0, alpha: 1, learningRate: 0.001 });
  healed.dispose();
  assert.match(await words("#take"), /--recipe my-int4\.json --recover heldout-first\.txt/);
  assert.equal(await overflow(page), "");
  assert.deepEqual(problems, []);
});
