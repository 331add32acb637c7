// What the command line shows: results on stdout, everything else on stderr.

import { asStatepressError } from "../api/errors.js";
import type { Finding, Progress } from "../api/types/statepress.js";
import { clock, coloured, type Messages, movable, styled } from "./terminal.js";

/** Seconds of a stage after which its end is foretold. */
const SURE = 2;

/** Results on stdout; progress, findings and errors on stderr. */
export class Output {
  /** One of several inputs, that what is said now is about. */
  input: string | undefined;
  /** Standard output is taken by bytes: results are said on stderr. */
  bytesOnStdout = false;
  #bar = false;
  #stage = { name: "", start: 0, done: 0 };
  // Reports repeat what inspecting has found, and two models may be on one GPU: each thing is said once.
  readonly #said = new Set<string>();
  readonly #colours: boolean;

  constructor(
    readonly json: boolean,
    readonly quiet: boolean,
    readonly messages: Messages,
  ) {
    this.#colours = coloured(messages);
  }

  /** The one result of the command, or of one of its inputs. */
  result(value: object, human: () => string): void {
    this.clear();
    if (this.bytesOnStdout) {
      if (!this.quiet) this.messages.write(`${human()}\n`);
      return;
    }
    const about = this.input === undefined ? {} : { input: this.input };
    const heading = this.input === undefined ? "" : `==> ${this.input} <==\n`;
    process.stdout.write(`${this.json ? JSON.stringify({ ...about, ...value }) : heading + human()}\n`);
  }

  findings(findings: readonly Finding[]): void {
    for (const { level, code, message, tensor } of findings) {
      this.note(`${message}${tensor ? ` [${tensor}]` : ""} (${code})`, level);
    }
  }

  note(text: string, level?: Finding["level"]): void {
    const words = `${this.input === undefined ? "" : `${this.input}: `}${text}`;
    if (this.quiet || this.#said.has(words)) return;
    this.clear();
    this.messages.write(`${level === undefined ? "" : `${styled(level, this.#colours)}: `}${words}\n`);
    this.#said.add(words);
  }

  /** One line that is said also when it is quiet. */
  say(text: string): void {
    this.clear();
    this.messages.write(`${text}\n`);
  }

  /** Any thrown value, as the error that it is. */
  failure(thrown: unknown): void {
    const error = asStatepressError(thrown);
    // The library knows nothing of options on a command line.
    const hint = error.code === "no-tokenizer" ? " (--tokenizer FILE)" : "";
    this.error(error.message + hint, error.toJSON());
  }

  /** One clear line, and the facts as JSON where JSON was asked for. */
  error(message: string, facts: object): void {
    this.clear();
    const about = this.input === undefined ? {} : { input: this.input };
    // An input that is named in the message needs not be named twice.
    const prefix = this.input === undefined || message.startsWith(this.input) ? "" : `${this.input}: `;
    this.messages.write(`${styled("error", this.#colours)}: ${prefix}${message}\n`);
    if (this.json && !this.bytesOnStdout) process.stdout.write(`${JSON.stringify({ ...about, error: facts })}\n`);
  }

  /** Draws the bar; only on a terminal. */
  readonly progress = (progress: Progress): void => {
    if (this.quiet || !movable(this.messages)) return;
    const { stage, done, total, unit, item } = progress;
    const width = 24;
    const full = total > 0 ? Math.round((width * Math.min(done, total)) / total) : 0;
    const bar = "█".repeat(full) + "░".repeat(width - full);
    const left = this.#left(progress);
    const text = `${stage} ${bar} ${done}/${total} ${unit}${left}${item ? ` ${item}` : ""}`;
    this.messages.write(`\r\u001b[K${text.slice(0, (this.messages.columns || 80) - 1)}`);
    this.#bar = true;
  };

  // How long a stage will still take if it goes on as it did.
  #left({ stage, done, total }: Progress): string {
    const now = performance.now() / 1000;
    if (this.#stage.name !== stage || done < this.#stage.done) this.#stage = { name: stage, start: now, done };
    const seconds = now - this.#stage.start;
    const did = done - this.#stage.done;
    return seconds < SURE || did <= 0 ? "" : `, ${clock((seconds * (total - done)) / did)} left`;
  }

  /** Removes the bar. */
  clear(): void {
    if (this.#bar) this.messages.write("\r\u001b[K");
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
