// The playground finds the best recipe for a target: measured costs, a front to choose from, a run like any other.

import assert from "node:assert/strict";
import { test } from "node:test";
import { PRESETS } from "statepress";
import { fixture } from "../support/node.mjs";
import {
  choose,
  compress,
  copyable,
  downloaded,
  numberIn,
  openDemo,
  openFiles,
  overflow,
  planned,
  QUICK,
  seriousIn,
  walkthrough,
  wordsOf,
} from "../support/playground.mjs";

const { page, problems } = await walkthrough();
const words = (selector) => wordsOf(page, selector);
const shut = () => page.getAttribute("#find-now", "aria-disabled");
const front = () => page.getByRole("group", { name: /^Recipes on the way/ });
const chosenPoint = () => page.locator("#find .part-scatter-point[aria-pressed=true]");
/** What the model reads: about 1,300 tokens. */
const READ = Array.from({ length: 130 }, (_, i) => `The ${1900 + i} film was made in ${(i * 37) % 90} days .`).join(
  "\n",
);
const wanted = (label) => page.getByRole("group", { name: "Wanted" }).getByLabel(label);

test("a target that is none cannot be searched for; a search grows as one looks, and stopped keeps what there is", async () => {
  await openDemo(page);
  await page.selectOption("#limit", QUICK);
  await page.fill("#find-target", "0.5");
  assert.equal(await shut(), "true");
  await wanted("no more perplexity lost").check({ force: true });
  await page.getByRole("spinbutton", { name: "Perplexity may rise by, in percent" }).fill("0");
  assert.equal(await shut(), "true");
  await page.fill("#find-target", "0.5");
  assert.equal(await shut(), "false");
  await wanted("times smaller").check({ force: true });
  assert.equal(await shut(), "true", "each kind of target keeps its number");
  await page.fill("#find-target", "8");
  assert.equal(await shut(), "false");
  await wanted("kilobytes").check({ force: true });
  assert.equal(await page.inputValue("#find-target"), "952", "an eighth of the demo's 7.6 MB, to begin with");
  await wanted("divergence").check({ force: true });
  assert.deepEqual([await page.inputValue("#find-target"), await shut()], ["0.01", "false"]);
  await wanted("times smaller").check({ force: true });
  await page.getByLabel("quick: measures").check();
  // A short text of its own: it is read again for every recipe that is tried.
  await page.getByRole("group", { name: "The model reads" }).getByLabel("a text that I type").check({ force: true });
  await page.fill("#calibration-text", READ);
  await page.locator("#find").getByLabel("entropy-coded").check();
  await page.click("#find-now");
  await page.locator("#find [role=progressbar]").waitFor();
  assert.equal(await page.getAttribute("#compress-now", "aria-disabled"), "true", "one work at a time");
  assert.equal(await page.locator("#compress [role=progressbar]").count(), 0, "and one place where it is told of");
  const live = page.locator("#measurements").getByText(/^By the \d+ of \d+ tensors/);
  await live.waitFor();
  const first = numberIn((await live.textContent()).slice("By the ".length));
  await page.waitForFunction(
    (n) => Number(/By the (\d+)/.exec(document.querySelector("#measurements").textContent)?.[1]) > n,
    first,
  );
  assert.equal(await front().getByRole("button").count(), 0, "not to be taken before it is known what will be found");
  await page.click("#find-cancel");
  const kept = page.locator("#find").getByText(/What is measured so far is kept, and is below: \d+ of \d+ tensors/);
  await kept.waitFor();
  assert.equal(await shut(), "false");
  assert.deepEqual([await page.locator("#found").count(), await page.locator("#compare").count()], [0, 0]);
  // A recipe by the tensors that are measured, with the others as they are at the most.
  await front().getByRole("button").first().press("Enter");
  await page.locator("#planned .sum").filter({ hasText: "searched-" }).waitFor();
  assert.match(await words("#predicted"), /^predicted KL divergence [\d.]+ /);
});

