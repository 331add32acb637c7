// A model on a backend. With `auto` it moves to the CPU when the GPU fails, and says so.

import { asStatepressError } from "../api/errors.js";
import type { Finding } from "../api/types/statepress.js";
import { isOfGpu } from "./backends.js";
import type { BackendInfo, WasmModel } from "./wasm.js";

/** Where a model is. */
export interface Place {
  model: WasmModel;
  backend: BackendInfo;
  /** Gives its GPU up, as a driver that is reset does. */
  lose(): void;
}

/** A model on a backend. */
export class PlacedModel {
  #place: Place;
  readonly #toCpu: (() => Promise<Place>) | undefined;
  #moving: Promise<void> | undefined;
  /** Others may still be using it: freed at the end. */
  #left: WasmModel | undefined;

  /** `toCpu` loads the model anew; without it a GPU's error is the caller's. */
  constructor(place: Place, toCpu?: () => Promise<Place>) {
    this.#place = place;
    this.#toCpu = toCpu;
  }

  /** What computes. */
  get backend(): BackendInfo {
    return this.#place.backend;
  }

  get model(): WasmModel {
    return this.#place.model;
  }

  /** What a report should say of the backend. */
  get findings(): Finding[] {
    return this.backend.finding ? [this.backend.finding] : [];
  }

  /** Does `work` with the model, and once more on the CPU if the GPU fails and may be left. */
  async use<R>(work: (model: WasmModel) => Promise<R>): Promise<R> {
    const { model } = this.#place;
    try {
      return await work(model);
    } catch (thrown) {
      const error = asStatepressError(thrown);
      if (!(isOfGpu(error) && this.#toCpu && this.#place.backend.name === "webgpu")) throw error;
      this.#moving ??= this.#move(this.#toCpu, fallBack(error));
      await this.#moving;
      return work(this.#place.model);
    }
  }

  async #move(toCpu: () => Promise<Place>, finding: Finding): Promise<void> {
    const place = await toCpu();
    this.#left = this.#place.model;
    this.#place = because(place, finding);
  }

  /** For tests: loses its GPU. */
  lose(): void {
    this.#place.lose();
  }

  free(): void {
    this.#left?.free();
    this.#place.model.free();
  }
}

/** A place that was taken for want of another. */
export function because(place: Place, finding: Finding): Place {
  return { ...place, backend: { ...place.backend, reason: finding.message, finding } };
}

/** What is to be said when the CPU takes over. */
export function fallBack(error: Error): Finding {
  return { level: "warning", code: "backend-cpu", message: `the CPU computes: ${error.message}` };
}
