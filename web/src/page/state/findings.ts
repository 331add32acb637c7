// Findings as they are shown: what many tensors say alike is said once, with their names.

import type { Finding, Recipe } from "statepress";
import { count } from "../parts/format.js";
import { quantizeOf } from "./recipes.js";

/** What is said once, and of which tensors. */
export interface FindingGroup {
  level: Finding["level"];
  code: string;
  message: string;
  /** The tensors in their order, each with its own message; none where it is about no tensor. */
  about: { tensor: string; message: string }[];
}

const LEVELS: Finding["level"][] = ["error", "warning", "info"];

/** Findings in groups, the gravest first. `recipe` is the one that was carried out: what it does on purpose is no warning. */
export function grouped(findings: Finding[], recipe?: Recipe): FindingGroup[] {
  const groups = new Map<string, Finding[]>();
  for (const finding of findings) {
    const { level, code, message, tensor } = finding;
    const shape = tensor === undefined ? message : ofAny(message, tensor).replace(NUMBER, "#");
    const key = JSON.stringify([level, code, shape, tensor === undefined]);
    groups.set(key, [...(groups.get(key) ?? []), finding]);
  }
  return [...groups.values()]
    .map((group) => purposeful(together(group), recipe))
    .sort((a, b) => LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level));
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

// Counts of values add up; other numbers, and names, are of one tensor each.
function inCommon(about: FindingGroup["about"]): string {
  const counts = about.map(({ message }) => /^(\d+) values /.exec(message)?.[1]);
  const sum = counts.every((it) => it !== undefined) ? counts.reduce((all, it) => all + Number(it), 0) : undefined;
  const messages = about.map(({ tensor, message }) => ofAny(message, tensor));
  const [first = ""] = messages;
  if (messages.every((message) => message === first)) return first;
  const rest = sum === undefined ? first : first.replace(/^\d+/, count(sum));
  if (sum !== undefined && messages.every((message) => message.replace(/^\d+/, "") === first.replace(/^\d+/, "")))
    return rest;
  return first.replace(NUMBER, "…");
}

// A high percentile clips by design: how much is worth knowing, and nothing to worry about.
function purposeful(group: FindingGroup, recipe: Recipe | undefined): FindingGroup {
  const clips = recipe !== undefined && quantizeOf(recipe)?.int8.clip === "percentile";
  if (group.code !== "clipped" || !clips || !/int8/i.test(group.message)) return group;
  const percentile = quantizeOf(recipe)?.int8.percentile;
  return { ...group, level: "info", message: `${group.message}, as the recipe asks: its percentile is ${percentile}` };
}
