// A recipe among dropped files: what "Recipe as JSON" has written.

import { type Recipe, withoutMark } from "statepress";
import { isRecipe } from "../state/link.js";

/** Recipes are short; a tokenizer of many megabytes need not be read to find that out. */
const LONGEST = 1 << 20;

/** The recipe among some files, and the files that are none. */
export async function takeRecipe(files: File[]): Promise<{ recipe: Recipe | undefined; others: File[] }> {
  for (const file of files) {
    if (!/\.json$/i.test(file.name) || file.size > LONGEST) continue;
    const value = parsed(await file.text());
    if (isRecipe(value)) return { recipe: value, others: files.filter((other) => other !== file) };
  }
  return { recipe: undefined, others: files };
}

// Files that are no JSON are told of by whoever needs them to be.
function parsed(text: string): unknown {
  try {
    return JSON.parse(withoutMark(text));
  } catch {
    return undefined;
  }
}
