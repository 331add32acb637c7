// Models that know words: WordPiece takes the longest piece that it knows each time, WordLevel whole words only.

import { type TokenModel, vocabulary } from "./bpe.js";
import type { Part } from "./part.js";

/** The model of a `tokenizer.json` of the type WordPiece (Schuster and Nakajima, 2012; BERT). */
export function wordPiece(part: Part): TokenModel {
  const vocab = vocabulary(part);
  const unknown = unknownOf(part, vocab, "[UNK]");
  const prefix = part.text("continuing_subword_prefix", "##");
  const longest = part.count("max_input_chars_per_word", 100);
  return {
    vocab,
    size: vocab.size,
    encode(piece) {
      const chars = Array.from(piece);
      if (chars.length > longest) return [unknown()];
      const ids: number[] = [];
      for (let start = 0; start < chars.length; ) {
        let end = chars.length;
        let id: number | undefined;
        for (; end > start; end -= 1) {
          id = vocab.get((start > 0 ? prefix : "") + chars.slice(start, end).join(""));
          if (id !== undefined) break;
        }
        // One part that is unknown makes the word unknown.
        if (id === undefined) return [unknown()];
        ids.push(id);
        start = end;
      }
      return ids;
    },
  };
}

/** The model of a `tokenizer.json` of the type WordLevel. */
export function wordLevel(part: Part): TokenModel {
  const vocab = vocabulary(part);
  const unknown = unknownOf(part, vocab, "<unk>");
  return { vocab, size: vocab.size, encode: (piece) => [vocab.get(piece) ?? unknown()] };
}

function unknownOf(part: Part, vocab: ReadonlyMap<string, number>, usual: string): () => number {
  const token = part.text("unk_token", usual);
  return () => {
    const id = vocab.get(token);
    if (id === undefined) throw new Error(`the token for the unknown, ${token}, is not in the vocabulary`);
    return id;
  };
}
