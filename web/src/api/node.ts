// The package in Node: paths are opened, the work happens in this thread between looks at its event loop.
//
// STATEPRESS_BUILD=base|simd|relaxed overrides the choice of the wasm build.

import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { Readable } from "node:stream";
import { WorkerHost } from "../worker/client.js";
import { LocalHost } from "../worker/host.js";
import { nodePlatform } from "../worker/platform-node.js";
import type { Host } from "../worker/protocol.js";
import { nodeThread } from "../worker/thread-node.js";
import type { Environment, NamedFile } from "./environment.js";
import { StatepressError } from "./errors.js";
import { gatherPath, pathFile, tokenizerAt } from "./gather-node.js";
import { library } from "./library.js";
import type { SaveOptions } from "./options.js";
import { checkTarget, saveFolder, saveTarget } from "./target.js";
import { decodeText } from "./text.js";

export * from "./index.js";

async function blobFile(blob: Blob): Promise<NamedFile> {
  // There are no synchronous reads of a Blob in Node: its bytes are taken into memory.
  const data = new Uint8Array(await blob.arrayBuffer());
  const name = nameOf(blob);
  return { name, data, text: async () => decodeText(data, name) };
}

function nameOf(blob: Blob): string {
  return "name" in blob && typeof blob.name === "string" ? blob.name : "checkpoint";
}

async function pipeTo(from: string, to: WritableStream, { signal }: SaveOptions): Promise<void> {
  await Readable.toWeb(createReadStream(from)).pipeTo(to, signal === undefined ? {} : { signal });
}

let trainer: Host | undefined;
let exporter: Host | undefined;

const environment: Environment = {
  host: new LocalHost(nodePlatform, process.env["STATEPRESS_BUILD"]),

  trainer() {
    trainer ??= new LocalHost(nodePlatform, "distill");
    return trainer;
  },

  exporter() {
    exporter ??= new LocalHost(nodePlatform, "extra");
    return exporter;
  },

  worker: () => new WorkerHost(nodeThread, "extra"),
  cores: availableParallelism(),

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

export const { open, compare, compareByText, search, gradients, distill, recover, allocate, recipes, prepare } =
  library(environment);
