// Another model beside the one that is open: dropped or chosen as B, measured on the same text, and refused in words.

import assert from "node:assert/strict";
import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch } from "../support/browser.mjs";
import { cli, DEMO, fixture, HELDOUT, scratch } from "../support/node.mjs";
import {
  advised,
  compress,
  continueBoth,
  copyable,
  downloaded,
  drop,
  FILES,
  numberIn,
  openFiles,
  QUICK,
} from "../support/playground.mjs";

const folder = scratch();
const SHOTS = process.env.SHOTS;
let session;

before(async () => {
  session = await launch();
});
after(() => session.close());

async function opened() {
  const { page, problems } = await session.open();
  await page.setViewportSize({ width: 1280, height: 900 });
  await openFiles(page);
  await page.selectOption("#limit", QUICK);
  await page.getByRole("group", { name: "Original runs on" }).getByRole("radio", { name: "CPU" }).check();
  return { page, problems };
}

const idle = (page) => page.locator("#cancel[aria-disabled=true]").first().waitFor();
const cells = (page, id) => page.locator(`#${id} td`).allTextContents();
const shot = (page, name) => SHOTS && page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true });

/** Says of the files that were dropped what they are for. */
async function asB(page) {
  await page.locator("#compare-as-b[aria-disabled=false]").click();
  await page.locator("#offer").waitFor({ state: "detached" });
}

/** The micro model, whose vocabulary and tokenizer are others. */
const MICRO = ["itera_lite_micro_distilled.pt", "tokenizer_2000.json"].map((name) => fixture(`itera-lite/${name}`));

test("a copy in fewer bits is compared token by token, with the numbers of the command line", async () => {
  const small = join(folder, "small.safetensors");
  const made = await cli(["compress", DEMO, "-o", small, "--recipe", "int8", "--quiet"]);
  assert.equal(made.code, 0, made.stderr);
  const { page, problems } = await opened();
  await drop(page, [small]);
  await page.locator("#offer").filter({ hasText: "small.safetensors" }).waitFor();
  await shot(page, "offer");
  await asB(page);
  await page.locator("#card").waitFor();
  await idle(page);
  assert.match(await page.textContent("#compare-title"), /^model beside small, 3\.82x smaller$/);
  assert.match(await page.textContent("#drop-title"), /^Opened: model$/);

  const args = ["--text", HELDOUT, "--limit", QUICK, "--backend", "cpu", "--tokenizer", FILES[2], "--offset", "detect"];
  const { json } = await cli(["compare", DEMO, small, ...args, "--json", "--quiet"]);
  const [size, first, kl, perplexity] = await page.locator("#headline dd:not(.note)").allTextContents();
  assert.equal(numberIn(size), Number(json.bytes.ratio.toFixed(2)));
  assert.equal(numberIn(first), Number((100 * json.top1Agreement).toFixed(1)));
  assert.ok(Math.abs(numberIn(kl) / json.kl.mean - 1) < 1e-2, `${kl}, ${json.kl.mean}`);
  assert.equal(numberIn(perplexity), Number(json.perplexityChange.toFixed(3)));
  assert.deepEqual(await cells(page, "models-family"), ["itera-lite", "itera-lite"]);
  // It came without a tokenizer, and has as many tokens as the first: so it speaks with the first one's.
  assert.deepEqual(await cells(page, "models-tokenizer"), ["tokenizer.json", "tokenizer.json"]);
  await continueBoth(page);
  assert.match(await page.textContent("#texts"), /A: model[\s\S]*B: small/);
  assert.equal(await page.locator("#texts .text span:not(.soft)").count(), 96);
  await shot(page, "beside-alike");

  // A run of a recipe stands in the same list, and each can be gone back to.
  await compress(page, "nf4");
  const names = await page.locator("#runs tbody tr td:nth-child(2)").allTextContents();
  assert.deepEqual(names.sort(), ["nf4", "small"]);
  await page.locator("#runs tbody tr").filter({ hasText: "small" }).click();
  assert.match(await page.textContent("#compare-title"), /^model beside small, 3\.82x smaller$/);
  assert.deepEqual(problems, []);
  await page.close();
});

