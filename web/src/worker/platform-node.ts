// The platform of Node: files are read by descriptor, produced bytes go to a temporary file.

import { closeSync, fstatSync, mkdtempSync, openSync, readSync, statSync, writeSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { StatepressError } from "../api/errors.js";
import { ioError, linkError } from "../api/io.js";
import { installGpu } from "./gpu-node.js";
import type { OpenFile, Platform, Scratch } from "./platform.js";
import { removeTemporary, temporary } from "./temporary-node.js";
import { loadWasm } from "./wasm.js";

/** The platform of Node. */
export const nodePlatform: Platform = {
  open: (data) => {
    if (data instanceof Uint8Array) return new BytesFile(data);
    if ("path" in data) return new PathFile(data.path);
    throw new StatepressError("internal", "Blobs are turned to bytes before they come here");
  },
  scratch: (beside) => new TemporaryFile(beside),
  remove: (data) => {
    if ("path" in data) removeProduced(data.path);
  },
  wasm: (build) => loadWasm(build, (url) => readFile(url)),
  gpu: installGpu,
  breathe: () => new Promise((resolve) => setImmediate(resolve)),
};

function outside(offset: number, wanted: number, size: number): RangeError {
  return new RangeError(`${wanted} bytes at offset ${offset} lie outside the ${size} bytes there are`);
}

class BytesFile implements OpenFile {
  readonly size: number;

  constructor(readonly bytes: Uint8Array) {
    this.size = bytes.length;
  }

  readAt(offset: number, buffer: Uint8Array): void {
    if (offset + buffer.length > this.size) throw outside(offset, buffer.length, this.size);
    buffer.set(this.bytes.subarray(offset, offset + buffer.length));
  }

  close(): void {}
}

class PathFile implements OpenFile {
  readonly size: number;
  readonly #descriptor: number;

  constructor(path: string) {
    try {
      // Opening a FIFO would wait for whoever writes it, and nothing here could end that.
      if (!statSync(path).isFile()) throw new StatepressError("bad-input", `${path} is no regular file`, { path });
      this.#descriptor = openSync(path, "r");
    } catch (error) {
      throw linkError(path, error) ?? ioError(path, "read", error);
    }
    this.size = fstatSync(this.#descriptor).size;
  }

  readAt(offset: number, buffer: Uint8Array): void {
    let done = 0;
    while (done < buffer.length) {
      const read = readSync(this.#descriptor, buffer, done, buffer.length - done, offset + done);
      if (read === 0) throw outside(offset, buffer.length, this.size);
      done += read;
    }
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}

function removeProduced(path: string): void {
  removeTemporary(dirname(path));
}

class TemporaryFile implements Scratch {
  readonly #path: string;
  readonly #beside: string | undefined;
  #descriptor: number | undefined;

  /** In a hidden folder beside a file, or in the folder of temporary files. */
  constructor(beside?: string) {
    this.#beside = beside;
    try {
      const prefix =
        beside === undefined ? join(tmpdir(), "statepress-") : join(dirname(beside), ".statepress-partial-");
      const folder = mkdtempSync(prefix);
      temporary(folder);
      this.#path = join(folder, "compressed.safetensors");
      this.#descriptor = openSync(this.#path, "wx");
    } catch (error) {
      throw this.#failure(error);
    }
  }

  #failure(error: unknown): StatepressError {
    if (this.#beside !== undefined) return ioError(this.#beside, "written", error);
    return ioError(`the folder of temporary files, ${tmpdir()},`, "written", error, "; TMPDIR names another");
  }

  write(bytes: Uint8Array): void {
    if (this.#descriptor === undefined) throw new StatepressError("internal", "written after its end");
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#descriptor, bytes, done);
    } catch (error) {
      throw this.#failure(error);
    }
  }

  finish(): { path: string } {
    this.#close();
    return { path: this.#path };
  }

  discard(): void {
    this.#close();
    removeProduced(this.#path);
  }

  #close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }
}
