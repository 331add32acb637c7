// The playground makes up for rounding errors: a switch, a text that the model reads, and another one that it is judged by.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { cli, DEMO, fixture, HELDOUT, scratch } from "../support/node.mjs";
import {
  choose,
  compress,
  copyable,
  downloaded,
  drop,
  numberIn,
  openDemo,
  openFiles,
  pick,
  planned,
  QUICK,
  walkthrough,
  wordsOf,
} from "../support/playground.mjs";

const folder = scratch();
/** How little is read: enough to see that it helps, quick on a slow machine. */
const GPTQ = { windows: 4, window: 64, passes: 0, damping: 0.01 };
const { page, problems } = await walkthrough();
const words = (selector) => wordsOf(page, selector);
const switched = () => page.getByRole("switch", { name: "Make up for rounding errors" });
const reads = (label) => page.getByRole("group", { name: "The model reads" }).getByLabel(label);
const judgedBy = (label) => page.getByRole("group", { name: "Measure on" }).getByLabel(label);
const kl = async () => numberIn(await page.locator("#headline dd:not(.note)").nth(2).textContent());

test("the switch is off, turns a recipe into one of one's own and back, and stays when another is picked", async () => {
  await openDemo(page);
  await choose(page, "nf4");
  assert.equal(await switched().isChecked(), false);
  await switched().press("Space");
  await planned(page, "my-nf4");
  assert.equal(await page.getAttribute("#recipe-nf4", "aria-pressed"), "true", "it is nf4 that is compensated");
  await page.click("#recipe-int4");
  await planned(page, "my-int4");
  assert.equal(await switched().isChecked(), true);
  await page.click("#recipe-fp16");
  await planned(page, "my-fp16");
  assert.match(await words("#compensation"), /rounds nothing to codes/);
  assert.equal(await page.getAttribute("#compress-now", "aria-disabled"), "true");
  await page.click("#recipe-nf4");
  await planned(page, "my-nf4");
  await switched().uncheck();
  await planned(page, "nf4");
  await page.click("#recipe-none");
  await planned(page, "none");
  await switched().click({ force: true });
  assert.equal(await switched().isChecked(), false, "nothing is rounded");
  assert.equal(await switched().getAttribute("aria-disabled"), "true");
});

test("a link turns it on, with how it is done; the demo reads its first articles and is judged by the last", async () => {
  const recipes = JSON.parse((await cli(["plan", DEMO, "--recipe", "nf4", "--json"])).stdout);
  const { quantize } = recipes.recipe.steps[0];
  const recipe = {
    version: 1,
    name: "my-nf4",
    steps: [{ quantize: { ...quantize, errorCompensation: "gptq", gptq: GPTQ } }],
  };
  await page.evaluate((value) => {
    location.hash = `#recipe=${encodeURIComponent(value)}`;
  }, JSON.stringify(recipe));
  await planned(page, "my-nf4");
  assert.equal(await switched().isChecked(), true);
  assert.match(await words("#compensation"), /256 tokens of it are read at the most/);
  assert.equal(await reads("first held-out articles").isChecked(), true);
  assert.equal(await judgedBy("its last articles").isChecked(), true);
  assert.equal(await judgedBy("held-out text").first().isDisabled(), true, "half of it is read");
});

