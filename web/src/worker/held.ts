// What handles name: objects of the wasm module, which are freed once they are released and nobody uses them.

import { StatepressError } from "../api/errors.js";
import type { Handle } from "./protocol.js";

/** Something that a handle names. */
interface Held<T> {
  object: T;
  /** Requests that are using it: it is freed when none is. */
  users: number;
  released: boolean;
  free(): void;
}

/** Objects of one kind by their handles. `next` gives a handle that names nothing yet, of whatever kind. */
export class Holder<T> {
  readonly #next: () => Handle;
  readonly #held = new Map<Handle, Held<T>>();

  constructor(next: () => Handle) {
    this.#next = next;
  }

  /** Holds an object, which `free` frees, under a handle of its own. */
  hold(object: T, free: () => void): Handle {
    const handle = this.#next();
    this.#held.set(handle, { object, users: 0, released: false, free });
    return handle;
  }

  /** Keeps an object from being freed until it is given back. */
  lend(handle: Handle): { object: T; giveBack(): void } {
    const held = this.#held.get(handle);
    // Handles come from this library alone: one that names nothing was let go, or was held by a host that has crashed.
    if (!held) throw new StatepressError("disposed", "this checkpoint or model has been disposed of");
    held.users += 1;
    const giveBack = () => {
      held.users -= 1;
      if (held.released && held.users === 0) held.free();
    };
    return { object: held.object, giveBack };
  }

  /** Uses an object. */
  async with<R>(handle: Handle, use: (object: T) => Promise<R>): Promise<R> {
    const { object, giveBack } = this.lend(handle);
    try {
      return await use(object);
    } finally {
      giveBack();
    }
  }

  /** Lets go of an object: freed at once, or when the last who uses it is done. */
  release(handle: Handle): void {
    const held = this.#held.get(handle);
    if (!held) return;
    this.#held.delete(handle);
    held.released = true;
    if (held.users === 0) held.free();
  }
}
