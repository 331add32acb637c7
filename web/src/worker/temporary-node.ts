// Files and folders that must not outlive their process (Node): removed when it ends, however it ends in JavaScript.

import { rmSync } from "node:fs";

const kept = new Set<string>();

process.on("exit", () => {
  for (const path of kept) rmSync(path, { recursive: true, force: true });
});

/** From now on that file or folder is temporary. */
export function temporary(path: string): void {
  kept.add(path);
}

/** It has become something else: it is not temporary any more. */
export function lasting(path: string): void {
  kept.delete(path);
}

/** Removes what is temporary, and nothing else. */
export function removeTemporary(path: string): void {
  if (kept.delete(path)) rmSync(path, { recursive: true, force: true });
}
