// Files and folders that must not outlive their process (Node): removed when it ends, however it ends in JavaScript.

import { rmSync } from "node:fs";

const kept = new Set<string>();

let announce: (path: string) => void = () => {};

process.on("exit", () => {
  for (const path of kept) {
    try {
      rmSync(path, { recursive: true, force: true });
    } catch {
      // A thread may be writing there still: what else there is, goes all the same.
    }
  }
});

/** From now on that file or folder is temporary. */
export function temporary(path: string): void {
  kept.add(path);
  announce(path);
}

/** From now on somebody is told of what is temporary here, to remove it as well: a thread that is ended does not. */
export function announced(to: (path: string) => void): void {
  announce = to;
}

/** It has become something else: it is not temporary any more. */
export function lasting(path: string): void {
  kept.delete(path);
}

/** Removes what is temporary, and nothing else. */
export function removeTemporary(path: string): void {
  if (kept.delete(path)) rmSync(path, { recursive: true, force: true });
}
