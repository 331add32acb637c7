// Which entries of a manifest are this process's: of so many parts one, or a single entry by its number.

import { type Args, UsageError } from "../args.js";

/** A part of a manifest. */
export interface Shard {
  /** Counted from 0. */
  index: number;
  /** Every so many entries one is in the part; undefined: the part is the one entry that `index` is the number of. */
  of: number | undefined;
}

const MOST = 2 ** 32 - 1;

/** The part that --shard or --shard-env names; all of it where neither is given. */
export function shardOf(args: Args, env: Record<string, string | undefined> = process.env): Shard {
  const [shard, variable] = [args.text("shard"), args.text("shard-env")];
  if (shard !== undefined && variable !== undefined) throw new UsageError("either --shard or --shard-env, not both");
  if (shard !== undefined) return part(shard, (what) => new UsageError(`--shard ${what}`));
  if (variable === undefined) return { index: 0, of: 1 };
  const [, name = "", count] = /^([^/]*)(\/.*)?$/.exec(variable) ?? [];
  const refuse = (what: string) => new UsageError(`--shard-env ${variable}: ${what}`);
  const value = env[name];
  if (value === undefined || value === "") throw refuse(`there is no environment variable ${name}`);
  if (count === undefined && !value.includes("/")) {
    const index = whole(value);
    if (index === undefined) throw refuse(`the environment variable takes a number from 0, or I/N, not '${value}'`);
    return { index, of: undefined };
  }
  return part(`${value}${count ?? ""}`, refuse);
}

/** Whether an entry is in the part; `at` is its number among those that are not blank, from 0. */
export function isIn({ index, of }: Shard, at: number): boolean {
  return of === undefined ? at === index : at % of === index;
}

/** Whether nothing of the part comes after that entry. */
export function isLast({ index, of }: Shard, at: number): boolean {
  return of === undefined && at >= index;
}

function part(text: string, refuse: (what: string) => UsageError): Shard {
  const [index, of, ...more] = text.split("/").map(whole);
  if (index === undefined || of === undefined || of === 0 || more.length > 0 || index >= of) {
    throw refuse(`takes I/N, the part I of N parts, counted from 0: 0/8 to 7/8, not '${text}'`);
  }
  return { index, of };
}

function whole(text: string): number | undefined {
  const number = Number(text);
  return /^\d+$/.test(text) && number <= MOST ? number : undefined;
}