test("a model of other tokens is compared by the text, and each speaks in its own", async () => {
  const { page, problems } = await opened();
  await compress(page, "int8");
  await page.setInputFiles("#files-b", MICRO);
  await page.locator("#card-bits-per-byte").waitFor();
  await idle(page);

  const args = [
    "--tokenizer",
    FILES[2],
    "--tokenizer-b",
    MICRO[1],
    "--text",
    HELDOUT,
    "--limit",
    QUICK,
    "--backend",
    "cpu",
  ];
  const { json, stderr } = await cli(["compare", DEMO, MICRO[0], ...args, "--offset", "detect", "--json"]);
  assert.match(stderr, /compared by text: the vocabularies differ: 8000 and 2000 tokens/);
  assert.equal(json.kl, undefined);
  const shown = await cells(page, "card-bits-per-byte");
  assert.deepEqual(shown, [json.a.bitsPerByte.toFixed(4), json.b.bitsPerByte.toFixed(4)]);
  assert.equal((await cells(page, "card-perplexity"))[1].split(" ")[0], json.b.perplexity.toFixed(3));
  assert.deepEqual(await cells(page, "card-kl-mean"), ["", "not defined"]);
  const headline = await page.textContent("#headline");
  assert.match(headline, /not defined/);
  assert.match(headline, /because the vocabularies differ: 8000 and 2000 tokens/);
  const [size, bits] = await page.locator("#headline dd:not(.note)").allTextContents();
  assert.equal(numberIn(size), Number(json.bytes.ratio.toFixed(2)));
  assert.equal(numberIn(bits), Number(json.bitsPerByteChange.toFixed(2)));
  assert.deepEqual(await cells(page, "models-vocabulary"), ["8,000", "2,000"]);
  assert.equal(await page.locator("#drift").count(), 0);

  await continueBoth(page);
  assert.match(await page.textContent("#compare"), /Each adds tokens of its own kind: 48 of the one, 48 of the other/);
  assert.equal(await page.locator("#texts .differs").count(), 0);
  await shot(page, "beside-apart");

  // New settings: the old numbers are told apart, and measuring again is a run of its own.
  await page.selectOption("#limit", "20000");
  await page.locator("#compare").filter({ hasText: "another amount of text. Press “Measure both again”" }).waitFor();
  await page.click("#measure-again");
  await page.waitForFunction(() => document.querySelectorAll("#runs tbody tr").length === 3);
  await page.locator("#card-bits-per-byte").waitFor();
  await idle(page);

  assert.match(
    await copyable(page, "Command line"),
    /^\.\/pkg-scripts\/statepress compare .* --tokenizer-b tokenizer_2000\.json/,
  );
  assert.match(await copyable(page, "Node script"), /compareByText\(a, b, /);
  const report = JSON.parse((await downloaded(page, "#report-json")).bytes.toString("utf8"));
  assert.equal(report.other.name, "itera_lite_micro_distilled");
  assert.equal(report.compare.why, "the vocabularies differ: 8000 and 2000 tokens");
  const { bytes, name } = await downloaded(page, "#report-html");
  assert.equal(name, "model-and-itera_lite_micro_distilled.report.html");
  assert.match(bytes.toString("utf8"), /bits per byte of text/);
  await page.click("#forget");
  await page.waitForFunction(() => document.querySelectorAll("#runs tbody tr").length === 2);
  assert.deepEqual(problems, []);
  await page.close();
});

test("what is no checkpoint, cannot be run or has no tokenizer is refused in words; the first stays", async () => {
  const { page, problems } = await opened();
  const problem = page.locator("#open-problem");
  const notes = join(folder, "notes.safetensors");
  writeFileSync(notes, "just some words");
  await drop(page, [notes]);
  await asB(page);
  await problem.filter({ hasText: "notes.safetensors could not be opened; model stays open" }).waitFor();
  await drop(page, [fixture("fixtures/reject.whole_module.pt")]);
  await asB(page);
  await problem.filter({ hasText: "Sequential" }).waitFor();
  assert.equal(await page.locator("#compare").count(), 0, "nothing stands beside it");

  // Opens, and holds no model that is known.
  await drop(page, [fixture("quant/half.safetensors")]);
  await asB(page);
  await page.locator("#compare").filter({ hasText: "Set side by side, not measured" }).waitFor();
  assert.match(await page.textContent("#compare"), /Of B, the model cannot be run/);
  assert.deepEqual(await cells(page, "models-tokenizer"), ["tokenizer.json", "none"]);
  assert.equal(await page.locator("#try").count(), 0);
  await shot(page, "beside-hindered");

  // A Transformer that came without its tokenizer.
  await drop(page, [fixture("fixtures/tf.safetensors")]);
  await asB(page);
  await page.locator("#compare").filter({ hasText: "Drop each model with its tokenizer.json" }).waitFor();
  assert.deepEqual(await cells(page, "models-family"), ["itera-lite", "transformer"]);
  assert.match(await page.textContent("#compare"), /Drop that of tf, together with its weights, on this page/);

  // Neither, by the keyboard: nothing happens.
  await drop(page, [fixture("fixtures/tf.safetensors")]);
  await page.locator("#offer").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "offer-title");
  await page.keyboard.press("Escape");
  await page.locator("#offer").waitFor({ state: "detached" });
  assert.equal(await page.locator("#runs tbody tr").count(), 2);
  assert.match(await page.textContent("#drop-title"), /^Opened: model$/);

  // Opened instead: the runs go with what was open.
  const other = join(folder, "other.safetensors");
  copyFileSync(FILES[0], other);
  await drop(page, [other, FILES[1], FILES[2]]);
  await page.click("#open-instead");
  await advised(page);
  assert.match(await page.textContent("#drop-title"), /^Opened: other$/);
  assert.equal(await page.locator("#compare").count(), 0);
  assert.deepEqual(problems, []);
  await page.close();
});
