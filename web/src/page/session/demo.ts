// The demo checkpoint, and the text that everything is measured on when the user has none. The text belongs to the page;
// the checkpoint is part of a checkout, not of the npm package.

import { StatepressError } from "statepress";

const FOLDER = "./demo/itera-tiny";
const FILES = ["model.safetensors", "config.json", "tokenizer.json"];

/** The files of the demo: a language model of 1.9 million parameters. */
export function demoFiles(signal: AbortSignal): Promise<File[]> {
  return Promise.all(
    FILES.map(async (name) => new File([await (await served(`${FOLDER}/${name}`, name, signal)).blob()], name)),
  );
}

let offered: Promise<boolean> | undefined;

/** Whether the demo can be opened here; asked once. */
export function demoIsServed(): Promise<boolean> {
  offered ??= isServed();
  return offered;
}

async function isServed(): Promise<boolean> {
  const address = `${FOLDER}/config.json`;
  try {
    const response = await fetch(address, { method: "HEAD" });
    // Some servers answer with a page whatever is asked for.
    return response.ok && (response.headers.get("content-type")?.includes("json") ?? false);
  } catch {
    // Without a network: what was opened once has been kept.
    return "caches" in globalThis && (await caches.match(address)) !== undefined;
  }
}

let text: Promise<string> | undefined;

/** A text that the demo model has not seen. Fetched once: asking for it early has it here before the network goes. */
export function heldout(): Promise<string> {
  text ??= served("./heldout.txt", "heldout.txt").then((response) => response.text());
  // It may be there the next time.
  text.catch(() => {
    text = undefined;
  });
  return text;
}

async function served(address: string, name: string, signal?: AbortSignal): Promise<Response> {
  const response = await fetch(address, { signal: signal ?? null });
  if (response.ok) return response;
  throw new StatepressError("io", `${name} is not served here (${response.status})`, { file: name });
}
