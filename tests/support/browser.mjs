// What the browser tests share: a Chromium with a software WebGPU adapter, and the page's server.

import { chromium } from "playwright-core";
import { start } from "./node.mjs";

// Headless, without any GPU: SwiftShader gives a WebGPU adapter.
const WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
const NO_WEBGPU = ["--disable-blink-features=WebGPU"];

// The rest keeps it from the network.
const FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

/** How long anything may take, in milliseconds: a machine that runs tests has other things to do. */
export const PATIENCE = 240_000;

/** A browser whose profile is a folder: what it keeps is there when it is started again. */
export const launchProfile = (folder) =>
  chromium.launchPersistentContext(folder, { executablePath: process.env.CHROMIUM, args: [...FLAGS, ...NO_WEBGPU] });

/** Starts the server and the browser, with or without WebGPU; close() ends both. */
export async function launch({ webgpu = true } = {}) {
  if (!process.env.CHROMIUM)
    throw new Error("CHROMIUM must hold the path of a Chromium: pkg-scripts/browser prints one");
  const { child, done } = start(["serve", "--port", "0", "--json"]);
  const announced = await new Promise((resolve, reject) => {
    child.stdout.once("data", (text) => resolve(JSON.parse(text).url));
    done.then(({ stderr }) => reject(new Error(stderr)));
  });
  const url = new URL("/", announced).href;
  const args = [...FLAGS, ...(webgpu ? WEBGPU : NO_WEBGPU)];
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args });
  return {
    /** The page without the token by which it may open local paths; `announced` is the one with it. */
    url,
    announced,
    browser,
    /** A fresh page at the address, "/" as it is announced; what goes wrong in it fails the test that asks. */
    async open(path = "/", options = {}) {
      const page = await browser.newPage(options);
      page.setDefaultTimeout(PATIENCE);
      const problems = [];
      page.on("pageerror", (error) => problems.push(String(error)));
      page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
      await page.goto(path === "/" ? announced : new URL(path, url).href);
      return { page, problems };
    },
    async close() {
      await browser.close();
      child.kill("SIGINT");
      await done;
    },
  };
}
