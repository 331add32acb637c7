// The command merge: lines of many batches, put together to one table, and to a page for people.

import { grouped } from "../../api/card.js";
import { StatepressError } from "../../api/errors.js";
import { isRecord } from "../../api/record.js";
import { checkTarget, writeTarget } from "../../api/target.js";
import type { Finding } from "../../api/types/statepress.js";
import { STANDARD, UsageError } from "../args.js";
import type { Run } from "../command.js";
import { takeStandardOutput, writeStandardOutput } from "../destinations.js";
import { table } from "../output.js";
import { nameOf } from "../streams.js";
import { lines } from "./lines.js";
import { mergePage } from "./merge-page.js";
import { type Line, STATUSES } from "./record.js";

/** What lines of batches say together. */
export interface Merged {
  /** How many there are of each status. */
  counts: Record<Line["status"], number>;
  /** Of all results together; ratio is undefined where there are none. */
  bytes: { in: number; out: number; ratio: number | undefined };
  /** One for every file and recipe, by their names. */
  rows: Line[];
  /** Lines that say nothing of a file, and why. */
  unread: { file: string; line: number; why: string }[];
}

export async function merge(run: Run, files: string[]): Promise<number> {
  const { args, output, signal } = run;
  const out = args.text("output");
  const force = args.flag("force");
  if (out !== undefined) {
    if (out === STANDARD) takeStandardOutput(run);
    else if (!/\.html?$/i.test(out)) throw new UsageError(`--output takes the name of a page, NAME.html, not '${out}'`);
    else await checkTarget(out, { force, inputs: files, signal });
  }
  const merged = await mergedOf(files, signal);
  for (const { file, line, why } of merged.unread) output.note(`${file} line ${line} is left out: ${why}`, "warning");
  if (merged.rows.length === 0) {
    const message = `no line of a batch is in ${files.map(nameOf).join(", ")}: what batch writes to standard output is merged`;
    throw new StatepressError("bad-input", message, { files });
  }
  if (out !== undefined) {
    const page = new TextEncoder().encode(mergePage(merged));
    if (out === STANDARD) await writeStandardOutput(page);
    else await writeTarget(out, { force, inputs: files, signal }, [page]);
  }
  output.result({ ...merged, ...(out !== undefined && out !== STANDARD && { file: out }) }, () => shown(merged));
  return 0;
}

/** Reads lines. Of several about the same work the one counts that got furthest; of those the last. */
export async function mergedOf(files: readonly string[], signal: AbortSignal): Promise<Merged> {
  const found = new Map<string, Line>();
  const unread: Merged["unread"] = [];
  for (const file of files) {
    for await (const some of lines(file, signal)) {
      for (const { line, text } of some) {
        if (text.trim() === "") continue;
        const read = readLine(text);
        if (typeof read === "string") {
          unread.push({ file: nameOf(file), line, why: read });
          continue;
        }
        const name = JSON.stringify([read.input, read.key ?? null]);
        const other = found.get(name);
        if (!other || rank(read) <= rank(other)) found.set(name, read);
      }
    }
  }
  const all = [...found.values()];
  // What failed before it had a key, and was done another time.
  const inputs = new Set(all.filter(({ key }) => key !== undefined).map(({ input }) => input));
  const rows = all
    .filter(({ key, input }) => key !== undefined || !inputs.has(input))
    .sort((a, b) => compared(a.input, b.input) || compared(a.recipe ?? "", b.recipe ?? ""));
  const counts = { done: 0, skipped: 0, failed: 0, cancelled: 0 };
  for (const { status } of rows) counts[status] += 1;
  const sum = (of: "bytesIn" | "bytesOut") =>
    rows.reduce((total, row) => total + (isWhole(row) ? (row[of] ?? 0) : 0), 0);
  const [before, after] = [sum("bytesIn"), sum("bytesOut")];
  return { counts, bytes: { in: before, out: after, ratio: after > 0 ? before / after : undefined }, rows, unread };
}

/** Whether there is a result. */
export function isWhole({ status }: Line): boolean {
  return status === "done" || status === "skipped";
}

