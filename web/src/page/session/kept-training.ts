// A training that was left, over a reload: its snapshot in the browser's own files, and what is said of it beside them. One at a
// time. Where a browser keeps nothing for pages, nothing is kept.

import type { LeftTraining } from "../state/state.js";

const FILE = "statepress-training";
const KEY = "statepress training";

/** Keeps a snapshot in place of the one before; answers whether it could. */
export async function keepTraining(left: LeftTraining, snapshot: Uint8Array<ArrayBuffer>): Promise<boolean> {
  try {
    const folder = await navigator.storage.getDirectory();
    const file = await (await folder.getFileHandle(FILE, { create: true })).createWritable();
    await file.write(snapshot);
    // What was there before is there until now.
    await file.close();
    localStorage.setItem(KEY, JSON.stringify(left));
    return true;
  } catch {
    return false;
  }
}

/** The training of a checkpoint that was left, if one was. */
export function leftTraining({ name, bytes }: LeftTraining["of"]): LeftTraining | undefined {
  try {
    const left = JSON.parse(localStorage.getItem(KEY) ?? "null") as LeftTraining | null;
    return left?.of.name === name && left.of.bytes === bytes ? left : undefined;
  } catch {
    return undefined;
  }
}

/** The snapshot of the training that was left. */
export async function keptSnapshot(): Promise<Uint8Array<ArrayBuffer>> {
  const folder = await navigator.storage.getDirectory();
  const file = await (await folder.getFileHandle(FILE)).getFile();
  return new Uint8Array(await file.arrayBuffer());
}

/** Forgets the training that was left. */
export async function forgetTraining(): Promise<void> {
  try {
    localStorage.removeItem(KEY);
    await (await navigator.storage.getDirectory()).removeEntry(FILE);
  } catch {
    // Nothing was kept, then.
  }
}
