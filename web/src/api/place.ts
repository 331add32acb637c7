// Writes a file so that nobody ever sees half of it under its name (Node).

import { access, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { StatepressError } from "./errors.js";

/** Refuses a path that exists already, unless forced. */
export async function refuseExisting(path: string, force: boolean): Promise<void> {
  const exists = await access(path).then(
    () => true,
    () => false,
  );
  if (exists && !force) {
    throw new StatepressError("exists", `${path} exists; it is replaced only when forced (--force)`, { path });
  }
}

/** Lets `write` fill a file beside `path`, and gives it that name when it is complete. */
export async function place(path: string, force: boolean, write: (partial: string) => Promise<void>): Promise<void> {
  await refuseExisting(path, force);
  const partial = join(dirname(path), `.${basename(path)}.${process.pid}.partial`);
  try {
    await write(partial);
    await rename(partial, path);
  } finally {
    await rm(partial, { force: true });
  }
}
