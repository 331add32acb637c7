// Files out of what was dropped: folders are walked, with limits, because a drop can be a whole disk.

/** The part of `FileSystemEntry` that the walk needs. */
export interface Entry {
  isFile: boolean;
  isDirectory: boolean;
  name: string;
  file?(found: (file: File) => void, failed: (error: unknown) => void): void;
  createReader?(): EntryReader;
}

/** The part of `FileSystemDirectoryReader` that the walk needs. */
export interface EntryReader {
  readEntries(found: (entries: Entry[]) => void, failed: (error: unknown) => void): void;
}

/** How far the walk goes. */
export interface WalkLimits {
  /** Entries, folders among them. */
  entries: number;
  /** Folders inside folders. */
  depth: number;
}

export const WALK_LIMITS: WalkLimits = { entries: 10_000, depth: 8 };

/** What a walk found, and what kept it from the rest. */
export interface Walk {
  files: File[];
  /** In words, for people; empty when everything was read. */
  problems: string[];
}

/** All files under the entries, in the order of the folders. Unreadable ones are named in `problems`, never thrown. */
export async function filesUnder(roots: Entry[], limits: WalkLimits = WALK_LIMITS): Promise<Walk> {
  const walk: Walk = { files: [], problems: [] };
  let seen = 0;
  let full = false;
  let deep = false;

  async function visit(entry: Entry, depth: number): Promise<void> {
    if (full) return;
    if (seen === limits.entries) {
      full = true;
      return;
    }
    seen += 1;
    try {
      if (entry.isFile) {
        walk.files.push(await fileOf(entry));
      } else if (entry.isDirectory) {
        if (depth === limits.depth) deep = true;
        else for await (const inner of inside(entry)) await visit(inner, depth + 1);
      }
    } catch {
      walk.problems.push(`“${entry.name}” could not be read.`);
    }
  }

  for (const root of roots) await visit(root, 0);
  if (full) walk.problems.push(`Only the first ${limits.entries.toLocaleString("en")} files and folders were read.`);
  if (deep) walk.problems.push(`Folders more than ${limits.depth} deep were left out.`);
  return walk;
}

function fileOf(entry: Entry): Promise<File> {
  return new Promise((resolve, reject) => {
    if (entry.file) entry.file(resolve, reject);
    else reject(new Error("no file"));
  });
}

/** `readEntries` gives a batch at a time (100 in Chromium) and an empty one at the end. */
async function* inside(entry: Entry): AsyncGenerator<Entry> {
  const reader = entry.createReader?.();
  if (!reader) throw new Error("no reader");
  while (true) {
    const batch = await new Promise<Entry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (batch.length === 0) return;
    yield* batch;
  }
}
