// <statepress-compare> in a lesson: what a reader sees from the button to the download, and what goes wrong in words.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch } from "../support/browser.mjs";
import { cli, DEMO, HELDOUT, scratch } from "../support/node.mjs";
import { numberIn } from "../support/playground.mjs";

const folder = scratch();
const DEMO_FOLDER = "/demo/itera-tiny/";
let session;

before(async () => {
  session = await launch();
});
after(() => session.close());

/** The lesson, with a text that is short enough for a test. */
async function lesson(options = {}) {
  const { page, problems } = await session.open("/examples/embed/", options);
  const text = readFileSync(HELDOUT, "utf8").slice(0, 4000);
  await page.route("**/demo/heldout.txt", (route) => route.fulfill({ body: text, contentType: "text/plain" }));
  return { page, problems, text };
}

/** An element of the test's own in the lesson's place. */
async function only(attributes, options) {
  const opened = await lesson(options);
  await opened.page.evaluate((attributes) => {
    const element = document.createElement("statepress-compare");
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    document.querySelector("main").replaceChildren(element);
  }, attributes);
  return { ...opened, element: opened.page.locator("statepress-compare") };
}

const usual = { src: DEMO_FOLDER, recipe: "nf4", prompt: "The album was", tokens: "8", backend: "cpu" };

/** Presses the button and waits for the event; its detail. */
function finished(element) {
  return element.evaluate((it) => {
    const done = new Promise((resolve) => it.addEventListener("statepress-done", (event) => resolve(event.detail)));
    it.shadowRoot.querySelector(".start").click();
    return done;
  });
}

const state = (element) => element.locator("[role=status]");

test("nothing of a model is loaded before the reader asks", async () => {
  const { page, problems } = await lesson();
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.reload();
  assert.equal(await page.locator("statepress-compare .start:enabled").count(), 2);
  assert.equal(await page.locator("statepress-compare .cancel:disabled").count(), 2);
  assert.deepEqual(
    asked.filter((url) => /demo|wasm|statepress\/dist/.test(url)),
    [],
  );
  assert.deepEqual(problems, []);
  await page.close();
});

test("both texts, where they part, the sizes and the numbers: those of the command line", async () => {
  const { page, problems, text } = await lesson();
  const element = page.locator("statepress-compare").first();
  await element.evaluate((it) => it.setAttribute("backend", "cpu"));
  const { comparison, report, backends } = await finished(element);
  assert.deepEqual(
    backends.map(({ name }) => name),
    ["cpu", "cpu"],
  );
  const out = join(folder, "nf4.safetensors");
  assert.equal((await cli(["compress", DEMO, "-o", out, "--recipe", "nf4", "--json"])).code, 0);
  assert.match(await state(element).innerText(), /^Done, on the CPU\.$/);
  assert.match(await element.locator(".about").innerText(), /itera-lite, 1\.9 M parameters/);

  for (const [side, file] of [
    ["original", DEMO],
    ["compressed", out],
  ]) {
    const prompt = "The album was";
    const args = ["--prompt", prompt, "--max-tokens", "32", "--temperature", "0", "--backend", "cpu", "--json"];
    const tokenizer = ["--tokenizer", join(DEMO, "tokenizer.json")];
    const { json, stderr } = await cli(["generate", file, ...args, ...tokenizer]);
    assert.ok(json, stderr);
    const said = element.locator(`.${side} .said > span`);
    assert.equal(await said.evaluate((it) => it.textContent), prompt + json.text);
    assert.equal(await element.locator(`.${side} .token`).count(), json.ids.length);
    assert.match(await element.locator(`.${side} .token`).first().getAttribute("title"), /^\d+\.\d % likely$/);
    assert.equal(await element.locator(`.${side} mark`).count(), 1);
  }
  const tokens = (side) => element.locator(`.${side} .token`).allTextContents();
  const [original, compressed] = [await tokens("original"), await tokens("compressed")];
  const at = original.findIndex((token, index) => token !== compressed[index]);
  assert.ok(at > 0, "this prompt goes on alike for a while");
  assert.match(await element.locator(".difference").innerText(), new RegExp(`The same for ${at} tokens`));
  const marked = await element.locator(".token:has(mark)").allTextContents();
  assert.deepEqual(marked, [original[at], compressed[at]]);

  assert.match(await element.locator(".compressed .size").innerText(), /7\.50x smaller/);
  assert.equal(report.bytes.ratio.toFixed(2), "7.50");
  const shown = await element.locator("dd.value").allInnerTexts();
  assert.equal(numberIn(shown[0]).toPrecision(3), comparison.kl.mean.toPrecision(3));
  assert.equal(shown[1], `${(100 * comparison.top1Agreement).toFixed(1)} %`);
  assert.equal(numberIn(shown[2]).toPrecision(4), comparison.a.perplexity.toPrecision(4));
  assert.equal(numberIn(shown[3]).toPrecision(4), comparison.b.perplexity.toPrecision(4));
  assert.ok(comparison.b.tokens < text.length / 2, "the routed, short text");

  const [download] = await Promise.all([page.waitForEvent("download"), element.locator(".take a").click()]);
  assert.equal(download.suggestedFilename(), "nf4.safetensors");
  assert.ok(readFileSync(await download.path()).equals(readFileSync(out)), "the downloaded bytes are the command's");
  assert.deepEqual(problems, []);
  await page.close();
});

