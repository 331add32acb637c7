// What the command line shows: results on stdout, everything else on stderr.

import type { Finding, Progress } from "../api/types/statepress.js";

/** Results on stdout; progress, findings and errors on stderr. */
export class Output {
  #bar = false;
  // Reports repeat what inspecting has found, and two models may be on one GPU: each thing is said once.
  readonly #said = new Set<string>();

  constructor(
    readonly json: boolean,
    readonly quiet: boolean,
  ) {}

  /** The one result of the command. */
  result(value: object, human: () => string): void {
    this.clear();
    process.stdout.write(`${this.json ? JSON.stringify(value) : human()}\n`);
  }

  findings(findings: readonly Finding[]): void {
    for (const { level, code, message, tensor } of findings) {
      this.note(`${level}: ${message}${tensor ? ` [${tensor}]` : ""} (${code})`);
    }
  }

  note(text: string): void {
    if (this.quiet || this.#said.has(text)) return;
    this.clear();
    process.stderr.write(`${text}\n`);
    this.#said.add(text);
  }

  /** One clear line, and the facts as JSON where JSON was asked for. */
  error(message: string, facts: object): void {
    this.clear();
    process.stderr.write(`error: ${message}\n`);
    if (this.json) process.stdout.write(`${JSON.stringify({ error: facts })}\n`);
  }

  /** Draws the bar; only on a terminal. */
  readonly progress = (progress: Progress): void => {
    if (this.quiet || !process.stderr.isTTY) return;
    const { stage, done, total, unit, item } = progress;
    const width = 24;
    const full = total > 0 ? Math.round((width * Math.min(done, total)) / total) : 0;
    const bar = "█".repeat(full) + "░".repeat(width - full);
    const text = `${stage} ${bar} ${done}/${total} ${unit}${item ? ` ${item}` : ""}`;
    process.stderr.write(`\r\u001b[K${text.slice(0, (process.stderr.columns || 80) - 1)}`);
    this.#bar = true;
  };

  /** Removes the bar. */
  clear(): void {
    if (this.#bar) process.stderr.write("\r\u001b[K");
    this.#bar = false;
  }
}

/** Rows in columns; the columns named are aligned to the right. */
export function table(rows: string[][], right: number[] = []): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  }
  const cells = (row: string[]) =>
    row.map((cell, i) => (right.includes(i) ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)));
  return rows.map((row) => cells(row).join("  ").trimEnd()).join("\n");
}
