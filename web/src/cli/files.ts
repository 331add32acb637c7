// Files the command line reads: texts, token ids, recipes.

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { StatepressError } from "../api/errors.js";
import { vocabularyOf } from "../api/fit.js";
import { ioError } from "../api/io.js";
import { didYouMean } from "../api/near.js";
import { type Checkpoint, PRESETS, recipes } from "../api/node.js";
import type { RecipeInput } from "../api/options.js";
import { decodeText } from "../api/text.js";
import { STANDARD, UsageError } from "./args.js";
import type { Run } from "./command.js";
import { isStream, readStream } from "./streams.js";

/** The bytes of a file; `-` is standard input. */
export async function readBytes(path: string, signal: AbortSignal): Promise<Buffer> {
  if (await isStream(path)) return readStream(path, signal);
  return readFile(path).catch((error: unknown) => {
    throw ioError(path, "read", error);
  });
}

/** A UTF-8 text; `-` is standard input. */
export async function readText(path: string, signal: AbortSignal): Promise<string> {
  return decodeText(await readBytes(path, signal), path === STANDARD ? "standard input" : path);
}

/** What a model reads: a text, or ids that are understood with the size of its vocabulary. */
export type Tokens = (vocabSize: number) => { text: string } | { ids: Uint32Array };

/** The text or the ids that an option names: read before any work. Nothing where neither is given. */
export async function readTokens(
  { args, signal }: Run,
  textOption: "text" | "held-out" | "recover" | "second-text" | "calibrate" | "measure",
  idsOption: "ids" | "held-out-ids" | "recover-ids" | "second-ids" | "calibrate-ids" | "measure-ids",
): Promise<Tokens | undefined> {
  const [text, path] = [args.text(textOption), args.text(idsOption)];
  const type = args.one("ids-type");
  if (text !== undefined && path !== undefined) {
    throw new UsageError(`either --${textOption} or --${idsOption} is needed, not both`);
  }
  if (text !== undefined) {
    const read = await readText(text, signal);
    return () => ({ text: read });
  }
  if (path === undefined) return undefined;
  const bytes = await readBytes(path, signal);
  return (vocabSize) => ({ ids: idsOf(path, bytes, type, vocabSize) });
}

/** What a checkpoint that is not loaded reads. */
export function inputOf(tokens: Tokens, { inspection }: Checkpoint): ReturnType<Tokens> {
  // Whose vocabulary is not known cannot be run: that is said by what loads it.
  return tokens(vocabularyOf(inspection) ?? 0);
}

/** What is read to make up for rounding errors. */
export function calibrationOf(tokens: Tokens, checkpoint: Checkpoint): string | Uint32Array {
  const input = inputOf(tokens, checkpoint);
  return "text" in input ? input.text : input.ids;
}

/** Little-endian ids; u16 when the vocabulary fits, unless said otherwise. `path` is where the bytes are from. */
export function idsOf(path: string, bytes: Buffer, type: "u16" | "u32" | undefined, vocabSize: number): Uint32Array {
  const width = (type ?? (vocabSize <= 0x10000 ? "u16" : "u32")) === "u16" ? 2 : 4;
  const refuse = (what: string) => new StatepressError("bad-input", `${path}: ${what}`, { path });
  const help = 'ids are read as bare numbers: numpy.asarray(ids).astype("<u2").tofile("ids.bin"), or "<u4"';
  if (bytes.subarray(0, 6).toString("latin1") === "\x93NUMPY") throw refuse(`a NumPy file (.npy); ${help}`);
  if (bytes.subarray(0, 4).toString("latin1") === "PK\x03\x04") throw refuse(`a zip archive (.pt or .npz); ${help}`);
  if (bytes.length % width !== 0) {
    throw refuse(`${bytes.length} bytes are no whole number of ${8 * width}-bit ids`);
  }
  const ids = Uint32Array.from({ length: bytes.length / width }, (_, i) =>
    width === 2 ? bytes.readUInt16LE(2 * i) : bytes.readUInt32LE(4 * i),
  );
  // What NumPy and torch save of their own accord is wider, and every second id would be a 0 that nobody wrote.
  const halved = ids.length >= 8 && ids.some((id) => id !== 0) && ids.every((id, i) => i % 2 === 0 || id === 0);
  if (halved && type !== "u16") {
    const wider =
      width === 2 ? "these look like ids of 32 or 64 bits (32 bits: --ids-type u32)" : "these look like ids of 64 bits";
    throw refuse(`every second ${8 * width}-bit id is 0: ${wider}; ${help}`);
  }
  return ids;
}

/** What goes by the name of a built-in recipe: those, and what is searched for. */
export async function builtin() {
  return [...(await recipes()), ...PRESETS];
}

/** The name of a built-in recipe or search, or the recipe in a JSON file. */
export async function readRecipe(nameOrPath: string, signal: AbortSignal): Promise<RecipeInput> {
  if (nameOrPath !== STANDARD && !/\.json$|[/\\]/.test(nameOrPath)) {
    const names = (await builtin()).map(({ name }) => name);
    if (names.includes(nameOrPath)) return nameOrPath;
    if (!existsSync(nameOrPath)) {
      const there = `there are: ${names.join(", ")}, and JSON files`;
      const message = `no recipe is named "${nameOrPath}"; ${there}${didYouMean(nameOrPath, names)}`;
      throw new StatepressError("bad-recipe", message, { recipe: nameOrPath, allowed: names });
    }
  }
  const text = await readText(nameOrPath, signal);
  try {
    return JSON.parse(text) as RecipeInput;
  } catch (error) {
    throw new StatepressError("bad-recipe", `${nameOrPath} is not JSON: ${(error as Error).message}`, {
      path: nameOrPath,
    });
  }
}

/** Names the file of a recipe where the recipe is what is wrong. */
export async function ofRecipe<T>(nameOrPath: string | undefined, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (nameOrPath === undefined || !(error instanceof StatepressError) || error.code !== "bad-recipe") throw error;
    const where = nameOrPath === STANDARD ? "standard input" : nameOrPath;
    throw new StatepressError("bad-recipe", `${where}: ${error.message}`, { ...error.facts, path: nameOrPath }, error);
  }
}

/** A safetensors file of one F32 tensor. */
export function safetensors(name: string, data: Float32Array, shape: number[]): Uint8Array {
  const header = JSON.stringify({ [name]: { dtype: "F32", shape, data_offsets: [0, data.byteLength] } });
  // The header is padded so that the numbers start at a multiple of 8.
  const padded = header.padEnd(Math.ceil(header.length / 8) * 8);
  const bytes = new Uint8Array(8 + padded.length + data.byteLength);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded.length), true);
  bytes.set(new TextEncoder().encode(padded), 8);
  // Every machine that runs JavaScript engines of today is little-endian, as the format is.
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), 8 + padded.length);
  return bytes;
}
