// The playground in Chromium, from drop to download: what it shows and hands out is what the command line says and writes.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { qualityCard, recipes } from "statepress";
import { launch } from "../support/browser.mjs";
import { cli, DEMO, HELDOUT, readSafetensors, scratch } from "../support/node.mjs";
import {
  advised,
  asWritten,
  choose,
  compress,
  continueBoth,
  downloaded,
  drop,
  FILES,
  numberIn,
  openFiles,
  planned,
  QUICK,
  toRules,
} from "../support/playground.mjs";

const folder = scratch();
const weights = readSafetensors(FILES[0]);
let session;
// One page, walked through from test to test as its user would.
let page;
let problems;

before(async () => {
  session = await launch();
  ({ page, problems } = await session.open());
});
after(() => session.close());

/** Runs the command line with --json and wants success. */
async function said(...args) {
  const { code, json, stderr } = await cli([...args, "--json", "--quiet"]);
  assert.equal(code, 0, stderr);
  return json;
}

const facts = () =>
  page.locator("#facts > div").evaluateAll((all) =>
    Object.fromEntries(
      all.map((it) => {
        const value = it.querySelector("dd");
        return [it.querySelector("dt").textContent, value.title || value.textContent];
      }),
    ),
  );

test("dropped files are understood", async () => {
  await drop(page, FILES);
  await advised(page);
  const inspection = await said("inspect", DEMO);
  const shown = await facts();
  assert.equal(shown.family, inspection.family);
  assert.equal(numberIn(shown.parameters), inspection.params);
  assert.equal(numberIn(shown.weights), inspection.bytes);
  assert.equal(numberIn(shown.tensors), inspection.tensors.length);
  assert.equal(shown.tokenizer, "tokenizer.json");
  assert.match(await page.textContent("#drop-title"), /^Opened: model$/);
});

test("picked files take the place of what was open, a text among them is offered to measure on", async () => {
  await openFiles(page, [...FILES, HELDOUT]);
  assert.ok(await page.getByRole("radio", { name: "heldout.txt" }).isChecked());
  assert.equal((await facts()).tensors, "84");
});

test("an assumed field can be set, and undone", async () => {
  const field = page.locator("#field-prediction_offset");
  assert.equal(await field.locator(".badge").textContent(), "assumed");
  await field.locator("input").fill("2");
  await field.getByRole("button", { name: "set" }).click();
  await page.waitForSelector("#field-prediction_offset.given");
  assert.equal(await field.locator("input").inputValue(), "2");
  assert.ok(await page.locator("#offsets").isHidden(), "what was said needs no measuring");
  await field.getByRole("button", { name: "undo" }).click();
  await page.waitForSelector("#field-prediction_offset.assumed");
  assert.equal(await field.locator("input").inputValue(), "1");
  await advised(page);
});

test("a field that makes no sense is refused in words, and the model stays", async () => {
  const field = page.locator("#field-prediction_offset");
  await field.locator("input").fill("many");
  await field.getByRole("button", { name: "set" }).click();
  await page.getByRole("alert").filter({ hasText: 'prediction_offset: "many"' }).waitFor();
  await field.locator("input").fill("99");
  await field.getByRole("button", { name: "set" }).click();
  await page
    .locator("#understand")
    .getByRole("alert")
    .filter({ hasText: /prediction_offset.*99/ })
    .waitFor();
  assert.equal((await facts()).tensors, "84");
});

