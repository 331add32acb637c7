// A second text in the playground: optional, another one than the first, on the card and in what is taken away.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { qualityCard } from "statepress";
import { HELDOUT } from "../support/node.mjs";
import {
  choose,
  compress,
  copyable,
  downloaded,
  openDemo,
  overflow,
  QUICK,
  seriousIn,
  walkthrough,
  wordsOf,
} from "../support/playground.mjs";

const { page, problems } = await walkthrough();
const words = (selector) => wordsOf(page, selector);
const shut = () => page.getAttribute("#compress-now", "aria-disabled");
const second = page.getByRole("group", { name: "Second text to measure on" });
const take = (label) => second.getByRole("radio", { name: label }).check({ force: true });
/** Of another kind than articles: about 700 tokens. */
const TALE = Array.from({ length: 60 }, (_, i) => `" I saw ${i} of them , " she said , " and then no more . "`).join(
  "\n",
);

test("a second text that is missing, or the first one again, stops until it is put right", async () => {
  await openDemo(page);
  await page.selectOption("#limit", QUICK);
  await choose(page, "nf4");
  assert.equal(await shut(), "false", "nobody has to give one");
  await take("a text that I type");
  assert.match(await words("#compress"), /The second text is not there yet/);
  assert.equal(await shut(), "true");
  await page.fill("#second-text", readFileSync(HELDOUT, "utf8"));
  assert.match(await words("#compress"), /The second text is the one that is measured on already/);
  assert.equal(await shut(), "true");
  await page.fill("#second-text", TALE);
  assert.equal(await shut(), "false");
  await page.setViewportSize({ width: 390, height: 900 });
  assert.equal(await overflow(page), "");
  await page.setViewportSize({ width: 1280, height: 900 });
});

test("both texts are on the card, each with what it says; so they are in the report and the commands", async () => {
  await compress(page);
  assert.match(
    await words("#protocol"),
    /^Measured on heldout\.txt: .*\. Second text: a text that you typed, read alike\.$/,
  );
  assert.match(await words("#card-second-kl-mean"), /^second text: KL divergence, mean \(nats\).*leans on.* \d/);
  for (const scheme of ["dark", "light"]) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.mouse.move(0, 0);
    assert.deepEqual(await seriousIn(page), [], scheme);
  }
  const { bytes } = await downloaded(page, "#report-json");
  const { compare, secondText } = JSON.parse(bytes);
  assert.equal(secondText, "a text that you typed");
  assert.ok(compare.second.tokens > 400 && compare.second.kl.mean > 0 && compare.second.kl.mean !== compare.kl.mean);
  const shown = new Map(qualityCard(compare).map(({ id, compressed }) => [id, compressed]));
  assert.match(
    await words("#card-second-change"),
    new RegExp(`${shown.get("second-change").replace(/^[+-]/, "[+−]").replaceAll(".", "\\.")}$`),
  );
  const html = `${(await downloaded(page, "#report-html")).bytes}`;
  assert.match(html, /second text: perplexity change/);
  assert.match(html, /Second text: a text that you typed/);
  assert.match(await copyable(page, "Command line"), / --text heldout\.txt --second-text second\.txt /);
  assert.match(await copyable(page, "Node script"), /compare\(checkpoint, compressed, \{ text, second, /);
  const file = await downloaded(page, "#second-file");
  assert.deepEqual([file.name, `${file.bytes}`], ["second.txt", TALE]);
  assert.deepEqual(problems, []);
});

test("without it the numbers are said to be of other settings, and measured once more they have none", async () => {
  await take("not on another");
  assert.match(await words("#compare"), /another second text/);
  await compress(page);
  assert.equal(await page.locator("#card-second-kl-mean").count(), 0);
  assert.doesNotMatch(await words("#protocol"), /second text/);
  await take("a text file");
  await page.setInputFiles("#second-files", [{ name: "tale.txt", mimeType: "text/plain", buffer: Buffer.from(TALE) }]);
  await page.waitForFunction(() => document.querySelector("#compress")?.textContent.includes("tale.txt"));
  assert.match(await words("#compress"), /tale\.txt, \d+(,\d+)? characters/);
  assert.equal(await shut(), "false");
  assert.deepEqual(problems, []);
});
