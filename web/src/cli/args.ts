// The words of the command line: options, what they take, and reading them. Wrong usage is a UsageError.

import { parseArgs } from "node:util";
import type { FieldValue } from "../api/options.js";

/** The command was not understood: exit code 2. */
export class UsageError extends Error {}

interface Option {
  /** What follows it; a flag when left out. */
  value?: string;
  short?: string;
  many?: boolean;
  help: string;
}

/** Every option of every command. */
export const OPTIONS = {
  json: { help: "print one JSON object on stdout and nothing else there" },
  quiet: { help: "no progress and no findings on stderr" },
  help: { short: "h", help: "print this" },
  build: { value: "NAME", help: "wasm build: auto, base, simd, relaxed (default auto)" },
  set: { value: "FIELD=VALUE", many: true, help: "fill a configuration field that the checkpoint does not say" },
  tokenizer: { value: "FILE", help: "tokenizer file or folder, when none (or several) lie beside the weights" },
  "tokenizer-b": { value: "FILE", help: "tokenizer file or folder of OTHER, if not that of BASE" },
  tensor: { value: "NAME", help: "look closely at that tensor, and read it" },
  precision: { value: "P,Q", help: "with --tensor: what these make of it: fp32, fp16, bf16, int8, int4, nf4" },
  bins: { value: "N", help: "with --tensor: bins of the histograms, 1 to 1024 (default 64)" },
  target: { value: "NAME", help: "where it will run: gpu, cpu, edge" },
  "max-loss": { value: "PERCENT", help: "perplexity change that may be lost" },
  "max-size": { value: "BYTES", help: "bytes that the file may have" },
  recipe: { value: "R", help: "name of a built-in recipe, or a JSON file" },
  output: { value: "OUT", short: "o", help: "the file to write" },
  force: { help: "replace files that exist" },
  format: { value: "F", help: "format of the file: safetensors" },
  text: { value: "FILE", help: "UTF-8 text to evaluate on; - is stdin" },
  ids: { value: "BIN", help: "little-endian token ids to evaluate on" },
  "ids-type": { value: "TYPE", help: "u16 or u32 (default: u16 when the vocabulary fits)" },
  window: { value: "N", help: "tokens of a window (default: the model's longest sequence, at most 2048; else 256)" },
  limit: { value: "TOKENS", help: "use only that many tokens from the start" },
  offset: { value: "N", help: "position t predicts token t + N, if that is a question; detect tries 0 to 3" },
  backend: { value: "NAME", help: "what computes: auto, cpu, webgpu (default auto)" },
  "backend-b": { value: "NAME", help: "what computes B, if not what computes A" },
  explain: { help: "say what a decoded token costs on the GPU, kernel by kernel" },
  "ratio-target": { value: "X", help: "ratio that counts as success" },
  "loss-target": { value: "PERCENT", help: "perplexity change that is allowed" },
  prompt: { value: "TEXT", help: "the text to continue" },
  "prompt-ids": { value: "1,2,3", help: "token ids to continue, without a tokenizer" },
  "max-tokens": { value: "N", help: "tokens to make" },
  temperature: { value: "T", help: "0 takes the likeliest token each time" },
  "top-k": { value: "K", help: "sample among the K likeliest" },
  seed: { value: "S", help: "same seed, same text" },
  repeats: { value: "N", help: "timed runs; the median is reported (default 5)" },
  port: { value: "N", help: "port on the loopback interface (default 8080, or any free one with 0)" },
} satisfies Record<string, Option>;

/** The name of an option. */
export type OptionName = keyof typeof OPTIONS;

/** Options that every command takes. */
export const COMMON: OptionName[] = ["json", "quiet", "help"];

/** Parsed arguments: strings as given, asked for by kind. */
export class Args {
  private constructor(
    readonly operands: string[],
    readonly values: Record<string, string | boolean | (string | boolean)[] | undefined>,
  ) {}

  /** Reads the arguments of a command that takes these options. */
  static read(args: string[], names: OptionName[]): Args {
    const options: Record<string, { type: "string" | "boolean"; short?: string; multiple?: boolean }> = {};
    for (const name of [...names, ...COMMON]) {
      const { value, short, many } = OPTIONS[name] as Option;
      options[name] = {
        type: value ? "string" : "boolean",
        ...(short && { short }),
        ...(many && { multiple: true }),
      };
    }
    try {
      const { values, positionals } = parseArgs({ args, options, allowPositionals: true, strict: true });
      return new Args(positionals, values);
    } catch (error) {
      // The first sentence says it; the rest is about how parseArgs could be called.
      throw new UsageError((error as Error).message.split(". ")[0]?.replace(/^./, (c) => c.toLowerCase()));
    }
  }

  flag(name: OptionName): boolean {
    return this.values[name] === true;
  }

  text(name: OptionName): string | undefined {
    const value = this.values[name];
    return typeof value === "string" ? value : undefined;
  }

  need(name: OptionName): string {
    const value = this.text(name);
    if (value === undefined) throw new UsageError(`--${name} is needed`);
    return value;
  }

  number(name: OptionName): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const value = Number(text);
    if (text.trim() === "" || !Number.isFinite(value)) throw new UsageError(`--${name} takes a number, not '${text}'`);
    return value;
  }

  count(name: OptionName): number | undefined {
    const value = this.number(name);
    if (value !== undefined && (!Number.isInteger(value) || value < 0)) {
      throw new UsageError(`--${name} takes a whole number from 0, not '${value}'`);
    }
    return value;
  }

  one<T extends string>(name: OptionName, ...allowed: T[]): T | undefined {
    const text = this.text(name);
    if (text === undefined || allowed.includes(text as T)) return text as T | undefined;
    throw new UsageError(`--${name} is '${text}'; allowed: ${allowed.join(", ")}`);
  }

  /** `--precision nf4,int8` as a list. */
  some<T extends string>(name: OptionName, ...allowed: T[]): T[] | undefined {
    return this.text(name)
      ?.split(",")
      .map((part) => {
        const found = allowed.find((it) => it === part.trim());
        if (found) return found;
        throw new UsageError(`--${name} takes a list of ${allowed.join(", ")}, not '${part}'`);
      });
  }

  /** `--set a=1 --set b=true --set c=1,3` as an object. */
  fields(): Record<string, FieldValue> | undefined {
    const given = this.values["set"];
    if (!Array.isArray(given)) return undefined;
    return Object.fromEntries(given.map((pair) => field(String(pair))));
  }
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
    if (!/^\d+$/.test(part) || id > 0xffffffff) throw new UsageError(`--${name}: '${part}' is no token id`);
    return id;
  });
}
