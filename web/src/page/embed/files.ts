// Fetches what <statepress-compare> compares. The small files first: what is wrong with them is said before megabytes
// are loaded.

import { EmbedError } from "./attributes.js";
import type { Watched } from "./run.js";

/** The files of a checkpoint: the weights, the tokenizer beside them, and the configuration if there is one. */
export async function fetchCheckpoint(src: URL, watched: Watched): Promise<File[]> {
  const weights = src.pathname.endsWith("/") ? new URL("model.safetensors", src) : src;
  // Whether the weights are there comes before anything that would have to lie beside them; their bytes come last.
  const response = await answered(weights, watched);
  if (!response.ok) {
    const folder = /\.\w+$/.test(weights.pathname) ? "" : '; the address of a folder ends in "/"';
    throw new EmbedError(
      `the attribute src leads to ${weights.pathname}, which is not there: the server answers ${response.status}${folder}`,
    );
  }
  const [tokenizer, config] = await Promise.all(
    ["tokenizer.json", "config.json"].map((name) => fetchOptional(new URL(name, src), watched)),
  );
  if (!tokenizer) {
    await response.body?.cancel();
    throw new EmbedError(`there is no tokenizer.json beside ${nameOf(weights)}: without it there is no text to show`);
  }
  return [await received(response, weights, watched), tokenizer, ...(config ? [config] : [])];
}

/** The text at an address. */
export async function fetchText(url: URL, watched: Watched): Promise<string> {
  const response = await answered(url, watched);
  if (!response.ok) throw new EmbedError(`${url.pathname} is not there: the server answers ${response.status}`);
  const file = await received(response, url, watched);
  // Not before the reader asks: the package is part of what is loaded then.
  const { decodeText } = await import("statepress");
  return decodeText(new Uint8Array(await file.arrayBuffer()), file.name);
}

async function fetchOptional(url: URL, watched: Watched): Promise<File | undefined> {
  const response = await answered(url, watched);
  if (response.status === 404) return undefined;
  if (!response.ok) throw new EmbedError(`${url.pathname} cannot be had: the server answers ${response.status}`);
  return received(response, url, watched);
}

function answered(url: URL, { signal }: Watched): Promise<Response> {
  return fetch(url, { signal }).catch(unreachable(url, signal));
}

function unreachable(url: URL, signal: AbortSignal): (error: unknown) => never {
  return (error) => {
    if (signal.aborted) throw error;
    throw new EmbedError(
      `${nameOf(url)} could not be loaded from ${url.host}: is the network there, and may this page ask?`,
    );
  };
}

async function received(response: Response, url: URL, { signal, onProgress }: Watched): Promise<File> {
  const name = nameOf(url);
  // Compressed transfer says its own length, not the file's.
  const encoded = response.headers.has("content-encoding");
  const total = encoded ? 0 : Number(response.headers.get("content-length") ?? 0);
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let done = 0;
  const reader = response.body?.getReader();
  for (;;) {
    const part = await reader?.read().catch(unreachable(url, signal));
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
