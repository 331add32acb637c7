// The playground stays calm: small to load, soon usable, never stuck or jumping while it works, no larger after twenty
// models than after five. What was measured is printed.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { brotliCompress, constants } from "node:zlib";
import { launch, PATIENCE } from "../support/browser.mjs";
import { advised, choose, compress, dropLayers, FILES, openDemo, openFiles, QUICK } from "../support/playground.mjs";

const brotli = promisify(brotliCompress);
let session;

before(async () => {
  session = await launch();
});
after(() => session.close());

/** A page that writes down what keeps its main thread, and what jumps. */
async function observed() {
  // Without the service worker, whose copies of the files would be counted as well.
  const context = await session.browser.newContext({ serviceWorkers: "block", viewport: { width: 1280, height: 900 } });
  await context.addInitScript(() => {
    globalThis.tasks = [];
    globalThis.shifts = [];
    const observe = (type, into) =>
      new PerformanceObserver((list) => into.push(...list.getEntries())).observe({ type, buffered: true });
    observe("longtask", globalThis.tasks);
    observe("layout-shift", globalThis.shifts);
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  return { context, page };
}

/** Does something, and says what happened to the page meanwhile. */
async function during(page, work) {
  const from = await page.evaluate(() => performance.now());
  await work();
  return page.evaluate(async (start) => {
    // What happened in the last frame is reported after it.
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)));
    const since = ({ startTime }) => startTime >= start;
    const tasks = globalThis.tasks.filter(since).map(({ duration }) => duration);
    const shifts = globalThis.shifts.filter(since).filter(({ hadRecentInput }) => !hadRecentInput);
    return {
      longest: Math.max(0, ...tasks),
      shift: shifts.reduce((sum, { value }) => sum + value, 0),
      moved: shifts.flatMap(({ sources }) =>
        sources.map(({ node }) => node?.outerHTML?.slice(0, 100) ?? node?.nodeName),
      ),
    };
  }, from);
}

test("the first load is under a megabyte, and soon usable", async (t) => {
  const { context, page } = await observed();
  const bodies = [];
  page.on("response", (response) => {
    // An answer to HEAD has no body to ask for.
    if (response.request().method() === "HEAD") return;
    bodies.push(response.body().then((bytes) => [response.url(), bytes]));
  });
  await page.goto(session.url);
  await page.locator("#demo:enabled").first().waitFor();
  const usable = await page.evaluate(() => performance.now());
  // Until the package has started and nothing more comes.
  await page.waitForLoadState("networkidle");
  // What the page and its worker both ask for comes once: the second time it is kept already (304, or not asked at all).
  const files = [...new Map(await Promise.all(bodies))];
  const options = { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } };
  const sizes = await Promise.all(files.map(async ([url, bytes]) => [(await brotli(bytes, options)).length, url]));
  const total = sizes.reduce((sum, [size]) => sum + size, 0);
  t.diagnostic(`first load: ${sizes.length} files, ${total} bytes by brotli; usable after ${Math.round(usable)} ms`);
  assert.ok(
    files.some(([url]) => url.endsWith(".wasm")),
    "the package is part of it",
  );
  assert.ok(
    total < 1e6,
    sizes
      .sort(([a], [b]) => b - a)
      .slice(0, 5)
      .join("\n"),
  );
  assert.ok(usable < 10_000, "far more than it takes, on any machine");
  await context.close();
});

test("nothing blocks the page for long, and nothing jumps, while it works", async (t) => {
  const { context, page } = await observed();
  await page.goto(session.url);
  await openDemo(page);
  await page.selectOption("#limit", QUICK);
  // The same machine may have other things to do: the best of a few rounds counts.
  const rounds = [];
  for (const recipe of ["nf4", "int8", "mixed", "int4", "mixed-conservative", "mixed-aggressive"]) {
    await choose(page, recipe);
    // Where its user looks while it works.
    await page.locator("#compress-now").scrollIntoViewIfNeeded();
    const seen = await during(page, () => compress(page));
    rounds.push(seen);
    t.diagnostic(`${recipe}: longest task ${Math.round(seen.longest)} ms, layout shift ${seen.shift.toFixed(4)}`);
    if (seen.longest <= 50 && rounds.length > 1) break;
  }
  const longest = Math.min(...rounds.map((it) => it.longest));
  assert.ok(longest <= 50, `the main thread was kept for ${longest} ms`);
  for (const { shift, moved } of rounds) assert.ok(shift < 0.02, `shift ${shift} of ${moved.join("\n")}`);

  const typing = await during(page, async () => {
    await page.locator("#try button[type=submit]").scrollIntoViewIfNeeded();
    await page.click("#try button[type=submit]");
    await page.locator("#try button[type=button][aria-disabled=true]").first().waitFor();
  });
  t.diagnostic(`generating: longest task ${Math.round(typing.longest)} ms, layout shift ${typing.shift.toFixed(4)}`);
  assert.ok(typing.shift < 0.02, `shift ${typing.shift} of ${typing.moved.join("\n")}`);
  await context.close();
});

