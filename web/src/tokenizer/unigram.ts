// Unigram: of all ways to cut a piece into tokens, the likeliest.
//
// Kudo, "Subword Regularization", 2018; the search as in sentencepiece's `EncodeOptimized`.

import { byteTokens, type TokenModel } from "./bpe.js";
import type { Part } from "./part.js";

/** What an unknown character costs more than the rarest token. */
const UNKNOWN_PENALTY = 10;

interface Node {
  next: Map<string, Node>;
  token?: { id: number; score: number };
}

/** The model of a `tokenizer.json` of the type Unigram. */
export function unigram(part: Part): TokenModel {
  const given = part.settings["vocab"];
  if (!Array.isArray(given)) throw new Error("model Unigram: vocab is not a list");
  const vocab = new Map<string, number>();
  const root: Node = { next: new Map() };
  let least = Number.POSITIVE_INFINITY;
  given.forEach((pair: unknown, id) => {
    const [token, score] = Array.isArray(pair) ? pair : [];
    if (typeof token !== "string" || typeof score !== "number") {
      throw new Error(`model Unigram: token ${id} is ${JSON.stringify(pair)}, not a text with a score`);
    }
    vocab.set(token, id);
    least = Math.min(least, score);
    let node = root;
    for (const char of token) {
      let next = node.next.get(char);
      if (!next) {
        next = { next: new Map() };
        node.next.set(char, next);
      }
      node = next;
    }
    node.token = { id, score };
  });
  const unknown = (part.settings["unk_id"] ?? undefined) === undefined ? undefined : part.count("unk_id");
  if (unknown !== undefined && unknown >= given.length) throw new Error(`model Unigram: unk_id is ${unknown}`);
  const bytes = part.flag("byte_fallback", false);
  const missing = (): never => {
    throw new Error("the tokenizer has no token for the unknown, and the text is not all in its vocabulary");
  };

  // The likeliest cut; neighbours that are unknown are one.
  const cut = (piece: string): string[] => {
    const chars = Array.from(piece);
    const n = chars.length;
    const score = new Float64Array(n + 1);
    const start = new Int32Array(n + 1).fill(-1);
    const ids = new Int32Array(n + 1);
    const offer = (from: number, to: number, id: number, value: number) => {
      const total = value + (score[from] ?? 0);
      if (start[to] !== -1 && total <= (score[to] ?? 0)) return;
      score[to] = total;
      start[to] = from;
      ids[to] = id;
    };
    for (let from = 0; from < n; from += 1) {
      let single = false;
      let node: Node | undefined = root;
      for (let to = from; to < n; to += 1) {
        node = node.next.get(chars[to] ?? "");
        if (!node) break;
        if (!node.token) continue;
        offer(from, to + 1, node.token.id, node.token.score);
        single ||= to === from;
      }
      if (!single) offer(from, from + 1, unknown ?? missing(), least - UNKNOWN_PENALTY);
    }
    const parts: string[] = [];
    let fused = "";
    for (let end = n; end > 0; end = start[end] ?? 0) {
      const text = chars.slice(start[end], end).join("");
      if (ids[end] === unknown) {
        fused = text + fused;
        continue;
      }
      if (fused !== "") parts.push(fused);
      fused = "";
      parts.push(text);
    }
    if (fused !== "") parts.push(fused);
    return parts.reverse();
  };

  return {
    vocab,
    size: given.length,
    encode: (piece) =>
      cut(piece).flatMap((text) => {
        const id = vocab.get(text);
        if (id !== undefined) return [id];
        return (bytes ? byteTokens(vocab, text) : undefined) ?? [unknown ?? missing()];
      }),
  };
}