/** How many files there are and what became of them, in words. */
export function summary({ rows, counts, bytes }: Merged): string {
  const parts = STATUSES.flatMap((status) => (counts[status] > 0 ? [`${grouped(counts[status])} ${status}`] : []));
  const size =
    bytes.ratio === undefined
      ? ""
      : `; ${grouped(bytes.in)} to ${grouped(bytes.out)} bytes, ${bytes.ratio.toFixed(2)}x`;
  return `${grouped(rows.length)} ${rows.length === 1 ? "file" : "files"}: ${parts.join(", ")}${size}`;
}

/** The columns of a result. */
export const COLUMNS = [
  "file",
  "family",
  "recipe",
  "status",
  "bytes before",
  "after",
  "ratio",
  "perplexity",
  "KL, nats",
  "seconds",
];

/** The cells of a result, in the order of the columns. */
export function cells(it: Line): string[] {
  const change = it.pplChange === undefined ? "" : `${it.pplChange < 0 ? "" : "+"}${it.pplChange.toFixed(2)} %`;
  return [
    it.input,
    it.family ?? "",
    it.recipe ?? "",
    it.status,
    it.bytesIn === undefined ? "" : grouped(it.bytesIn),
    it.bytesOut === undefined ? "" : grouped(it.bytesOut),
    it.ratio === undefined ? "" : `${it.ratio.toFixed(2)}x`,
    change,
    it.kl === undefined ? "" : it.kl.toPrecision(3),
    it.seconds === undefined ? "" : it.seconds.toFixed(1),
  ];
}

function shown(merged: Merged): string {
  // What a file is called must not move a terminal's cursor.
  const safe = (text: string) => text.replace(/\p{Cc}/gu, "?");
  const failures = merged.rows.flatMap(({ input, error }) => {
    return error === undefined ? [] : [[safe(input), error.retry ? "again" : "never", safe(error.message)]];
  });
  return [
    table([COLUMNS, ...merged.rows.map((row) => cells(row).map(safe))], [4, 5, 6, 7, 8, 9]),
    ...(failures.length > 0 ? [table([["failed", "try", "why"], ...failures])] : []),
    summary(merged),
  ].join("\n\n");
}

const compared = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

const rank = ({ status }: Line) => STATUSES.indexOf(status);

/** A line of a batch, or why it is none. */
function readLine(text: string): Line | string {
  let said: unknown;
  try {
    said = JSON.parse(text);
  } catch {
    return "it is not JSON, or was cut off";
  }
  if (!isRecord(said)) return "it is no object";
  const { status, input, line } = said;
  const known = STATUSES.find((it) => it === status);
  if (known === undefined) return `its status is none of ${STATUSES.join(", ")}`;
  if (typeof input !== "string") return "it has no input";
  const numbers = [
    "bytesIn",
    "bytesOut",
    "ratio",
    "ppl",
    "pplIn",
    "pplChange",
    "kl",
    "top1Agreement",
    "tokens",
  ] as const;
  const more = ["seconds", "peakBytes", "params"] as const;
  const texts = ["output", "key", "sha256", "recipe", "format", "version", "family"] as const;
  const error = said["error"];
  return {
    status: known,
    input,
    line: typeof line === "number" ? line : 0,
    ...Object.fromEntries(texts.flatMap((name) => (typeof said[name] === "string" ? [[name, said[name]]] : []))),
    ...Object.fromEntries([...numbers, ...more].flatMap((it) => (Number.isFinite(said[it]) ? [[it, said[it]]] : []))),
    ...(Array.isArray(said["findings"]) && { findings: said["findings"].filter(isFinding) }),
    ...(isRecord(error) && {
      error: {
        code: `${error["code"]}`,
        message: `${error["message"]}`,
        retry: error["retry"] === true,
      } as NonNullable<Line["error"]>,
    }),
  };
}

function isFinding(it: unknown): it is Finding {
  return isRecord(it) && typeof it["code"] === "string" && typeof it["message"] === "string";
}
