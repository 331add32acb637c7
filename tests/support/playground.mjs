// What the tests of the playground share: how it is opened and used, and its numbers read back from what it shows.

import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { DEMO } from "./node.mjs";

/** The demo's files, as someone would pick them. */
export const FILES = ["model.safetensors", "config.json", "tokenizer.json"].map((name) => join(DEMO, name));

/** Tokens that a quick measurement takes: enough for numbers, quick on a slow machine. */
export const QUICK = "4096";

/** Opens files, and waits until their recipes are planned. */
export async function openFiles(page, paths = FILES) {
  await page.setInputFiles("#files", paths);
  await page.waitForSelector("#advice li");
}

/** Opens the demo with its button. */
export async function openDemo(page) {
  await page.click("#demo");
  await page.waitForSelector("#advice li");
}

/** Chooses a built-in recipe by its card, and waits for its plan. */
export async function choose(page, recipe) {
  await page.click(`#recipe-${recipe}`);
  await planned(page, recipe);
}

/** Waits until what is planned is a recipe of that name. */
export function planned(page, recipe) {
  return page.waitForFunction((name) => document.querySelector("#planned .sum .mono")?.textContent === name, recipe);
}

/** Compresses and measures, to the end. */
export async function compress(page, recipe) {
  if (recipe) await choose(page, recipe);
  await page.click("#compress-now");
  await page.waitForSelector("#cancel:disabled");
}

/** Lets both models continue the prompt, to the end. */
export async function continueBoth(page) {
  await page.click("#try button[type=submit]");
  await page.waitForSelector("#try button[type=button]:disabled");
}

/** What a click downloads: its name and bytes. */
export async function downloaded(page, selector) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(selector)]);
  const path = await download.path();
  return { name: download.suggestedFilename(), path, bytes: readFileSync(path) };
}

/** The text of a block that can be copied, by its name. */
export function copyable(page, name) {
  return page.getByRole("region", { name, exact: true }).textContent();
}

/** Drops files on the page as a pointer would. */
export async function drop(page, paths) {
  const files = paths.map((path) => [basename(path), readFileSync(path).toString("base64")]);
  const dataTransfer = await page.evaluateHandle((list) => {
    const data = new DataTransfer();
    for (const [name, base64] of list) {
      data.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name));
    }
    return data;
  }, files);
  await page.dispatchEvent(".part-dropzone", "dragenter", { dataTransfer });
  await page.dispatchEvent(".part-dropzone", "drop", { dataTransfer });
}

/** A number as it is shown, with its unit, as a number: `−1.24 × 10⁻⁴`, `1,902,880 bytes`. */
export function numberIn(text) {
  const plain = text
    .replaceAll(",", "")
    .replaceAll("−", "-")
    .replace(/ × 10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)/, (_, digits) => `e${[...digits].map((it) => SMALL.get(it)).join("")}`);
  return Number.parseFloat(plain);
}
const SMALL = new Map([..."⁰¹²³⁴⁵⁶⁷⁸⁹"].map((digit, i) => [digit, String(i)]).concat([["⁻", "-"]]));
