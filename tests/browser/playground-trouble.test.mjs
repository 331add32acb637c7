// When something goes wrong in the playground: files that are none, work that is cancelled, a worker that stops. The page
// says what happened and what would help, keeps what it had, and goes on.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { after, before, test } from "node:test";
import { launch, PATIENCE } from "../support/browser.mjs";
import { fixture, scratch } from "../support/node.mjs";
import {
  advised,
  choose,
  compress,
  continueBoth,
  downloaded,
  dropLayers,
  FILES,
  openDemo,
  openFiles,
  pick,
  QUICK,
} from "../support/playground.mjs";

const folder = scratch();
const [WEIGHTS, CONFIG, TOKENIZER] = FILES;
let session;

before(async () => {
  session = await launch();
});
after(() => session.close());

async function opened(options) {
  const { page, problems } = await session.open("/", options);
  return { page, problems };
}

function written(name, content) {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

const problemOf = (page) => page.locator("#open-problem");

// Each kind of file that is refused: what is said of it, and what is said that would help.
const BAD = [
  ["a pickle that holds no weights", [fixture("fixtures/reject.plain_pickle.pt")], /torch\.save/, /safetensors/],
  ["a whole Python object", [fixture("fixtures/reject.whole_module.pt")], /Sequential/, /state_dict/],
  ["a zip that is cut off", [fixture("fixtures/reject.truncated.pt")], /cut off/, /Get it again/],
  [
    "an old file that is cut off",
    [fixture("fixtures/reject.truncated.legacy.pt")],
    /legacy|cut off/,
    /safetensors|again/,
  ],
  [
    "a header that claims a terabyte",
    [fixture("fixtures/reject.header_len.safetensors")],
    /1000000000008/,
    /Get it again/,
  ],
  ["a text that calls itself weights", () => [written("notes.safetensors", "just some words")], /\w/, /\./],
  ["an empty file", () => [written("empty.pt", "")], /\w/, /\./],
  [
    "two files of weights",
    [fixture("fixtures/il_ffn.safetensors"), fixture("fixtures/il_moe.safetensors")],
    /several files could be the weights/,
    /Drop one file of weights/,
  ],
];

test("bad files are refused in words that help; what was open stays", async () => {
  const { page, problems } = await opened();
  await openFiles(page);
  for (const [what, paths, words, help] of BAD) {
    await pick(page, typeof paths === "function" ? paths() : paths);
    const alert = problemOf(page).getByRole("alert");
    await alert.filter({ hasText: words }).filter({ hasText: help }).waitFor();
    const text = (await alert.textContent()).replace(/\s+/g, " ");
    assert.doesNotMatch(text, /undefined|\[object|\.\.|panicked/, `${what}: ${text}`);
    assert.equal(await page.textContent("#drop-title"), "Opened: model", what);
    assert.ok(await page.locator("#compress-now").isEnabled(), what);
    // The next one must be told of anew.
    await openFiles(page);
    await page.waitForFunction(() => document.querySelector("#open-problem").textContent.trim() === "");
  }
  assert.deepEqual(problems, []);
  await page.close();
});

test("a pickle that asks for a call is opened, and the call told of and not made", async () => {
  const { page, problems } = await opened();
  await page.setInputFiles("#files", [fixture("fixtures/reject.global_call.pt")]);
  await page
    .locator("#understand")
    .filter({ hasText: /posix\.getcwd/ })
    .waitFor({ state: "attached" });
  assert.deepEqual(problems, []);
  await page.close();
});

test("a tokenizer alone is no model", async () => {
  const { page, problems } = await opened();
  await page.setInputFiles("#files", [TOKENIZER]);
  await problemOf(page).filter({ hasText: "no weights" }).filter({ hasText: "Drop one file of weights" }).waitFor();
  await openFiles(page);
  assert.equal(await page.textContent("#open-problem"), "");
  assert.deepEqual(problems, []);
  await page.close();
});

test("a configuration of another model is told of", async () => {
  const config = JSON.parse(readFileSync(CONFIG, "utf8"));
  const other = written("config.json", JSON.stringify({ ...config, hidden_size: 64, num_layers: 9 }));
  const { page, problems } = await opened();
  await page.setInputFiles("#files", [WEIGHTS, other, TOKENIZER]);
  // Either refused, or opened by its shapes with a finding: never silently.
  const said = page.locator("#open-problem, #understand").filter({ hasText: /hidden_size|num_layers/ });
  await said
    .filter({ hasText: /config/ })
    .first()
    .waitFor();
  assert.deepEqual(problems, []);
  await page.close();
});

test("without a tokenizer the file is still there, and the missing measurement explained", async () => {
  const { page, problems } = await opened();
  await openFiles(page, [WEIGHTS, CONFIG]);
  await compress(page, "nf4");
  assert.equal(await page.textContent("#work-problem"), "", "it was said before, and is no failure");
  assert.match(await page.textContent("#compress"), /needs its tokenizer\s*Drop the tokenizer\.json .* on this page/s);
  assert.equal((await page.textContent("#compress-now")).trim(), "Compress with nf4");
  assert.deepEqual(
    (await page.locator("#headline dd:not(.note)").allTextContents()).slice(1),
    Array(3).fill("not measured"),
  );
  const { bytes } = await downloaded(page, "#download");
  assert.ok(bytes.length > 1e6);
  assert.match(await page.textContent("#compare"), /To read and write text a model needs its tokenizer/);
  await openFiles(page, [TOKENIZER]);
  await page.selectOption("#limit", QUICK);
  await compress(page, "nf4");
  assert.equal(await page.textContent("#work-problem"), "");
  assert.equal(await page.locator("#card").count(), 1);
  assert.deepEqual(problems, []);
  await page.close();
});

test("a tokenizer that is none is told of when it is needed, and the file is there", async () => {
  const { page, problems } = await opened();
  await openFiles(page, [WEIGHTS, CONFIG, written("tokenizer.json", '{"model": 7}')]);
  await compress(page);
  assert.match(
    await page.textContent("#work-problem"),
    /tokenizer\.json cannot be used: .*drop the model's tokenizer\.json on this page/s,
  );
  assert.ok((await downloaded(page, "#download")).bytes.length > 1e6);
  assert.deepEqual(problems, []);
  await page.close();
});

test("a text that is too short is told of, and a longer one taken", async () => {
  const { page, problems } = await opened();
  await openFiles(page);
  await page.getByRole("radio", { name: "my own text" }).check();
  for (const short of ["", "Hi"]) {
    await page.fill("#compress textarea", short);
    await compress(page);
    const said = await page.textContent("#work-problem");
    assert.match(said, /token|text|short/i, said);
    assert.doesNotMatch(said, /NaN|Infinity|undefined/);
  }
  await page.fill(
    "#compress textarea",
    "The history of the island is long , and its people have fished for centuries . ".repeat(20),
  );
  await compress(page);
  assert.equal(await page.textContent("#work-problem"), "");
  assert.match(await page.textContent("#protocol"), /Measured on your text: \d+ windows/);
  assert.deepEqual(problems, []);
  await page.close();
});

/** Whether the page lets itself be left without a question. */
function leaves(page) {
  return page.evaluate(() => dispatchEvent(new Event("beforeunload", { cancelable: true })));
}

test("cancelled while compressing: nothing is left of it, and the next run is complete", async () => {
  const { page, problems } = await opened();
  await dropLayers(page, 60);
  await advised(page);
  await choose(page, "nf4");
  // In the page, because compressing is over before a command has come from here.
  await page.evaluate(() => {
    new MutationObserver((_, observer) => {
      const label = document.querySelector(".part-progress-label")?.textContent ?? "";
      if (!/^Compressing: [\d,]+ of/.test(label)) return;
      document.querySelector("#cancel").click();
      observer.disconnect();
    }).observe(document.querySelector("#compress"), { childList: true, characterData: true, subtree: true });
  });
  await page.click("#compress-now");
  await page.locator("#work-problem").filter({ hasText: "Cancelled." }).waitFor();
  assert.equal(await page.locator("#compare").count(), 0);
  await page.selectOption("#limit", QUICK);
  await openDemo(page);
  assert.equal(await page.textContent("#work-problem"), "", "another checkpoint has not been cancelled");
  await compress(page, "nf4");
  assert.equal(await page.locator("#card").count(), 1);
  assert.deepEqual(problems, []);
  await page.close();
});

test("cancelled while measuring: the file stays, and the next run is measured", async () => {
  const { page, problems } = await opened();
  await openDemo(page);
  await page.click("#compress-now");
  await page
    .locator(".part-progress-label")
    .filter({ hasText: /^(?!Compressing).*: [\d,]+ of/ })
    .waitFor();
  await page
    .locator(".part-progress-remaining")
    .filter({ hasText: / left$/ })
    .waitFor();
  assert.match(await page.getByRole("progressbar").getAttribute("aria-valuenow"), /^\d+$/);
  assert.equal(await leaves(page), false, "whoever leaves in the middle is asked");
  await page.click("#cancel");
  // At once, whatever the step that is being done takes.
  await page.locator("#work-problem").filter({ hasText: "Cancelled." }).waitFor({ timeout: 2000 });
  assert.equal(await leaves(page), true);
  assert.equal(await page.locator("#card").count(), 0);
  assert.deepEqual(
    (await page.locator("#headline dd:not(.note)").allTextContents()).slice(1),
    Array(3).fill("not measured"),
  );
  assert.ok((await downloaded(page, "#download")).bytes.length > 1e6);
  await page.selectOption("#limit", QUICK);
  await compress(page);
  assert.equal(await page.locator("#card").count(), 1);
  assert.equal(await page.textContent("#work-problem"), "");
  assert.deepEqual(problems, []);
  await page.close();
});

test("stopped while generating: what was said stays, and the next trial is whole", async () => {
  const { page, problems } = await opened();
  await dropLayers(page, 40);
  await advised(page);
  await page.getByRole("radio", { name: "my own text" }).check();
  await page.fill("#compress textarea", "The history of the island is long . ".repeat(10));
  await compress(page, "int8");
  const tokens = page.locator("#texts .side").first().locator(".text span:not(.soft)");
  // In the page, because words come faster than commands do.
  await page.evaluate(() => {
    const texts = document.querySelector("#texts");
    new MutationObserver((_, observer) => {
      if (texts.querySelectorAll(".text span:not(.soft)").length < 3) return;
      document.querySelector("#try button[type=button]").click();
      observer.disconnect();
    }).observe(texts, { childList: true, subtree: true });
  });
  await page.click("#try button[type=submit]");
  await page.getByText("Cancelled.").waitFor();
  await page.waitForSelector("#try button[type=button][aria-disabled=true]");
  const made = await tokens.count();
  assert.ok(made > 0 && made < 48, `${made} tokens`);
  await continueBoth(page);
  assert.equal(await tokens.count(), 48);
  assert.deepEqual(problems, []);
  await page.close();
});

/** Keeps the workers of a page and the calls that each has yet to answer, so that a test can end them. */
async function watched() {
  const context = await session.browser.newContext();
  await context.addInitScript(() => {
    globalThis.workers = [];
    globalThis.Worker = class extends Worker {
      unanswered = new Set();
      constructor(...args) {
        super(...args);
        globalThis.workers.push(this);
        this.addEventListener("message", ({ data: { type, id } }) => {
          if (type === "answer" || type === "error") this.unanswered.delete(id);
        });
      }
      postMessage(message, ...rest) {
        if (message.type === "call") this.unanswered.add(message.id);
        super.postMessage(message, ...rest);
      }
    };
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  await page.goto(session.url);
  const crash = () =>
    page.evaluate(() => {
      const worker = globalThis.workers.at(-1);
      worker.terminate();
      worker.dispatchEvent(new ErrorEvent("error", { message: "out of memory", cancelable: true }));
    });
  // Advice comes anew when a run is on the page already: a worker that dies before that is noticed by it.
  const crashUnnoticed = async () => {
    await page.waitForFunction(() => globalThis.workers.at(-1).unanswered.size === 0);
    await crash();
  };
  return { context, page, problems, crash, crashUnnoticed };
}

test("a worker that dies while measuring: the page says what is gone, and opens it again", async () => {
  const { context, page, problems, crash } = await watched();
  await openFiles(page);
  await page.click("#compress-now");
  await page
    .locator(".part-progress-label")
    .filter({ hasText: /^(?!Compressing).*: [\d,]+ of/ })
    .waitFor();
  await crash();
  await page.locator("#lost").filter({ hasText: "The worker has stopped" }).waitFor();
  assert.match(await page.textContent("#work-problem"), /the worker stopped: out of memory/);
  assert.ok(await page.locator("#compress-now").isDisabled());
  assert.ok((await downloaded(page, "#download")).bytes.length > 1e6, "what was made is not lost");
  await page.getByRole("button", { name: "Open model again" }).click();
  await page.waitForSelector("#compress-now[aria-disabled=false]");
  assert.equal(await page.locator("#lost").count(), 0);
  await page.selectOption("#limit", QUICK);
  await compress(page);
  assert.equal(await page.locator("#card").count(), 1);
  assert.equal(await page.evaluate(() => globalThis.workers.length), 2);
  assert.deepEqual(problems, []);
  await context.close();
});

test("a worker that dies unnoticed is noticed at the next step, whichever that is", async () => {
  const { context, page, problems, crashUnnoticed } = await watched();
  await openDemo(page);
  await page.selectOption("#limit", QUICK);
  await compress(page, "fp16");
  const again = page.getByRole("button", { name: "Open itera-tiny again" });
  for (const step of [
    () => page.click("#recipe-int4"),
    () => page.click("#show-codes"),
    () => page.click("#compress-now"),
  ]) {
    await crashUnnoticed();
    await step();
    await again.click();
    await page.locator("#lost").waitFor({ state: "detached" });
    await advised(page);
  }
  await compress(page, "fp16");
  await crashUnnoticed();
  await page.click("#try button[type=submit]");
  await again.click();
  await page.locator("#lost").waitFor({ state: "detached" });
  await advised(page);
  await compress(page, "fp16");
  assert.equal(await page.textContent("#work-problem"), "");
  assert.deepEqual(problems, []);
  await context.close();
});

test("a package that cannot be started is told of", async () => {
  const context = await session.browser.newContext({ serviceWorkers: "block" });
  await context.route("**/dist/worker/worker.js", (route) => route.abort());
  const page = await context.newPage();
  await page.goto(session.url);
  await page.getByRole("alert").filter({ hasText: "The package could not be started" }).waitFor();
  await context.close();
});

test("a demo that is not served is not offered, and a held-out text that is not is told of", async () => {
  const context = await session.browser.newContext({ serviceWorkers: "block" });
  for (const gone of ["**/demo/**", "**/heldout.txt"]) {
    await context.route(gone, (route) => route.fulfill({ status: 404, body: "" }));
  }
  const page = await context.newPage();
  await page.goto(session.url);
  await page.locator("#demo").waitFor({ state: "detached" });
  await openFiles(page);
  await compress(page);
  await page.locator("#work-problem").filter({ hasText: "heldout.txt is not served here" }).waitFor();
  await context.close();
});

test("a path on this machine that is none is told of", async () => {
  const { page, problems } = await opened();
  await page.fill("#path", join(folder, "nothing.pt"));
  await page.getByRole("button", { name: "Open", exact: true }).click();
  await problemOf(page)
    .filter({ hasText: /nothing\.pt/ })
    .waitFor();
  await page.fill("#path", WEIGHTS.slice(0, -basename(WEIGHTS).length));
  await page.getByRole("button", { name: "Open", exact: true }).click();
  await advised(page);
  assert.equal(await page.textContent("#open-problem"), "");
  // The browser logs what the server refused; nothing else.
  assert.deepEqual(
    problems.filter((text) => !/404/.test(text)),
    [],
  );
  await page.close();
});

test("steps that cannot be fetched are tried again on request, and have their styles", async () => {
  const context = await session.browser.newContext({ serviceWorkers: "block" });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const away = (route) => route.abort();
  await page.route(/Steps-/, away);
  await page.goto(session.url);
  await page.click("#demo");
  const again = page.getByRole("alert").getByRole("button", { name: "Try again" });
  await again.waitFor();
  await page.unroute(/Steps-/, away);
  await again.click();
  await page.locator("#compress-now").waitFor();
  assert.equal(await page.locator("#compress .settings").evaluate((it) => getComputedStyle(it).display), "flex");
  await context.close();
});