test("the map and the table show every tensor, and say what is planned for each", async () => {
  const inspection = await said("inspect", DEMO);
  const own = inspection.tensors.filter(({ buffer, tiedTo }) => !buffer && tiedTo === undefined);
  const areas = await page
    .locator(".part-treemap")
    .getByRole("option")
    .evaluateAll((all) => all.map((it) => it.ariaLabel));
  assert.equal(areas.length, own.length);
  for (const { name } of own)
    assert.ok(
      areas.some((title) => title.startsWith(`${name}: `)),
      name,
    );

  await choose(page, "mixed");
  await page.getByRole("radio", { name: "as planned: mixed" }).check();
  const plan = await said("plan", DEMO, "--recipe", "mixed");
  const titles = await page
    .locator(".part-treemap")
    .getByRole("option")
    .evaluateAll((all) => all.map((it) => it.ariaLabel));
  // Buffers are in the plan and not in the map: they are no weights.
  const planned = plan.tensors.filter(({ name }) => own.some((it) => it.name === name));
  assert.equal(planned.length, own.length);
  for (const { name, precision, rule } of planned) {
    assert.ok(titles.find((it) => it.startsWith(`${name}: `)).includes(`, ${precision} by ${rule},`), name);
  }

  await page.getByRole("radio", { name: "Table" }).check();
  const rows = await page
    .locator("#understand tbody tr")
    .filter({ has: page.getByRole("button") })
    .evaluateAll((all) =>
      all
        .filter((row) => row.closest(".part-table"))
        .map((row) => [...row.children].map((cell) => cell.textContent.trim())),
    );
  assert.equal(rows.length, inspection.tensors.length);
  assert.deepEqual(
    rows.map((row) => numberIn(row[5])),
    inspection.tensors.map(({ bytes }) => bytes).sort((a, b) => b - a),
    "largest first",
  );
  const precisions = new Map(plan.tensors.map((it) => [it.name, it.precision]));
  const roles = new Map(inspection.tensors.map((it) => [it.name, it.role]));
  for (const [name, role, , , , , precision] of rows) {
    assert.equal(precision, precisions.get(name) ?? "", name);
    assert.equal(role, roles.get(name) ?? "", name);
  }
});

test("a tensor looked into has the numbers that are in the file", async () => {
  const name = "layers.0.moe.ffn.w1.weight";
  await page.getByRole("button", { name, exact: true }).first().click();
  await page.locator("#tensor dl").waitFor();
  const shown = await page
    .locator("#tensor dl > div")
    .evaluateAll((all) => Object.fromEntries(all.map((it) => [...it.children].map((cell) => cell.textContent))));
  const { values } = weights[name];
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  const moment = (power) => values.reduce((sum, x) => sum + (x - mean) ** power, 0) / values.length;
  const expected = {
    smallest: Math.min(...values),
    largest: Math.max(...values),
    mean,
    "standard deviation": Math.sqrt(moment(2)),
    "excess kurtosis": moment(4) / moment(2) ** 2 - 3,
    zeros: values.filter((x) => x === 0).length,
  };
  assert.deepEqual(Object.keys(shown), Object.keys(expected));
  for (const [label, value] of Object.entries(expected)) {
    // Three digits are shown at least.
    const difference = Math.abs(numberIn(shown[label]) - value);
    assert.ok(difference <= 5.1e-3 * Math.abs(value), `${label}: ${shown[label]}, computed ${value}`);
  }
  assert.match(await page.textContent("#tensor"), /8,192 numbers/);

  const help = await cli(["inspect", "--help"]);
  if (!help.stdout.includes("--tensor")) return;
  const { statistics } = await said("inspect", DEMO, "--tensor", name);
  for (const [label, key] of [
    ["smallest", "min"],
    ["largest", "max"],
    ["mean", "mean"],
    ["standard deviation", "std"],
  ]) {
    assert.ok(Math.abs(numberIn(shown[label]) / statistics[key] - 1) < 5.1e-3, label);
  }
});

/** What is said of the plan: a name, bytes after, ratio, tensors by rules and by none. */
async function plannedNow() {
  const text = (await page.textContent("#planned .sum")).replace(/\s+/g, " ");
  const found =
    /^\s*(\S+) .*→ ([\d.,]+) (bytes|kB|MB) ([\d.]+)x smaller weights (\d+) tensors by rules .*, (\d+) by no rule/.exec(
      text,
    );
  assert.ok(found, text);
  const [, name, size, unit, ratio, matched, unmatched] = found;
  return { name, after: `${size} ${unit}`, ratio, matched: Number(matched), unmatched: Number(unmatched) };
}

