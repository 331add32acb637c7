// Added tokens: texts that are found before anything is split, each one token.

import { isRecord } from "../api/record.js";
import type { TokenModel } from "./bpe.js";
import type { Normalizer } from "./normalize.js";
import { trimEnd } from "./normalize.js";
import { ENDS_WITH_WORD, STARTS_WITH_WORD } from "./unicode.js";

/** One added token. */
export interface AddedToken {
  id: number;
  content: string;
  singleWord: boolean;
  lstrip: boolean;
  rstrip: boolean;
  special: boolean;
  /** Whether it is looked for in the normalized text, rather than in the text as it is. */
  normalized: boolean;
}

/** A stretch of a text: an added token, or what is between. */
export interface Section {
  text: string;
  start: number;
  id?: number;
}

/**
 * The `added_tokens` of a `tokenizer.json`, special ones first, as they are looked for.
 *
 * Their ids are Python's: the model's where it knows the token, else the next one that is free. Those that the file says
 * are the same, unless it was made by hand.
 */
export function addedTokens(given: unknown, { vocab, size }: TokenModel): AddedToken[] {
  if (given === undefined || given === null) return [];
  if (!Array.isArray(given)) throw new Error("added_tokens is not a list");
  const ids = new Map<string, number>();
  let free = size;
  const tokens = given.map((it: unknown, at) => {
    if (!isRecord(it) || typeof it["content"] !== "string")
      throw new Error(`added_tokens: number ${at} has no content`);
    const { content } = it;
    const id = vocab.get(content) ?? ids.get(content) ?? free;
    ids.set(content, id);
    free = Math.max(free, id + 1);
    const flag = (name: string, otherwise: boolean) => (it[name] ?? otherwise) === true;
    const special = flag("special", false);
    return {
      id,
      content,
      singleWord: flag("single_word", false),
      lstrip: flag("lstrip", false),
      rstrip: flag("rstrip", false),
      special,
      normalized: flag("normalized", !special),
    };
  });
  return [...tokens.filter((it) => it.special), ...tokens.filter((it) => !it.special)];
}

/** Finds tokens, the leftmost first and of those the longest. */
export class Finder {
  readonly #tokens = new Map<string, AddedToken>();
  readonly #lengths = new Map<string, number[]>();

  constructor(tokens: AddedToken[], normalizer: Normalizer | undefined) {
    for (const token of tokens) {
      if (token.content === "") continue;
      const text = normalizer ? normalizer(token.content).text : token.content;
      if (text === "") {
        // It would be found between all bytes.
        const content = JSON.stringify(token.content);
        throw new Error(`the added token ${content} is normalized to nothing: Python's library fails on such texts`);
      }
      // Of those that are looked for alike, the first is found; Python's library finds now the one, now the other.
      if (this.#tokens.has(text)) continue;
      this.#tokens.set(text, token);
      const start = text.charAt(0);
      const lengths = this.#lengths.get(start) ?? [];
      if (!lengths.includes(text.length)) lengths.push(text.length);
      this.#lengths.set(
        start,
        lengths.sort((a, b) => b - a),
      );
    }
  }

  /** The stretches of a text, none empty. */
  split(text: string): Section[] {
    if (this.#tokens.size === 0) return text === "" ? [] : [{ text, start: 0 }];
    const sections: Section[] = [];
    let done = 0;
    const between = (end: number) => {
      if (done < end) sections.push({ text: text.slice(done, end), start: done });
    };
    for (let at = 0; at < text.length; ) {
      const found = this.#at(text, at);
      if (!found) {
        at += 1;
        continue;
      }
      const { token, end } = found;
      let start = at;
      let stop = end;
      at = end;
      if (token.singleWord && (ENDS_WITH_WORD.test(lastChar(text, start)) || STARTS_WITH_WORD.test(text.slice(end)))) {
        continue;
      }
      if (token.lstrip) start = Math.max(trimEnd(text.slice(0, start)).length, done);
      if (token.rstrip) stop += /^\p{White_Space}*/u.exec(text.slice(stop))?.[0].length ?? 0;
      between(start);
      // What the token before has swallowed is not there once more.
      if (start < stop) sections.push({ text: text.slice(start, stop), start, id: token.id });
      done = stop;
    }
    between(text.length);
    return sections;
  }

  #at(text: string, at: number): { token: AddedToken; end: number } | undefined {
    for (const length of this.#lengths.get(text.charAt(at)) ?? []) {
      const found = text.slice(at, at + length);
      const token = this.#tokens.get(found);
      if (token) return { token, end: at + found.length };
    }
    return undefined;
  }
}

function lastChar(text: string, end: number): string {
  return Array.from(text.slice(Math.max(0, end - 2), end)).at(-1) ?? "";
}
