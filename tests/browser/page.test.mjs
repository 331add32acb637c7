// The smallest page in Chromium, from drop to download: its bytes and its numbers are those of the command line.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch } from "../support/browser.mjs";
import { cli, DEMO, fixture, HELDOUT, scratch } from "../support/node.mjs";

const folder = scratch();
const files = ["model.safetensors", "config.json", "tokenizer.json"].map((name) => join(DEMO, name));
let session;

before(async () => {
  session = await launch();
});
after(() => session.close());

/** Opens the demo's files and waits until the page offers recipes. */
async function opened(paths = files) {
  const { page, problems } = await session.open("/examples/page/");
  await page.setInputFiles("#files", paths);
  await page.waitForSelector("#compressing:not([hidden])");
  return { page, problems };
}

test("this Chromium has a WebGPU adapter", async () => {
  const { page } = await session.open("/examples/page/");
  const adapter = await page.evaluate(async () => {
    const found = await navigator.gpu?.requestAdapter();
    return found ? found.info.vendor || found.info.description || "unnamed" : null;
  });
  assert.ok(adapter, "no adapter: are the flags in tests/support/browser.mjs still right for this Chromium?");
  await page.close();
});

test("from files to download: the bytes and the numbers of the command line", async () => {
  const { page, problems } = await opened([...files, HELDOUT]);
  assert.match(await page.textContent("#facts"), /itera-lite, 1,902,880 parameters/);
  await page.selectOption("#recipe", "mixed");
  await page.click("#compress");
  await page.waitForSelector("#card:not([hidden])");

  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#download")]);
  assert.equal(download.suggestedFilename(), "mixed.safetensors");
  const out = join(folder, "mixed.safetensors");
  const compressed = await cli(["compress", DEMO, "-o", out, "--recipe", "mixed", "--json"]);
  assert.equal(compressed.code, 0, compressed.stderr);
  assert.ok(readFileSync(await download.path()).equals(readFileSync(out)), "the downloaded bytes are the command's");

  const { json } = await cli(["compare", DEMO, out, "--text", HELDOUT, "--json"]);
  const cells = async (id) => page.locator(`#card-${id} td`).allTextContents();
  const perplexity = (it) => it.perplexity.toFixed(3);
  assert.deepEqual(
    await cells("bytes"),
    [json.bytes.a, json.bytes.b].map((n) => n.toLocaleString("en")),
  );
  assert.deepEqual(await cells("ratio"), ["", `${json.bytes.ratio.toFixed(2)}x`]);
  // Chromium may run another build than Node: all builds compute the same numbers.
  const shown = (await cells("perplexity")).map((text) => text.split(" ")[0]);
  assert.deepEqual(shown, [json.a, json.b].map(perplexity));
  for (const [id, value] of [
    ["kl-mean", json.kl.mean],
    ["kl-median", json.kl.median],
    ["kl-p99", json.kl.p99],
    ["kl-max", json.kl.max],
  ]) {
    assert.deepEqual(await cells(id), ["", value.toExponential(2)], id);
  }
  assert.deepEqual(await cells("verdict"), ["", json.verdict.result]);
  assert.match(await page.textContent("#protocol"), /heldout\.txt: \d+ windows of 256 tokens, predicting 1 ahead, cpu/);
  assert.deepEqual(problems, []);
  await page.close();
});

