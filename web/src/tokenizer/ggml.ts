// The vocabulary in a GGUF file as the text of a `tokenizer.json`.
//
// Such a file has tokens with their kinds, and merges or scores. How texts are split before it only names, in llama.cpp's words;
// the expressions behind the words are in llama.cpp's src/llama-vocab.cpp.

import { shown } from "../api/check.js";
import type { Finding } from "../api/types/statepress.js";
import { QWEN2 } from "./pair.js";

/** A tokenizer, or why there is none, as the end of a sentence. */
export type FromGgml = { json: string; findings: Finding[] } | { reason: string };

/** The keys of the file that begin so say what its vocabulary is. */
const KEYS = "tokenizer.ggml.";

/** llama.cpp's kinds of tokens, but for the normal ones. */
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;
const UNUSED = 5;
const BYTE = 6;

/** The tokenizer that the keys of a GGUF file describe. */
export function fromGgml(metadata: Record<string, unknown>): FromGgml {
  const model = metadata[`${KEYS}model`];
  try {
    if (model === "gpt2") return byteLevel(new Vocabulary(metadata));
    if (model === "llama") return sentencePiece(new Vocabulary(metadata));
  } catch (error) {
    return { reason: `the file's vocabulary cannot be read: ${(error as Error).message}` };
  }
  if (model === undefined || model === "none" || model === "no_vocab") return { reason: "the file has no vocabulary" };
  const kind = KINDS.get(model) ?? `of the kind ${shown(model)}`;
  return { reason: `the file's vocabulary is ${kind}, which is not read from GGUF files` };
}

/** Vocabularies that are not read. */
const KINDS = new Map<unknown, string>([
  ["bert", "a WordPiece (BERT)"],
  ["t5", "a Unigram (T5)"],
  ["rwkv", "RWKV's own"],
  ["plamo2", "PLaMo 2's own"],
]);

/** How texts are split before merges. */
interface Way {
  parts: object[];
  /** Whether texts are brought to the normal form C: llama.cpp does without, whoever trained the models did not. */
  isNormal?: boolean;
  /** Whether pieces that are tokens are not made of others. */
  isWhole?: boolean;
  /** Whether texts begin with the mark of a beginning where the file does not say. */
  isMarked?: boolean;
}

const BYTES = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
const split = (Regex: string) => ({ type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false });

const GPT2 = [BYTES];
const GPT4 = [split(QWEN2.replace("|\\p{N}|", "|\\p{N}{1,3}|")), { ...BYTES, use_regex: false }];
const QWEN = [split(QWEN2), { ...BYTES, use_regex: false }];
const DIGITS = [{ type: "Digits", individual_digits: true }, BYTES];
const FALCON = [
  { type: "Punctuation", behavior: "Contiguous" },
  BYTES,
  { type: "Digits", individual_digits: false },
  split("[0-9][0-9][0-9]"),
];

