// What is taken away from the playground works where it is taken: links, command lines, scripts, recipes.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { launch, PATIENCE } from "../support/browser.mjs";
import { CLI, HELDOUT, ROOT, scratch } from "../support/node.mjs";
import {
  choose,
  compress,
  copyable,
  downloaded,
  FILES,
  numberIn,
  openDemo,
  openFiles,
  planned,
  QUICK,
  toRules,
} from "../support/playground.mjs";

// A folder as a user has it after cloning the demo and installing the package.
const folder = scratch();
mkdirSync(join(folder, "examples"));
symlinkSync(join(ROOT, "examples/demo"), join(folder, "examples/demo"));
mkdirSync(join(folder, "node_modules"));
symlinkSync(join(dirname(CLI), "../.."), join(folder, "node_modules/statepress"));

let session;
let context;
let link;

before(async () => {
  session = await launch();
  context = await session.browser.newContext({ permissions: ["clipboard-read", "clipboard-write"] });
  context.setDefaultTimeout(PATIENCE);
});
after(() => session.close());

async function opened(fragment = "") {
  const page = await context.newPage();
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  await page.goto(`${session.url}${fragment}`);
  return { page, problems };
}

/** Runs a line as a shell would, with the package's command for `./pkg-scripts/statepress`. */
async function shell(line) {
  const own = line.replaceAll("./pkg-scripts/statepress", `'${process.execPath}' '${CLI}'`);
  return promisify(execFile)("sh", ["-ec", own], { cwd: folder });
}

/** The mean KL divergence of the card, as the command writes it. */
async function meanKl(page) {
  return numberIn(await page.locator("#card-kl-mean td").last().textContent()).toExponential(2);
}

test("command line and script do the same as the page, with a recipe of one's own", async () => {
  const { page, problems } = await opened();
  await openDemo(page);
  await choose(page, "int8");
  await toRules(page);
  await page.selectOption("#otherwise", "fp16");
  await page.fill("#match-1", "*.conv1d.*");
  await planned(page, "my-int8");
  await page.selectOption("#limit", QUICK);
  await compress(page);
  const file = await downloaded(page, "#download");
  const recipe = await downloaded(page, "#recipe-json");
  assert.equal(recipe.name, "my-int8.json");
  writeFileSync(join(folder, recipe.name), recipe.bytes);
  const text = await downloaded(page, "#text-file");
  assert.equal(text.name, "heldout.txt");
  assert.ok(text.bytes.equals(readFileSync(HELDOUT)), "the page's text is the checkout's");
  writeFileSync(join(folder, text.name), text.bytes);

  const line = await copyable(page, "Command line");
  const { stdout } = await shell(line);
  assert.ok(readFileSync(join(folder, file.name)).equals(file.bytes), "the command wrote the page's bytes");
  const kl = await meanKl(page);
  assert.ok(stdout.includes(kl), `the card of the command says ${kl}`);

  await page.getByRole("button", { name: "Copy: Node script" }).click();
  await page.getByText("Copied").waitFor();
  const script = await page.evaluate(() => navigator.clipboard.readText());
  assert.equal(script, await copyable(page, "Node script"));
  // Less text: the script measures on all of it.
  const short = script
    .replace("const card = await", "const brief = text.slice(0, 3000);\nconst card = await")
    .replace("{ text,", "{ text: brief,");
  assert.notEqual(short, script);
  writeFileSync(join(folder, "job.mjs"), short);
  rmSync(join(folder, file.name));
  const run = await promisify(execFile)(process.execPath, ["job.mjs"], { cwd: folder });
  assert.match(run.stdout, /^3\.\d+ \d\.\d+(e-\d+)? -?\d+\.\d+\n$/);
  assert.ok(readFileSync(join(folder, file.name)).equals(file.bytes), "the script wrote the page's bytes");

  link = await copyable(page, "Link");
  assert.deepEqual(problems, []);
  await page.close();
});

test("the link brings the recipe back, in a page that has never seen it", async () => {
  const address = new URL(link);
  assert.equal(address.search, "", "the recipe stands in the fragment, which no server sees");
  const { page, problems } = await opened(address.hash);
  await openDemo(page);
  await planned(page, "my-int8");
  assert.equal(await page.inputValue("#match-1"), "*.conv1d.*");
  assert.equal(await page.inputValue("#otherwise"), "fp16");
  await page.reload();
  await openDemo(page);
  await planned(page, "my-int8");
  assert.deepEqual(problems, []);
  await page.close();
});

