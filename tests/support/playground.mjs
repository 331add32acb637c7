// What the tests of the playground share: how it is opened and used, and its numbers read back from what it shows.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join } from "node:path";
import { after } from "node:test";
import { launch } from "./browser.mjs";
import { DEMO } from "./node.mjs";

/** The demo's files, as someone would pick them. */
export const FILES = ["model.safetensors", "config.json", "tokenizer.json"].map((name) => join(DEMO, name));

/** Tokens that a quick measurement takes: enough for numbers, quick on a slow machine. */
export const QUICK = "4096";

/** One page of a browser without a GPU, for a file of tests that walk through it one after the other. */
export async function walkthrough() {
  const session = await launch({ webgpu: false });
  after(() => session.close());
  const { page, problems } = await session.open("/", { viewport: { width: 1280, height: 900 } });
  return { page, problems };
}

/** What an element says, its blanks and line ends as single blanks. */
export async function wordsOf(page, selector) {
  return (await page.textContent(selector)).replace(/\s+/g, " ").trim();
}

/** Opens files, and waits until their recipes are planned. */
export async function openFiles(page, paths = FILES) {
  await pick(page, paths);
  await advised(page);
}

/** Picks files, and has another model opened in the place of the one that is open. */
export async function pick(page, paths) {
  const open = (await page.locator("#let-go").count()) > 0;
  await page.setInputFiles("#files", paths);
  const belongs = (path) => /^(config|tokenizer.*)\.json$|\.txt$/.test(basename(path));
  if (open && !paths.every(belongs)) await page.click("#open-instead");
}

/** Opens the demo with its button. */
export async function openDemo(page) {
  await page.click("#demo");
  await advised(page);
}

// Waits by locators: the handle that page.waitForSelector answers with would keep a page's elements alive.

/** Waits until nothing is being opened, and what is open has its plans. */
export async function advised(page) {
  await page.locator(".part-dropzone[aria-busy=false]").first().waitFor();
  await page.locator("#advice li").first().waitFor({ state: "attached" });
}

/** Chooses a built-in recipe by its card, and waits for its plan. */
export async function choose(page, recipe) {
  await page.check("#way-built-in");
  await page.locator("#all-recipes").evaluate((cards) => {
    cards.open = true;
  });
  await page.click(`#recipe-${recipe}`);
  await planned(page, recipe);
}

/** Waits until what is planned is a recipe of that name. */
export function planned(page, recipe) {
  return page.waitForFunction((name) => document.querySelector("#planned .sum .mono")?.textContent === name, recipe);
}

/** Turns to the rules of the recipe. */
export async function toRules(page) {
  await page.check("#way-rules");
}

/** Compresses and measures, to the end. */
export async function compress(page, recipe) {
  if (recipe) await choose(page, recipe);
  await page.click("#compress-now");
  await page.locator("#cancel[aria-disabled=true]").first().waitFor();
}

/** Lets both models continue the prompt, to the end. */
export async function continueBoth(page) {
  await page.click("#try button[type=submit]");
  await page.locator("#try button[type=button][aria-disabled=true]").first().waitFor();
}

/** What a click downloads: its name and bytes. */
export async function downloaded(page, selector) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(selector)]);
  const path = await download.path();
  return { name: download.suggestedFilename(), path, bytes: readFileSync(path) };
}

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What is seriously wrong for those who cannot see, or use no pointer. */
export async function seriousIn(page) {
  // A colour that has just changed is on its way: what counts is where it comes to rest.
  await page.evaluate(async () => {
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const moving = document.getAnimations().filter((it) => it instanceof CSSTransition);
    await Promise.allSettled(moving.map((it) => it.finished));
  });
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(
      ({ id, nodes }) =>
        `${id}: ${nodes
          .slice(0, 3)
          .map(({ target, any }) => `${target} ${any[0]?.message ?? ""}`)
          .join("; ")}`,
    );
}

