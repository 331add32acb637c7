// Reading the arguments of a command. Wrong usage is a UsageError.

import { parseArgs } from "node:util";
import { didYouMean } from "../api/near.js";
import type { FieldValue } from "../api/options.js";
import { type Allowed, COMMON, OPTIONS, type OptionName, option, type Range } from "./options.js";

/** The command was not understood: exit code 2. */
export class UsageError extends Error {}

/** Standard input or output, where a file can be named. */
export const STANDARD = "-";

/** Parsed arguments: strings as given, asked for by kind. */
export class Args {
  private constructor(
    readonly operands: string[],
    readonly values: ReadonlyMap<OptionName, string[]>,
  ) {}

  /** Reads the arguments of a command that takes these options. */
  static read(args: string[], names: readonly OptionName[]): Args {
    const taken = [...names, ...COMMON];
    const options = Object.fromEntries(
      taken.map((name) => {
        const { value, short } = option(name);
        return [name, { type: value ? ("string" as const) : ("boolean" as const), ...(short && { short }) }];
      }),
    );
    const { tokens } = parseArgs({ args, options, allowPositionals: true, strict: false, tokens: true });
    const operands: string[] = [];
    const values = new Map<OptionName, string[]>();
    for (const token of tokens) {
      if (token.kind === "positional") operands.push(token.value);
      if (token.kind !== "option") continue;
      const name = taken.find((it) => it === token.name);
      if (!name) throw unknown(token.rawName, taken);
      const { value, many } = option(name);
      if (value === undefined && token.value !== undefined) throw new UsageError(`--${name} takes no value`);
      if (value !== undefined && missing(token.value, token.inlineValue ?? false, taken)) {
        const help = token.value?.startsWith("-") ? `; write --${name}=${token.value} if that is the value` : "";
        throw new UsageError(`--${name} needs a value: ${value}${help}`);
      }
      // An empty text can be continued; nothing else can be empty. Numbers and closed lists say what they take.
      const { allowed, number, empty } = option(name);
      if (value !== undefined && token.value === "" && !allowed && !number && !empty) {
        throw new UsageError(`--${name} needs a value that is not empty: ${value}`);
      }
      const before = values.get(name);
      if (before && value !== undefined && !many) throw new UsageError(`--${name} is given twice`);
      values.set(name, [...(before ?? []), token.value ?? ""]);
    }
    const read = new Args(operands, values);
    read.#checkStandardInput();
    return read;
  }

  // There is one standard input, and it is read once.
  #checkStandardInput(): void {
    const operands = this.operands.filter((it) => it === STANDARD).map(() => "FILE");
    const options = [...this.values].filter(([name, [value]]) => option(name).stdin && value === STANDARD);
    const readers = [...operands, ...options.map(([name]) => `--${name}`)];
    if (readers.length > 1) {
      throw new UsageError(`standard input (-) can be read once, not by ${readers.join(" and ")}`);
    }
  }

  flag(name: OptionName): boolean {
    return this.values.has(name);
  }

  text(name: OptionName): string | undefined {
    return this.values.get(name)?.[0];
  }

  need(name: OptionName): string {
    const value = this.text(name);
    if (value === undefined) throw new UsageError(`--${name} is needed`);
    return value;
  }

  /** The value of an option that is a number, in the range that the table of options gives it. */
  number(name: OptionName): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const range = option(name).number ?? {};
    const value = text.trim() === "" ? Number.NaN : Number(text);
    if (isIn(range, value)) return value;
    throw new UsageError(`--${name} takes ${wordsOf(range)}, not '${text}'`);
  }

  /** The value of an option that has a closed list of them. */
  one<N extends OptionName>(name: N): Allowed<N> | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    return among(name, text, (allowed) => `--${name} is '${text}'; allowed: ${allowed}`);
  }

  /** Refuses values that are none of their options', for whoever only passes them on. */
  checkValues(): void {
    for (const [name, [value]] of this.values) {
      const { number, allowed, list } = option(name);
      if (number && value !== number.or) this.number(name);
      if (allowed && !list) this.one(name);
    }
    this.fields();
  }

  /** `--precision nf4,int8` as a list. */
  some<N extends OptionName>(name: N): Allowed<N>[] | undefined {
    return this.text(name)
      ?.split(",")
      .map((part) => among(name, part.trim(), (allowed) => `--${name} takes a list of ${allowed}, not '${part}'`));
  }

  /** `--set a=1 --set b=true --set c=1,3` as an object. */
  fields(): Record<string, FieldValue> | undefined {
    const given = this.values.get("set");
    if (!given) return undefined;
    const pairs = given.map(field);
    const names = pairs.map(([name]) => name);
    const twice = names.find((name, at) => names.indexOf(name) !== at);
    if (twice !== undefined) throw new UsageError(`--set ${twice} is given twice`);
    return Object.fromEntries(pairs);
  }
}

