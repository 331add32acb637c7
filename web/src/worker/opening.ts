// Opens a checkpoint: one file, or the shards of one.

import type { OpenFile, Platform } from "./platform.js";
import type { WeightsData } from "./protocol.js";
import type { Wasm, WasmCheckpoint } from "./wasm.js";

/** What the library says of a checkpoint. */
export interface OpenSettings {
  config?: string;
  set?: Record<string, number | boolean | number[]>;
  /** Where in a file the weights are. */
  weights?: string;
}

/** An opened checkpoint with its files. */
export interface OpenedCheckpoint {
  object: WasmCheckpoint;
  /** Frees it and closes the files. */
  free(): void;
}

/** Opens what `data` is; nothing stays open when that fails. */
export function openCheckpoint(
  wasm: Wasm,
  platform: Platform,
  data: WeightsData,
  settings: OpenSettings,
): OpenedCheckpoint {
  const files: OpenFile[] = [];
  const close = () => {
    for (const file of files) file.close();
  };
  try {
    const object = open();
    const free = () => {
      object.free();
      close();
    };
    return { object, free };
  } catch (error) {
    close();
    throw error;
  }

  function open(): WasmCheckpoint {
    if (!("shards" in data)) {
      const file = platform.open(data);
      files.push(file);
      return wasm.Checkpoint.open(file, settings);
    }
    const { shards, index } = data;
    const sources = shards.map(({ name, data: bytes }) => {
      const file = platform.open(bytes);
      files.push(file);
      return { name, size: file.size, readAt: (at: number, buffer: Uint8Array) => file.readAt(at, buffer) };
    });
    return wasm.Checkpoint.openShards(sources, { ...settings, ...(index && { index }) });
  }
}
