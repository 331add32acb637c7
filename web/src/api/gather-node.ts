// The files that a path stands for (Node): a file and what lies beside it, or what a folder holds.

import { readdir, readFile, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Gathered, NamedFile, Subfolder } from "./environment.js";
import { StatepressError } from "./errors.js";
import { ioError, linkError } from "./io.js";
import { isTokenizerName, isVocabName, TOKENIZER_CONFIG } from "./names.js";
import { decodeText } from "./text.js";

/** The files behind a path. */
export async function gatherPath(path: string): Promise<Gathered> {
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

/** The files of a tokenizer: that one and those that belong to it, or those in a folder. */
export async function tokenizerAt(path: string): Promise<NamedFile[]> {
  const folder = (await stat(path).catch(() => undefined))?.isDirectory();
  if (!folder && !isVocabName(basename(path))) return [pathFile(path)];
  const { given, beside } = await gatherPath(path);
  // Of a pair either one names both.
  const belongs = folder ? isTokenizerName : isVocabName;
  return [...given, ...beside].filter(({ name }) => belongs(name) || name === TOKENIZER_CONFIG);
}

/** A file by its path. */
export function pathFile(path: string): NamedFile {
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
