// The playground's habits: for every eye, hand and width, without a network, in two tabs, after a reload.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch, PATIENCE } from "../support/browser.mjs";
import { HELDOUT } from "../support/node.mjs";
import {
  advised,
  choose,
  compress,
  continueBoth,
  downloaded,
  drop,
  FILES,
  openDemo,
  openFiles,
  overflow,
  QUICK,
  seriousIn,
} from "../support/playground.mjs";

const SCHEMES = ["light", "dark"];
const WIDTHS = [390, 834, 1920];
/** A folder for pictures to look at, on request. */
const SHOTS = process.env.SHOTS;
let session;

before(async () => {
  session = await launch();
});
after(() => session.close());

/** A page in a context of its own; what is wrong in it, policy violations among them, is in `problems`. */
async function opened(options = {}) {
  const context = await session.browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  await page.exposeFunction("violated", (what) => problems.push(what));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
      globalThis.violated(`${violatedDirective} refuses ${blockedURI}`),
    );
  });
  await page.goto(session.url);
  return { context, page, problems };
}

/** Everything on the page: opened, looked into, measured, said. */
async function everything(page) {
  await openDemo(page);
  await page.click("#show-codes");
  await page.waitForSelector("#codes svg");
  await page.selectOption("#limit", QUICK);
  for (const recipe of ["nf4", "int8"]) await compress(page, recipe);
  await continueBoth(page);
}

test("nothing serious for axe, and no sideways scrolling, in every state, scheme and width", async () => {
  const { context, page, problems } = await opened();
  const states = {
    empty: async () => {},
    opened: () => openFiles(page),
    measured: () => everything(page),
    table: () => page.getByRole("radio", { name: "Table" }).check(),
    compensated: async () => {
      await page.getByRole("switch", { name: "Make up for rounding errors" }).check();
      await page.getByRole("group", { name: "The model reads" }).getByLabel("a text that I type").check();
    },
    trained: () => page.getByRole("switch", { name: "Train it afterwards" }).check(),
  };
  for (const [state, reach] of Object.entries(states)) {
    await reach();
    // Nothing under the pointer: its highlight is not what is looked at.
    await page.mouse.move(0, 0);
    for (const colorScheme of SCHEMES) {
      await page.emulateMedia({ colorScheme });
      for (const width of WIDTHS) {
        await page.setViewportSize({ width, height: 1000 });
        assert.equal(await overflow(page), "", `${state}, ${width} px`);
        if (SHOTS) await page.screenshot({ path: join(SHOTS, `${state}-${colorScheme}-${width}.png`), fullPage: true });
      }
      await page.setViewportSize({ width: 1280, height: 900 });
      assert.deepEqual(await seriousIn(page), [], `${state}, ${colorScheme}`);
    }
  }
  assert.deepEqual(problems, []);
  await context.close();
});

/** Presses Tab until what is focused has that id. */
async function tabTo(page, id) {
  for (let pressed = 0; pressed < 400; pressed++) {
    await page.keyboard.press("Tab");
    if ((await page.evaluate(() => document.activeElement?.id)) === id) return;
  }
  assert.fail(`Tab does not lead to #${id}`);
}

test("by keyboard alone, from the beginning to the download", async () => {
  const { context, page, problems } = await opened();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the steps");
  await tabTo(page, "demo");
  await page.keyboard.press("Enter");
  await advised(page);
  await page.waitForFunction(() => document.activeElement.id === "understand-title");

  // The map is one stop; arrows go on from there.
  for (;;) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => document.activeElement.role === "option")) break;
  }
  const first = await page.evaluate(() => document.activeElement.ariaLabel);
  await page.keyboard.press("End");
  assert.notEqual(await page.evaluate(() => document.activeElement.ariaLabel), first);
  await page.keyboard.press("Enter");
  await page.waitForSelector("#tensor dl");

  await tabTo(page, "way-find");
  await page.keyboard.press("ArrowRight");
  const before = await page.textContent("#planned .mono");
  for (;;) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => document.activeElement.textContent === "choose")) break;
  }
  await page.keyboard.press("Enter");
  await page.waitForFunction((name) => document.querySelector("#planned .mono").textContent !== name, before);
  await tabTo(page, "limit");
  await page.keyboard.press("End");
  await tabTo(page, "compress-now");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "cancel", "stopping is the next thing");
  await page.waitForSelector("#cancel[aria-disabled=true]");
  assert.equal(await page.textContent("#work-problem"), "");
  await tabTo(page, "prompt");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#try button[type=button][aria-disabled=false]");
  await page.waitForSelector("#try button[type=button][aria-disabled=true]");
  await tabTo(page, "download");
  const [download] = await Promise.all([page.waitForEvent("download"), page.keyboard.press("Enter")]);
  assert.match(download.suggestedFilename(), /^itera-tiny-.*\.safetensors$/);
  assert.deepEqual(problems, []);
  await context.close();
});

