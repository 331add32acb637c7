// `using model = await checkpoint.load()` gives the memory back at the end of the block, where the engine knows `using`.

/// <reference lib="esnext.disposable" preserve="true" />

/** What can be let go: at once, or waiting until it is gone. */
export interface Releasable {
  dispose(): void;
  released(): Promise<void>;
}

/** Gives a class the methods of `using` and `await using`. Engines that lack their symbols lack the statements as well. */
export function makeDisposable(prototype: Releasable): void {
  const { dispose, asyncDispose } = Symbol as { dispose?: symbol; asyncDispose?: symbol };
  if (dispose !== undefined) {
    Object.defineProperty(prototype, dispose, {
      value(this: Releasable) {
        this.dispose();
      },
    });
  }
  if (asyncDispose !== undefined) {
    Object.defineProperty(prototype, asyncDispose, {
      value(this: Releasable) {
        return this.released();
      },
    });
  }
}
