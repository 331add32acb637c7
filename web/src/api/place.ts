// Writes a file so that nobody ever sees half of it under its name (Node).

import { access, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { StatepressError } from "./errors.js";

/** Refuses a path that cannot be written: its folder is missing, or it exists already and is not forced. */
export async function checkTarget(path: string, force: boolean): Promise<void> {
  const folder = dirname(path);
  if (!(await exists(folder))) {
    throw new StatepressError("io", `${path} cannot be written: there is no folder ${folder}`, { path });
  }
  if (!force && (await exists(path))) {
    throw new StatepressError("exists", `${path} exists; it is replaced only when forced (--force)`, { path });
  }
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** Lets `write` fill a file beside `path`, and gives it that name when it is complete. */
export async function place(path: string, force: boolean, write: (partial: string) => Promise<void>): Promise<void> {
  await checkTarget(path, force);
  const partial = join(dirname(path), `.${basename(path)}.${process.pid}.partial`);
  try {
    await write(partial);
    await rename(partial, path);
  } finally {
    await rm(partial, { force: true });
  }
}