test("it comes nearer to the original in as many bytes, and every list says how", async () => {
  await page.selectOption("#limit", QUICK);
  const seen = page.evaluate(
    () =>
      new Promise((resolve) => {
        const labels = new Set();
        const look = () => {
          labels.add(document.querySelector(".part-progress-label")?.textContent.replace(/:.*/, ""));
          if (labels.size > 1 && document.querySelector("#cancel[aria-disabled=true]")) resolve([...labels]);
          else requestAnimationFrame(look);
        };
        look();
      }),
  );
  await compress(page);
  assert.equal(await page.textContent("#work-problem"), "");
  const stages = await seen;
  for (const stage of ["Reading the calibration text", "Compressing"]) assert.ok(stages.includes(stage), stages.join());
  const better = await kl();
  assert.match(await words("#compare-title"), /my-nf4, compensated/);
  assert.match(await words("#runs"), /my-nf4, compensated/);
  assert.match(await words("#compare"), /made up for by what enters them while the model reads 256 tokens/);
  const compensated = numberIn(await words("#headline dd.note"));

  // What it takes to repeat it is there: the commands give the same bytes.
  const [line] = (await copyable(page, "Command line")).split("\n");
  assert.match(line, /--recipe my-nf4\.json --calibrate heldout-first\.txt$/);
  assert.match(await copyable(page, "Node script"), /checkpoint\.compress\(recipe, \{ calibration \}\)/);
  const link = await copyable(page, "Link");
  assert.match(decodeURIComponent(link), /"errorCompensation":"gptq"/);
  assert.ok(link.length < 2000, "the text is in no link");
  const [text, judged, recipe, file, report] = [
    await downloaded(page, "#calibration-file"),
    await downloaded(page, "#text-file"),
    await downloaded(page, "#recipe-json"),
    await downloaded(page, "#download"),
    JSON.parse((await downloaded(page, "#report-json")).bytes),
  ];
  assert.equal(`${text.bytes}${judged.bytes}`, readFileSync(HELDOUT, "utf8"));
  const out = join(folder, "same.safetensors");
  const said = await cli(["compress", DEMO, "-o", out, "--recipe", recipe.path, "--calibrate", text.path, "--json"]);
  assert.equal(said.code, 0, said.stderr);
  assert.ok(readFileSync(out).equals(file.bytes), "the command line gives the same bytes");
  assert.equal(report.calibration, "heldout-first.txt");
  assert.ok(report.compress.findings.some(({ code }) => code === "compensated"));
  assert.match(
    `${(await downloaded(page, "#report-html")).bytes}`,
    /while it reads the first articles of heldout\.txt/,
  );

  await switched().uncheck();
  await page.locator("#reset-recipe").evaluate((button) => button.click());
  await planned(page, "nf4");
  await compress(page);
  assert.ok(better < (await kl()), `${better} with, ${await kl()} without`);
  assert.equal(numberIn(await words("#headline dd.note")), compensated, "weights of the same size");
  assert.equal(await page.getByText("Not drawn, because").count(), 0, "both are judged by the same articles");
});

test("cancelling while the text is read stops it", async () => {
  await switched().check();
  await planned(page, "my-nf4");
  await page.click("#compress-now");
  await page.locator(".part-progress-label").filter({ hasText: "Reading the calibration text" }).waitFor();
  await page.click("#cancel");
  await page.locator("#cancel[aria-disabled=true]").waitFor();
  assert.equal(await words("#work-problem"), "Note: Cancelled.");
});

test("a text of one's own: typed, chosen or dropped, and never the one that it is judged by", async () => {
  await reads("a text that I type").check();
  assert.match(await words("#compress form"), /has to read a text while it is compressed: give it one in step 3/);
  assert.equal(await page.getAttribute("#compress-now", "aria-disabled"), "true");
  const heldout = readFileSync(HELDOUT, "utf8");
  await judgedBy("held-out text").first().check();
  await page.fill("#calibration-text", heldout);
  await page.getByText("judged by the very text").first().waitFor();
  assert.equal(await page.getAttribute("#compress-now", "aria-disabled"), "true");
  await page.fill("#calibration-text", `Some words of my own. ${heldout.slice(3000, 3400)}`);
  await page.getByText("Better take two texts that have nothing in common").first().waitFor();
  assert.equal(await page.getAttribute("#compress-now", "aria-disabled"), "false", "that is only said");

  // What is dropped on the choice of the text is for it, and not for the page.
  const mine = join(folder, "mine.txt");
  writeFileSync(mine, Array.from({ length: 900 }, (_, i) => `The ${i} films of the year were good`).join(" .\n"));
  await drop(page, [mine], "#compensation .calibration-text");
  await page.locator("#compensation").getByText("mine.txt,").waitFor();
  assert.equal(await reads("mine.txt").isChecked(), true);
  assert.equal(await judgedBy("held-out text").first().isChecked(), true);
  assert.equal(await page.locator("#compensation .part-notice").count(), 0);
  await page.setInputFiles("#calibration-files", {
    name: "odd.txt",
    mimeType: "text/plain",
    buffer: Buffer.from([0xff, 0xfe, 0x41]),
  });
  await page.locator("#compensation [role=alert]").filter({ hasText: "odd.txt" }).waitFor();
  assert.equal(await reads("mine.txt").isChecked(), true, "the one that could be read stays");
  // The same file again, to be judged by.
  await pick(page, [mine]);
  await page.getByText("judged by the very text").first().waitFor();
  assert.deepEqual(problems, []);
});

test("without a tokenizer the switch is off, and says why", async () => {
  await openFiles(page, [fixture("fixtures/il_ffn.safetensors")]);
  assert.match(await words("#compress form"), /drop the tokenizer\.json that belongs to it/);
  await switched().uncheck();
  assert.equal(await switched().getAttribute("aria-disabled"), "true");
  await switched().click({ force: true });
  assert.equal(await switched().isChecked(), false);
  assert.match(await words("#compensate-about"), /takes its tokenizer: drop the tokenizer\.json/);
});