test("a link to a built-in recipe names it", async () => {
  const { page } = await opened("#recipe=nf4");
  await openDemo(page);
  await planned(page, "nf4");
  assert.equal(await page.getAttribute("#recipe-nf4", "aria-pressed"), "true");
  await page.close();
});

test("links that are damaged say so, and the page goes on", async () => {
  for (const [fragment, words] of [
    ["#recipe=nf5", /names the recipe "nf5"; there are none, fp16/],
    [`${new URL(link).hash.slice(0, -30)}`, /cut off or damaged/],
    ["#recipe=%7B%22name%22%3A1%7D", /has no version 1, no name or no steps/],
  ]) {
    const { page, problems } = await opened(fragment);
    await page.getByRole("alert").filter({ hasText: words }).waitFor();
    await openDemo(page);
    await page.waitForSelector("#compress-now[aria-disabled=false]");
    assert.deepEqual(problems, []);
    await page.close();
  }
});

test("a recipe that the package refuses is explained where it is planned; another one is taken", async () => {
  const recipe = { version: 1, name: "odd", steps: [{ quantize: { rules: [{ match: "*", precision: "int7" }] } }] };
  const { page, problems } = await opened(`#recipe=${encodeURIComponent(JSON.stringify(recipe))}`);
  await openDemo(page);
  await page.locator("#planned").getByText("This recipe cannot be followed").waitFor();
  assert.match(await page.textContent("#planned"), /int7/);
  assert.ok(await page.locator("#compress-now").isDisabled());
  await choose(page, "fp16");
  assert.ok(await page.locator("#compress-now").isEnabled());

  // A number that no percentile can be.
  await choose(page, "int8");
  await toRules(page);
  await page.getByText("How each code is done").click();
  await page.getByRole("group", { name: "int8" }).getByLabel("scale from").selectOption("percentile");
  await page.getByLabel("percentile", { exact: true }).fill("250");
  await page.getByLabel("percentile", { exact: true }).press("Tab");
  await page.locator("#planned").getByText("This recipe cannot be followed").waitFor();
  await page.getByLabel("percentile", { exact: true }).fill("99");
  await page.getByLabel("percentile", { exact: true }).press("Tab");
  await planned(page, "my-int8");
  assert.deepEqual(problems, []);
  await page.close();
});

test("a stranger's name for a recipe does no harm in what is copied", async () => {
  const recipe = { version: 1, name: "x; touch harmed #`touch harmed`$(touch harmed)", steps: [] };
  const { page, problems } = await opened(`#recipe=${encodeURIComponent(JSON.stringify(recipe))}`);
  await openDemo(page);
  await page.selectOption("#limit", QUICK);
  await page.waitForSelector("#compress-now[aria-disabled=false]");
  await compress(page);
  const line = await copyable(page, "Command line");
  assert.doesNotMatch(line, /[;#`$()]/);
  const { name } = await downloaded(page, "#recipe-json");
  assert.ok(line.includes(`--recipe ${name} `) || line.includes(`--recipe ${name}\n`), `${line} reads ${name}`);
  assert.deepEqual(problems, []);
  await page.close();
});

test("commands for files of one's own name those files", async () => {
  const text = join(folder, "my text.txt");
  writeFileSync(text, readFileSync(join(ROOT, "examples/demo/heldout.txt"), "utf8").slice(0, 4000));
  const { page, problems } = await opened();
  await openFiles(page, [...FILES, text]);
  await compress(page, "fp16");
  const line = await copyable(page, "Command line");
  assert.match(line, /compress model\.safetensors -o model-fp16\.safetensors --recipe fp16\n/);
  assert.match(line, /--text 'my text\.txt' /);
  for (const path of FILES) symlinkSync(path, join(folder, path.split("/").at(-1)));
  const { stdout } = await shell(line);
  assert.ok(stdout.includes(await meanKl(page)));
  assert.deepEqual(problems, []);
  await page.close();
});
