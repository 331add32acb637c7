// The package in Node: paths are opened, the work happens in this thread between looks at its event loop.
//
// STATEPRESS_BUILD=base|simd|relaxed overrides the choice of the wasm build.

import { createReadStream } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { Readable } from "node:stream";
import { LocalHost } from "../worker/host.js";
import { nodePlatform } from "../worker/platform-node.js";
import type { Host } from "../worker/protocol.js";
import type { Environment, Gathered, NamedFile, Subfolder } from "./environment.js";
import { StatepressError } from "./errors.js";
import { ioError, linkError } from "./io.js";
import { library } from "./library.js";
import { isTokenizerName, isVocabName, TOKENIZER_CONFIG } from "./names.js";
import type { SaveOptions } from "./options.js";
import { checkTarget, saveFolder, saveTarget } from "./target.js";
import { decodeText } from "./text.js";

export * from "./index.js";

function pathFile(path: string): NamedFile {
  const name = basename(path);
  return { name, data: { path }, text: async () => decodeText(await readRegular(path), name) };
}

/** The bytes of a file; what would wait for a writer, or never end, is none. */
async function readRegular(path: string): Promise<Uint8Array> {
  try {
    const about = await stat(path);
    if (!about.isFile()) throw new StatepressError("io", `${path} is no regular file`, { path });
    return await readFile(path);
  } catch (error) {
    throw linkError(path, error) ?? ioError(path, "read", error);
  }
}

async function blobFile(blob: Blob): Promise<NamedFile> {
  // There are no synchronous reads of a Blob in Node: its bytes are taken into memory.
  const data = new Uint8Array(await blob.arrayBuffer());
  const name = nameOf(blob);
  return { name, data, text: async () => decodeText(data, name) };
}

function nameOf(blob: Blob): string {
  return "name" in blob && typeof blob.name === "string" ? blob.name : "checkpoint";
}

async function gatherPath(path: string): Promise<Gathered> {
  const about = await stat(path).catch((error) => {
    throw (
      linkError(path, error) ?? new StatepressError("bad-input", `${path} does not exist or cannot be read`, { path })
    );
  });
  const folder = about.isDirectory() ? path : dirname(path);
  const files = async (except?: string) =>
    (await readdir(folder, { withFileTypes: true }))
      .filter((entry) => !entry.isDirectory() && entry.name !== except)
      .map((entry) => pathFile(join(folder, entry.name)));
  if (about.isDirectory()) return { given: await files(), beside: [], inside: () => subfolders(folder) };
  // A folder that may not be listed has nothing to offer beside the file.
  return { given: [pathFile(path)], beside: await files(basename(path)).catch(() => []) };
}

/** Folders that are looked into for weights; trainers leave a dozen. */
const SUBFOLDERS = 64;

async function subfolders(folder: string): Promise<Subfolder[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const inner = entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(folder, name));
  const listed = inner.slice(0, SUBFOLDERS).map(async (path) => ({ path, names: await readdir(path).catch(() => []) }));
  return Promise.all(listed);
}

async function tokenizerAt(path: string): Promise<NamedFile[]> {
  const folder = (await stat(path).catch(() => undefined))?.isDirectory();
  if (!folder && !isVocabName(basename(path))) return [pathFile(path)];
  const { given, beside } = await gatherPath(path);
  // Of a pair either one names both.
  const belongs = folder ? isTokenizerName : isVocabName;
  return [...given, ...beside].filter(({ name }) => belongs(name) || name === TOKENIZER_CONFIG);
}

async function pipeTo(from: string, to: WritableStream, { signal }: SaveOptions): Promise<void> {
  await Readable.toWeb(createReadStream(from)).pipeTo(to, signal === undefined ? {} : { signal });
}

let trainer: Host | undefined;

const environment: Environment = {
  host: new LocalHost(nodePlatform, process.env["STATEPRESS_BUILD"]),

  trainer() {
    trainer ??= new LocalHost(nodePlatform, "distill");
    return trainer;
  },

  async gather(input) {
    if (typeof input === "string") return gatherPath(input);
    if (input instanceof Uint8Array) {
      const name = "checkpoint";
      return { given: [{ name, data: input, text: async () => decodeText(input, name) }], beside: [] };
    }
    if (input instanceof Blob) return { given: [await blobFile(input)], beside: [] };
    const given = await Promise.all(Array.from(input, (it) => (typeof it === "string" ? pathFile(it) : blobFile(it))));
    return { given, beside: [] };
  },

  tokenizer: async (input) => (typeof input === "string" ? tokenizerAt(input) : [await blobFile(input)]),

  // What is written through, as a FIFO is, has no folder of its own to be written in.
  async beside(path) {
    const { file, kind } = await checkTarget(path, { force: true });
    return kind === "file" ? file : undefined;
  },

  async saveFolder(files, target, options) {
    if (typeof target !== "string") throw new StatepressError("bad-input", "Node saves a folder to a path");
    await saveFolder(target, files, options);
  },

  async save(data, target, options) {
    if (!("path" in data)) throw new StatepressError("internal", "what Node produces is a file");
    if (target === "blob") return new Blob([await readFile(data.path)]);
    if (typeof target === "string") await saveTarget(target, options, data.path);
    else if (target instanceof WritableStream) await pipeTo(data.path, target, options);
    else throw new StatepressError("bad-input", 'Node saves to a path, a WritableStream or "blob"');
    return undefined;
  },
};

export const { open, compare, compareByText, search, gradients, distill, recover, allocate, recipes } =
  library(environment);