/** Bytes in memory of the process that holds the page and its worker; undefined where that cannot be read. */
async function residentOf(known) {
  const client = await session.browser.newBrowserCDPSession();
  const { processInfo } = await client.send("SystemInfo.getProcessInfo");
  await client.detach();
  const renderers = processInfo.filter(({ type }) => type === "renderer").map(({ id }) => id);
  if (!known) return renderers;
  const sizes = renderers
    .filter((id) => !known.includes(id))
    .map((id) => {
      try {
        return 1024 * Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${id}/status`, "utf8"))?.[1]);
      } catch {
        return Number.NaN;
      }
    });
  return Math.max(...sizes);
}

test("twenty models in a row leave no more behind than five", async (t) => {
  const others = await residentOf();
  // Not observed: what has shifted would be kept by those who look at it.
  const context = await session.browser.newContext({ serviceWorkers: "block" });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  await page.goto(session.url);
  const client = await context.newCDPSession(page);
  const heaps = [];
  const residents = [];
  for (let round = 1; round <= 20; round++) {
    await openFiles(page, FILES);
    if (round === 1) {
      await page.getByRole("radio", { name: "my own text" }).check();
      await page.fill(
        "#compress textarea",
        "The history of the island is long , and its people have fished for centuries . ".repeat(20),
      );
    }
    await compress(page, round % 2 === 0 ? "nf4" : "int8");
    assert.equal(await page.textContent("#work-problem"), "", `round ${round}`);
    await page.click("#let-go");
    await page.locator("#understand").waitFor({ state: "detached" });
    await client.send("HeapProfiler.collectGarbage");
    const { metrics } = await client.send("Performance.enable").then(() => client.send("Performance.getMetrics"));
    heaps.push(metrics.find(({ name }) => name === "JSHeapUsedSize").value);
    residents.push(await residentOf(others));
  }
  const mean = (values, from, to) => values.slice(from - 1, to).reduce((sum, it) => sum + it, 0) / (to - from + 1);
  const grown = (values) => mean(values, 17, 20) / mean(values, 5, 8);
  const megabytes = (values) => values.map((it) => (it / 1e6).toFixed(1)).join(" ");
  t.diagnostic(`heap, MB: ${megabytes(heaps)}`);
  t.diagnostic(`process, MB: ${megabytes(residents)}`);
  t.diagnostic(`rounds 17 to 20 over 5 to 8: heap ${grown(heaps).toFixed(3)}, process ${grown(residents).toFixed(3)}`);
  assert.equal(page.workers().length, 1);
  assert.ok(grown(heaps) < 1.15, `the heap grew by ${grown(heaps)}`);
  if (residents.every(Number.isFinite)) assert.ok(grown(residents) < 1.15, `the process grew by ${grown(residents)}`);
  await context.close();
});

test("a model of a hundred layers is opened, planned and compressed without a long pause", async (t) => {
  const { context, page } = await observed();
  await page.goto(session.url);
  await page.locator("#demo:enabled").first().waitFor();
  const opening = await during(page, async () => {
    await dropLayers(page, 100);
    await advised(page);
  });
  t.diagnostic(`opening 1,900 tensors: longest task ${Math.round(opening.longest)} ms`);
  await page.getByRole("radio", { name: "my own text" }).check();
  await page.fill("#compress textarea", "The history of the island is long . ".repeat(40));
  await choose(page, "nf4");
  const work = await during(page, () => compress(page));
  t.diagnostic(`compressing them: longest task ${Math.round(work.longest)} ms, layout shift ${work.shift.toFixed(4)}`);
  assert.equal(await page.textContent("#work-problem"), "");
  assert.ok(work.shift < 0.05, `shift ${work.shift} of ${work.moved.join("\n")}`);
  await context.close();
});
