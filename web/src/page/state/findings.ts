// Findings: those of a run, and as they are shown. What many tensors say alike is said once, with their names.

import type { Finding } from "statepress";
import type { Run } from "./state.js";

/** What is said once, and of which tensors. */
export interface FindingGroup {
  level: Finding["level"];
  code: string;
  message: string;
  /** The tensors in their order, each with its own message; none where it is about no tensor. */
  about: { tensor: string; message: string }[];
}

/** Findings of compressing or opening and of measuring, each once. */
export function findingsOf(run: Partial<Pick<Run, "report" | "other" | "comparison" | "byText">>): Finding[] {
  const measured = run.comparison ?? run.byText;
  const first = run.report ? run.report.findings : (run.other?.inspection.findings ?? []);
  const second = run.comparison?.second?.findings ?? [];
  const all = [...first, ...(measured?.a.findings ?? []), ...(measured?.b.findings ?? []), ...second];
  return [...new Map(all.map((it) => [`${it.code} ${it.message} ${it.tensor ?? ""}`, it])).values()];
}

const LEVELS: Finding["level"][] = ["error", "warning", "info"];

/** Findings in groups, the gravest first. Those of one group differ by their tensor, and by numbers of it. */
export function grouped(findings: Finding[]): FindingGroup[] {
  const groups = new Map<string, Finding[]>();
  for (const finding of findings) {
    const { level, code, message, tensor } = finding;
    const shape = tensor === undefined ? message : ofAny(message, tensor).replace(NUMBER, "#");
    const key = JSON.stringify([level, code, shape, tensor === undefined]);
    groups.set(key, [...(groups.get(key) ?? []), finding]);
  }
  return [...groups.values()].map(together).sort((a, b) => LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level));
}

// A name may be one letter: it is only meant where it stands alone.
function ofAny(message: string, tensor: string): string {
  const name = tensor.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return message.replace(new RegExp(`(?<![\\w.])${name}(?![\\w.])`, "g"), "this tensor");
}

// Digits in a word are part of it: fp16 is no number.
const NUMBER = /(?<![\w.])\d[\d,.]*/g;

function together(group: Finding[]): FindingGroup {
  const [{ level, code, message }] = group as [Finding];
  const about = group.flatMap(({ tensor, message }) => (tensor === undefined ? [] : [{ tensor, message }]));
  return { level, code, message: about.length > 1 ? inCommon(about) : message, about };
}

// Numbers that differ are of one tensor each.
function inCommon(about: FindingGroup["about"]): string {
  const [first = "", ...others] = about.map(({ tensor, message }) => ofAny(message, tensor));
  const numbers = others.map((message) => message.match(NUMBER) ?? []);
  let at = 0;
  return first.replace(NUMBER, (number) => {
    const place = at++;
    return numbers.every((all) => all[place] === number) ? number : "…";
  });
}
