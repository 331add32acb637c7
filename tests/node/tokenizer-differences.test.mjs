// Random tokenizers of every kind against Python's library: those that tests/fixtures/cases/make_tokenizers.py wrote
// down, and fresh ones where a Python with tokenizers is at hand (STATEPRESS_PYTHON, else python3).

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import { StatepressError } from "statepress";
import { readTokenizer } from "../../web/dist/tokenizer/tokenizer.js";
import { fixture } from "../support/node.mjs";

const MAKER = fixture("cases/make_tokenizers.py");

/** What is refused by name, because JavaScript cannot do it or Python's library does now this and now that. */
const REFUSED = /regular expression|is normalized to nothing/;

/** How many of the texts are as in Python; every other fails the test. */
function compare(cases, told) {
  let texts = 0;
  let refused = 0;
  for (const [at, { json, texts: rows }] of cases.entries()) {
    let tokenizer;
    try {
      tokenizer = readTokenizer("t.json", JSON.stringify(json));
    } catch (error) {
      assert.ok(error instanceof StatepressError && REFUSED.test(error.message), `${told} ${at}: ${error.message}`);
      refused += 1;
      continue;
    }
    for (const [text, ids, decoded] of rows) {
      // Python refuses it, as where there is no token for the unknown.
      if (ids === null) continue;
      const parts = JSON.stringify({ ...json, model: { ...json.model, vocab: 0, merges: 0 } });
      const which = `${told} ${at}, ${JSON.stringify(text)}: ${parts}`;
      assert.deepEqual(Array.from(tokenizer.encode(text)), ids, which);
      if (decoded !== null) assert.equal(tokenizer.decode(ids), decoded, which);
      texts += 1;
    }
  }
  assert.ok(refused < cases.length / 20, `${refused} of ${cases.length} are refused`);
  return texts;
}

const stored = JSON.parse(gunzipSync(readFileSync(fixture("cases/tokenizers.json.gz"))));

test("random tokenizers encode and decode odd texts as Python's library does", () => {
  assert.ok(compare(stored, "case") > 500);
});

test("every kind of part is among them, with every behaviour of splits", () => {
  const seen = new Set();
  const look = (value, of) => {
    if (Array.isArray(value)) for (const it of value) look(it, of);
    else if (value && typeof value === "object") {
      if (value.type) seen.add(`${of} ${value.type}`);
      if (value.type === "Split") {
        seen.add(`Split ${Object.keys(value.pattern)[0]} ${value.behavior}`);
        seen.add(`Split ${value.invert}`);
      }
      for (const it of Object.values(value)) look(it, of);
    }
  };
  for (const { json } of stored) {
    for (const of of ["normalizer", "pre_tokenizer", "decoder"]) look(json[of], of);
    seen.add(`model ${json.model.type} ${json.model.byte_fallback ?? ""}`);
    for (const token of json.added_tokens) {
      for (const flag of ["lstrip", "rstrip", "single_word", "normalized", "special"])
        seen.add(`added ${flag} ${token[flag]}`);
    }
  }
  const all = {
    normalizer: [
      "NFC",
      "NFD",
      "NFKC",
      "NFKD",
      "Lowercase",
      "Strip",
      "StripAccents",
      "Replace",
      "Prepend",
      "BertNormalizer",
      "Nmt",
      "ByteLevel",
      "Sequence",
    ],
    pre_tokenizer: [
      "Whitespace",
      "WhitespaceSplit",
      "BertPreTokenizer",
      "Split",
      "Punctuation",
      "Digits",
      "Metaspace",
      "ByteLevel",
      "CharDelimiterSplit",
      "FixedLength",
      "Sequence",
    ],
    decoder: [
      "ByteLevel",
      "WordPiece",
      "Metaspace",
      "BPEDecoder",
      "ByteFallback",
      "Fuse",
      "Strip",
      "Replace",
      "Sequence",
    ],
    model: ["BPE true", "BPE false", "Unigram true", "Unigram false", "WordPiece ", "WordLevel "],
    added: ["lstrip", "rstrip", "single_word", "normalized", "special"].flatMap((it) => [`${it} true`, `${it} false`]),
    Split: [
      "true",
      "false",
      ...["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"].map((it) => `Regex ${it}`),
    ],
  };
  for (const [of, kinds] of Object.entries(all))
    for (const kind of kinds) assert.ok(seen.has(`${of} ${kind}`), `${of} ${kind}`);
});

const python = process.env.STATEPRESS_PYTHON ?? "python3";
const able = spawnSync(python, ["-c", "import tokenizers"]).status === 0;

test("and so do fresh ones", { skip: !able && "no Python with tokenizers is at hand" }, () => {
  const seed = 1000 * Math.floor(Math.random() * 1e6);
  const { stdout, status } = spawnSync(python, [MAKER, String(seed), "400"], { maxBuffer: 1 << 28 });
  assert.equal(status, 0);
  assert.ok(compare(JSON.parse(stdout), `seed ${seed}`) > 1500);
});