test("a size is reached; what was found is compressed, measured on another text, and can be taken", async (t) => {
  await page.click("#find-now");
  await page.locator("#found").waitFor();
  await page.locator("#card").waitFor();
  const found = await words("#found");
  t.diagnostic(found);
  assert.match(found, /^Found 8\.\d\dx, \d+ kB in the file and [\d.]+ [kM]B in memory: perplexity [+−]\d/);
  assert.doesNotMatch(found, /missed/);
  assert.match(await words("#headline"), /→ \d+ kB, [\d.]+ [kM]B in memory/);
  const file = await downloaded(page, "#download");
  assert.match(file.name, /searched-[78]\.\d\dx\.safetensors$/);
  assert.ok(file.bytes.length < 1.05 * (7_611_520 / 8), `${file.bytes.length} bytes`);
  // The same search on the command line, with the texts that the page offers to save.
  assert.match(
    await copyable(page, "Command line"),
    /statepress search examples\/demo\/itera-tiny -o \S+ --budget 8x --fast --coded --calibrate calibration\.txt\n/,
  );
  assert.match(
    await copyable(page, "Node script"),
    /const \{ compressed \} = await search\(checkpoint, target, \{ calibration, fast: true, coded: true \}\)/,
  );
});

test("tensors of the run are ranked by what was measured of each as it is stored", async () => {
  const costs = async (area) => numberIn(/KL ([^;]+)/.exec(await area.getAttribute("aria-label"))[1]);
  const worst = await words("#worst");
  const bars = page.getByRole("list", { name: "Tensors by what each alone costs the model" });
  const numbers = (await bars.locator(".part-bars-text").allTextContents()).map(numberIn);
  assert.equal(numbers.length, 10);
  assert.deepEqual(
    numbers,
    [...numbers].sort((a, b) => b - a),
  );
  assert.match(await words("#compare"), /with this tensor alone rounded as in this run, nats a token/);
  const inMap = (step) => page.locator(step).locator(`[role=option][aria-label^="${worst}: "]`);
  assert.equal(await costs(inMap("#measurements")), numbers[0]);
  // In step 2 as well, and there is nothing left to be measured for it.
  await page.getByRole("radio", { name: /^by damage: searched-/ }).check({ force: true });
  assert.equal(await costs(inMap("#understand")), numbers[0]);
  assert.match(await words("#understand-damage"), /Which tensors matter is measured, as searched-\S+ stores them/);
  assert.equal(await page.locator("#compare-damage").count(), 0);
  const report = `${(await downloaded(page, "#report-html")).bytes}`;
  assert.match(report, /Tensors that matter most/);
  assert.ok(report.indexOf(worst) > report.indexOf("Tensors that matter most"));
});

test("the map says what each tensor costs; one that is stored otherwise is a rule, and what is predicted follows", async () => {
  const map = page.locator("#measurements .part-treemap");
  const area = map.getByRole("option", { name: /^layers\.1\.ssm\.out_proj\.weight: [\d.]+ bits, KL / });
  await area.focus();
  await page.keyboard.press("Enter");
  const panel = page.getByRole("group", { name: "layers.1.ssm.out_proj.weight" });
  assert.ok((await panel.getByRole("radio").count()) > 5);
  const costs = await panel
    .locator("tbody tr")
    .evaluateAll((rows) =>
      rows.map((row) => [
        row.querySelector("input").value,
        row.cells[2].textContent,
        row.querySelector("input").checked,
      ]),
    );
  const [[, , isCoarsest], chosen] = [costs[0], costs.find(([, , checked]) => checked)];
  assert.ok(!isCoarsest && chosen, JSON.stringify(costs));
  assert.match(await area.getAttribute("aria-label"), new RegExp(`: ${chosen[0]}, KL `));
  const predicted = async () => numberIn((await words("#predicted")).slice("predicted KL divergence ".length));
  const [before, file] = [await predicted(), await words("#planned .sum")];
  await panel.getByRole("radio", { name: costs[0][0], exact: true }).check();
  await page.locator("#planned .sum").filter({ hasText: "my-searched-" }).waitFor();
  const rise = numberIn(costs[0][1]) - numberIn(chosen[1]);
  assert.ok(
    Math.abs((await predicted()) / (before + rise) - 1) < 0.01,
    `${before} + ${rise}, not ${await predicted()}`,
  );
  assert.notEqual(await words("#planned .sum"), file);
  await area.and(page.getByRole("option", { name: `: ${costs[0][0]}, KL ` })).waitFor();
  assert.match(await chosenPoint().getAttribute("aria-label"), /^chosen now: /);
  // An ordinary recipe with a rule of its own, which is undone as one.
  assert.equal(await page.inputValue("#match-0"), "layers.1.ssm.out_proj.weight");
  for (const colorScheme of ["dark", "light"]) {
    await page.emulateMedia({ colorScheme });
    await page.mouse.move(0, 0);
    for (const colours of ["role", "damage as chosen"]) {
      await map.locator("xpath=..").getByRole("radio", { name: colours }).check({ force: true });
      assert.deepEqual(await seriousIn(page), [], `${colorScheme}, ${colours}`);
    }
  }
  await page.setViewportSize({ width: 390, height: 900 });
  assert.equal(await overflow(page), "");
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.click("#undo-recipe");
  await page.waitForFunction(
    (old) => document.querySelector("#planned .sum").textContent.replace(/\s+/g, " ").trim() === old,
    file,
  );
});

