// Standard input where a file could be named: texts, ids and recipes in memory, checkpoints through a temporary file.

import { createWriteStream, fstatSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { addAbortSignal, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { StatepressError } from "../api/errors.js";
import { ioError } from "../api/io.js";
import { removeTemporary, temporary } from "../worker/temporary-node.js";

/** The most bytes that are held in memory: texts and ids are far smaller. */
const HELD = 2 ** 30;

/** The most bytes that are written to the temporary file. */
const SPOOLED = 2 ** 36;

/** Everything on standard input. */
export async function readStandardInput(signal?: AbortSignal): Promise<Buffer> {
  const parts: Buffer[] = [];
  let size = 0;
  const input = standardInput();
  if (signal) addAbortSignal(signal, input);
  try {
    for await (const part of input) {
      size += part.length;
      if (size > HELD) throw tooLarge(HELD);
      parts.push(part);
    }
  } catch (error) {
    throw stopped(error, signal);
  }
  return Buffer.concat(parts);
}

/** Uses what is on standard input as a file. */
export async function withStandardInput<T>(signal: AbortSignal, use: (path: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "statepress-"));
  temporary(folder);
  try {
    const path = join(folder, "stdin");
    let size = 0;
    const count = new Transform({
      transform(part: Buffer, _, done) {
        size += part.length;
        done(size > SPOOLED ? tooLarge(SPOOLED) : null, part);
      },
    });
    await pipeline(standardInput(), count, createWriteStream(path), { signal }).catch((error: unknown) => {
      throw stopped(error, signal);
    });
    if (size === 0) throw new StatepressError("bad-input", "standard input is empty");
    return await use(path);
  } finally {
    removeTemporary(folder);
  }
}

function standardInput(): typeof process.stdin {
  // Node gives nothing to read then, and no reason.
  if (fstatSync(0).isDirectory()) throw ioError("standard input", "read", { code: "EISDIR" });
  return process.stdin;
}

function tooLarge(most: number): StatepressError {
  const message = `more than ${most / 2 ** 30} GiB come on standard input: write them to a file and name that`;
  return new StatepressError("bad-input", message, { limit: most });
}

function stopped(error: unknown, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted) return error;
  const writing = (error as NodeJS.ErrnoException).syscall === "write";
  if (writing)
    return ioError(`the folder of temporary files, ${tmpdir()},`, "written", error, "; TMPDIR names another");
  return ioError("standard input", "read", error);
}