test("without a text nothing is measured, and no numbers are shown", async () => {
  const { page, element, problems } = await only(usual);
  const { comparison } = await finished(element);
  assert.equal(comparison, undefined);
  assert.equal(await element.locator("dl").isHidden(), true);
  assert.equal(await element.locator(".take a").count(), 1);
  assert.deepEqual(problems, []);
  await page.close();
});

test("the page around it does not move while it works", async () => {
  for (const width of [390, 1280]) {
    const { page } = await lesson({ viewport: { width, height: 900 } });
    const element = page.locator("statepress-compare").first();
    await element.evaluate((it) => {
      it.setAttribute("backend", "cpu");
      window.heights = new Set();
      new ResizeObserver(() => window.heights.add(it.offsetHeight)).observe(it);
    });
    await finished(element);
    const heights = await page.evaluate(() => [...window.heights]);
    assert.equal(heights.length, 1, `${width} px wide: ${heights}`);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    await page.close();
  }
});

test("it is cancelled at any moment, and can be started again", async () => {
  const { page, element, problems } = await only({ ...usual, text: "/demo/heldout.txt", tokens: "64" });
  for (const stage of ["Loading", "Compressing", "Continuing", "Measuring"]) {
    // Cancelled from inside, at the first word of that stage.
    await element.evaluate((it, stage) => {
      const { shadowRoot } = it;
      const status = shadowRoot.querySelector("[role=status]");
      const watch = new MutationObserver(() => {
        if (!status.textContent.startsWith(stage)) return;
        watch.disconnect();
        shadowRoot.querySelector(".cancel").click();
      });
      watch.observe(status, { childList: true, subtree: true, characterData: true });
      shadowRoot.querySelector(".start").click();
    }, stage);
    await element.locator("[role=status]", { hasText: "Cancelled." }).waitFor();
    assert.equal(await element.locator(".start").isEnabled(), true, stage);
    assert.equal(await element.locator(".cancel").isDisabled(), true, stage);
  }
  assert.ok((await finished(element)).comparison);
  assert.deepEqual(problems, []);
  await page.close();
});

test("another attribute starts over; taking it out of the page ends its work and gives its file back", async () => {
  const { page, element, problems } = await only(usual);
  await finished(element);
  const address = await element.locator(".take a").getAttribute("href");
  await element.evaluate((it) => it.setAttribute("recipe", "int4"));
  assert.equal(await element.locator(".take a").count(), 0);
  assert.match(await element.locator(".about").innerText(), /int4/);
  assert.equal(await element.locator(".token").count(), 0);
  const gone = (address) =>
    page.evaluate(
      (address) =>
        fetch(address).then(
          () => false,
          () => true,
        ),
      address,
    );
  assert.equal(await gone(address), true, "the file of the first run is given back");

  const events = await element.evaluate(async (it) => {
    let events = 0;
    document.addEventListener("statepress-done", () => events++);
    it.shadowRoot.querySelector(".start").click();
    // At once: on a fast machine it would soon be done.
    await new Promise((resolve) => setTimeout(resolve, 0));
    const parent = it.parentNode;
    it.remove();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    parent.append(it);
    return events;
  });
  assert.equal(events, 0, "what was taken out says nothing any more");
  assert.equal((await finished(element)).report.recipe.name, "int4");
  const errors = problems.filter((it) => !it.includes("ERR_FILE_NOT_FOUND"));
  assert.deepEqual(errors, []);
  await page.close();
});