test("another point of the front is another recipe, planned at once; undoing goes back to what was found", async () => {
  const points = front().getByRole("button");
  assert.ok((await points.count()) > 5, `${await points.count()} points`);
  assert.match(
    await chosenPoint().getAttribute("aria-label"),
    /^[78]\.\d\dx, [\d.]+ [kM]B: KL /,
    "what was found is among them",
  );
  assert.match(
    await points.last().getAttribute("aria-label"),
    /^what was found, as measured: 8\.\d\dx, \d+ kB in the file/,
  );
  const [found, smallest] = [await words("#planned .sum"), await points.first().getAttribute("aria-label")];
  await points.first().press("Enter");
  await page.waitForFunction(
    (old) => document.querySelector("#planned .sum").textContent.replace(/\s+/g, " ").trim() !== old,
    found,
  );
  assert.equal(await chosenPoint().getAttribute("aria-label"), smallest);
  const times = (text) => Number(/([\d.]+)x/.exec(text)[1]);
  assert.equal(times(await words("#planned .sum")), times(smallest), "what is planned is what was chosen");
  assert.ok(times(smallest) > 8, smallest);
  assert.match(await words("#planned"), /Its codes are entropy-coded: this is the size of the file/);
  await page.click("#undo-recipe");
  await page.waitForFunction(
    (old) => document.querySelector("#planned .sum").textContent.replace(/\s+/g, " ").trim() === old,
    found,
  );
  assert.deepEqual(problems, []);
});

test("a loss that no recipe has is refused at once, for nothing is measured again; a built-in recipe is only that", async () => {
  await wanted("no more perplexity lost").check({ force: true });
  await page.fill("#find-target", "0.0000001");
  await page.click("#find-now");
  await page.locator("#find [role=alert]").filter({ hasText: "allowed: from" }).waitFor({ timeout: 20_000 });
  assert.match(await words("#find"), /What was measured is kept/);
  await choose(page, "nf4");
  await planned(page, "nf4");
  assert.equal(await page.getByRole("switch", { name: "Make up for rounding errors" }).isChecked(), false);
  // What it rounds in another way than was measured is ranked by what each tensor costs at three bits, and says so.
  await compress(page);
  assert.match(
    await words("#compare"),
    /alone rounded to about 3 bits, nats a token.*in another way than was measured/,
  );
  assert.deepEqual(problems, []);
});

