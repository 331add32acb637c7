// The demo checkpoint and the text that everything is measured on when the user has none.

import { StatepressError } from "statepress";

const FILES = ["model.safetensors", "config.json", "tokenizer.json"];

/** The files of the demo: a language model of 1.9 million parameters. */
export function demoFiles(signal: AbortSignal): Promise<File[]> {
  return Promise.all(
    FILES.map(async (name) => new File([await (await served(`itera-tiny/${name}`, signal)).blob()], name)),
  );
}

let text: Promise<string> | undefined;

/** A text that the demo model has not seen. */
export function heldout(): Promise<string> {
  text ??= served("heldout.txt").then((response) => response.text());
  // It may be there the next time.
  text.catch(() => {
    text = undefined;
  });
  return text;
}

async function served(name: string, signal?: AbortSignal): Promise<Response> {
  const response = await fetch(`./demo/${name}`, { signal: signal ?? null });
  if (response.ok) return response;
  throw new StatepressError("io", `the demo's ${name} is not served here (${response.status})`, { file: name });
}
