// The guided tour in Chromium: six steps forward, with numbers that the page and the package agree on.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch } from "../support/browser.mjs";
import { DEMO } from "../support/node.mjs";

let session;

before(async () => {
  session = await launch();
});
after(() => session.close());

const TITLES = [
  "What a state is",
  "Why recurrence makes precision matter",
  "What INT8 and NF4 do",
  "Why the embedding is the big one",
  "What KL sees that perplexity does not",
  "What failed in the research, and why",
];

/** The page with the tour begun; motion reduced, so that nothing has to be waited for. */
async function begun(options = {}) {
  const { page, problems } = await session.open("/", { reducedMotion: "reduce", ...options });
  await page.click("#start-tour");
  return { page, problems };
}

/** Waits for a step: its title, the focus on it, and where it is. */
async function at(page, step) {
  await page.waitForFunction(
    ([title]) => {
      const heading = document.getElementById("tour-title");
      return heading?.textContent === title && document.activeElement === heading;
    },
    [TITLES[step]],
  );
  assert.equal(await page.textContent("#tour-at"), `Step ${step + 1} of 6`);
}

/** The text of the live numbers, once none of them is awaited. */
async function figures(page) {
  await page.waitForFunction(() => {
    const text = document.getElementById("tour-figures")?.textContent ?? "";
    return /\d/.test(text) && !/…|not measured/.test(text);
  });
  return page.textContent("#tour-figures");
}

const inSight = (page, id) =>
  page.waitForFunction((it) => {
    const place = document.getElementById(it)?.getBoundingClientRect();
    const panel = document.getElementById("tour").getBoundingClientRect();
    if (!place || place.top < 0 || place.top > innerHeight / 2) return false;
    // Beside the panel or above it, never under it.
    return place.right <= panel.left || place.top < panel.top;
  }, id);

const overflow = (page) =>
  page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

test("six steps forward on the demo, each with what it measured, and Escape ends it", async () => {
  const { page, problems } = await begun({ viewport: { width: 1280, height: 900 } });
  const next = () => page.click("#tour-next");

  await at(page, 0);
  assert.match(await figures(page), /3,104.*1,024.*262,144.*4$/s);
  await inSight(page, "tensor");
  assert.equal(await page.textContent("#tensor h3"), "layers.0.ssm.ssm.A_log");

  await next();
  await at(page, 1);
  const off = async () => [...(await figures(page)).matchAll(/([\d.]+) %/g)].map(([, it]) => Number(it));
  const [oneStep, atEnd] = await off();
  assert.ok(oneStep > 0 && atEnd > 2 * oneStep, `${oneStep} % after one step, ${atEnd} % at the end`);
  await page.focus("#tour-bits");
  await page.keyboard.press("Home");
  assert.equal(await page.textContent("#tour-code"), "INT4");
  assert.match(await figures(page), /0\.\d+, 1\.000/, "nothing fades");
  await page.check("#tour input[value=A_log]", { force: true });
  assert.ok((await off())[1] < atEnd, "the logarithm is the better thing to round");

  await next();
  await at(page, 2);
  await page.waitForSelector("#tour-figures tbody tr");
  assert.match(await figures(page), /int8.*nf4/s);
  await inSight(page, "codes");
  await page.click("#tour-figures button:text-is('int4')");
  assert.ok(await page.locator("#codes input[value=int4]").isChecked());

  const planned = await page.textContent("#planned");
  await next();
  await at(page, 3);
  const saved = await figures(page);
  await page.waitForFunction(() => document.getElementById("planned").textContent.includes("embedding-only"));
  const [only, rest] = [...saved.matchAll(/(\d\.\d\d)x/g)].map(([, it]) => it);
  assert.match(await page.textContent("#planned"), new RegExp(`${only}x`));
  assert.ok(Number(only) > Number(rest));

  await next();
  await at(page, 4);
  await page.waitForFunction((it) => document.getElementById("planned").textContent === it, planned);
  const limit = await page.inputValue("#limit");
  await page.click("#tour-measure");
  assert.match(await figures(page), /%.*% .*%.*× 10/s);
  assert.equal(await page.inputValue("#limit"), limit, "the settings are as they were");
  assert.match(await page.textContent("#compare-title"), /nf4/);
  const agreement = /Same next word ([\d.]+) %/.exec(await page.textContent("#tour-figures"))[1];
  assert.match(await page.textContent("#headline"), new RegExp(`${agreement} %`));
  await page.click("#tour-talk");
  await page
    .locator("#tour-said")
    .filter({ hasText: /differ from token|wrote the same/ })
    .waitFor();

  await next();
  await at(page, 5);
  await page.click("#tour-measure");
  const claims = await figures(page);
  assert.match(claims, /2\.27x.*\d\.\d\dx, perplexity.*4\.47x.*\d\.\d\dx, perplexity.*tokens a second/s);

  await page.keyboard.press("Escape");
  await page.waitForSelector("#tour", { state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement.id), "start-tour");
  assert.ok(await page.locator("#card").isVisible(), "what was measured stays");
  assert.deepEqual(problems, []);
  await page.close();
});