/** What is wider than the page: nothing, as it should be. */
export async function overflow(page) {
  return page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth === clientWidth) return "";
    const wide = [...document.querySelectorAll("body *")].find(
      (it) => it.getBoundingClientRect().right > clientWidth + 1,
    );
    return `${scrollWidth - clientWidth} px, by ${wide?.outerHTML.slice(0, 120)}`;
  });
}

/** The text of a block that can be copied, by its name. */
export function copyable(page, name) {
  return page.getByRole("region", { name, exact: true }).textContent();
}

/** Drops files on the page as a pointer would, or on a part of it. */
export async function drop(page, paths, place = ".part-dropzone") {
  const files = paths.map((path) => [basename(path), readFileSync(path).toString("base64")]);
  const dataTransfer = await page.evaluateHandle((list) => {
    const data = new DataTransfer();
    for (const [name, base64] of list) {
      data.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name));
    }
    return data;
  }, files);
  await page.dispatchEvent(place, "dragenter", { dataTransfer });
  await page.dispatchEvent(place, "drop", { dataTransfer });
}

/** A value of the quality card as the page writes it: powers of ten and minus signs as people do. */
export function asWritten(text) {
  return text
    .replace(/^([\d.]+)e([+-]?\d+)$/, (_, digits, exponent) => `${digits} × 10${superscript(Number(exponent))}`)
    .replace(/^-/, "−");
}
const superscript = (n) => (n < 0 ? "⁻" : "") + [...String(Math.abs(n))].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("");

/** A number as it is shown, with its unit, as a number: `−1.24 × 10⁻⁴`, `1,902,880 bytes`. */
export function numberIn(text) {
  const plain = text
    .replaceAll(",", "")
    .replaceAll("−", "-")
    .replace(/ × 10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)/, (_, digits) => `e${[...digits].map((it) => SMALL.get(it)).join("")}`);
  return Number.parseFloat(plain);
}
const SMALL = new Map([..."⁰¹²³⁴⁵⁶⁷⁸⁹"].map((digit, i) => [digit, String(i)]).concat([["⁻", "-"]]));

/**
 * Drops a model of many layers: those of the demo again and again, so that work on it takes a while. It is put together
 * in the page from parts of the demo's file.
 */
export async function dropLayers(page, layers) {
  const bytes = readFileSync(FILES[0]);
  const length = Number(bytes.readBigUInt64LE(0));
  const entries = Object.entries(JSON.parse(bytes.subarray(8, 8 + length).toString("utf8")));
  const header = {};
  const parts = [];
  let end = 0;
  const add = (name, entry) => {
    const [from, to] = entry.data_offsets;
    header[name] = { ...entry, data_offsets: [end, end + to - from] };
    parts.push([8 + length + from, 8 + length + to]);
    end += to - from;
  };
  for (const [name, entry] of entries) if (name !== "__metadata__" && !name.startsWith("layers.")) add(name, entry);
  for (let layer = 0; layer < layers; layer++) {
    // The second of the demo's layers is of the kind that follow; the first is of another kind.
    const source = layer === 0 ? "layers.0." : `layers.${1 + (layer % 3)}.`;
    for (const [name, entry] of entries) {
      if (name.startsWith(source)) add(name.replace(source, `layers.${layer}.`), entry);
    }
  }
  const config = JSON.parse(readFileSync(FILES[1], "utf8"));
  const dataTransfer = await page.evaluateHandle(
    async ({ header, parts, config }) => {
      const demo = async (name) => (await fetch(`./demo/itera-tiny/${name}`)).blob();
      const weights = await demo("model.safetensors");
      const words = new TextEncoder().encode(header);
      const length = new BigUint64Array([BigInt(words.length)]);
      const content = [length, words, ...parts.map(([from, to]) => weights.slice(from, to))];
      const data = new DataTransfer();
      data.items.add(new File(content, "deep.safetensors"));
      data.items.add(new File([config], "config.json"));
      data.items.add(new File([await demo("tokenizer.json")], "tokenizer.json"));
      return data;
    },
    { header: JSON.stringify(header), parts, config: JSON.stringify({ ...config, num_layers: layers }) },
  );
  await page.dispatchEvent(".part-dropzone", "drop", { dataTransfer });
}
