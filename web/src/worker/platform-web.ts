// The platform of a worker: Files are read in slices by FileReaderSync, produced bytes become a Blob.

import { StatepressError } from "../api/errors.js";
import type { OpenFile, Platform, Scratch } from "./platform.js";
import type { Data } from "./protocol.js";
import { loadWasm } from "./wasm.js";

/** Bytes fetched at a time: a FileReaderSync call costs far more than the copy of a megabyte. */
const READ_AHEAD = 1 << 20;

/** Bytes collected before they are handed to the browser, which may move Blobs to disk. */
const PART = 4 << 20;

/** The platform of a worker in a browser. */
export const webPlatform: Platform = {
  open: (data) => new BlobFile(blobOf(data)),
  scratch: () => new BlobScratch(),
  remove: () => {},
  wasm: (build) => loadWasm(build),
  gpu: async () => ("gpu" in navigator ? undefined : "this browser has no WebGPU"),
  breathe: () =>
    new Promise((resolve) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => {
        port1.close();
        resolve();
      };
      port2.postMessage(null);
    }),
};

function blobOf(data: Data): Blob {
  if (data instanceof Blob) return data;
  if (data instanceof Uint8Array) return new Blob([data as Uint8Array<ArrayBuffer>]);
  throw new StatepressError("bad-input", "a page cannot open paths: pass a File", { path: data.path });
}

// Of all open files one has its bytes read ahead: a checkpoint may be of hundreds of shards.
let ahead: BlobFile | undefined;

class BlobFile implements OpenFile {
  readonly size: number;
  readonly #reader = new FileReaderSync();
  #from = 0;
  #bytes = new Uint8Array(0);

  constructor(readonly blob: Blob) {
    this.size = blob.size;
  }

  readAt(offset: number, buffer: Uint8Array): void {
    const end = offset + buffer.length;
    if (end > this.size) throw new RangeError(`bytes ${offset} to ${end} lie outside the ${this.size} bytes there are`);
    if (buffer.length >= READ_AHEAD) {
      buffer.set(this.#read(offset, end));
      return;
    }
    if (offset < this.#from || end > this.#from + this.#bytes.length) {
      if (ahead !== this) ahead?.close();
      ahead = this;
      this.#bytes = this.#read(offset, Math.min(this.size, offset + READ_AHEAD));
      this.#from = offset;
    }
    buffer.set(this.#bytes.subarray(offset - this.#from, end - this.#from));
  }

  #read(from: number, to: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#reader.readAsArrayBuffer(this.blob.slice(from, to)));
  }

  close(): void {
    this.#bytes = new Uint8Array(0);
  }
}

class BlobScratch implements Scratch {
  #parts: Blob[] = [];
  #chunks: Uint8Array<ArrayBuffer>[] = [];
  #pending = 0;

  write(bytes: Uint8Array): void {
    // The bytes belong to the wasm memory: keep a copy.
    this.#chunks.push(new Uint8Array(bytes));
    this.#pending += bytes.length;
    if (this.#pending >= PART) this.#flush();
  }

  finish(): Blob {
    this.#flush();
    return new Blob(this.#parts, { type: "application/octet-stream" });
  }

  discard(): void {
    this.#parts = [];
    this.#chunks = [];
  }

  #flush(): void {
    this.#parts.push(new Blob(this.#chunks));
    this.#chunks = [];
    this.#pending = 0;
  }
}