test("the GPU measures and writes in the page, and is named", async () => {
  const short = join(folder, "short.txt");
  // One window and a little: software adapters are slow.
  writeFileSync(short, readFileSync(HELDOUT, "utf8").slice(0, 1500));
  const { page, problems } = await opened([...files, short]);
  page.setDefaultTimeout(600_000);
  await page.selectOption("#recipe", "nf4");
  await page.selectOption("#backend", "cpu");
  const perplexities = async () => {
    await page.click("#compress");
    await page.waitForSelector("#card:not([hidden])");
    const cells = await page.locator("#card-perplexity td").allTextContents();
    return cells.map((text) => Number.parseFloat(text));
  };
  const onCpu = await perplexities();
  assert.match(await page.textContent("#protocol"), /, cpu\.$/);
  assert.equal(await page.textContent("#computes"), "Computing on cpu; as asked.");
  await page.selectOption("#backend", "webgpu");
  const onGpu = await perplexities();
  assert.match(await page.textContent("#protocol"), /, webgpu: .+\.$/);
  // The adapter, what it offers, and why it was taken.
  assert.match(
    await page.textContent("#computes"),
    /^Computing on webgpu: .+ with .*timestamp-query.*; as asked; it has to agree with the CPU on a small case of every model\.$/,
  );
  const halves = await page.locator("#card-backend td").allTextContents();
  assert.ok(
    halves.every((half) => half.startsWith("webgpu: ")),
    `${halves}`,
  );
  for (const [i, perplexity] of onCpu.entries()) {
    assert.ok(Math.abs(onGpu[i] / perplexity - 1) < 5e-4, `${onGpu[i]} on the GPU, ${perplexity} on the CPU`);
  }

  await page.click("#try button");
  await page.waitForFunction(() => {
    const texts = [...document.querySelectorAll("#texts dd")].map((it) => it.textContent);
    return texts.length === 2 && texts.every((text) => text.length > "The history of".length + 20);
  });
  const names = await page.locator("#texts dt").allTextContents();
  assert.match(names[0], /^original, webgpu: /);
  assert.match(names[1], /^compressed, webgpu: /);
  assert.equal(await page.textContent("#try-problem"), "");
  assert.deepEqual(problems, []);
  await page.screenshot({ path: join(folder, "gpu.png"), fullPage: true });
  await page.close();
});

test("dropping works as picking does", async () => {
  const { page } = await session.open("/examples/page/");
  const contents = files.map((path) => readFileSync(path).toString("base64"));
  const transfer = await page.evaluateHandle(
    (list) => {
      const data = new DataTransfer();
      for (const [name, base64] of list) {
        data.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name));
      }
      return data;
    },
    contents.map((base64, i) => [files[i].split("/").at(-1), base64]),
  );
  await page.dispatchEvent("#drop", "drop", { dataTransfer: transfer });
  await page.waitForSelector("#compressing:not([hidden])");
  assert.match(await page.textContent("#planned"), /\d\.\d\dx/);
  await page.close();
});

test("cancelling stops the work, says so, and the next run is complete", async () => {
  const { page, problems } = await opened([...files, HELDOUT]);
  await page.selectOption("#recipe", "nf4");
  await page.click("#compress");
  await page.waitForFunction(() => document.getElementById("stage").textContent.startsWith("compare"));
  await page.click("#cancel");
  await page.waitForFunction(() => document.getElementById("compress-problem").textContent === "Cancelled.");
  assert.ok(await page.locator("#compress").isEnabled());
  assert.ok(await page.locator("#card").isHidden());
  await page.selectOption("#recipe", "int8");
  await page.click("#compress");
  await page.waitForSelector("#card:not([hidden])");
  assert.equal(await page.textContent("#compress-problem"), "");
  assert.deepEqual(problems, []);
  await page.close();
});

test("a bad file is refused in words, at its place, and the page goes on", async () => {
  const { page, problems } = await session.open("/examples/page/");
  await page.setInputFiles("#files", fixture("fixtures/reject.whole_module.pt"));
  const problem = page.locator("#open-problem");
  await problem.filter({ hasText: /\w/ }).waitFor();
  assert.ok(await page.locator("#compressing").isHidden());
  assert.match(await problem.textContent(), /Sequential.*state_dict/s);
  await page.setInputFiles("#files", files.slice(1));
  await problem.filter({ hasText: "no weights among 2 files" }).waitFor();
  await page.setInputFiles("#files", files);
  await page.waitForSelector("#compressing:not([hidden])");
  assert.equal(await problem.textContent(), "");
  assert.deepEqual(problems, []);
  await page.close();
});

test("without a tokenizer the file is still offered, and the missing measurement explained", async () => {
  const { page } = await opened(files.slice(0, 2));
  await page.click("#compress");
  await page.locator("#compress-problem").filter({ hasText: "tokenizer" }).waitFor();
  assert.ok(await page.locator("#download").isVisible());
  assert.ok(await page.locator("#card").isHidden());
  await page.close();
});

test("the demo is one click, by keyboard too, and fits a telephone", async () => {
  const { page } = await session.open("/examples/page/", { viewport: { width: 390, height: 844 } });
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "demo");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#compressing:not([hidden])");
  await page.focus("#compress");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#card:not([hidden])");
  const overflow = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  );
  assert.equal(overflow, 0, "no sideways scrolling");
  await page.close();
});
