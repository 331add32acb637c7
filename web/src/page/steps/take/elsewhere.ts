// Writes a produced checkpoint for another tool: into a folder that the user picks, or as a download.

import { type Checkpoint, FOLDERS, StatepressError, type Written } from "statepress";
import type { Elsewhere } from "../../state/elsewhere.js";
import { download } from "./download.js";

/** What came of it; undefined where the user picked no folder. */
export interface Taken {
  written: Written;
  /** What it is called where it is now. */
  name: string;
}

/** What `showDirectoryPicker` answers, in browsers that have it. */
type Picker = (options: { id: string; mode: "readwrite" }) => Promise<FileSystemDirectoryHandle>;

/** What picks folders; undefined in browsers that cannot write any. Looked for each time: a browser may not allow it in a frame. */
export function folderPicker(): Picker | undefined {
  const { showDirectoryPicker } = globalThis as { showDirectoryPicker?: Picker };
  return showDirectoryPicker?.bind(globalThis);
}

/** Writes it. It must be called by a click: a browser lets nobody else ask for a folder. */
export async function takeElsewhere(
  produced: Checkpoint,
  name: string,
  { format, ggufType, layout }: Elsewhere,
  running: { signal: AbortSignal; onProgress: (progress: { done: number; total: number }) => void },
): Promise<Taken | undefined> {
  let written: Written | undefined;
  const options = {
    format,
    ggufType,
    layout,
    ...running,
    onExport: (it: Written) => {
      written = it;
    },
  };
  const taken = (as: string) => {
    if (!written) throw new StatepressError("internal", "nothing was written");
    return { written, name: as };
  };
  if (!FOLDERS.includes(format)) {
    download(await produced.save("blob", options), name);
    return taken(name);
  }
  const pick = folderPicker();
  if (pick) {
    const parent = await picked(pick);
    if (!parent) return undefined;
    await produced.save(await emptyFolder(parent, name), options);
    return taken(`${parent.name}/${name}`);
  }
  const { ZipFolder } = await import("./zip.js");
  const zip = new ZipFolder(name);
  await produced.save(zip, options);
  download(zip.finish(), `${name}.zip`);
  return taken(`${name}.zip`);
}

async function picked(pick: Picker): Promise<FileSystemDirectoryHandle | undefined> {
  try {
    return await pick({ id: "statepress", mode: "readwrite" });
  } catch (error) {
    if ((error as Error).name === "AbortError") return undefined;
    throw new StatepressError("io", `the folder cannot be written: ${(error as Error).message}`);
  }
}

// Nothing that is there is written over.
async function emptyFolder(parent: FileSystemDirectoryHandle, name: string): Promise<FileSystemDirectoryHandle> {
  const folder = await parent.getDirectoryHandle(name, { create: true });
  for await (const _ of folder.keys()) {
    throw new StatepressError(
      "exists",
      `there is a folder ${name} in ${parent.name} already, and it is not empty: pick another place`,
    );
  }
  return folder;
}
