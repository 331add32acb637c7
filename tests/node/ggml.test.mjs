// The vocabularies of GGUF files: tokenizers written down as such a file has them and read back make the same tokens.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { StatepressError, tokensDiffer } from "statepress";
import { library } from "../../web/dist/api/library.js";
import { fromGgml } from "../../web/dist/tokenizer/ggml.js";
import { readTokenizer } from "../../web/dist/tokenizer/tokenizer.js";
import { DEMO, fixture, HELDOUT } from "../support/node.mjs";

const stored = (name) => JSON.parse(readFileSync(fixture(`tokenizers/${name}`), "utf8"));
const { texts } = stored("expected.json");
const demo = JSON.parse(readFileSync(join(DEMO, "tokenizer.json"), "utf8"));
const QWEN = stored("expected.json").cases.find((it) => it.case === "qwen").parts;

/** A tokenizer's tokens by their ids with their kinds, in so many rows. */
function rowsOf({ model, added_tokens }, rows = 0) {
  const tokens = [];
  const kinds = [];
  for (const [token, id] of Object.entries(model.vocab)) {
    tokens[id] = token;
    kinds[id] = /^<0x[0-9A-F]{2}>$/.test(token) ? 6 : 1;
  }
  for (const { id, content, special } of added_tokens) {
    tokens[id] = content;
    kinds[id] = content === model.unk_token ? 2 : special ? 3 : 4;
  }
  for (let id = 0; id < Math.max(rows, tokens.length); id++) {
    tokens[id] ??= `[PAD${id}]`;
    kinds[id] ??= 5;
  }
  return { tokens, kinds };
}

const keyed = (values) =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [`tokenizer.ggml.${name}`, value]));

/** What a GGUF file says of a byte-level tokenizer. */
function byteLevel(json, pre, rows, more = {}) {
  const { tokens, kinds } = rowsOf(json, rows);
  const merges = json.model.merges.map((it) => (typeof it === "string" ? it : it.join(" ")));
  return keyed({ model: "gpt2", pre, tokens, token_type: kinds, merges, ...more });
}

/** What it says of one by SentencePiece, whose scores are the order in which tokens were learnt. */
function sentencePiece(json, more = {}) {
  const { tokens, kinds } = rowsOf(json);
  const ranks = new Map(
    json.model.merges.map((it, rank) => [(typeof it === "string" ? it.split(" ") : it).join(""), rank]),
  );
  const scores = tokens.map((token, id) => (kinds[id] === 1 ? -(ranks.get(token) ?? ranks.size + id) : 0));
  return keyed({ model: "llama", pre: "default", tokens, token_type: kinds, scores, ...more });
}

function made(metadata) {
  const made = fromGgml(metadata);
  assert.ok("json" in made, made.reason);
  return { ...made, parsed: JSON.parse(made.json), tokenizer: readTokenizer("made", made.json) };
}

/** Every text has the same ids by both, and they give the same text. */
function assertAlike(tokenizer, original, more = []) {
  for (const text of [...texts, ...more]) {
    const ids = original.encode(text);
    assert.deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
    assert.equal(tokenizer.decode(ids), original.decode(ids));
  }
  assert.equal(tokenizer.size, original.size);
}

