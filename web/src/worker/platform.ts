// What the host needs of the place it runs in: files, scratch space, the module, and a pause.

import type { Data } from "./protocol.js";
import type { ModuleName, Sink, Source, Wasm } from "./wasm.js";

/** An opened file. */
export interface OpenFile extends Source {
  close(): void;
}

/** A file being produced: complete with finish(), gone with discard(). */
export interface Scratch extends Sink {
  finish(): Data;
  discard(): void;
}

/** The place the host runs in. */
export interface Platform {
  open(data: Data): OpenFile;
  /** Where something is produced: beside a file, where one is named. */
  scratch(beside?: string): Scratch;
  /** Deletes what a Scratch has produced. */
  remove(data: Data): void;
  wasm(name: ModuleName): Promise<Wasm>;
  /** Makes WebGPU be where a page has it; answers why it is not there. */
  gpu(): Promise<string | undefined>;
  /** Lets messages and timers run. */
  breathe(): Promise<void>;
}
