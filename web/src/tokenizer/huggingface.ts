// `tokenizer.json` of Hugging Face, encoded and decoded as Python's `tokenizers` does.
//
// A text goes through added tokens, normalizer, pre-tokenizer and model. Truncation and padding that a file asks for are
// left out, and so are the special tokens of its post-processor: they belong to a use of the model, not to the text.

import { StatepressError } from "../api/errors.js";
import { addedTokens, Finder } from "./added.js";
import { bpe, type TokenModel } from "./bpe.js";
import { decoder } from "./decode.js";
import { normalizer } from "./normalize.js";
import { Part } from "./part.js";
import { splitter } from "./split.js";
import type { Tokenizer } from "./tokenizer.js";
import { unigram } from "./unigram.js";
import { wordLevel, wordPiece } from "./words.js";

/** A tokenizer from a parsed `tokenizer.json`, or from what makes one. */
export function huggingFaceTokenizer(
  name: string,
  json: Record<string, unknown> | (() => Record<string, unknown>),
): Tokenizer {
  const said = <T>(what: string, make: () => T): T => {
    try {
      return make();
    } catch (error) {
      throw new StatepressError("bad-tokenizer", `${name} ${what}: ${(error as Error).message}`, { file: name });
    }
  };
  const { size, encode, decode } = said("cannot be used", () => pipeline(typeof json === "function" ? json() : json));
  return {
    name,
    size,
    encode: (text) => said("cannot encode this text", () => Uint32Array.from(encode(text))),
    decode,
  };
}

function pipeline(json: Record<string, unknown>) {
  const model = modelOf(Part.model(json["model"]));
  const added = addedTokens(json["added_tokens"], model);
  const normalizing = Part.maybe("normalizer", json["normalizer"]);
  const splitting = Part.maybe("pre_tokenizer", json["pre_tokenizer"]);
  const decoding = Part.maybe("decoder", json["decoder"]);
  const normalize = normalizing && normalizer(normalizing);
  const split = splitting && splitter(splitting);
  const joined = decoding && decoder(decoding);

  const asIs = new Finder(
    added.filter((it) => !it.normalized),
    undefined,
  );
  const inNormalized = new Finder(
    added.filter((it) => it.normalized),
    normalize,
  );
  const tokens = new Map<number, string>();
  for (const [token, id] of model.vocab) tokens.set(id, token);
  // Python's library gives back what it has looked for.
  for (const { content, id, normalized } of added)
    tokens.set(id, normalized && normalize ? normalize(content).text : content);
  let size = 0;
  for (const id of tokens.keys()) size = Math.max(size, id + 1);

  function* encode(given: string): Generator<number> {
    // Halves of surrogate pairs are no text: they become U+FFFD, as in every encoding of it.
    for (const section of asIs.split(wellFormed(given))) {
      if (section.id !== undefined) {
        yield section.id;
        continue;
      }
      const normal = normalize ? normalize(section.text) : { text: section.text, start: true };
      for (const { text, start, id } of inNormalized.split(normal.text)) {
        if (id !== undefined) {
          yield id;
          continue;
        }
        const whole = { text, first: section.start === 0 && start === 0 && normal.start };
        for (const piece of split ? split([whole]) : [whole]) yield* model.encode(piece.text);
      }
    }
  }

  return {
    size,
    encode,
    // Unknown ids would be dropped without a trace: they show as <UNK>, as in the other layouts.
    decode: (ids: Iterable<number>) => {
      const parts: string[] = [];
      let known: string[] = [];
      const flush = () => {
        if (known.length > 0) parts.push(joined ? joined(known).join("") : known.join(" "));
        known = [];
      };
      for (const id of ids) {
        const token = tokens.get(id);
        if (token !== undefined) {
          known.push(token);
        } else {
          flush();
          parts.push("<UNK>");
        }
      }
      flush();
      return parts.join("");
    },
  };
}

function modelOf(part: Part): TokenModel {
  switch (part.type) {
    case "BPE":
      return bpe(part);
    case "Unigram":
      return unigram(part);
    case "WordPiece":
      return wordPiece(part);
    case "WordLevel":
      return wordLevel(part);
    default:
      return part.refuse();
  }
}

function wellFormed(text: string): string {
  return text.replace(/\p{Cs}/gu, "\ufffd");
}
