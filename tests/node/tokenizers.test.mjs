// The three tokenizer layouts against what Python gives for them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { StatepressError } from "statepress";
import { readTokenizer } from "../../web/dist/tokenizer/tokenizer.js";
import { DEMO, fixture, HELDOUT } from "../support/node.mjs";

const golden = JSON.parse(readFileSync(fixture("misc/tokenizers.json"), "utf8"));
const read = (path, name = "tokenizer.json") => readTokenizer(name, readFileSync(path, "utf8"));

for (const [name, { encode, decode }] of Object.entries(golden)) {
  test(`${name}: ${encode.length} texts and ${decode.length} lists of ids as in Python`, () => {
    const tokenizer = read(fixture(`itera-lite/${name}.json`), name);
    for (const { text, ids } of encode) assert.deepEqual(Array.from(tokenizer.encode(text)), ids, JSON.stringify(text));
    for (const { ids, text } of decode) assert.equal(tokenizer.decode(ids), text);
    assert.ok(encode.length > 0 && decode.length > 0);
  });
}

test("the size is what the table holds, not the stated limit", () => {
  assert.equal(read(fixture("itera-lite/tokenizer_2000.json")).size, 184);
  assert.equal(read(fixture("itera-lite/tokenizer_tiny.json")).size, 42);
  assert.equal(read(join(DEMO, "tokenizer.json")).size, 8000);
});

test("words split where Python splits, and only there", () => {
  const tokenizer = read(fixture("itera-lite/tokenizer_2000.json"));
  const fox = tokenizer.encode("the fox");
  for (const space of "\u001c\u001d\u001e\u001f\u0085\u2003\u3000") {
    assert.deepEqual(tokenizer.encode(`the${space}fox`), fox, space.codePointAt(0).toString(16));
  }
  assert.equal(tokenizer.encode("the\ufefffox").length, 1);
});

test("byte-level BPE: a whole text gives the ids of the reference, and they give the text", () => {
  const tokenizer = read(join(DEMO, "tokenizer.json"));
  const text = readFileSync(HELDOUT, "utf8");
  const bytes = readFileSync(fixture("tokenizers/heldout.bpe8000.u16.bin"));
  const expected = Uint32Array.from({ length: bytes.length / 2 }, (_, i) => bytes.readUInt16LE(2 * i));
  const ids = tokenizer.encode(text);
  assert.deepEqual(ids, expected);
  assert.equal(tokenizer.decode(ids), text);
});

test("ids that stand for nothing show as <UNK>", () => {
  const tokenizer = read(join(DEMO, "tokenizer.json"));
  const [id] = tokenizer.encode("a");
  assert.equal(tokenizer.decode([id, 9999, id]), "a<UNK>a");
});

test("files that are no tokenizers are refused by name and reason", () => {
  const refused = (json, words) =>
    assert.throws(
      () => readTokenizer("t.json", json),
      (error) => error instanceof StatepressError && error.code === "bad-tokenizer" && words.test(error.message),
    );
  refused("{", /t\.json is not JSON/);
  refused("[]", /t\.json is no tokenizer/);
  refused('{"token2id": {"a": 0}, "level": "byte"}', /level is "byte"/);
  refused('{"token_to_id": {"a": "0"}}', /id of "a" is "0"/);
  refused('{"token_to_id": {"a": 0}}', /no <UNK>/);
  refused('{"model": {"type": "Nonsense"}}', /t\.json cannot be used/);
});
