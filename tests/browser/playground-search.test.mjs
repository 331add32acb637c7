// The playground finds the best recipe for a target: measured costs, a front to choose from, a run like any other.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fixture } from "../support/node.mjs";
import {
  copyable,
  downloaded,
  openDemo,
  openFiles,
  planned,
  QUICK,
  unfoldRules,
  walkthrough,
  wordsOf,
} from "../support/playground.mjs";

const { page, problems } = await walkthrough({ timeout: 120_000 });
const words = (selector) => wordsOf(page, selector);
const shut = () => page.getAttribute("#find-now", "aria-disabled");
const wanted = (label) => page.getByRole("group", { name: "Wanted" }).getByLabel(label);

test("a target that is none cannot be searched for; a search can be stopped, and leaves nothing behind", async () => {
  await openDemo(page);
  await page.selectOption("#limit", QUICK);
  await page.fill("#find-target", "0.5");
  assert.equal(await shut(), "true");
  await wanted("no more loss").check({ force: true });
  await page.getByLabel("Perplexity may rise by, in percent").fill("0");
  assert.equal(await shut(), "true");
  await page.fill("#find-target", "0.5");
  assert.equal(await shut(), "false");
  await wanted("a file of this size").check({ force: true });
  assert.equal(await shut(), "true", "each kind of target keeps its number");
  await page.fill("#find-target", "8");
  assert.equal(await shut(), "false");
  await page.click("#find-now");
  await page.locator("#find [role=progressbar]").waitFor();
  assert.equal(await page.getAttribute("#compress-now", "aria-disabled"), "true", "one work at a time");
  await page.click("#find-cancel");
  await page.locator("#find").getByText("Cancelled.").waitFor();
  assert.equal(await shut(), "false");
  assert.equal(await page.locator("#found").count(), 0);
  assert.equal(await page.locator("#compare").count(), 0);
});

test("a size is reached; what was found is compressed, measured on another text, and can be taken", async (t) => {
  await page.getByLabel("quick: measures").check();
  await page.click("#find-now");
  await page.locator("#found").waitFor();
  await planned(page, "searched-8.00x");
  await page.locator("#card").waitFor();
  const found = await words("#found");
  t.diagnostic(found);
  assert.match(found, /^Found 8\.0\d*x: perplexity \+\d/);
  assert.doesNotMatch(found, /missed/);
  assert.match(await words("#compare"), /the last articles of heldout\.txt/, "not what was read");
  assert.ok(await page.getByRole("switch", { name: "Make up for rounding errors" }).isChecked());
  const file = await downloaded(page, "#download");
  assert.match(file.name, /searched-8\.00x\.safetensors$/);
  assert.ok(file.bytes.length < 1.05 * (7_611_520 / 8), `${file.bytes.length} bytes`);
  // The same search on the command line, with the texts that the page offers to save.
  assert.match(
    await copyable(page, "Command line"),
    /statepress search examples\/demo\/itera-tiny -o \S+ --budget 8x --fast --calibrate heldout-first\.txt\n/,
  );
  assert.match(
    await copyable(page, "Node script"),
    /const \{ compressed \} = await search\(checkpoint, target, \{ calibration, fast: true \}\)/,
  );
});

test("another point of the front is another recipe, planned at once; undoing goes back to what was found", async () => {
  const points = page.getByRole("group", { name: /^Recipes on the way/ }).getByRole("button");
  const chosen = page.locator("#find .part-scatter-point[aria-pressed=true]");
  assert.ok((await points.count()) > 5, `${await points.count()} points`);
  assert.match(await chosen.getAttribute("aria-label"), /^8\.0\d*x, /, "what was found is among them");
  const [found, smallest] = [await words("#planned .sum"), await points.first().getAttribute("aria-label")];
  await points.first().press("Enter");
  await page.waitForFunction(
    (old) => document.querySelector("#planned .sum").textContent.replace(/\s+/g, " ").trim() !== old,
    found,
  );
  assert.equal(await chosen.getAttribute("aria-label"), smallest);
  const times = (text) => Number(/([\d.]+)x/.exec(text)[1]);
  assert.equal(times(await words("#planned .sum")), times(smallest), "what is planned is what was chosen");
  assert.ok(times(smallest) > 8, smallest);
  await unfoldRules(page);
  await page.click("#undo-recipe");
  await page.waitForFunction(
    (old) => document.querySelector("#planned .sum").textContent.replace(/\s+/g, " ").trim() === old,
    found,
  );
  await page.getByText("Which tensors cost most").click();
  assert.ok((await page.locator("#find .part-bars-item").count()) > 20);
  assert.deepEqual(problems, []);
});

test("without a tokenizer, and for a model that cannot be run, it says why", async () => {
  await openFiles(page, [fixture("fixtures/il_moe.safetensors")]);
  assert.match(await words("#find"), /cannot be searched for, because the model has to read a text.*tokenizer\.json/);
  assert.equal(await shut(), "true");
});