test("autostart needs no button, and a recipe may be spelled out", async () => {
  const recipe = { version: 1, name: "my own", steps: [{ quantize: { rules: [], otherwise: "int8" } }] };
  const { page, element } = await only({ ...usual, autostart: "", recipe: JSON.stringify(recipe) });
  await element.locator("[role=status]", { hasText: "Done" }).waitFor();
  assert.match(await element.locator(".take a").innerText(), /Download my own\.safetensors/);
  await page.close();
});

test("what is wrong is said in words, at the place", async () => {
  const cases = [
    [{ src: "/heldout.txt" }, /there is no tokenizer\.json beside heldout\.txt/],
    [
      { src: "/demo/itera-tiny/other.safetensors" },
      /src leads to \/demo\/itera-tiny\/other\.safetensors, which is not there.*404/,
    ],
    // Nothing lies there: that is the fault, and no tokenizer is to blame.
    [{ src: "/demo/nothing/" }, /src leads to \/demo\/nothing\/model\.safetensors, which is not there.*404/],
    [{ src: "/demo/itera" }, /src leads to \/demo\/itera, .*the address of a folder ends in "\/"/],
    [{ src: "/demo/itera-tiny/config.json" }, /no weights (in|among)/],
    [{ src: "https://127.0.0.1:1/" }, /could not be loaded from 127\.0\.0\.1:1/],
    [{ src: "http://[" }, /the attribute src is no address/],
    [{ src: "" }, /the attribute src is missing/],
    [{ prompt: "" }, /the attribute prompt is missing/],
    [{ tokens: "many" }, /the attribute tokens is "many"/],
    [{ tokens: "0" }, /a whole number from 1 to 256/],
    [{ backend: "tpu" }, /allowed: auto, cpu, webgpu/],
    [{ recipe: "best" }, /best/],
    [{ recipe: "{" }, /the attribute recipe is not JSON/],
    [{ recipe: '{"version":1,"steps":[]}' }, /the attribute recipe is no recipe: it needs "version": 1, a "name"/],
    [{ text: "/demo/nothing.txt" }, /\/demo\/nothing\.txt is not there.*404/],
  ];
  const { page, element } = await only(usual);
  for (const [wrong, said] of cases) {
    await element.evaluate(
      (it, attributes) => {
        it.removeAttribute("text");
        for (const [name, value] of Object.entries(attributes)) it.setAttribute(name, value);
        it.shadowRoot.querySelector(".start").click();
      },
      { ...usual, ...wrong },
    );
    await element.locator(".state.problem").waitFor();
    const text = await state(element).innerText();
    assert.match(text, said);
    assert.match(text, /^This did not work: /, "an error that is expected");
    assert.equal(await element.locator(".start").isEnabled(), true);
  }
  await page.close();
});

test("two of them work at once", async () => {
  const { page, problems } = await lesson();
  const elements = await page.locator("statepress-compare").all();
  for (const element of elements) await element.evaluate((it) => it.setAttribute("backend", "cpu"));
  const outcomes = await Promise.all(elements.map(finished));
  assert.deepEqual(
    outcomes.map(({ report }) => report.recipe.name),
    ["nf4", "int4"],
  );
  assert.deepEqual(problems, []);
  await page.close();
});

test("the keyboard is enough, and the focus is not lost", async () => {
  const { page, element } = await only(usual);
  await page.keyboard.press("Tab");
  const focused = () => element.evaluate((it) => it.shadowRoot.activeElement?.className);
  assert.equal(await focused(), "start");
  await page.keyboard.press("Enter");
  assert.equal(await focused(), "cancel");
  await element.locator("[role=status]", { hasText: "Done" }).waitFor();
  assert.equal(await focused(), "start");
  await page.close();
});

test("axe finds nothing serious, light and dark, before and after", async () => {
  const source = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  for (const colorScheme of ["light", "dark"]) {
    const { page } = await lesson({ colorScheme });
    const element = page.locator("statepress-compare").first();
    await element.evaluate((it) => it.setAttribute("backend", "cpu"));
    await page.evaluate(source);
    const violations = async () => {
      const found = await page.evaluate(async () => (await window.axe.run()).violations);
      return found.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
    };
    assert.deepEqual(await violations(), [], `${colorScheme}, before`);
    await finished(element);
    assert.deepEqual(await violations(), [], `${colorScheme}, after`);
    await page.close();
  }
});
