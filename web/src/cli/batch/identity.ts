// Which work one entry of a batch is: a digest of the bytes that are read, of what is to be made of them and by which version.
// The result is named by it, so that whoever starts the same work again finds what is done.

import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { pipeline } from "node:stream/promises";
import type { NamedFile } from "../../api/environment.js";
import { StatepressError } from "../../api/errors.js";
import { type Format, fileName } from "../../api/formats.js";
import { sortFiles } from "../../api/gather.js";
import { gatherPath, tokenizerAt } from "../../api/gather-node.js";
import { ioError, linkError } from "../../api/io.js";
import { stem } from "../destinations.js";

/** A file with its digest. */
export interface Hashed {
  name: string;
  bytes: number;
  sha256: string;
}

/** The files of a checkpoint that are read. */
export interface Input {
  files: Hashed[];
  /** Of all of them. */
  sha256: string;
  /** Refuses files that are not as they were when they were hashed. */
  checkUnchanged(): Promise<void>;
}

/** Digits of the digest in a name: enough for 2^32 results without two alike. */
const DIGITS = 16;

/** Characters of a checkpoint's own name that a result keeps: with all that is added a file system takes it. */
const KEPT = 40;

/** What is called by its path, hashed: the weights, their index, the configuration and the tokenizer's files. */
export async function hashInput(path: string, tokenizer: string | undefined, signal: AbortSignal): Promise<Input> {
  const about = await stat(path).catch((error: unknown) => {
    throw linkError(path, error) ?? ioError(path, "read", error);
  });
  if (!about.isFile() && !about.isDirectory()) {
    throw new StatepressError("bad-input", `${path} is neither a file nor a folder`, { path });
  }
  const { weights, index, config, tokenizers } = await sortFiles(await gatherPath(path));
  const named = tokenizer === undefined ? await readable(tokenizers) : await tokenizerAt(tokenizer);
  const read = [...weights.files, ...named];
  const before = await Promise.all(read.map(stamp));
  const files: Hashed[] = [];
  for (const file of read) files.push(await hashFile(pathOf(file), signal, file.name));
  if (index !== undefined) files.push(hashText(weights.index?.name ?? "", index));
  if (config !== undefined) files.push(hashText("config.json", config));
  // A folder lists its files in an order of its own.
  files.sort((a, b) => (a.name < b.name ? -1 : 1));
  return {
    files,
    sha256: digest(files.map(({ name, sha256 }) => [name, sha256])),
    async checkUnchanged() {
      for (const [at, file] of read.entries()) {
        if ((await stamp(file)) === before[at]) continue;
        const message = `${file.name} was changed while it was read`;
        throw new StatepressError("io", message, { path: pathOf(file), system: "changed" });
      }
    },
  };
}

/** The digest of the work, by which it is the same or another. */
export function keyOf(input: Input, work: object): string {
  return digest([input.files.map(({ name, sha256 }) => [name, sha256]), work]);
}

/** What the result is called: the checkpoint's name, so that people find it, and the digest. */
export function nameOf(path: string, key: string, format: Format): string {
  const plain = stem(path)
    .replace(/[^\p{L}\p{N}._-]+/gu, "-")
    .replace(/^[.-]+|[.-]+$/g, "");
  const own = [...plain].slice(0, KEPT).join("") || "model";
  return fileName(`${own}.${key.slice(0, DIGITS)}`, format);
}

/** The digest of any value that JSON can hold; the order of fields counts. */
export function digest(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}

/** A file, hashed. */
export async function hashFile(path: string, signal: AbortSignal, name = basename(path)): Promise<Hashed> {
  const hash = createHash("sha256");
  let bytes = 0;
  try {
    await pipeline(
      createReadStream(path),
      counted(hash, (more) => (bytes += more)),
      { signal },
    );
  } catch (error) {
    if (signal.aborted) throw error;
    throw ioError(path, "read", error);
  }
  return { name, bytes, sha256: hash.digest("hex") };
}

function counted(hash: Hash, count: (bytes: number) => void) {
  return async (parts: AsyncIterable<Buffer>) => {
    for await (const part of parts) {
      hash.update(part);
      count(part.length);
    }
  };
}

function hashText(name: string, text: string): Hashed {
  const bytes = Buffer.from(text);
  return { name, bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
}

// A link to nothing beside the weights, as in a cache of downloads, keeps nothing from opening.
async function readable(files: readonly NamedFile[]): Promise<NamedFile[]> {
  const there = await Promise.all(files.map((file) => stat(pathOf(file)).catch(() => undefined)));
  return files.filter((_, at) => there[at]?.isFile());
}

function pathOf({ name, data }: NamedFile): string {
  if ("path" in data) return data.path;
  throw new StatepressError("internal", `${name} has no path`);
}

/** Changes whenever a file does. */
async function stamp(file: NamedFile): Promise<string> {
  const path = pathOf(file);
  const about = await stat(path).catch((error: unknown) => {
    throw linkError(path, error) ?? ioError(path, "read", error);
  });
  if (!about.isFile()) throw new StatepressError("bad-input", `${path} is no regular file`, { path });
  return `${about.size} ${about.mtimeMs} ${about.ino}`;
}
