// The manifest of a batch: a path on every line, or JSON where there is more to say of a file. It is read as the work goes on,
// never whole.

import { dirname, resolve } from "node:path";
import { StatepressError } from "../../api/errors.js";
import { didYouMean } from "../../api/near.js";
import type { FieldValue } from "../../api/options.js";
import { isRecord } from "../../api/record.js";
import { STANDARD, UsageError } from "../args.js";
import { nameOf } from "../streams.js";
import { lines } from "./lines.js";
import { isIn, isLast, type Shard } from "./shard.js";

/** One line of a manifest. */
export interface Entry {
  /** From 1. */
  line: number;
  /** As it is written there. */
  input: string;
  /** The file or the folder that it is. */
  path: string;
  /** For this file in the place of the option of the same name. */
  recipe?: string;
  tokenizer?: string;
  weights?: string;
  /** Fields beside those of --set. */
  set?: Record<string, FieldValue>;
}

/** A line that is no entry, and why. */
export interface BadLine {
  line: number;
  input: string;
  error: StatepressError;
}

/** What a line of JSON may say. */
const FIELDS = ["input", "recipe", "tokenizer", "weights", "set"] as const;

/** Characters of a bad line that are repeated where it is told of. */
const SHOWN = 80;

/**
 * The entries of a part of the manifest, in their order; blank lines are none. Paths are relative to the manifest, and on standard
 * input to the folder in which the command is run.
 */
export async function* entries(
  manifest: string,
  shard: Shard,
  signal: AbortSignal,
): AsyncGenerator<Entry | BadLine, void, void> {
  const base = manifest === STANDARD ? process.cwd() : dirname(resolve(manifest));
  let at = 0;
  for await (const some of lines(manifest, signal)) {
    for (const { line, text } of some) {
      if (text.trim() === "") continue;
      if (isIn(shard, at)) yield entry(line, text, base);
      if (isLast(shard, at)) return;
      at += 1;
    }
  }
  if (shard.of !== undefined) return;
  throw new UsageError(`${nameOf(manifest)} has ${at} files, and none has the number ${shard.index}, counted from 0`);
}

function entry(line: number, text: string, base: string): Entry | BadLine {
  try {
    return text.startsWith("{") ? fromJson(line, text, base) : { line, input: text, path: pathOf(text, base) };
  } catch (error) {
    if (!(error instanceof StatepressError)) throw error;
    return { line, input: text.slice(0, SHOWN), error };
  }
}

function fromJson(line: number, text: string, base: string): Entry {
  const refuse = (what: string) =>
    new StatepressError("bad-input", `${what}; a line of JSON has ${FIELDS.join(", ")}`, { allowed: [...FIELDS] });
  let said: unknown;
  try {
    said = JSON.parse(text);
  } catch (error) {
    throw refuse(`it begins with { and is not JSON (${(error as Error).message})`);
  }
  if (!isRecord(said)) throw refuse("it is no object");
  const odd = Object.keys(said).find((name) => !FIELDS.some((it) => it === name));
  if (odd !== undefined) throw refuse(`"${odd}" is no field of it${didYouMean(odd, FIELDS)}`);
  const textOf = (name: (typeof FIELDS)[number]) => {
    const value = said[name];
    if (value === undefined) return undefined;
    if (typeof value !== "string" || value === "") throw refuse(`"${name}" is no text, or empty`);
    return value;
  };
  const input = textOf("input");
  if (input === undefined) throw refuse('"input" is missing: the path of a checkpoint');
  const recipe = textOf("recipe");
  const tokenizer = textOf("tokenizer");
  const weights = textOf("weights");
  const set = said["set"];
  if (set !== undefined && !isFields(set)) throw refuse('"set" is no object of numbers, booleans and lists of numbers');
  return {
    line,
    input,
    path: pathOf(input, base),
    // The name of a built-in recipe is no path.
    ...(recipe !== undefined && { recipe: /\.json$|[/\\]/.test(recipe) ? resolve(base, recipe) : recipe }),
    ...(tokenizer !== undefined && { tokenizer: resolve(base, tokenizer) }),
    ...(weights !== undefined && { weights }),
    ...(set !== undefined && { set }),
  };
}

function pathOf(input: string, base: string): string {
  if (input !== STANDARD) return resolve(base, input);
  throw new StatepressError("bad-input", "- is standard input, which no line of a manifest can be: name a file");
}

function isFields(value: unknown): value is Record<string, FieldValue> {
  const isValue = (it: unknown) =>
    typeof it === "boolean" || Number.isFinite(it) || (Array.isArray(it) && it.every(Number.isFinite));
  return isRecord(value) && Object.values(value).every(isValue);
}