function isIn({ from = -Infinity, above = -Infinity, to = Infinity, whole = false }: Range, value: number): boolean {
  return Number.isFinite(value) && value >= from && value > above && value <= to && (!whole || Number.isInteger(value));
}

/** `a whole number from 1 to 1024`. */
function wordsOf({ from, above, to, whole, or }: Range): string {
  const least = above !== undefined ? ` above ${above}` : from !== undefined ? ` from ${from}` : "";
  return `a ${whole ? "whole " : ""}number${least}${to === undefined ? "" : ` to ${to}`}${or === undefined ? "" : `, or ${or}`}`;
}

function among<N extends OptionName>(name: N, value: string, words: (allowed: string) => string): Allowed<N> {
  const allowed = option(name).allowed ?? [];
  if (allowed.includes(value)) return value as Allowed<N>;
  throw new UsageError(`${words(allowed.join(", "))}${didYouMean(value, allowed)}`);
}

function unknown(raw: string, taken: readonly OptionName[]): UsageError {
  const name = raw.replace(/^-+/, "");
  if (Object.hasOwn(OPTIONS, name)) return new UsageError(`the option '${raw}' is one of other commands`);
  return new UsageError(`unknown option '${raw}'${didYouMean(name, taken, (it) => `'--${it}'`)}`);
}

// An option where a value should be is a value left out; numbers below zero and - are values.
function missing(value: string | undefined, inline: boolean, taken: readonly OptionName[]): boolean {
  if (value === undefined) return true;
  if (inline || !value.startsWith("-")) return false;
  return taken.some((name) => {
    const { short } = option(name);
    return value === `--${name}` || value.startsWith(`--${name}=`) || (short !== undefined && value === `-${short}`);
  });
}

function field(pair: string): [string, FieldValue] {
  const at = pair.indexOf("=");
  const name = pair.slice(0, at);
  const text = pair.slice(at + 1);
  if (at < 1 || text === "") throw new UsageError(`--set takes FIELD=VALUE, not '${pair}'`);
  if (text === "true" || text === "false") return [name, text === "true"];
  const list = text.startsWith("[") && text.endsWith("]") ? text.slice(1, -1) : text;
  const numbers = list.trim() === "" ? [] : list.split(",").map((part) => (part.trim() === "" ? NaN : Number(part)));
  if (!numbers.every(Number.isFinite)) {
    throw new UsageError(`--set ${name}: '${text}' is no number, true, false or list of numbers`);
  }
  const [only] = numbers;
  return [name, list === text && numbers.length === 1 && only !== undefined ? only : numbers];
}

/** `1,2,3` as ids. */
export function idList(name: OptionName, text: string): Uint32Array {
  const parts = text.split(/[\s,]+/).filter(Boolean);
  return Uint32Array.from(parts, (part) => {
    const id = Number(part);
    if (!/^\d+$/.test(part) || id > 0xffffffff) {
      throw new UsageError(
        `--${name}: '${part}' is no token id: it takes whole numbers from 0 to ${0xffffffff}, as 1,2,3`,
      );
    }
    return id;
  });
}
