// Byte-pair encoding: characters, joined pair by pair in the order in which the pairs were learnt.
//
// Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units", 2016.

import { isRecord } from "../api/record.js";
import type { Part } from "./part.js";
import { utf8 } from "./unicode.js";

/** Pieces of text to ids. */
export interface TokenModel {
  /** The ids of a piece. */
  encode(piece: string): number[];
  /** Every token with its id. */
  readonly vocab: ReadonlyMap<string, number>;
  /** How many ids it has: a list may name a token twice. */
  readonly size: number;
}

/** Pieces that are longer are not kept: they hardly come twice. */
const KEPT_LENGTH = 256;
const KEPT_PIECES = 20_000;

// Pairs of ids, and ranks with positions, are kept as one exact number each.
const MOST = 2 ** 21;
const PAIR = 2 ** 32;

/** A vocabulary from `{"token": id}`. */
export function vocabulary(part: Part): Map<string, number> {
  const given = part.settings["vocab"];
  if (!isRecord(given)) throw new Error(`${part.place} ${part.type}: vocab is not an object`);
  const vocab = new Map<string, number>();
  for (const [token, id] of Object.entries(given)) {
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id >= MOST) {
      throw new Error(`${part.place} ${part.type}: the id of ${JSON.stringify(token)} is ${JSON.stringify(id)}`);
    }
    vocab.set(token, id);
  }
  return vocab;
}

/** The tokens of the bytes of a text, `<0x0A>`; undefined where one is missing. */
export function byteTokens(vocab: ReadonlyMap<string, number>, text: string): number[] | undefined {
  const ids: number[] = [];
  for (const byte of utf8(text)) {
    const id = vocab.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
    if (id === undefined) return undefined;
    ids.push(id);
  }
  return ids;
}

/** The model of a `tokenizer.json` of the type BPE. */
export function bpe(part: Part): TokenModel {
  if (part.settings["dropout"]) part.refuse("has dropout: it encodes a text each time differently");
  const vocab = vocabulary(part);
  const optional = (name: string) => part.text(name, "");
  const prefix = optional("continuing_subword_prefix");
  const suffix = optional("end_of_word_suffix");
  const unknownToken = part.settings["unk_token"] ?? undefined;
  const unknown = unknownToken === undefined ? undefined : vocab.get(part.text("unk_token"));
  const fuse = part.flag("fuse_unk", false);
  const bytes = part.flag("byte_fallback", false);
  const whole = part.flag("ignore_merges", false);
  const merges = ranked(part, vocab, prefix);
  const kept = new Map<string, number[]>();

  // The characters of a piece, each an id.
  const symbols = (piece: string): number[] => {
    const chars = Array.from(piece);
    const ids: number[] = [];
    let waiting = false;
    const flush = () => {
      if (waiting && unknown !== undefined) ids.push(unknown);
      waiting = false;
    };
    chars.forEach((char, at) => {
      const token = (at > 0 ? prefix : "") + char + (at === chars.length - 1 ? suffix : "");
      const id = vocab.get(token);
      if (id !== undefined) {
        flush();
        ids.push(id);
        return;
      }
      const fallback = bytes ? byteTokens(vocab, token) : undefined;
      if (fallback) {
        ids.push(...fallback);
        return;
      }
      // Without a token for the unknown they leave no trace, as in Python.
      if (unknownToken === undefined) return;
      if (unknown === undefined)
        throw new Error(`the token for the unknown, ${unknownToken}, is not in the vocabulary`);
      if (!fuse) flush();
      waiting = true;
    });
    flush();
    return ids;
  };

  return {
    vocab,
    size: vocab.size,
    encode(piece) {
      if (piece === "") return [];
      const known = whole ? vocab.get(piece) : undefined;
      if (known !== undefined) return [known];
      const before = kept.get(piece);
      if (before) return before;
      const ids = merged(symbols(piece), merges);
      if (piece.length < KEPT_LENGTH) {
        if (kept.size >= KEPT_PIECES) kept.clear();
        kept.set(piece, ids);
      }
      return ids;
    },
  };
}

type Merges = Map<number, { rank: number; id: number }>;

function ranked(part: Part, vocab: Map<string, number>, prefix: string): Merges {
  const given = part.settings["merges"];
  if (!Array.isArray(given)) throw new Error(`${part.place} BPE: merges is not a list`);
  if (given.length > MOST) throw new Error(`${part.place} BPE: there are ${given.length} merges, at most ${MOST}`);
  const merges: Merges = new Map();
  const idOf = (token: string, line: unknown) => {
    const id = vocab.get(token);
    if (id === undefined) {
      throw new Error(`${JSON.stringify(token)} of the merge ${JSON.stringify(line)} is not in the vocabulary`);
    }
    return id;
  };
  const lines = given.filter((line) => typeof line !== "string" || !line.startsWith("#version"));
  lines.forEach((line: unknown, rank) => {
    const pair: unknown[] = typeof line === "string" ? line.split(" ") : Array.isArray(line) ? line : [];
    const [a, b] = pair;
    if (pair.length !== 2 || typeof a !== "string" || typeof b !== "string") {
      throw new Error(`${part.place} BPE: merge ${rank} is ${JSON.stringify(line)}, which is no pair`);
    }
    const joined = a + (prefix === "" ? b : Array.from(b).slice(Array.from(prefix).length).join(""));
    merges.set(idOf(a, line) * PAIR + idOf(b, line), { rank, id: idOf(joined, line) });
  });
  return merges;
}

/** Joins pairs, the lowest rank first, and of the same rank the leftmost. */
function merged(ids: number[], merges: Merges): number[] {
  const n = ids.length;
  if (n < 2) return ids;
  const next = Int32Array.from(ids, (_, at) => at + 1);
  const before = Int32Array.from(ids, (_, at) => at - 1);
  const gone = new Uint8Array(n);
  const queue = new Queue();
  const mergeAt = (at: number) => {
    const right = next[at] ?? n;
    return right < n ? merges.get((ids[at] ?? 0) * PAIR + (ids[right] ?? 0)) : undefined;
  };
  const offer = (at: number) => {
    const merge = mergeAt(at);
    if (merge) queue.push(merge.rank * PAIR + at);
  };
  for (let at = 0; at < n - 1; at += 1) offer(at);
  for (let top = queue.pop(); top !== undefined; top = queue.pop()) {
    const at = top % PAIR;
    const merge = gone[at] ? undefined : mergeAt(at);
    // The pair may have changed since it was offered: it was offered anew then.
    if (!merge || merge.rank !== Math.floor(top / PAIR)) continue;
    const right = next[at] ?? n;
    ids[at] = merge.id;
    gone[right] = 1;
    const after = next[right] ?? n;
    next[at] = after;
    if (after < n) before[after] = at;
    offer(at);
    const left = before[at] ?? -1;
    if (left >= 0) offer(left);
  }
  return ids.filter((_, at) => !gone[at]);
}

/** A binary heap of numbers, the least first. */
class Queue {
  readonly #heap: number[] = [];

  push(value: number): void {
    const heap = this.#heap;
    let at = heap.length;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent] ?? 0;
      if (above <= value) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = value;
  }

  pop(): number | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      const right = heap[child + 1];
      if (right !== undefined && right < (heap[child] ?? 0)) child += 1;
      const below = heap[child];
      if (below === undefined || below >= last) break;
      heap[at] = below;
      at = child;
    }
    heap[at] = last;
    return top;
  }
}
