// What an operating system refuses, in words (Node).

import { readlinkSync } from "node:fs";
import { StatepressError } from "./errors.js";

const WORDS: Record<string, string> = {
  ENOENT: "it does not exist",
  ENOTDIR: "a part of the path is no folder",
  EISDIR: "it is a folder",
  EACCES: "permission denied",
  EPERM: "not permitted",
  EROFS: "the file system is read-only",
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  EFBIG: "it grows larger than a file may be here",
  ENAMETOOLONG: "the name is too long",
  ELOOP: "its links lead in a circle",
  EPIPE: "whoever read it has left",
  EMFILE: "too many files are open",
  ENXIO: "nothing is behind it",
  EIO: "the device failed",
};

/** Why a file cannot be read or written: `the disk is full (ENOSPC)`. */
export function systemWords(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  const words = code === undefined ? undefined : WORDS[code];
  return words === undefined ? (code ?? message) : `${words} (${code})`;
}

/** That something cannot be done with a file, and why. Errors that are the library's own stay as they are. */
export function ioError(path: string, cannot: "read" | "written", error: unknown, help = ""): StatepressError {
  if (error instanceof StatepressError) return error;
  const { code } = error as NodeJS.ErrnoException;
  const facts = { path, ...(code !== undefined && { system: code }) };
  return new StatepressError("io", `${path} cannot be ${cannot}: ${systemWords(error)}${help}`, facts, error);
}

/** That a path is a link to nothing, as in a cache of downloads that was cleared in part; undefined where it is not that. */
export function linkError(path: string, error: unknown): StatepressError | undefined {
  if ((error as NodeJS.ErrnoException).code !== "ENOENT") return undefined;
  try {
    const target = readlinkSync(path);
    const message = `${path} is a link to ${target}, which is not there: download the file again`;
    return new StatepressError("io", message, { path, target, system: "ENOENT" }, error);
  } catch {
    return undefined;
  }
}
