// The record of a result: written beside it when the result is whole, and what a later run holds the result to.

import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { ErrorCode } from "../../api/errors.js";
import { isRecord } from "../../api/record.js";
import type { Finding } from "../../api/types/statepress.js";
import { type Hashed, hashFile } from "./identity.js";

/** How an entry ended. */
export const STATUSES = ["done", "skipped", "failed", "cancelled"] as const;

/** One line on standard output, about one entry. */
export interface Line {
  /** `skipped`: it was there, and whole. */
  status: (typeof STATUSES)[number];
  /** As the manifest has it, and where. */
  input: string;
  line: number;
  /** Where the result is; relative to where the batch was started, as --output is. */
  output?: string;
  /** The digest of the files that are read, of the recipe and of the version: the name of the result has its beginning. */
  key?: string;
  /** The digest of the files that are read. */
  sha256?: string;
  recipe?: string;
  format?: string;
  /** Of statepress. */
  version?: string;
  family?: string;
  params?: number;
  /** Bytes of the weights before and after; of another tool's format the bytes of its file. */
  bytesIn?: number;
  bytesOut?: number;
  ratio?: number;
  /** What was measured, with --compare: perplexity of the result and of its original, mean KL divergence in nats. */
  ppl?: number;
  pplIn?: number;
  /** Percent. */
  pplChange?: number;
  kl?: number;
  top1Agreement?: number;
  tokens?: number;
  findings?: Finding[];
  /** Wall time, hashing included. */
  seconds?: number;
  /** The most memory that the process had that compressed it. */
  peakBytes?: number;
  /** Where it failed; `retry` says whether the same may pass another time. */
  error?: { code: ErrorCode; message: string; retry: boolean } & Record<string, unknown>;
}

/** What is written beside a result. */
export interface ResultRecord extends Line {
  /** The files that were read. */
  inputs: Hashed[];
  /** The files of the result, by their paths in its folder. */
  files: Hashed[];
  /** How it was measured. */
  measured?: string;
}

/** What the record of a result is called. */
export function recordName(name: string): string {
  return `${name}.batch.json`;
}

/** The record of a result that is whole; else why it is none. */
export async function wholeRecord(
  folder: string,
  name: string,
  wanted: { key: string; measured: string | undefined },
  signal: AbortSignal,
): Promise<{ record: ResultRecord } | { lacks: string | undefined }> {
  const text = await readFile(join(folder, recordName(name)), "utf8").catch(() => undefined);
  if (text === undefined) return { lacks: undefined };
  const record = parsed(text);
  if (!record || record.key !== wanted.key) return { lacks: "its record is not of this work" };
  if (wanted.measured !== undefined && record.measured !== wanted.measured) return { lacks: "it was not measured so" };
  for (const { name: file, sha256 } of record.files) {
    // What a record names is looked for in the result and nowhere else.
    if (file !== name && !file.startsWith(`${name}/`)) return { lacks: "its record is not of this work" };
    if (file.split("/").includes("..")) return { lacks: "its record is not of this work" };
    const found = await hashFile(join(folder, file), signal).catch((error: unknown) => {
      if (signal.aborted) throw error;
      return undefined;
    });
    if (found?.sha256 !== sha256) return { lacks: `${file} is ${found ? "not what it was" : "missing"}` };
  }
  return { record };
}

/** Writes a file so that it is on the disk and not on its way there. */
export async function writeSynced(path: string, text: string): Promise<void> {
  const handle = await open(path, "wx");
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The fields that a record has and a line has not are dropped. */
export function lineOf({ inputs: _, files: __, measured: ___, ...line }: ResultRecord): Line {
  return line;
}

function parsed(text: string): ResultRecord | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const files = isRecord(value) && Array.isArray(value["files"]) ? value["files"] : [];
    const whole = files.length > 0 && files.every((it) => isRecord(it) && typeof it["name"] === "string");
    return whole ? (value as unknown as ResultRecord) : undefined;
  } catch {
    return undefined;
  }
}