/** The same from a plan of the command line. */
function plannedBy({ recipe, bytes, matched, unmatched }) {
  return {
    name: recipe.name,
    after: shortBytes(bytes.after),
    ratio: bytes.ratio.toFixed(2),
    matched: matched.tensors,
    unmatched: unmatched.tensors,
  };
}

function shortBytes(n) {
  const [unit, size] = n >= 1e6 ? ["MB", n / 1e6] : ["kB", n / 1e3];
  return `${size.toPrecision(3)} ${unit}`;
}

test("cards and advice plan what the command line plans", async () => {
  for (const recipe of ["fp16", "seed-aggressive", "nf4"]) {
    await choose(page, recipe);
    assert.equal(await page.getAttribute(`#recipe-${recipe}`, "aria-pressed"), "true");
    assert.deepEqual(await plannedNow(), plannedBy(await said("plan", DEMO, "--recipe", recipe)));
  }

  const advice = await said("advise", DEMO);
  const pieces = page.locator("#advice li");
  const names = await pieces.locator("b").allTextContents();
  assert.deepEqual(
    names,
    advice.recommended.map((it) => it.recipe),
  );
  await pieces.first().getByRole("button", { name: "choose" }).click();
  await planned(page, names[0]);
  assert.deepEqual(await plannedNow(), plannedBy(await said("plan", DEMO, "--recipe", names[0])));
});

test("rules can be edited: counts and bytes follow as one types", async () => {
  await choose(page, "nf4");
  const [nf4] = (await recipes()).filter(({ name }) => name === "nf4");
  const quantize = structuredClone(nf4.steps[0].quantize);
  const last = quantize.rules.length - 1;
  quantize.rules[last] = { match: "embedding.*", precision: "int8" };
  quantize.otherwise = "int4";
  await toRules(page);
  await page.fill(`#match-${last}`, "embedding.*");
  await page.selectOption(`#precision-${last}`, "int8");
  await page.selectOption("#otherwise", "int4");
  await page.waitForFunction(() => /int4/.test(document.querySelector("#planned ul")?.textContent));

  const path = join(folder, "my-nf4.json");
  writeFileSync(path, JSON.stringify({ version: 1, name: "my-nf4", steps: [{ quantize }] }));
  const plan = await said("plan", DEMO, "--recipe", path);
  assert.deepEqual(await plannedNow(), plannedBy(plan));
  const sums = (await page.locator("#rules .sum").allTextContents()).map((text) => text.trim());
  const decided = plan.tensors.filter(({ rule }) => rule === "embedding.*");
  assert.equal(
    sums[last],
    `${decided.length} tensor, ${decided.reduce((sum, it) => sum + it.params, 0).toLocaleString("en")}`,
  );
  assert.equal(sums.at(-1), `${plan.unmatched.tensors} tensors, ${plan.unmatched.params.toLocaleString("en")}`);
  // Nearly half of the model is now matched by no rule.
  assert.ok(plan.unmatched.percent > 30);
  await page.locator("#planned").getByText("Much is matched by no rule").waitFor();

  await page.fill(`#match-${last}`, "nothing.of.that.name");
  await page.waitForFunction(
    (i) => /no tensor of this model/.test(document.querySelectorAll("#rules .sum")[i].textContent),
    last,
  );
});

test("a code is shown on real weights, and a tensor's own precision becomes a rule", async () => {
  await choose(page, "int8");
  await page.locator("#codes").getByRole("radio", { name: "int4" }).check();
  await page.locator("#codes .about").filter({ hasText: "15 levels" }).waitFor();
  assert.ok(await page.locator("#codes svg").count());
  await page.getByRole("button", { name: "Store this tensor as int4" }).click();
  await planned(page, "my-int8");
  assert.equal(await page.inputValue("#match-0"), "layers.0.moe.ffn.w1.weight");
  assert.equal(await page.inputValue("#precision-0"), "int4");
});

/** Lines of the quality card, without those that are times. */
function timeless(lines) {
  return lines
    .filter(({ id }) => id !== "speed")
    .map(({ id, base, compressed }) => [id, asWritten(base), asWritten(compressed)]);
}

