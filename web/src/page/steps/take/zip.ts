// A folder as one download, where a browser cannot write folders: a zip archive of files as they are (APPNOTE 6.3.10, method 0).
//
// Bytes are handed to the browser's store of Blobs as they come, so that weights of gigabytes are never held by the page.

import { StatepressError, type WritableFile, type WritableFolder } from "statepress";

/** Bytes that are kept before they are handed on. */
const HELD = 1 << 23;

/** What a size may be in an archive of this kind. */
const MOST = 2 ** 32 - 1;

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;

/** 2.0: folders. */
const VERSION = 20;

/** Names are UTF-8. */
const FLAGS = 1 << 11;

/** 1 January 1980, the first day that the format knows: the same files are the same archive on any day. */
const DAY = 0x21;

interface Entry {
  name: Uint8Array<ArrayBuffer>;
  crc: number;
  size: number;
  at: number;
}

/** A folder that becomes an archive. */
export class ZipFolder implements WritableFolder {
  readonly #name: string;
  readonly #parts: BlobPart[] = [];
  readonly #entries: Entry[] = [];
  #size = 0;

  constructor(name: string) {
    this.#name = name;
  }

  async getFileHandle(name: string): Promise<WritableFile> {
    return { createWritable: async () => this.#file(`${this.#name}/${name}`) };
  }

  /** The archive of what was written. */
  finish(): Blob {
    const start = this.#size;
    for (const { name, crc, size, at } of this.#entries) {
      const header = fields(46);
      header.u32(CENTRAL).u16(VERSION).u16(VERSION).u16(FLAGS).u16(0).u16(0).u16(DAY).u32(crc).u32(size).u32(size);
      header.u16(name.length).u16(0).u16(0).u16(0).u16(0).u32(0).u32(at);
      this.#add(header.bytes, name);
    }
    const count = this.#entries.length;
    const end = fields(22);
    end.u32(END).u16(0).u16(0).u16(count).u16(count);
    end
      .u32(this.#size - start)
      .u32(start)
      .u16(0);
    this.#add(end.bytes);
    return new Blob(this.#parts, { type: "application/zip" });
  }

  #file(path: string): WritableStream<Uint8Array<ArrayBuffer>> {
    const crc = new Crc();
    let size = 0;
    let held: Uint8Array<ArrayBuffer>[] = [];
    let kept = 0;
    const blobs: Blob[] = [];
    const handOn = () => {
      blobs.push(new Blob(held));
      held = [];
      kept = 0;
    };
    return new WritableStream({
      write: (bytes) => {
        size += bytes.length;
        if (this.#size + size > MOST) throw tooLarge();
        crc.add(bytes);
        // What is written may be written over by whoever lent it.
        held.push(bytes.slice());
        kept += bytes.length;
        if (kept >= HELD) handOn();
      },
      close: () => {
        handOn();
        const name = new TextEncoder().encode(path);
        const header = fields(30);
        header.u32(LOCAL).u16(VERSION).u16(FLAGS).u16(0).u16(0).u16(DAY).u32(crc.value).u32(size).u32(size);
        header.u16(name.length).u16(0);
        this.#entries.push({ name, crc: crc.value, size, at: this.#size });
        this.#add(header.bytes, name, ...blobs);
      },
    });
  }

  #add(...parts: (Uint8Array<ArrayBuffer> | Blob)[]): void {
    for (const part of parts) this.#size += part instanceof Blob ? part.size : part.length;
    this.#parts.push(...parts);
  }
}

function tooLarge(): StatepressError {
  const message =
    "the folder is larger than the 4 GiB of a zip archive, and this browser writes no folders: take it in a browser that does (Chrome, Edge), or on the command line";
  return new StatepressError("too-large", message, { limit: MOST });
}

/** Numbers one after the other, little-endian. */
function fields(length: number) {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  let at = 0;
  const writer = {
    bytes,
    u16(value: number) {
      view.setUint16(at, value, true);
      at += 2;
      return writer;
    },
    u32(value: number) {
      view.setUint32(at, value, true);
      at += 4;
      return writer;
    },
  };
  return writer;
}

/** The checksum of zip and gzip: CRC-32 by a table, least bit first. */
export class Crc {
  static readonly #table = Uint32Array.from({ length: 256 }, (_, byte) => {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = (value & 1 ? 0xedb88320 : 0) ^ (value >>> 1);
    return value;
  });
  #state = 0xffffffff;

  add(bytes: Uint8Array): void {
    const table = Crc.#table;
    let state = this.#state;
    for (let at = 0; at < bytes.length; at++) state = (table[(state ^ (bytes[at] ?? 0)) & 0xff] ?? 0) ^ (state >>> 8);
    this.#state = state;
  }

  get value(): number {
    return ~this.#state >>> 0;
  }
}