const individual = {
  type: "Sequence",
  pretokenizers: [
    { type: "Digits", individual_digits: true },
    { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
  ],
};
for (const [what, json, ...names] of [
  ["gpt2.json", stored("gpt2.json"), "gpt-2", "phi-2"],
  ["neox.json", stored("neox.json"), "mpt", "olmo"],
  ["llama3.json", stored("llama3.json"), "llama-bpe", "llama3", "llama-v3"],
  ["llama3.json without its whole pieces", stored("llama3.json"), "dbrx"],
  ["falcon.json", stored("falcon.json"), "falcon"],
  ["gpt2.json as Qwen splits", { ...stored("gpt2.json"), ...QWEN, normalizer: null }, "deepseek-r1-qwen"],
  ["gpt2.json as Qwen 2", { ...stored("gpt2.json"), ...QWEN }, "qwen2"],
  ["gpt2.json with single digits", { ...stored("gpt2.json"), pre_tokenizer: individual }, "starcoder", "smollm"],
  ["the demo's", demo, "gpt-2"],
]) {
  test(`${what}: the same tokens from the words ${names.join(", ")}`, () => {
    if (what.includes("without")) json.model.ignore_merges = false;
    const original = readTokenizer("original", JSON.stringify(json));
    for (const name of names) {
      const { tokenizer, findings } = made(byteLevel(json, name, original.size + 3));
      assert.deepEqual(findings, []);
      assertAlike(tokenizer, original, what === "the demo's" ? [readFileSync(HELDOUT, "utf8")] : []);
    }
  });
}

test("another way to split texts than those that are known is told of, and GPT-2's is taken", () => {
  const json = stored("gpt2.json");
  const original = readTokenizer("original", JSON.stringify(json));
  for (const [pre, words] of [
    ["default", /split as "default", unknown here: GPT-2's way is taken/],
    ["tekken", /split as "tekken"/],
    [undefined, /does not say how texts are split: GPT-2's way/],
  ]) {
    const { tokenizer, findings } = made(byteLevel(json, pre));
    assertAlike(tokenizer, original);
    const [{ level, code, message }, ...more] = findings;
    assert.deepEqual([level, code, more], ["warning", "tokenizer-pre", []]);
    assert.match(message, words);
  }
});

test("SentencePiece by scores, with bytes for what is unknown and a blank before every text", () => {
  const json = stored("llama2.json");
  const original = readTokenizer("original", JSON.stringify(json));
  assertAlike(made(sentencePiece(json)).tokenizer, original);
  // Without the blank: the same pieces as where one is there already.
  const bare = made(sentencePiece(json, { add_space_prefix: false })).tokenizer;
  for (const text of texts.filter((it) => it !== "" && !/<(s|unk)>/.test(it))) {
    assert.deepEqual(bare.encode(` ${text}`), original.encode(text), JSON.stringify(text));
    assert.equal(bare.decode(bare.encode(text)), text.replaceAll("▁", " "));
  }
});

test("of all ways to join a token none is left out, the best score first", () => {
  const tokens = ["<unk>", "a", "b", "c", "ab", "bc", "abc", "𠀀", "𠀀a", "z".repeat(300)];
  const scores = [0, -9, -9, -9, -2, -1, -3, -9, -4, -5];
  const { parsed } = made(keyed({ model: "llama", tokens, scores, token_type: [2, 1, 1, 1, 1, 1, 1, 1, 1, 1] }));
  assert.deepEqual(
    parsed.model.merges.map((it) => it.join(" ")),
    ["b c", "a b", "ab c", "a bc", "𠀀 a"],
  );
  assert.equal(parsed.model.unk_token, "<unk>");
});

test("a text begins with a mark where the file says so, in the words that exports read", () => {
  const json = stored("llama3.json");
  const single = (more, pre = "gpt-2") =>
    made(byteLevel(json, pre, 0, more)).parsed.post_processor?.single.map((it) => Object.values(it)[0].id);
  assert.deepEqual(single({ add_bos_token: true, bos_token_id: 0 }), ["<|end|>", "A"]);
  assert.equal(single({ add_bos_token: false, bos_token_id: 0 }, "llama-bpe"), undefined);
  assert.equal(single({ bos_token_id: 0 }), undefined);
  assert.deepEqual(single({ bos_token_id: 0 }, "llama-bpe"), ["<|end|>", "A"]);
  assert.equal(single({ add_bos_token: true }), undefined);
  assert.equal(single({ add_bos_token: true, bos_token_id: 10_000 }), undefined);
  const { parsed } = made(sentencePiece(stored("llama2.json"), { bos_token_id: 1 }));
  assert.deepEqual(parsed.post_processor.special_tokens, { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } });
});

test("tokens are what they are called, whatever that is", () => {
  const json = stored("gpt2.json");
  const odd = ["__proto__", "constructor", "77777"];
  const { tokens, kinds } = rowsOf(json);
  const more = { tokens: [...tokens, ...odd, "[PAD]", "<user>"], token_type: [...kinds, 1, 1, 1, 5, 4] };
  const { tokenizer, parsed } = made(byteLevel(json, "gpt-2", 0, more));
  assert.equal(tokenizer.decode(odd.map((_, at) => tokens.length + at)), odd.join(""));
  const user = tokens.length + odd.length + 1;
  assert.deepEqual([...tokenizer.encode("<user>")], [user]);
  assert.deepEqual(
    parsed.added_tokens.map(({ id, special }) => [id, special]),
    [
      [0, true],
      [user, false],
    ],
  );
  assert.ok(!("[PAD]" in parsed.model.vocab));
});

test("what is not read is told in words", () => {
  const why = (metadata) => fromGgml(keyed(metadata)).reason;
  const tokens = ["a", "b", "ab"];
  for (const [metadata, words] of [
    [{}, /^the file has no vocabulary$/],
    [{ model: "none" }, /^the file has no vocabulary$/],
    [{ model: "bert" }, /is a WordPiece \(BERT\), which is not read from GGUF files/],
    [{ model: "t5" }, /is a Unigram \(T5\)/],
    [{ model: "rwkv" }, /is RWKV's own/],
    [{ model: "plamo2" }, /is PLaMo 2's own/],
    [{ model: "gemma4" }, /is of the kind "gemma4"/],
    [{ model: ["gpt2"] }, /is of the kind a list/],
    [{ model: "gpt2" }, /cannot be read: tokenizer\.ggml\.tokens is no list of texts/],
    [{ model: "gpt2", tokens: [1] }, /tokens is no list of texts/],
    [{ model: "gpt2", tokens }, /merges is no list of texts/],
    [{ model: "gpt2", tokens, token_type: "1" }, /token_type is no list of numbers/],
    [{ model: "llama", tokens }, /scores is no list of numbers/],
    [{ model: "llama", tokens, scores: [-1000, -1000, -1000] }, /no scores by which tokens are joined/],
  ])
    assert.match(why(metadata) ?? "read", words, JSON.stringify(metadata));
});

/** Opens a file of some format by the library alone, with the files beside it: the host knows only what it is asked here. */
async function opened(vocabulary, { format = "gguf", name = "model.gguf", beside = {}, ...options } = {}) {
  const asked = [];
  const host = {
    async call(request, { tokenizer }) {
      asked.push(request);
      if (request === "vocabulary") return { text: vocabulary && JSON.stringify(vocabulary) };
      if (request === "tokenizer") return readTokenizer(tokenizer.name, tokenizer.json, tokenizer);
      assert.equal(request, "open");
      return { checkpoint: 1, inspection: { format, findings: [], spec: {} } };
    },
  };
  const file = (name, text = "") => ({ name, data: new Uint8Array(), text: async () => text });
  const files = Object.entries(beside).map(([name, text]) => file(name, text));
  const environment = {
    host,
    gather: async () => ({ given: [file(name)], beside: files }),
    tokenizer: async (name) => [file(name, JSON.stringify(demo))],
  };
  return { checkpoint: await library(environment).open(name, options), asked };
}

test("a GGUF file is opened with the tokenizer that it holds, unless there is another", async () => {
  const vocabulary = byteLevel(demo, "gpt-2", 8003);
  const own = await opened(vocabulary);
  assert.deepEqual(own.asked, ["open", "vocabulary", "tokenizer"]);
  assert.equal(own.checkpoint.tokenizerName, "tokenizer of model.gguf");
  assert.deepEqual(own.checkpoint.inspection.findings, []);
  const input = own.checkpoint.tokenizer.input("The film");
  assert.equal(input.tokenizer.name, "tokenizer of model.gguf");
  const original = readTokenizer("original", JSON.stringify(demo));
  assert.deepEqual(own.checkpoint.tokenizer.get().encode("The film"), original.encode("The film"));

  const beside = await opened(vocabulary, { beside: { "tokenizer.json": JSON.stringify(demo) } });
  assert.deepEqual(beside.asked, ["open", "tokenizer"]);
  assert.equal(beside.checkpoint.tokenizerName, "tokenizer.json");
  const given = await opened(vocabulary, { tokenizer: "mine.json" });
  assert.equal(given.checkpoint.tokenizerName, "mine.json");
  const several = await opened(vocabulary, { beside: { "tokenizer_a.json": "{}", "tokenizer_b.json": "{}" } });
  assert.deepEqual([several.asked, several.checkpoint.tokenizerName], [["open"], undefined]);
  const safetensors = await opened(vocabulary, { format: "safetensors" });
  assert.deepEqual(safetensors.asked, ["open"]);

  // It is the tokenizer of the model that the file was made of, whose makings say more.
  assert.equal(tokensDiffer(own.checkpoint, beside.checkpoint), undefined);
  assert.equal(tokensDiffer(beside.checkpoint, own.checkpoint), undefined);
  assert.equal(tokensDiffer(own.checkpoint, (await opened(vocabulary, { name: "b.gguf" })).checkpoint), undefined);
  const neox = stored("neox.json");
  const apart = (await opened(byteLevel(neox, "mpt"))).checkpoint;
  const apartBeside = (await opened(undefined, { beside: { "tokenizer.json": JSON.stringify(neox) } })).checkpoint;
  assert.equal(tokensDiffer(apart, apartBeside), undefined, "added tokens are among the others");
  assert.match(tokensDiffer(own.checkpoint, apart), /tokenizer of model\.gguf of the one/);
});

test("what a GGUF file does not say is told when it is opened", async () => {
  const codes = ({ checkpoint }) => checkpoint.inspection.findings.map(({ code }) => code);
  const assumed = await opened(byteLevel(demo, "default"));
  assert.deepEqual(codes(assumed), ["tokenizer-pre"]);
  const foreign = { "tokenizer.model": "", "vocab.json": "{}" };
  assert.deepEqual(codes(await opened(byteLevel(demo, "gpt-2"), { beside: foreign })), []);
  for (const [vocabulary, beside, words] of [
    [undefined, {}, /no text without a tokenizer: the file has no vocabulary/],
    [keyed({ model: "rwkv" }), {}, /RWKV's own/],
    [keyed({ model: "rwkv" }), { "tokenizer.model": "" }, /only tokenizer\.model, and it is a SentencePiece model/],
  ]) {
    const none = await opened(vocabulary, { beside });
    assert.deepEqual(codes(none), ["no-tokenizer"]);
    assert.match(none.checkpoint.inspection.findings[0].message, words);
    assert.throws(
      () => none.checkpoint.tokenizer.get(),
      (error) => error instanceof StatepressError && error.code === "no-tokenizer",
    );
  }
  const broken = byteLevel(demo, "gpt-2", 0, { merges: ["zz zzz"] });
  assert.deepEqual(codes(await opened(broken)), ["tokenizer-unusable"]);
});
