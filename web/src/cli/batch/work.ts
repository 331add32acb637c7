// What a batch makes of its files: the options of compress and compare that it passes on, and what of them is in a result's bytes.

import { StatepressError } from "../../api/errors.js";
import { type Format, OPENED } from "../../api/formats.js";
import { recipes } from "../../api/node.js";
import { UsageError } from "../args.js";
import type { Run } from "../command.js";
import { askedFor } from "../compress.js";
import { readRecipe } from "../files.js";
import { MAKING, MEASURING, type OptionName, option } from "../options.js";
import { isStream, nameOf } from "../streams.js";
import { packageVersion } from "../version.js";
import { digest, hashFile, type Input, keyOf } from "./identity.js";
import type { Entry } from "./manifest.js";

/** What is in the key of the work besides the recipe: options of compress that say what is made, and of opening what is read. */
const KEYED: readonly OptionName[] = [...MAKING.filter((it) => it !== "recipe"), "set", "weights"];

/** Options of both that change no number. */
const RUNNING: readonly OptionName[] = ["tokenizer", "build", "max-memory"];

/** What all entries have in common. */
export interface Work {
  version: string;
  format: Format;
  /** What is in the key of every entry. */
  common: object;
  /** The name or the path of the recipe of entries that have none of their own. */
  recipe: string | undefined;
  /** Of the text and of how is measured: what has another one was measured otherwise. Undefined where nothing is measured. */
  measured: string | undefined;
}

/** Reads what the options name. Wrong usage is an error before any file is looked at. */
export async function workOf(run: Run): Promise<Work> {
  const { args, signal } = run;
  args.checkValues();
  for (const name of [
    "recipe",
    "calibrate",
    "calibrate-ids",
    "recover",
    "recover-ids",
    "compare",
    "compare-ids",
  ] as const) {
    const path = args.text(name);
    if (path === undefined || !(await isStream(path))) continue;
    throw new UsageError(`--${name} is read for every file, and ${nameOf(path)} can be read once: name a regular file`);
  }
  const { format } = await askedFor(run);
  const [text, ids] = [args.text("compare"), args.text("compare-ids")];
  if (text !== undefined && ids !== undefined) throw new UsageError("either --compare or --compare-ids, not both");
  const judge = text ?? ids;
  for (const name of MEASURING) {
    // The width of ids is that of the other texts as well.
    if (judge === undefined && name !== "ids-type" && args.flag(name)) {
      throw new UsageError(`--${name} needs --compare or --compare-ids`);
    }
  }
  if (judge !== undefined && !OPENED.includes(format)) {
    throw new UsageError(
      `--compare opens what was written, and ${format} is not opened: with it --format is one of ${OPENED.join(", ")}`,
    );
  }
  const making: [string, readonly string[]][] = [];
  for (const name of KEYED) {
    const values = args.values.get(name);
    if (values === undefined) continue;
    const isFile = option(name).offers === "file";
    making.push([
      name,
      isFile ? await Promise.all(values.map(async (it) => (await hashFile(it, signal)).sha256)) : values,
    ]);
  }
  const judged = judge === undefined ? undefined : (await hashFile(judge, signal)).sha256;
  const fitting = making.find(([, values]) => judged !== undefined && values.includes(judged))?.[0];
  if (fitting !== undefined) {
    throw new UsageError(
      `--${fitting} and --compare name the same text, on which models would look better than they are: compare on another`,
    );
  }
  const version = packageVersion();
  const measuring = MEASURING.map((name) => [name, args.text(name)]);
  return {
    version,
    format,
    common: { version, format, making },
    recipe: args.text("recipe"),
    measured: judged === undefined ? undefined : digest([judged, measuring]),
  };
}

/** The recipe of an entry in full: what a built-in one says may be another thing in another version. */
export async function recipeOf(work: Work, entry: Entry, signal: AbortSignal): Promise<{ name: string }> {
  const named = await readRecipe(recipeName(work, entry), signal);
  if (typeof named !== "string") return { ...named, name: `${named.name}` };
  // Of a built-in search there is no more than its name.
  return (await recipes()).find(({ name }) => name === named) ?? { name: named };
}

/** The key of an entry. */
export function keyOfEntry(work: Work, { set, weights }: Entry, recipe: object, input: Input): string {
  return keyOf(input, { ...work.common, recipe, set, weights });
}

/** The command line that makes the result of an entry. */
export function compressLine({ args }: Run, work: Work, entry: Entry, out: string): string[] {
  const options = passed(args, [...KEYED, ...RUNNING, "quiet"], entry);
  const recipe = `--recipe=${recipeName(work, entry)}`;
  // The key of a result says all that decides its bytes, and not which machine has made it: a GPU has last digits of its own.
  const trains = args.flag("recover") || args.flag("recover-ids") ? ["--backend=cpu"] : [];
  return ["compress", `--output=${out}`, recipe, workersLine(args), ...trains, ...options, "--", entry.path];
}

/** The command line that compares it with its original. */
export function compareLine({ args }: Run, entry: Entry, out: string): string[] {
  const options = passed(args, [...MEASURING, ...RUNNING, "set", "weights"], entry);
  const [text, ids] = [args.text("compare"), args.text("compare-ids")];
  const judge = text === undefined ? `--ids=${ids}` : `--text=${text}`;
  return ["compare", judge, "--quiet", workersLine(args), ...options, "--", entry.path, out];
}

// Whoever starts batches has others running beside this one.
function workersLine(args: Run["args"]): string {
  return `--workers=${args.text("workers") ?? 1}`;
}

function recipeName(work: Work, entry: Entry): string {
  const recipe = entry.recipe ?? work.recipe;
  if (recipe !== undefined) return recipe;
  const message = 'it has no recipe: --recipe R names one for all, "recipe" in a line of JSON one for that file';
  throw new StatepressError("bad-recipe", message);
}

// What an entry says itself takes the place of what the batch says.
function passed(args: Run["args"], names: readonly OptionName[], entry: Entry): string[] {
  const fields = Object.entries(entry.set ?? {});
  const options = names.flatMap((name) => {
    const values = args.values.get(name);
    if (values === undefined || (name === "weights" && entry.weights) || (name === "tokenizer" && entry.tokenizer))
      return [];
    if (option(name).value === undefined) return [`--${name}`];
    const kept = name === "set" ? values.filter((it) => !fields.some(([field]) => it.startsWith(`${field}=`))) : values;
    return kept.map((value) => `--${name}=${value}`);
  });
  const own = (["tokenizer", "weights"] as const).flatMap((name) => {
    const value = entry[name];
    return value === undefined ? [] : [`--${name}=${value}`];
  });
  return ["--json", ...options, ...own, ...fields.map(([field, value]) => `--set=${field}=${fieldText(value)}`)];
}

// A list of one number is no number.
function fieldText(value: unknown): string {
  return Array.isArray(value) ? `[${value}]` : `${value}`;
}