test("which tensors matter is measured with a button, and what is measured when it is stopped is there", async () => {
  await openDemo(page);
  await page.click("#understand-measure");
  const cancel = page.getByRole("button", { name: /^Cancel measuring/ });
  await cancel.click();
  await page.locator("#understand-measure[aria-disabled=false]").filter({ hasText: "Measure which" }).waitFor();
  await compress(page, "nf4");
  await page
    .locator("#compare")
    .getByRole("heading", { name: /^The largest tensors|^Which tensors matter most/ })
    .waitFor();
  await page.click("#compare-measure");
  await page.locator("#compare-damage [role=progressbar]").waitFor();
  await page.locator("#worst").waitFor();
  assert.match(await words("#compare-damage"), /Of \d+ tensors it is not measured yet how much they matter/);
  await page.click("#compare-measure-cancel");
  await page.locator("#compare-measure[aria-disabled=false]").waitFor();
  await page.check("#way-find");
  assert.match(await words("#find"), /What is measured so far is kept, and is below: \d+ of \d+ tensors/);
  assert.deepEqual(await seriousIn(page), []);
});

test("a target of the package is one click: what was asked for stands in the form, and in the command line", async (t) => {
  await page.check("#way-find");
  const presets = page.getByRole("group", { name: "Find at once" }).getByRole("button");
  assert.deepEqual(
    (await presets.allTextContents()).map((text) => text.replace(/\s+/g, " ").trim()),
    PRESETS.map(({ name, search }) => `${name} at most ${search.target.maxLoss} % of perplexity lost`),
  );
  await page.click("#find-auto-small");
  await page.locator("#find [role=progressbar]").waitFor();
  assert.equal(await page.getAttribute("#find-auto-small", "aria-disabled"), "true");
  await page.locator("#find-auto-small[aria-disabled=false]").waitFor();
  t.diagnostic(await words("#found"));
  assert.match(
    await words("#found"),
    /^Found [\d.]+x, \d+ kB in the file and [\d.]+ [kM]B in memory: perplexity [+−]\d/,
  );
  assert.equal(await page.inputValue("#find-target"), "8");
  assert.equal(await wanted("no more perplexity lost").isChecked(), true);
  for (const label of ["entropy-coded", "prune the step size first"]) {
    assert.equal(await page.locator("#find").getByLabel(label).isChecked(), true, label);
  }
  assert.match(
    await copyable(page, "Command line"),
    / --max-loss 8 --fast --coded --prune delta=4 --calibrate calibration\.txt\n/,
  );
  assert.deepEqual(problems, []);
});

test("any structure that the model has can be pruned first; what was measured of it otherwise pruned does not hold", async () => {
  await page.click("#find-pruning summary");
  await page.locator("#first-inner").fill("0.75");
  await page.locator("#find-pruning summary").filter({ hasText: "keep 75 % of inner channels" }).waitFor();
  await page.locator("#first-size b").waitFor();
  const params = numberIn(await words("#first-size b"));
  assert.ok(params > 1_000_000 && params < 1_800_000, `${params}`);
  assert.equal(await page.locator("#first-attentionHead").count(), 0, "it has none");
  assert.match(await words("#find"), /measured of the model pruned otherwise \(delta=4\)/);
  await page.click("#find-now");
  await page
    .locator("#measurements")
    .getByText(/^It grows as tensors are measured/)
    .waitFor();
  await page
    .locator("#measurements")
    .getByText(/^By the \d+ of \d+ tensors/)
    .waitFor();
  await page.click("#find-cancel");
  await page.locator("#find-now[aria-disabled=false]").waitFor();
  assert.doesNotMatch(await words("#find"), /pruned otherwise/);
  await front().getByRole("button").first().press("Enter");
  await page.locator("#predicted").waitFor();
  await page.locator("#first-inner").fill("1");
  await page.locator("#find").getByText("pruned otherwise (delta=4,inner=0.75)").waitFor();
  assert.deepEqual(await seriousIn(page), []);
  assert.deepEqual(problems, []);
});

test("without a tokenizer, and for a model that cannot be run, it says why", async () => {
  await openFiles(page, [fixture("fixtures/il_moe.safetensors")]);
  await page.check("#way-find");
  assert.match(await words("#find"), /cannot be searched for, because the model has to read a text.*tokenizer\.json/);
  assert.equal(await page.getAttribute("#find-auto-close", "aria-disabled"), "true");
  assert.equal(await shut(), "true");
});
