// Merged lines as one self-contained page: the style of the playground's reports, no script, every text escaped.

import { readFileSync } from "node:fs";
import type { Finding } from "../../api/types/statepress.js";
import { COLUMNS, cells, isWhole, type Merged, summary } from "./merge.js";
import type { Line } from "./record.js";

/** What tables of many columns need beyond the style of reports: they scroll, and the page does not. */
const STYLE = `.wide {
  overflow-x: auto;
}
.wide th.number {
  text-align: right;
}
.wide td.mono {
  min-width: 9rem;
}`;

/** Findings of one kind that are shown as an example. */
const EXAMPLES = 3;

/** The page, as HTML that needs nothing else. */
export function mergePage(merged: Merged): string {
  const { rows, unread } = merged;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>statepress: ${escaped(summary(merged))}</title>
<style>
${style("tokens.css")}
${style("report.css")}
${STYLE}
</style>
</head>
<body>
<h1>Compressed checkpoints</h1>
<p>${escaped(summary(merged))}.</p>
${failures(rows.filter((row) => !isWhole(row)))}
${results(rows.filter(isWhole))}
${findings(rows)}
${unread.length === 0 ? "" : `<h2>Lines that say nothing of a file</h2>\n<ul>\n${unread.map(({ file, line, why }) => `<li>${escaped(`${file} line ${line}: ${why}`)}</li>\n`).join("")}</ul>`}
</body>
</html>
`;
}

function failures(rows: readonly Line[]): string {
  if (rows.length === 0) return "";
  const lines = rows.map(({ input, recipe, status, error }) => [
    input,
    recipe ?? "",
    status,
    error === undefined ? "again" : error.retry ? "again" : "never",
    error?.message ?? "it was stopped",
  ]);
  return `<h2>Not done</h2>\n${table("Not done", ["file", "recipe", "status", "try", "why"], lines, new Set())}`;
}

function results(rows: readonly Line[]): string {
  if (rows.length === 0) return "";
  // A column in which nobody says anything is left out.
  const all = rows.map(cells);
  const used = COLUMNS.map((_, at) => at).filter((at) => all.some((row) => row[at] !== ""));
  const numbers = new Set(used.flatMap((at, column) => (at > 3 ? [column] : [])));
  const pick = (row: readonly string[]) => used.map((at) => row[at] ?? "");
  return `<h2>Results</h2>\n${table("Results", pick(COLUMNS), all.map(pick), numbers)}`;
}

function findings(rows: readonly Line[]): string {
  const kinds = new Map<string, { finding: Finding; inputs: Set<string> }>();
  for (const { input, findings = [] } of rows) {
    for (const finding of findings) {
      const name = JSON.stringify([finding.code, finding.message]);
      const kind = kinds.get(name) ?? { finding, inputs: new Set<string>() };
      kind.inputs.add(input);
      kinds.set(name, kind);
    }
  }
  if (kinds.size === 0) return "";
  const items = [...kinds.values()]
    .sort((a, b) => b.inputs.size - a.inputs.size)
    .map(({ finding: { level, message }, inputs }) => {
      const more = inputs.size > EXAMPLES ? ` and ${inputs.size - EXAMPLES} more` : "";
      const of = `${[...inputs].slice(0, EXAMPLES).join(", ")}${more}`;
      return `<li><b>${escaped(`${level}`)}</b>: ${escaped(message)} <span class="mono">${escaped(of)}</span></li>\n`;
    });
  return `<h2>Findings</h2>\n<ul>\n${items.join("")}</ul>`;
}

function table(
  name: string,
  head: readonly string[],
  rows: readonly (readonly string[])[],
  numbers: ReadonlySet<number>,
): string {
  const classOf = (at: number) => (numbers.has(at) ? ' class="number"' : at === 0 ? ' class="mono"' : "");
  const row = (cells: readonly string[]) =>
    `<tr>${cells.map((cell, at) => `<td${classOf(at)}>${escaped(cell)}</td>`).join("")}</tr>\n`;
  const heading = head
    .map((cell, at) => `<th scope="col"${numbers.has(at) ? classOf(at) : ""}>${escaped(cell)}</th>`)
    .join("");
  // Focusable, so that it scrolls by keyboard.
  return `<div class="wide" role="region" aria-label="${escaped(name)}" tabindex="0">
<table>
<thead><tr>${heading}</tr></thead>
<tbody>
${rows.map(row).join("")}</tbody>
</table>
</div>`;
}

/** A style sheet of the playground: the build puts it beside this file. */
function style(name: string): string {
  return readFileSync(new URL(name, import.meta.url), "utf8");
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (it) => `&#${it.charCodeAt(0)};`);
}
