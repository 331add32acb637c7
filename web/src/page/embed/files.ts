// Fetches what <statepress-compare> compares. The small files first: what is wrong with them is said before megabytes
// are loaded.

import { EmbedError } from "./attributes.js";
import type { Watched } from "./run.js";

/** The files of a checkpoint: the weights, the tokenizer beside them, and the configuration if there is one. */
export async function fetchCheckpoint(src: URL, watched: Watched): Promise<File[]> {
  const weights = src.pathname.endsWith("/") ? new URL("model.safetensors", src) : src;
  const [tokenizer, config] = await Promise.all(
    ["tokenizer.json", "config.json"].map((name) => fetchFile(new URL(name, src), watched, "optional")),
  );
  if (!tokenizer) {
    throw new EmbedError(`there is no tokenizer.json beside ${nameOf(weights)}: without it there is no text to show`);
  }
  const file = await fetchFile(weights, watched);
  return [file, tokenizer, ...(config ? [config] : [])];
}

/** The text at an address. */
export async function fetchText(url: URL, watched: Watched): Promise<string> {
  return (await fetchFile(url, watched)).text();
}

async function fetchFile(url: URL, watched: Watched): Promise<File>;
async function fetchFile(url: URL, watched: Watched, need: "optional"): Promise<File | undefined>;
async function fetchFile(url: URL, { signal, onProgress }: Watched, need?: "optional"): Promise<File | undefined> {
  const name = nameOf(url);
  const failed = (error: unknown): never => {
    if (signal.aborted) throw error;
    throw new EmbedError(`${name} could not be loaded from ${url.host}: is the network there, and may this page ask?`);
  };
  const response = await fetch(url, { signal }).catch(failed);
  if (response.status === 404 && need === "optional") return undefined;
  if (!response.ok) throw new EmbedError(`${url.pathname} is not there: the server answers ${response.status}`);
  // Compressed transfer says its own length, not the file's.
  const encoded = response.headers.has("content-encoding");
  const total = encoded ? 0 : Number(response.headers.get("content-length") ?? 0);
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let done = 0;
  const reader = response.body?.getReader();
  for (;;) {
    const part = await reader?.read().catch(failed);
    if (!part || part.done) break;
    parts.push(part.value);
    done += part.value.length;
    if (total > 0) onProgress({ stage: "fetch", done, total, unit: "bytes", item: name });
  }
  return new File(parts, name);
}

function nameOf(url: URL): string {
  return decodeURIComponent(url.pathname.split("/").at(-1) ?? "");
}
