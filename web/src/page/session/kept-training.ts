// A training that was left, over a reload: its snapshot in the browser's own files, one for each checkpoint, and what is said of
// it in the storage beside them. Where a browser keeps nothing for pages, nothing is kept.

import type { LeftTraining } from "../state/state.js";

type Of = LeftTraining["of"];

const keyOf = ({ name, bytes }: Of): string => `statepress training ${bytes} ${name}`;

/** Names of files have no slashes, and are not long without end. */
const fileOf = (of: Of): string => encodeURIComponent(keyOf(of)).slice(0, 200);

/** Keeps a snapshot in place of the one before; answers whether it could. */
export async function keepTraining(left: LeftTraining, snapshot: Uint8Array<ArrayBuffer>): Promise<boolean> {
  try {
    const folder = await navigator.storage.getDirectory();
    const file = await (await folder.getFileHandle(fileOf(left.of), { create: true })).createWritable();
    try {
      await file.write(snapshot);
    } catch (error) {
      await file.abort();
      throw error;
    }
    // Until here there is what was there before.
    await file.close();
    localStorage.setItem(keyOf(left.of), JSON.stringify(left));
    return true;
  } catch {
    return false;
  }
}

/** The training of a checkpoint that was left, if one was. */
export function leftTraining(of: Of): LeftTraining | undefined {
  try {
    return (JSON.parse(localStorage.getItem(keyOf(of)) ?? "null") as LeftTraining | null) ?? undefined;
  } catch {
    return undefined;
  }
}

/** The snapshot of the training that was left; undefined where the browser has thrown it away. */
export async function keptSnapshot(of: Of): Promise<Uint8Array<ArrayBuffer> | undefined> {
  try {
    const folder = await navigator.storage.getDirectory();
    const file = await (await folder.getFileHandle(fileOf(of))).getFile();
    return new Uint8Array(await file.arrayBuffer());
  } catch {
    return undefined;
  }
}

/** Forgets the training of a checkpoint that was left. */
export async function forgetTraining(of: Of): Promise<void> {
  try {
    localStorage.removeItem(keyOf(of));
    await (await navigator.storage.getDirectory()).removeEntry(fileOf(of));
  } catch {
    // Nothing was kept, then.
  }
}
