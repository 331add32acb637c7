// Compressed transfer: which encoding a browser takes, and the files in it, kept in memory.

import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";

/** What we can compress with, the better one first. */
const ENCODINGS = ["br", "gzip"] as const;

/** A content encoding. */
export type Encoding = (typeof ENCODINGS)[number];

/** The encoding to answer in, from an Accept-Encoding header; undefined: as it is. */
export function acceptedEncoding(header: string | undefined): Encoding | undefined {
  const weights = new Map<string, number>();
  for (const item of (header ?? "").split(",")) {
    const [name = "", ...parameters] = item.split(";").map((word) => word.trim().toLowerCase());
    const weight = parameters.find((it) => it.startsWith("q="));
    weights.set(name, weight ? Number(weight.slice(2)) : 1);
  }
  return ENCODINGS.find((name) => (weights.get(name) ?? weights.get("*") ?? 0) > 0);
}

const compress = {
  // Higher qualities take seconds for the wasm module, in which somebody waits for the page; 5 is near them in size.
  br: (bytes: Buffer) =>
    promisify(brotliCompress)(bytes, {
      params: { [constants.BROTLI_PARAM_QUALITY]: 5, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length },
    }),
  gzip: (bytes: Buffer) => promisify(gzip)(bytes),
};

interface Kept {
  modified: number;
  bytes: Promise<Buffer>;
}

// One version of each file and encoding: bounded by what is served.
const kept = new Map<string, Kept>();

/** A file in an encoding; compressed again when it was modified since. */
export function encoded(path: string, modified: number, encoding: Encoding): Promise<Buffer> {
  const key = `${encoding} ${path}`;
  const known = kept.get(key);
  if (known?.modified === modified) return known.bytes;
  const bytes = readFile(path).then(compress[encoding]);
  kept.set(key, { modified, bytes });
  // A failure is told to whoever asked, and tried anew next time.
  bytes.catch(() => kept.delete(key));
  return bytes;
}
