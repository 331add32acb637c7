// Choices in the playground: recipes undone and put right, windows, tokenizers, tensors that are looked for, and what is
// said of models that nobody has measured.

import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch } from "../support/browser.mjs";
import { cli, DEMO, fixture, scratch } from "../support/node.mjs";
import {
  advised,
  choose,
  compress,
  downloaded,
  drop,
  FILES,
  numberIn,
  openDemo,
  openFiles,
  pick,
  planned,
  toRules,
  wordsOf,
} from "../support/playground.mjs";

const folder = scratch();
const MAMBA2 = ["model.safetensors", "config.json"].map((name) => fixture(`families/mamba2-groups/${name}`));
let session;
// One page, walked through from test to test.
let page;
let problems;

before(async () => {
  session = await launch();
  ({ page, problems } = await session.open("/", { viewport: { width: 1280, height: 900 } }));
});
after(() => session.close());

const text = (selector) => wordsOf(page, selector);

/** A short text of one's own to measure on. */
async function short(words) {
  await page.getByRole("radio", { name: "my own text" }).check();
  await page.fill("#compress textarea", words);
}

test("the landing's picture has the sizes that the demo comes to, and one click opens it", async () => {
  const shown = await page.locator("#picture li b").allTextContents();
  assert.equal(shown.length, 3);
  await openDemo(page);
  assert.equal(await page.locator("#welcome").count(), 0);
  for (const [i, recipe] of ["none", "int8", "nf4"].entries()) {
    const { json } = await cli(["plan", DEMO, "--recipe", recipe, "--json", "--quiet"]);
    assert.equal(numberIn(shown[i]), Number((json.bytes.after / 1e6).toPrecision(3)), recipe);
  }
});

test("advice keeps to what is wished for", async () => {
  await page.check("#way-built-in");
  const names = () => page.locator("#advice li b.mono").allTextContents();
  const wish = (name) => page.getByRole("group", { name: "What advice keeps to" }).getByLabel(name);
  const fits = (name, isThere) =>
    page.waitForFunction(
      ([name, isThere]) => {
        const names = [...document.querySelectorAll("#advice > li b.mono")].map((it) => it.textContent);
        return names.includes(name) === isThere;
      },
      [name, isThere],
    );
  const before = await names();
  assert.ok(before.includes("nf4") && before.includes("int8"), before.join());
  await wish("Perplexity may rise by").fill("0.3");
  await wish("Perplexity may rise by").blur();
  await fits("nf4", false);
  assert.ok((await names()).includes("int8"), "which loses nothing");
  await wish("Perplexity may rise by").fill("");
  await wish("Kilobytes at most").fill("1200");
  await wish("Kilobytes at most").blur();
  await fits("int8", false);
  assert.ok((await names()).includes("nf4"));
  await wish("Kilobytes at most").fill("");
  await wish("Kilobytes at most").blur();
  await wish("To run on").selectOption("gpu");
  await fits("int8", true);
  await wish("To run on").selectOption("");
  await fits("nf4", true);
});

test("a new rule stands where it decides; one that is put behind a wider one says so, and can be put right", async () => {
  await choose(page, "int8");
  await toRules(page);
  const rules = page.locator("#rules li");
  const before = await rules.count();
  await page.click("#add-rule");
  await planned(page, "my-int8");
  assert.equal(await rules.count(), before + 1);
  const id = await page.evaluate(() => document.activeElement.id);
  assert.match(id, /^match-\d+$/, "what it is about is typed next");
  const at = Number(id.slice("match-".length));
  assert.equal(await page.inputValue(`#${id}`), "embedding.weight");
  await rules
    .nth(at)
    .filter({ hasText: /1 tensor, 1,024,000/ })
    .waitFor();

  // To the end, behind the rules that take it.
  for (let i = at; i < before - 1; i++) await page.click(`#down-${i}`);
  const last = rules.nth(before - 1);
  await last.filter({ hasText: "never reached" }).waitFor();
  await last.getByRole("button", { name: "put this one before it" }).click();
  await page.locator("#rules").filter({ hasNotText: "never reached" }).waitFor();
});

