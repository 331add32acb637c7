// Files the command line reads: texts, token ids, recipes.

import { readFile } from "node:fs/promises";
import { text as readAll } from "node:stream/consumers";
import { StatepressError } from "../api/errors.js";
import type { RecipeInput } from "../api/options.js";

async function read(path: string): Promise<Buffer> {
  return readFile(path).catch((error: NodeJS.ErrnoException) => {
    throw new StatepressError("io", `${path} cannot be read: ${error.code ?? error.message}`, { path });
  });
}

/** A UTF-8 text; `-` is stdin. */
export async function readText(path: string): Promise<string> {
  if (path === "-") return readAll(process.stdin);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await read(path));
  } catch (error) {
    if (error instanceof StatepressError) throw error;
    throw new StatepressError("bad-input", `${path} is not UTF-8 text`, { path });
  }
}

/** Little-endian ids; u16 when the vocabulary fits, unless said otherwise. */
export async function readIds(path: string, type: "u16" | "u32" | undefined, vocabSize: number): Promise<Uint32Array> {
  const bytes = await read(path);
  const width = (type ?? (vocabSize <= 0x10000 ? "u16" : "u32")) === "u16" ? 2 : 4;
  if (bytes.length % width !== 0) {
    throw new StatepressError(
      "bad-input",
      `${path}: ${bytes.length} bytes are no whole number of ${8 * width}-bit ids`,
      {
        path,
      },
    );
  }
  return Uint32Array.from({ length: bytes.length / width }, (_, i) =>
    width === 2 ? bytes.readUInt16LE(2 * i) : bytes.readUInt32LE(4 * i),
  );
}

/** The name of a built-in recipe, or the recipe in a JSON file. */
export async function readRecipe(nameOrPath: string): Promise<RecipeInput> {
  if (!/\.json$|[/\\]/.test(nameOrPath)) return nameOrPath;
  const text = await readText(nameOrPath);
  try {
    return JSON.parse(text) as RecipeInput;
  } catch (error) {
    throw new StatepressError("bad-recipe", `${nameOrPath} is not JSON: ${(error as Error).message}`, {
      path: nameOrPath,
    });
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
