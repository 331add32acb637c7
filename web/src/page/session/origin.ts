// Files that belong together, where they come from, and what they are called.

import { type Finding, replacesTokenizer } from "statepress";
import type { Opened } from "../state/state.js";
import { isText } from "./texts.js";

/** Files that belong together, and where they come from. */
export interface Origin {
  place: Opened["place"];
  /** The path that was pasted, absolute. */
  path?: string | undefined;
  /** The folder that they lay in. */
  folder?: string | undefined;
  files: File[];
  /** What was said when they were gathered. */
  findings?: Finding[];
}

/** What every checkpoint in a folder is called. */
const ANY_NAME = /^(model|pytorch_model|checkpoint|consolidated|weights)\b/i;

/** What a checkpoint is called: by its weights, or by its folder where those are called as all are. */
export function nameOf({ place, path, folder }: Origin, weights: string): string {
  if (place === "demo") return "itera-tiny";
  const last = path?.split(/[\\/]/).at(-1);
  const inside = folder ?? (last === weights ? undefined : last);
  // Of an index what is before what it is an index of: model.safetensors.index.json is called model.
  return inside && ANY_NAME.test(weights) ? inside : weights.replace(/(\.\w+\.index)?\.[^.]+$/, "");
}

/** Some files in a few words. */
export function summary(files: File[]): string {
  const [first, ...others] = files;
  if (!first) return "nothing";
  return others.length === 0 ? first.name : `${first.name} and ${others.length} more`;
}

/**
 * The files that are there, with others in the place of those that they stand for: of a text and of a tokenizer one is
 * enough, whatever it is called; `vocab.json` and `merges.txt` are one together.
 */
export function joined(origin: Origin, added: File[]): Origin {
  const replaced = (file: File) =>
    added.some((it) => it.name === file.name || (isText(it) && isText(file)) || replacesTokenizer(it.name, file.name));
  return { ...origin, files: [...added, ...origin.files.filter((file) => !replaced(file))] };
}

/** What findings say, in one sentence. */
export function sentence(findings: Finding[]): string {
  return findings.map((finding) => finding.message).join("; ");
}