test("recipes are undone step by step, and reset to what is built in", async () => {
  await choose(page, "nf4");
  await toRules(page);
  await page.fill("#match-0", "*.A_log");
  await planned(page, "my-nf4");
  // Typed one after the other, undone as one.
  await page.locator("#match-0").pressSequentially("xyz");
  await page.click("#undo-recipe");
  await planned(page, "nf4");
  await page.selectOption("#otherwise", "fp16");
  await planned(page, "my-nf4");
  await page.getByRole("button", { name: "Reset to nf4 as built in" }).click();
  await planned(page, "nf4");
  assert.equal(await page.getAttribute("#recipe-nf4", "aria-pressed"), "true");
});

test("a text too short for a window is measured in smaller ones, which are offered where that is said", async () => {
  await page.getByRole("group", { name: "Original runs on" }).getByRole("radio", { name: "CPU" }).check();
  await short("The history of the island is long , and its people have fished for centuries . ".repeat(6));
  await compress(page, "int8");
  await page.locator("#work-problem").filter({ hasText: "tokens do not fill one window of 256" }).waitFor();
  await page.click("#smaller-window");
  assert.equal(await page.inputValue("#window"), "64");
  await compress(page);
  assert.equal(await page.textContent("#work-problem"), "");
  assert.match(await page.textContent("#protocol"), /: 1 windows of 64 tokens/);
});

test("the verdict stands in the headline, and what was measured here in the advice", async () => {
  assert.match(await text("#verdict"), /^Success 3\.82x smaller \(success needs 1\.50x\), perplexity [+−]\d+\.\d{3} %/);
  const first = page.locator("#advice li").filter({ hasText: "measured on this model" });
  await first.waitFor();
  const own = /^int8 .* perplexity change \S+ % ± 0\.\d\d, KL \S+ × 10⁻\S+, measured on this model/;
  assert.match((await first.textContent()).replace(/\s+/g, " ").trim(), own);
  const second = await page.locator("#advice li").nth(1).textContent();
  assert.match(second.replace(/\s+/g, " "), /perplexity change \S+ % on this model, as measured for this page/);
  // The button measures the others too, on the same few words.
  await page.click("#measure-recipes");
  await page.locator("#advice li").filter({ hasText: "measured on this model" }).nth(3).waitFor();
  assert.doesNotMatch(await text("#advice"), /as measured for this page|loss unknown/);
});

test("tensors are found by name and role, coloured by what was planned, and looked at beside the map", async () => {
  await page.fill("#find-tensors", "norm layers.1");
  await page
    .locator("#understand")
    .getByText(/^\d tensors of 84$/)
    .waitFor();
  const faded = page.locator(".part-treemap-faded");
  assert.ok((await faded.count()) > 50);
  // Which of them matter is not measured, and nothing is coloured as if it were.
  assert.equal(await page.getByRole("radio", { name: "by damage" }).isDisabled(), true);
  assert.match(await text("#understand-damage"), /Which tensors matter is not measured yet/);
  await page.getByRole("radio", { name: "as planned: int8" }).check();
  const area = page.getByRole("option", { name: /^embedding\.weight: .* int8 by / });
  assert.equal(await area.count(), 1);
  await area.click();
  await page.locator("#tensor dl").waitFor();
  const [map, details] = await Promise.all([
    page.locator(".part-treemap").boundingBox(),
    page.locator("#tensor").boundingBox(),
  ]);
  assert.ok(details.x >= map.x + map.width, "beside it");
  await page.getByRole("radio", { name: "Table" }).check();
  const names = await page.locator("#understand .part-table tbody th").allTextContents();
  assert.ok(names.length > 0 && names.every((name) => /layers\.1\..*norm/.test(name)), names.join());
  await page.fill("#find-tensors", "");
  await page.getByRole("button", { name: "error of weights (1 − cosine), int8" }).click();
  const errors = await page.locator("#understand .part-table tbody tr td:nth-child(8)").allTextContents();
  const numbers = errors.filter(Boolean).map(numberIn);
  assert.deepEqual(
    numbers,
    [...numbers].sort((a, b) => b - a),
    "the largest first",
  );
  await page.getByRole("radio", { name: "Map" }).check();
});

test("runs are taken along as CSV, with the numbers of the card", async () => {
  const { name, bytes } = await downloaded(page, "#runs-csv");
  assert.equal(name, "itera-tiny-runs.csv");
  const [head, ...rows] = bytes.toString("utf8").trim().split("\r\n");
  const at = (column) => head.split(",").indexOf(column);
  assert.equal(rows.length, await page.locator("#runs > .part-table tbody tr").count());
  const last = rows.at(-1).split(",");
  assert.equal(last[at("recipe or model")], "int8");
  const kl = numberIn(await page.locator("#card-kl-mean td").last().textContent());
  assert.equal(Number(Number(last[at("mean KL (nats)")]).toExponential(2)), kl);
});

