// What computes: chosen once per wish, and given up when the GPU is lost or found wrong.

import { StatepressError } from "../api/errors.js";
import type { Platform } from "./platform.js";
import type { BackendName, BackendOptions, Wasm, WasmBackend } from "./wasm.js";

/** The backends of a host. */
export class Backends {
  readonly #platform: Platform;
  readonly #wasm: () => Promise<Wasm>;
  readonly #chosen = new Map<string, Promise<WasmBackend>>();

  constructor(platform: Platform, wasm: () => Promise<Wasm>) {
    this.#platform = platform;
    this.#wasm = wasm;
  }

  /** The backend for a wish; the same one for the same wish. */
  choose(wanted: BackendName, options: BackendOptions = {}): Promise<WasmBackend> {
    const key = JSON.stringify([wanted, options]);
    const known = this.#chosen.get(key);
    if (known) return known;
    const chosen = this.#open(wanted, options);
    this.#chosen.set(key, chosen);
    // A GPU may come back: a failure is not remembered.
    chosen.catch(() => this.#chosen.delete(key));
    return chosen;
  }

  /** Forgets every GPU: the next wish asks anew. */
  forget(): void {
    this.#chosen.clear();
  }

  async #open(wanted: BackendName, options: BackendOptions): Promise<WasmBackend> {
    const { Backend } = await this.#wasm();
    const absent = wanted === "cpu" ? undefined : await this.#platform.gpu();
    return Backend.choose(wanted, { ...options, ...(absent !== undefined && { absent }) });
  }
}

/** Whether an error is of the GPU rather than of what it was asked. */
export function isOfGpu(error: unknown): error is StatepressError {
  return error instanceof StatepressError && (error.code === "no-gpu" || error.code.startsWith("gpu-"));
}