test("hurried there and back, on a telephone, nothing breaks or widens the page", async () => {
  const { page, problems } = await begun({ viewport: { width: 390, height: 844 }, colorScheme: "dark" });
  for (let step = 1; step < 6; step++) await page.click("#tour-next");
  await at(page, 5);
  await page.waitForSelector("#tour-measure");
  for (let step = 4; step >= 0; step--) {
    await page.click("#tour-back");
    await at(page, step);
    assert.equal(await overflow(page), 0, `no sideways scrolling at step ${step + 1}`);
  }
  assert.ok(await page.locator("#tour-back").isDisabled());
  assert.match(await figures(page), /3,104/);
  await inSight(page, "tensor");
  const panel = await page.locator("#tour").boundingBox();
  assert.ok(panel.height <= 0.45 * 844 + 1, `${panel.height} px`);
  await page.click("#tour-leave");
  await page.waitForSelector("#tour", { state: "detached" });
  assert.deepEqual(problems, []);
  await page.close();
});

test("at 200 % zoom the text can be read, and folded away to see the page", async () => {
  const { page, problems } = await begun({ viewport: { width: 640, height: 450 } });
  await at(page, 0);
  await figures(page);
  const body = await page.locator("#tour-body").boundingBox();
  assert.ok(body.height > 225, `${body.height} px of 450 to read in`);
  await page.click("#tour-fold");
  assert.ok(await page.locator("#tour-body").isHidden());
  const panel = await page.locator("#tour").boundingBox();
  assert.ok(panel.height < 150, `${panel.height} px`);
  await page.click("#tour-next");
  await at(page, 1);
  assert.ok(await page.locator("#tour-body").isVisible(), "each step begins with its text");
  assert.equal(await overflow(page), 0);
  assert.deepEqual(problems, []);
  await page.close();
});

test("work of the tour can be stopped, and another checkpoint is closed only when asked", async () => {
  const { page, problems } = await session.open("/", { reducedMotion: "reduce" });
  await page.setInputFiles(
    "#files",
    ["model.safetensors", "config.json", "tokenizer.json"].map((name) => join(DEMO, name)),
  );
  await page.waitForSelector("#choose");
  await page.click("#start-tour");
  await page.waitForSelector("#tour-asks");
  await page.click("#tour-next");
  await at(page, 1);
  assert.match(await page.textContent("#tour-asks"), /model/);
  await page.click("#tour-open");
  await figures(page);
  for (let step = 2; step < 5; step++) await page.click("#tour-next");
  await at(page, 4);
  await page.click("#tour-measure");
  await page.click("#tour-cancel");
  await page.locator("#tour-lesson").filter({ hasText: "Cancelled." }).waitFor();
  assert.ok(await page.locator("#tour-measure").isEnabled());
  assert.deepEqual(problems, []);
  await page.close();
});