async function cardNow() {
  const lines = await page.locator("#card tbody tr").evaluateAll((rows) =>
    rows.map((row) => {
      const [base, compressed] = [...row.querySelectorAll("td")].map((cell) => cell.textContent);
      return { id: row.id.replace("card-", ""), base, compressed };
    }),
  );
  return timeless(lines);
}

const cards = {};

for (const recipe of ["mixed", "nf4"]) {
  test(`${recipe}: compressed and measured, the numbers and the bytes are the command's`, async () => {
    await page.selectOption("#limit", QUICK);
    await compress(page, recipe);
    assert.equal(await page.textContent("#work-problem"), "");
    const out = join(folder, `${recipe}.safetensors`);
    await said("compress", DEMO, "-o", out, "--recipe", recipe);
    const comparison = await said("compare", DEMO, out, "--text", HELDOUT, "--limit", QUICK);
    cards[recipe] = timeless(qualityCard(comparison));
    assert.deepEqual(await cardNow(), cards[recipe]);
    assert.match(
      await page.textContent("#compare-title"),
      new RegExp(`: ${recipe}, ${comparison.bytes.ratio.toFixed(2)}x smaller$`),
    );
    const [smaller, top1, lost] = (await page.locator("#headline dd:not(.note)").allTextContents()).map(numberIn);
    assert.equal(smaller, Number(comparison.bytes.ratio.toFixed(2)));
    assert.equal(top1, Number((100 * comparison.top1Agreement).toFixed(1)));
    assert.equal(lost, Number(comparison.kl.mean.toExponential(2)));

    const file = await downloaded(page, "#download");
    assert.equal(file.name, `model-${recipe}.safetensors`);
    assert.ok(file.bytes.equals(readFileSync(out)), "the downloaded bytes are the command's");
    const inspection = await said("inspect", file.path);
    assert.equal(inspection.recipe.name, recipe);
  });
}

test("each run is a point of the trade-off, and choosing one shows that run", async () => {
  const points = page.locator("#compare .part-scatter-choosable");
  assert.equal(await points.count(), 2);
  const title = page.locator("#compare-title");
  await page.getByRole("button", { name: /^run \d+, mixed: / }).click();
  await title.filter({ hasText: "mixed" }).waitFor();
  assert.deepEqual(await cardNow(), cards.mixed);
  await page
    .getByRole("note")
    .filter({ hasText: /The numbers below belong to run 1, mixed\./ })
    .waitFor();
  await page.getByRole("button", { name: /^run \d+, nf4: / }).click();
  await title.filter({ hasText: "nf4" }).waitFor();
  assert.deepEqual(await cardNow(), cards.nf4);
});

test("after another recipe is chosen the old numbers say whose they are", async () => {
  const note = page.locator("#compare").getByText("The numbers below belong to");
  assert.equal(await note.count(), 0);
  await choose(page, "int8");
  assert.match(
    (await note.textContent()).replace(/\s+/g, " "),
    /The numbers below belong to run 2, nf4\..* another recipe\. Press/,
  );
  assert.deepEqual(await cardNow(), cards.nf4);
  await choose(page, "nf4");
  assert.equal(await note.count(), 0);
});

test("the report holds the numbers of the card; tensors are in no order of damage before that is measured", async () => {
  const { name, bytes } = await downloaded(page, "#report-json");
  assert.equal(name, "model-nf4.report.json");
  const report = JSON.parse(bytes);
  assert.deepEqual(timeless(qualityCard(report.compare)), cards.nf4);
  assert.equal(report.text, "heldout.txt");
  const [largest] = report.compress.tensors.sort((a, b) => b.bytesAfter - a.bytesAfter);
  await page.locator("#compare").getByRole("heading", { name: "The largest tensors" }).waitFor();
  assert.match(await page.textContent("#compare-damage"), /Which tensors matter is not measured yet/);
  assert.equal(await page.locator("#worst").count(), 0);

  // And it can be looked into from there.
  await page.locator("#compare .part-bars-row").first().click();
  await page.waitForFunction((it) => document.querySelector("#tensor h3").textContent === it, largest.name);
});

