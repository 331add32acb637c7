// What the attributes of <statepress-compare> ask for.

import type { LoadOptions, Recipe } from "statepress";
import { isRecipe } from "../state/link.js";

/** The attributes whose change makes another comparison. */
export const ATTRIBUTES = ["src", "recipe", "prompt", "text", "tokens", "backend"];

/** More would neither fit nor be read. */
const MOST_TOKENS = 256;

/** What a comparison needs. */
export interface Settings {
  /** The weights, or a folder with `model.safetensors` when it ends in "/". */
  src: URL;
  recipe: string | Recipe;
  prompt: string;
  /** A text to measure on. */
  text: URL | undefined;
  /** How many tokens each side continues the prompt by. */
  tokens: number;
  backend: NonNullable<LoadOptions["backend"]>;
}

/** What the author of the page, or of its server, can put right. */
export class EmbedError extends Error {
  override readonly name = "EmbedError";
}

/** Reads and checks the attributes. Addresses are relative to `base`. */
export function readSettings(get: (attribute: string) => string | null, base: string): Settings {
  const src = get("src");
  if (!src) throw new EmbedError("the attribute src is missing: the address of a checkpoint, or of its folder");
  const prompt = get("prompt");
  if (!prompt) throw new EmbedError("the attribute prompt is missing: the text that both models continue");
  const text = get("text");
  const backend = get("backend") ?? "auto";
  if (backend !== "auto" && backend !== "cpu" && backend !== "webgpu") {
    throw new EmbedError(`the attribute backend is "${backend}"; allowed: auto, cpu, webgpu`);
  }
  return {
    src: address("src", src, base),
    recipe: readRecipe(get("recipe") ?? "int8"),
    prompt,
    text: text ? address("text", text, base) : undefined,
    tokens: readTokens(get("tokens")),
    backend,
  };
}

/** How many tokens are asked for; 32 when that is not said. */
export function readTokens(text: string | null): number {
  if (text === null) return 32;
  const tokens = Number(text);
  if (!/^\d+$/.test(text) || tokens < 1 || tokens > MOST_TOKENS) {
    throw new EmbedError(`the attribute tokens is "${text}": a whole number from 1 to ${MOST_TOKENS} is expected`);
  }
  return tokens;
}

/** The name of a recipe as a reader sees it; what is no recipe is told of when the comparison starts. */
export function recipeName(recipe: string): string {
  try {
    const parsed = readRecipe(recipe);
    return typeof parsed === "string" ? parsed : parsed.name;
  } catch {
    return "compressed";
  }
}

function readRecipe(text: string): string | Recipe {
  if (!text.trimStart().startsWith("{")) return text;
  let recipe: unknown;
  try {
    recipe = JSON.parse(text);
  } catch (error) {
    throw new EmbedError(`the attribute recipe is not JSON: ${(error as Error).message}`);
  }
  // What is in the steps is checked by the package, when it compresses.
  if (!isRecipe(recipe)) {
    throw new EmbedError('the attribute recipe is no recipe: it needs "version": 1, a "name" and a list of "steps"');
  }
  return recipe;
}

function address(attribute: string, text: string, base: string): URL {
  if (!URL.canParse(text, base)) throw new EmbedError(`the attribute ${attribute} is no address: "${text}"`);
  return new URL(text, base);
}
