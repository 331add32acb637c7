// Runs as they are remembered and taken along: a recipe and numbers, no weights.

import type { Recipe } from "statepress";
import { isRecipe } from "./link.js";
import { nameOf, sizeOf } from "./run.js";
import type { Opened, Run } from "./state.js";

/** One measured run. What was not measured is null. */
export interface RunRecord {
  /** Milliseconds since 1970. */
  at: number;
  model: string;
  family: string;
  params: number;
  /** The recipe, or the other model. */
  name: string;
  /** Null where another model was compared. */
  recipe: Recipe | null;
  bytesBefore: number;
  bytesAfter: number;
  ratio: number;
  kl: number | null;
  top1: number | null;
  perplexityBefore: number | null;
  perplexityAfter: number | null;
  bitsPerByteBefore: number | null;
  bitsPerByteAfter: number | null;
  text: string | null;
  tokens: number | null;
  window: number | null;
  backend: string | null;
}

/** The most runs that are remembered: the newest. */
export const MOST_RECORDS = 200;

/** A run as a record. */
export function recordOf(checkpoint: Opened, run: Run, at: number): RunRecord {
  const size = sizeOf(checkpoint, run);
  const { comparison, byText } = run;
  const measured = comparison ?? byText;
  return {
    at,
    model: checkpoint.name,
    family: checkpoint.inspection.family,
    params: checkpoint.inspection.params,
    name: nameOf(run),
    recipe: run.report ? run.report.recipe : null,
    bytesBefore: size.before,
    bytesAfter: size.after,
    ratio: size.ratio,
    kl: comparison?.kl.mean ?? null,
    top1: comparison?.top1Agreement ?? null,
    perplexityBefore: measured?.a.perplexity ?? null,
    perplexityAfter: measured?.b.perplexity ?? null,
    bitsPerByteBefore: byText?.a.bitsPerByte ?? null,
    bitsPerByteAfter: byText?.b.bitsPerByte ?? null,
    text: run.textName ?? null,
    tokens: measured?.a.tokens ?? null,
    window: measured?.a.window ?? null,
    backend: measured ? [...new Set([measured.a.backend, measured.b.backend])].join(" and ") : null,
  };
}

const NUMBERS: (keyof RunRecord)[] = ["at", "params", "bytesBefore", "bytesAfter", "ratio"];
const WORDS: (keyof RunRecord)[] = ["model", "family", "name"];
const NUMBERS_OR_NONE: (keyof RunRecord)[] = [
  "kl",
  "top1",
  "perplexityBefore",
  "perplexityAfter",
  "bitsPerByteBefore",
  "bitsPerByteAfter",
  "tokens",
  "window",
];
const WORDS_OR_NONE: (keyof RunRecord)[] = ["text", "backend"];

/** The records in what was kept: another version of this page, or another page, may have written it. */
export function recordsIn(kept: string | null): RunRecord[] {
  let value: unknown;
  try {
    value = JSON.parse(kept ?? "[]");
  } catch {
    return [];
  }
  return Array.isArray(value) ? value.filter(isRecord).slice(-MOST_RECORDS) : [];
}

function isRecord(value: unknown): value is RunRecord {
  if (typeof value !== "object" || value === null) return false;
  const record = value as Record<string, unknown>;
  const are = (keys: string[], type: string, none: boolean) =>
    keys.every((key) => typeof record[key] === type || (none && record[key] === null));
  return (
    are(NUMBERS, "number", false) &&
    are(WORDS, "string", false) &&
    are(NUMBERS_OR_NONE, "number", true) &&
    are(WORDS_OR_NONE, "string", true) &&
    (record["recipe"] === null || isRecipe(record["recipe"]))
  );
}

/** Records as CSV (RFC 4180), a header first; a recipe as JSON in the last column. */
export function csvOf(records: RunRecord[]): string {
  const columns: [string, (it: RunRecord) => string | number | null][] = [
    ["measured at", ({ at }) => new Date(at).toISOString()],
    ["model", (it) => it.model],
    ["family", (it) => it.family],
    ["parameters", (it) => it.params],
    ["recipe or model", (it) => it.name],
    ["weights before (bytes)", (it) => it.bytesBefore],
    ["weights after (bytes)", (it) => it.bytesAfter],
    ["times smaller", (it) => it.ratio],
    ["mean KL (nats)", (it) => it.kl],
    ["same next word", (it) => it.top1],
    ["perplexity before", (it) => it.perplexityBefore],
    ["perplexity after", (it) => it.perplexityAfter],
    ["bits per byte before", (it) => it.bitsPerByteBefore],
    ["bits per byte after", (it) => it.bitsPerByteAfter],
    ["text", (it) => it.text],
    ["tokens", (it) => it.tokens],
    ["window", (it) => it.window],
    ["computed by", (it) => it.backend],
    ["recipe as JSON", ({ recipe }) => (recipe ? JSON.stringify(recipe) : null)],
  ];
  const lines = [columns.map(([title]) => title), ...records.map((it) => columns.map(([, value]) => value(it)))];
  return lines.map((line) => `${line.map(cell).join(",")}\r\n`).join("");
}

// A cell that begins like a formula is one to a spreadsheet: names of files and recipes are strangers' words.
function cell(value: string | number | null): string {
  if (value === null) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