test("both continue a prompt from the same seed, and where they part is marked", async () => {
  await page.fill("#prompt", "The history of");
  await page.fill("#seed", "7");
  await continueBoth(page);
  const sides = await page.locator("#texts .side").evaluateAll((all) =>
    all.map((side) => ({
      about: side.querySelector(".row").textContent,
      tokens: [...side.querySelectorAll(".text > span:not(.soft)")].map((it) => it.textContent),
      titles: [...side.querySelectorAll(".text > span:not(.soft)")].map((it) => it.title),
      marked: [...side.querySelectorAll(".text > span:not(.soft)")].findIndex((it) => it.matches(".differs")),
    })),
  );
  const [a, b] = sides;
  for (const { about, tokens, titles } of sides) {
    assert.match(about, /, [1-9]\d* tokens a second/);
    assert.equal(tokens.length, 48);
    for (const title of titles) assert.match(title, /^probability \d+\.\d %/);
  }
  const parted = a.tokens.findIndex((token, i) => token !== b.tokens[i]);
  assert.ok(parted > 0, "NF4 says something else sooner or later");
  assert.deepEqual([a.marked, b.marked], [parted, parted]);
  await page.getByText(`The texts differ from token ${parted + 1} on`).waitFor();

  // The original is the command's.
  const alone = await said(
    "generate",
    DEMO,
    "--prompt",
    "The history of",
    "--seed",
    "7",
    "--temperature",
    "0.7",
    "--max-tokens",
    "48",
  );
  assert.equal(a.tokens.join(""), alone.text.replace(/^The history of/, ""));
  const again = a.tokens.join("");
  await continueBoth(page);
  const texts = await page.locator("#texts .side .text").allTextContents();
  assert.equal(texts[0], `The history of${again}`, "the same seed says the same");
});

test("the report is a page that needs nothing else", async () => {
  const { name, bytes } = await downloaded(page, "#report-html");
  assert.equal(name, "model-nf4.report.html");
  const html = bytes.toString("utf8");
  // Namespaces are names, not addresses that anybody fetches.
  const addresses = html
    .replaceAll("http://www.w3.org/", "")
    .match(/https?:\/\/[^\s"'<]+|url\((?!data:)|<link|<script|@import/g);
  assert.equal(addresses, null);
  const path = join(folder, name);
  writeFileSync(path, bytes);
  const report = await session.open(`file://${path}`, { viewport: { width: 1000, height: 900 } });
  const asked = [];
  report.page.on("request", (request) => asked.push(request.url()));
  await report.page.reload();
  assert.deepEqual(asked, [`file://${path}`]);
  const ids = await page.locator("#card tbody tr").evaluateAll((all) => all.map((it) => it.id.replace("card-", "")));
  const cells = await report.page
    .locator("table")
    .first()
    .locator("tbody tr")
    .evaluateAll((rows) => rows.map((row) => [...row.querySelectorAll("td")].map((cell) => cell.textContent)));
  const rows = cells.map(([base, compressed], i) => ({ id: ids[i], base, compressed }));
  assert.deepEqual(timeless(rows), cards.nf4);
  if (process.env.SHOTS) await report.page.screenshot({ path: join(process.env.SHOTS, "report.png"), fullPage: true });
  assert.deepEqual(report.problems, []);
  await report.page.close();
});

test("every built-in recipe is a run that can be looked at", async () => {
  await openFiles(page);
  // A text just long enough: what counts is that each recipe comes to its end.
  await page.getByRole("radio", { name: "my own text" }).check();
  await page.fill(
    "#compress textarea",
    "The history of the island is long , and its people have fished for centuries . ".repeat(20),
  );
  const names = await page.locator("#recipes b").allTextContents();
  assert.ok(names.length >= 10);
  for (const name of names) {
    await compress(page, name);
    assert.match(await page.textContent("#compare-title"), new RegExp(`: ${name}, `));
    assert.equal(await page.textContent("#work-problem"), "");
  }
});

test("nothing was logged as an error", () => {
  assert.deepEqual(problems, []);
});