test("what is measured is there after a reload, as recipe and numbers, until it is forgotten", async () => {
  await page.reload();
  await page.locator("#earlier > summary").click();
  const rows = page.locator("#earlier tbody tr");
  await rows.filter({ hasText: "int8" }).first().locator("button").click();
  await page.getByRole("button", { name: "Take the recipe int8" }).click();
  await page.getByText("The recipe int8 has been taken").waitFor();
  await page.click("#earlier-clear");
  await page.locator("#earlier").waitFor({ state: "detached" });
  await page.reload();
  await page.locator("#demo").waitFor();
  assert.equal(await page.locator("#earlier").count(), 0);
});

test("of a family that was not measured no loss is claimed; without a tokenizer it is said what to do", async () => {
  await openFiles(page, MAMBA2);
  await page.locator("#unmeasured").filter({ hasText: "mamba2" }).waitFor();
  const advice = await text("#advice");
  assert.match(advice, /^int8 .* loss unknown .* by 1 rule INT8 first: /);
  assert.doesNotMatch(advice, /perplexity change|itera/);
  assert.equal(await page.locator("#measure-recipes").count(), 0, "without a tokenizer nothing can be measured");
  await page.locator("#compress").getByText("to be measured it needs its tokenizer").waitFor();
});

test("among several tokenizers the user chooses", async () => {
  const names = ["tokenizer_a.json", "tokenizer_b.json"];
  for (const name of names) copyFileSync(FILES[2], join(folder, name));
  await pick(page, [FILES[0], FILES[1], ...names.map((name) => join(folder, name))]);
  await advised(page);
  await page.locator("#understand").getByText("Which tokenizer is this model's?").waitFor();
  await page.selectOption("#tokenizer-name", "tokenizer_b.json");
  await page.locator("#facts").filter({ hasText: "tokenizer_b.json" }).waitFor();
  await advised(page);
  assert.equal(await page.inputValue("#tokenizer-name"), "tokenizer_b.json");
});

test("among several sets of weights in one file the user chooses", async () => {
  await pick(page, [fixture("cases/pickle/average.pt")]);
  await page
    .locator("#understand")
    .filter({ hasText: "the weights are taken from `model`" })
    .waitFor({ state: "attached" });
  const offered = await page.locator("#weights-path option").allTextContents();
  assert.deepEqual(
    offered.map((it) => it.trim().split(":")[0]),
    ["model", "ema"],
  );
  await page.selectOption("#weights-path", "ema");
  await page
    .locator("#understand")
    .filter({ hasText: "the weights are taken from `ema`" })
    .waitFor({ state: "attached" });
  assert.equal(await page.inputValue("#weights-path"), "ema");
});

test("shards that are dropped together are one model", async () => {
  const shards = [1, 2, 3].map((n) => `model-0000${n}-of-00003.safetensors`);
  const all = [...shards, "model.safetensors.index.json", "config.json"];
  await drop(
    page,
    all.map((name) => fixture(`families/mamba-odd.sharded/${name}`)),
  );
  await page.click("#open-instead");
  await page.locator("#facts").filter({ hasText: "mamba" }).waitFor();
  await advised(page);
  assert.match(await page.textContent("#drop-title"), /^Opened: model$/);
});

test("a model that is not known says that its configuration is not, and what is dropped far down is brought into view", async () => {
  const unknown = join(folder, "unknown.safetensors");
  mkdirSync(folder, { recursive: true });
  const header = JSON.stringify({ a: { dtype: "F32", shape: [64, 64], data_offsets: [0, 16384] } });
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  writeFileSync(unknown, Buffer.concat([length, Buffer.from(header), Buffer.alloc(16384)]));
  await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
  await drop(page, [unknown]);
  await page.click("#open-instead");
  await page.locator("#no-fields").waitFor();
  await page.waitForFunction(() => {
    const box = document.getElementById("understand").getBoundingClientRect();
    return box.top < innerHeight && box.bottom > 100;
  });
});

test("nothing was logged as an error", () => {
  assert.deepEqual(problems, []);
});
