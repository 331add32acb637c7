// What is read once from its start to its end: standard input, FIFOs (`<(...)` of a shell is one), devices. Texts, ids and
// recipes are held in memory, checkpoints go through a temporary file.

import { constants, createWriteStream, fstatSync, mkdtempSync } from "node:fs";
import { open, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { addAbortSignal, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { StatepressError, throwIfAborted } from "../api/errors.js";
import { ioError } from "../api/io.js";
import { removeTemporary, temporary } from "../worker/temporary-node.js";
import { STANDARD } from "./args.js";

/** The most bytes that are held in memory: texts and ids are far smaller. */
const HELD = 2 ** 30;

/** The most bytes that are written to the temporary file. */
const SPOOLED = 2 ** 36;

/** Milliseconds between two looks at a FIFO that has nothing. */
const PATIENCE = 10;

/** Bytes of one read. */
const PART = 1 << 16;

/** Whether a path can only be read from its start to its end. */
export async function isStream(path: string): Promise<boolean> {
  if (path === STANDARD) return true;
  const about = await stat(path).catch(() => undefined);
  return about !== undefined && (about.isFIFO() || about.isCharacterDevice());
}

/** Everything that comes. */
export async function readStream(path: string, signal: AbortSignal): Promise<Buffer> {
  const parts: Buffer[] = [];
  let size = 0;
  try {
    for await (const part of byteStream(path, signal)) {
      size += part.length;
      if (size > HELD) throw tooLarge(path, HELD);
      parts.push(part);
    }
  } catch (error) {
    throw failure(path, error, signal);
  }
  return Buffer.concat(parts);
}

/** Uses what comes as a file. */
export async function withStream<T>(path: string, signal: AbortSignal, use: (file: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "statepress-"));
  temporary(folder);
  try {
    const file = join(folder, "stdin");
    let size = 0;
    const count = new Transform({
      transform(part: Buffer, _, done) {
        size += part.length;
        done(size > SPOOLED ? tooLarge(path, SPOOLED) : null, part);
      },
    });
    await pipeline(byteStream(path, signal), count, createWriteStream(file), { signal }).catch((error: unknown) => {
      throw failure(path, error, signal);
    });
    if (size === 0) throw new StatepressError("bad-input", `${nameOf(path)} is empty`, { path });
    return await use(file);
  } finally {
    removeTemporary(folder);
  }
}

/** What a path is called where it is told of. */
export function nameOf(path: string): string {
  return path === STANDARD ? "standard input" : path;
}

/** What comes, part by part. */
export function byteStream(path: string, signal: AbortSignal): AsyncIterable<Buffer> {
  if (path !== STANDARD) return parts(path, signal);
  // Node gives nothing to read then, and no reason.
  if (fstatSync(0).isDirectory()) throw ioError(nameOf(path), "read", { code: "EISDIR" });
  return addAbortSignal(signal, process.stdin);
}

// An open or a read that waits would hold a thread that nothing can stop: what is not ready is asked again instead.
async function* parts(path: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    // A FIFO that nobody writes to yet has an end as well.
    let begun = !(await handle.stat()).isFIFO();
    for (;;) {
      throwIfAborted(signal);
      const part = Buffer.allocUnsafe(PART);
      const read = await handle.read(part, 0, PART, null).then(
        ({ bytesRead }) => bytesRead,
        (error: NodeJS.ErrnoException) => {
          if (error.code !== "EAGAIN") throw error;
          begun = true;
          return undefined;
        },
      );
      if (read === 0 && begun) return;
      if (read) {
        begun = true;
        yield part.subarray(0, read);
      } else {
        await sleep(PATIENCE);
      }
    }
  } finally {
    await handle.close();
  }
}

function tooLarge(path: string, most: number): StatepressError {
  const message = `more than ${most / 2 ** 30} GiB come from ${nameOf(path)}: write them to a file and name that`;
  return new StatepressError("bad-input", message, { limit: most });
}

function failure(path: string, error: unknown, signal: AbortSignal): unknown {
  if (signal.aborted) return error;
  const writing = (error as NodeJS.ErrnoException).syscall === "write";
  return writing
    ? ioError(`the folder of temporary files, ${tmpdir()},`, "written", error, "; TMPDIR names another")
    : ioError(nameOf(path), "read", error);
}