test("once loaded, own files are compressed and measured without any request", async () => {
  const { context, page, problems } = await opened();
  await page.waitForFunction(() => document.querySelector("#offline")?.textContent.includes("works without a network"));
  const asked = [];
  context.on("request", (request) => asked.push(request.url()));
  await context.setOffline(true);
  await drop(page, [...FILES, HELDOUT]);
  await advised(page);
  await page.click("#show-codes");
  await page.waitForSelector("#codes svg");
  await page.selectOption("#limit", QUICK);
  await compress(page, "mixed");
  assert.equal(await page.textContent("#work-problem"), "");
  assert.equal(await page.locator("#card").count(), 1);
  await continueBoth(page);
  for (const id of ["#download", "#report-json", "#report-html"]) await downloaded(page, id);
  assert.deepEqual(
    asked.filter((url) => !url.startsWith("blob:")),
    [],
  );
  assert.deepEqual(problems, []);
  await context.close();
});

test("two tabs at once both finish, with the same numbers", async () => {
  const { context, page, problems } = await opened();
  const other = await context.newPage();
  await other.goto(session.url);
  const cards = await Promise.all(
    [page, other].map(async (tab) => {
      await openDemo(tab);
      await tab.selectOption("#limit", QUICK);
      await compress(tab, "nf4");
      const rows = await tab.locator("#card tbody tr").allTextContents();
      const { bytes } = await downloaded(tab, "#download");
      return { rows: rows.filter((row) => !row.includes("per second")), size: bytes.length };
    }),
  );
  assert.ok(cards[0].rows.length > 10);
  assert.deepEqual(cards[0], cards[1]);
  assert.deepEqual(problems, []);
  await context.close();
});

test("a reload in the middle is safe, and leaves nothing behind", async () => {
  const { context, page, problems } = await opened();
  await openDemo(page);
  await page.click("#compress-now");
  await page
    .locator(".part-progress-label")
    .filter({ hasText: /: [\d,]+ of/ })
    .waitFor();
  await page.reload();
  await openDemo(page);
  await page.selectOption("#limit", QUICK);
  await compress(page, "int8");
  assert.equal(await page.locator("#card").count(), 1);
  await choose(page, "fp16");
  await page.click("#let-go");
  await page.waitForSelector("#understand", { state: "detached" });
  assert.equal(await page.textContent("#drop-title"), "Drop a checkpoint");
  const kept = await page.evaluate(async () => {
    const names = [];
    const walk = async (folder, path) => {
      for await (const [name, handle] of folder) {
        if (handle.kind === "directory") await walk(handle, `${path}${name}/`);
        else names.push(`${path}${name}`);
      }
    };
    await walk(await navigator.storage.getDirectory(), "");
    return names;
  });
  assert.deepEqual(kept, [], "no produced file stays in the browser's own file system");
  assert.deepEqual(problems, []);
  await context.close();
});

test("with reduced motion nothing moves while working", async () => {
  const { context, page } = await opened({ reducedMotion: "reduce" });
  await openDemo(page);
  await page.selectOption("#limit", QUICK);
  await page.evaluate(() => {
    globalThis.moved = new Set();
    const look = () => {
      for (const animation of document.getAnimations()) {
        // The style sheet leaves them a moment too short to be seen.
        const { activeDuration } = animation.effect.getComputedTiming();
        if (animation.playState === "running" && activeDuration > 1)
          globalThis.moved.add(animation.animationName ?? "transition");
      }
      requestAnimationFrame(look);
    };
    look();
  });
  await compress(page, "nf4");
  assert.deepEqual(await page.evaluate(() => [...globalThis.moved]), []);
  await context.close();
});