const NAMES: [string[], Way][] = [
  // GPT-NeoX's tokenizer, which many models of state spaces have, goes by these names.
  [["mpt", "olmo"], { parts: GPT2, isNormal: true }],
  [
    ["gpt-2", "phi-2", "jais", "gigachat", "exaone4", "trillion", "granite-docling", "a.x-4.0", "mellum"],
    { parts: GPT2 },
  ],
  [
    ["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
    { parts: GPT4, isWhole: true, isMarked: true },
  ],
  [["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], { parts: GPT4 }],
  [["qwen2"], { parts: QWEN, isNormal: true }],
  [["deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"], { parts: QWEN }],
  [["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"], { parts: DIGITS }],
  [["falcon"], { parts: FALCON }],
];

/** Tokens by merges of byte pairs, as GPT-2 has them. */
function byteLevel(vocabulary: Vocabulary): FromGgml {
  const findings: Finding[] = [];
  const name = vocabulary.value("pre");
  const known = NAMES.find(([names]) => names.some((it) => it === name));
  if (!known) {
    const says =
      name === undefined ? "does not say how texts are split" : `has texts split as ${shown(name)}, unknown here`;
    const message = `the file ${says}: GPT-2's way is taken, and some texts may become other tokens`;
    findings.push({ level: "warning", code: "tokenizer-pre", message });
  }
  const { parts, isNormal = false, isWhole = false, isMarked = false } = known?.[1] ?? { parts: GPT2 };
  const json = vocabulary.json({
    normalizer: isNormal ? { type: "NFC" } : null,
    pre_tokenizer: parts.length === 1 ? BYTES : { type: "Sequence", pretokenizers: parts },
    post_processor: vocabulary.beginning(isMarked),
    decoder: BYTES,
    model: { type: "BPE", ignore_merges: isWhole, merges: vocabulary.texts("merges") },
  });
  return { json, findings };
}

/** Tokens by scores, as a SentencePiece model has them, in the form in which transformers converts Llama 2's. */
function sentencePiece(vocabulary: Vocabulary): FromGgml {
  const isPrefixed = vocabulary.value("add_space_prefix") !== false;
  const spaced = { type: "Replace", pattern: { String: " " }, content: "▁" };
  const decoders = [
    { type: "Replace", pattern: { String: "▁" }, content: " " },
    { type: "ByteFallback" },
    { type: "Fuse" },
    ...(isPrefixed ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
  ];
  const merges = mergesOf(vocabulary);
  if (!merges)
    return { reason: "the tokens of the file's vocabulary are joined of others in more ways than any real one's" };
  if (merges.length === 0) return { reason: "the file's vocabulary has no scores by which tokens are joined" };
  const json = vocabulary.json({
    normalizer: isPrefixed ? { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "▁" }, spaced] } : spaced,
    pre_tokenizer: null,
    post_processor: vocabulary.beginning(true),
    decoder: { type: "Sequence", decoders },
    model: { type: "BPE", unk_token: vocabulary.unknown ?? null, fuse_unk: true, byte_fallback: true, merges },
  });
  return { json, findings: [] };
}

/** Tokens that are longer are joined of nothing: there are none, but in a file that wants to keep somebody busy. */
const LONGEST = 64;

/** In how many ways tokens may be joined, for each token: of Llama's 32,000 there are two. */
const MOST_WAYS = 16;

// Every token is joined of all pairs of tokens that it can be cut into, those of the highest score first.
function mergesOf(vocabulary: Vocabulary): string[][] | undefined {
  const scores = vocabulary.numbers("scores");
  const ids = new Map<string, number>();
  vocabulary.each((token, id, kind) => {
    if (![UNKNOWN, CONTROL, USER_DEFINED, BYTE].includes(kind)) ids.set(token, id);
  });
  const merges: { a: string; b: string; score: number }[] = [];
  for (const [token, id] of ids) {
    if (merges.length > MOST_WAYS * ids.size) return undefined;
    const score = scores[id] ?? 0;
    for (let at = 1; at < token.length && token.length <= LONGEST; at += 1) {
      const [a, b] = [token.slice(0, at), token.slice(at)];
      if (ids.has(a) && ids.has(b)) merges.push({ a, b, score });
    }
  }
  // Files that were made of another kind of tokenizer have one score for all.
  if (new Set(merges.map(({ score }) => score)).size < 2) return [];
  // Of the same score those of the longest parts come first, as in transformers.
  merges.sort((x, y) => y.score - x.score || y.a.length - x.a.length || y.b.length - x.b.length);
  return merges.map(({ a, b }) => [a, b]);
}

/** What a file says of its tokens. */
class Vocabulary {
  readonly #metadata: Record<string, unknown>;
  readonly #tokens: string[];
  readonly #kinds: number[];

  constructor(metadata: Record<string, unknown>) {
    this.#metadata = metadata;
    this.#tokens = this.texts("tokens");
    this.#kinds = this.value("token_type") === undefined ? [] : this.numbers("token_type");
  }

  value(key: string): unknown {
    return this.#metadata[KEYS + key];
  }

  texts(key: string): string[] {
    return this.#list(key, (it) => typeof it === "string", "texts");
  }

  numbers(key: string): number[] {
    return this.#list(key, (it) => typeof it === "number", "numbers");
  }

  #list<T>(key: string, is: (it: unknown) => boolean, what: string): T[] {
    const list = this.value(key);
    if (Array.isArray(list) && list.every(is)) return list;
    throw new Error(`${KEYS}${key} is no list of ${what}`);
  }

  /** Calls back with every token that is used. */
  each(use: (token: string, id: number, kind: number) => void): void {
    this.#tokens.forEach((token, id) => {
      const kind = this.#kinds[id] ?? 0;
      if (kind !== UNUSED) use(token, id, kind);
    });
  }

  /** The token that a key names by its id. */
  #named(key: string): { token: string; id: number } | undefined {
    const id = this.value(key);
    const token = typeof id === "number" && this.#kinds[id] !== UNUSED ? this.#tokens[id] : undefined;
    return token === undefined ? undefined : { token, id: id as number };
  }

  /** The token for what no token stands for. */
  get unknown(): string | undefined {
    return this.#named("unknown_token_id")?.token ?? this.#tokens[this.#kinds.indexOf(UNKNOWN)];
  }

  /** What puts the mark of a beginning before a text, where texts have one. */
  beginning(usual: boolean): object | null {
    const mark = (this.value("add_bos_token") ?? usual) === true ? this.#named("bos_token_id") : undefined;
    if (!mark) return null;
    const { token, id } = mark;
    const part = (kind: string, id: string, type_id: number) => ({ [kind]: { id, type_id } });
    const single = [part("SpecialToken", token, 0), part("Sequence", "A", 0)];
    return {
      type: "TemplateProcessing",
      single,
      pair: [...single, part("SpecialToken", token, 1), part("Sequence", "B", 1)],
      special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
    };
  }

  /** The text of a `tokenizer.json` with these tokens: those that are found before anything is split are in its list as well. */
  json({ model, ...parts }: { model: object; [part: string]: object | null }): string {
    const ids = new Map<string, number>();
    const added: object[] = [];
    this.each((content, id, kind) => {
      if (ids.has(content)) return;
      ids.set(content, id);
      if (![UNKNOWN, CONTROL, USER_DEFINED].includes(kind)) return;
      const special = kind !== USER_DEFINED;
      added.push({ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special });
    });
    const vocab = Object.fromEntries(ids);
    return JSON.stringify({ version: "1.0", added_tokens: added, ...parts, model: { ...model, vocab } });
  }
}
