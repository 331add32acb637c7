// The package in a browser. In a page the work happens in a worker that is started at the first call; in a worker of
// the user's own it happens right there, where synchronous reads of files are allowed.
//
// globalThis.STATEPRESS_BUILD = "base" | "simd" | "relaxed" overrides the choice of the wasm build.

import { WorkerHost } from "../worker/client.js";
import { LocalHost } from "../worker/host.js";
import { webPlatform } from "../worker/platform-web.js";
import type { Host } from "../worker/protocol.js";
import { webThread } from "../worker/thread.js";
import type { Environment, NamedFile } from "./environment.js";
import { StatepressError } from "./errors.js";
import { library } from "./library.js";
import { decodeText } from "./text.js";

export * from "./index.js";

function host(build: string | undefined): Host {
  if ("FileReaderSync" in globalThis) return new LocalHost(webPlatform, build);
  return new WorkerHost(webThread, build);
}

function namedFile(blob: Blob): NamedFile {
  const name = blob instanceof File ? blob.name : "checkpoint";
  return { name, data: blob, text: async () => decodeText(new Uint8Array(await blob.arrayBuffer()), name) };
}

function noPaths(path: string): never {
  throw new StatepressError("bad-input", `a page cannot open the path ${path}: fetch it and pass a File`, { path });
}

let trainer: Host | undefined;
let exporter: Host | undefined;

const environment: Environment = {
  host: host((globalThis as { STATEPRESS_BUILD?: string }).STATEPRESS_BUILD),

  trainer() {
    trainer ??= host("distill");
    return trainer;
  },

  exporter() {
    exporter ??= host("extra");
    return exporter;
  },

  worker: () => new WorkerHost(webThread, "extra"),
  // Where pages are made, on a server, there is no navigator.
  cores: globalThis.navigator?.hardwareConcurrency ?? 1,

  async gather(input) {
    if (typeof input === "string") noPaths(input);
    if (input instanceof Uint8Array) {
      return { given: [namedFile(new Blob([input as Uint8Array<ArrayBuffer>]))], beside: [] };
    }
    if (input instanceof Blob) return { given: [namedFile(input)], beside: [] };
    const given = Array.from(input, (it) => (typeof it === "string" ? noPaths(it) : namedFile(it)));
    return { given, beside: [] };
  },

  tokenizer: async (input) => [typeof input === "string" ? noPaths(input) : namedFile(input)],

  beside: async (path) => noPaths(path),

  async save(data, target, { signal }) {
    if (!(data instanceof Blob)) throw new StatepressError("internal", "what a page produces is a Blob");
    if (target === "blob") return data;
    if (typeof target === "string") noPaths(target);
    if (!(target instanceof WritableStream) && !("createWritable" in target)) {
      throw new StatepressError("bad-input", 'a page saves to a FileSystemFileHandle, a WritableStream or "blob"');
    }
    const stream = target instanceof WritableStream ? target : await target.createWritable();
    await data.stream().pipeTo(stream as WritableStream<Uint8Array>, signal === undefined ? {} : { signal });
    return undefined;
  },

  async saveFolder(files, target, { signal }) {
    if (typeof target !== "object" || !("getFileHandle" in target)) {
      throw new StatepressError("bad-input", "a page saves a folder to a FileSystemDirectoryHandle");
    }
    for (const { name, data } of files) {
      const stream = await (await target.getFileHandle(name, { create: true })).createWritable();
      const blob = data instanceof Blob ? data : new Blob([data as string]);
      await blob.stream().pipeTo(stream as WritableStream<Uint8Array>, signal === undefined ? {} : { signal });
    }
  },
};

export const { open, compare, compareByText, search, gradients, distill, recover, allocate, recipes, prepare } =
  library(environment);
