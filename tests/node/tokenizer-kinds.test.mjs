// tokenizer.json of every kind against what Python's library gives: tests/fixtures/tokenizers/make.py wrote it down.

import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { open, StatepressError, tokensDiffer } from "statepress";
import { readTokenizer } from "../../web/dist/tokenizer/tokenizer.js";
import { cli, fixture, scratch } from "../support/node.mjs";

const json = (name) => JSON.parse(readFileSync(fixture(`tokenizers/${name}`), "utf8"));
const { texts, cases } = json("expected.json");
const ids = (line) => line.split(" ").filter(Boolean).map(Number);

/** The file of a case, with its parts replaced: of the model field by field. */
function tokenizerOf({ file, parts = {} }) {
  const stored = json(file);
  return readTokenizer(file, JSON.stringify({ ...stored, ...parts, model: { ...stored.model, ...parts.model } }));
}

test("every kind of model is in the table, and every text is encoded by each", () => {
  const usual = cases.filter(({ parts }) => !parts);
  const types = new Set(usual.map(({ file }) => json(file).model.type));
  assert.deepEqual([...types].sort(), ["BPE", "Unigram", "WordLevel", "WordPiece"]);
  for (const { ids } of usual) assert.equal(Object.keys(ids).length, texts.length);
});

for (const it of cases) {
  const usual = cases.find(({ file, parts }) => file === it.file && !parts);
  test(`${it.file} ${it.case}: ${texts.length} texts as in Python`, () => {
    const tokenizer = tokenizerOf(it);
    texts.forEach((text, n) => {
      const expected = ids(it.ids[n] ?? usual.ids[n]);
      assert.deepEqual(Array.from(tokenizer.encode(text)), expected, `text ${n}: ${JSON.stringify(text)}`);
      assert.equal(tokenizer.decode(expected), it.decoded[n] ?? usual.decoded[n], `back from ${n}`);
    });
    for (const [line, text] of Object.entries(it.odd ?? usual.odd))
      assert.equal(tokenizer.decode(ids(line)), text, line);
  });
}

const VOCAB = readFileSync(fixture("tokenizers/gpt2/vocab.json"), "utf8");
const MERGES = readFileSync(fixture("tokenizers/gpt2/merges.txt"), "utf8");
const config = (fields) => JSON.stringify(fields);

/** Every text as a case of gpt2.json has it. */
function encodesAs(tokenizer, name) {
  const usual = cases.find(({ file, parts }) => file === "gpt2.json" && !parts);
  const expected = cases.find((it) => it.file === "gpt2.json" && it.case === name);
  texts.forEach((text, n) => {
    assert.deepEqual(Array.from(tokenizer.encode(text)), ids(expected.ids[n] ?? usual.ids[n]), JSON.stringify(text));
  });
}

function refused(make, words) {
  assert.throws(make, (error) => {
    assert.ok(error instanceof StatepressError && error.code === "bad-tokenizer", `${error}`);
    assert.match(error.message, words);
    return true;
  });
}

test("vocab.json and merges.txt are split as tokenizer_config.json says, else as GPT-2 does", () => {
  const read = (beside) => readTokenizer("vocab.json", VOCAB, { merges: MERGES, ...beside });
  encodesAs(read({}), "nothing added");
  encodesAs(read({ config: "\ufeff{}" }), "nothing added");
  const gpt2 = { tokenizer_class: "GPT2Tokenizer", eos_token: "<|end|>", pad_token: null };
  encodesAs(read({ config: config(gpt2) }), "as it is");
  encodesAs(
    readTokenizer("vocab.json", VOCAB, { merges: MERGES.replaceAll("\n", "\r\n"), config: config(gpt2) }),
    "as it is",
  );
  const content = { content: "<|end|>", special: true, normalized: false };
  encodesAs(
    read({ config: config({ tokenizer_class: "Qwen2TokenizerFast", added_tokens_decoder: { 0: content } }) }),
    "qwen",
  );
});

test("of a vocabulary is said what it lacks, and what is not known to be done as in Python", () => {
  const read = (vocab, beside) => () => readTokenizer("vocab.json", vocab, beside);
  refused(read(VOCAB), /vocab\.json cannot be used: .*without its merges\.txt/);
  refused(read('{"a": 0}', { merges: "" }), /no token for every byte/);
  refused(read(VOCAB, { merges: "a b c\n" }), /merge 0 is "a b c"/);
  refused(read(VOCAB, { merges: "zz zz\n" }), /"zz" of the merge "zz zz" is not in the vocabulary/);
  refused(read(VOCAB, { merges: MERGES, config: '{"tokenizer_class": "CLIPTokenizer"}' }), /names CLIPTokenizer/);
  refused(read(VOCAB, { merges: MERGES, config: "{" }), /tokenizer_config\.json is not JSON/);
});

test("what would be done otherwise than in Python is refused by name", () => {
  const stored = json("gpt2.json");
  const read = (parts) => () => readTokenizer("t.json", JSON.stringify({ ...stored, ...parts }));
  const split = (Regex) => ({
    pre_tokenizer: { type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false },
  });
  refused(read({ pre_tokenizer: { type: "UnicodeScripts" } }), /t\.json cannot be used: pre_tokenizer UnicodeScripts/);
  refused(
    read({ normalizer: { type: "Sequence", normalizers: [{ type: "New" }] } }),
    /normalizer New is not supported/,
  );
  refused(read({ decoder: { type: "CTC" } }), /decoder CTC/);
  refused(read({ model: { ...stored.model, dropout: 0.1 } }), /dropout/);
  for (const regex of ["a?+b", "(?>a|ab)c", "\\Ka", "\\X", "a++", "(?<n>a)\\k<n>", "(?i)[a-z]", "("]) {
    refused(read(split(regex)), /pre_tokenizer Split has .*JavaScript cannot do/);
  }
  // What only looks like it is taken.
  for (const regex of ["[+*]+", "\\++", "[^\\]+]+x", "[(?>]+", "a{2,3}"]) read(split(regex))();
});

test("tokenizers are found in folders, by either of two names, and their lack is told with what to do", async () => {
  const folder = scratch();
  const at = (name) => join(folder, name);
  copyFileSync(fixture("fixtures/il_moe.safetensors"), at("model.safetensors"));
  const choice = async (options, use = (checkpoint) => checkpoint.load()) => {
    const checkpoint = await open(at("model.safetensors"), options);
    const model = await use(checkpoint);
    checkpoint.dispose();
    return { model, findings: checkpoint.inspection.findings.map(({ code }) => code) };
  };
  const lacks = async (words, options, code = "no-tokenizer") => {
    const { model } = await choice(options);
    assert.throws(() => model.encode("text"), { code, message: words });
    // Ids alone do.
    const tokens = [];
    for await (const { id } of model.generate([1, 2], { maxTokens: 2, temperature: 0 })) tokens.push(id);
    assert.equal(tokens.length, 2);
    model.dispose();
  };
  await lacks(/no tokenizer beside/);
  writeFileSync(at("tokenizer.model"), Buffer.from([10, 14, 10, 5, 0xff, 0xfe]));
  await lacks(/only tokenizer\.model, and it is a SentencePiece model.*AutoTokenizer/);
  await lacks(/SentencePiece model.*save_pretrained/, { tokenizer: at("tokenizer.model") }, "bad-tokenizer");
  writeFileSync(at("vocab.json"), VOCAB);
  await lacks(/vocab\.json lies there without merges\.txt/);
  await lacks(/vocab\.json lies there without merges\.txt/, { tokenizer: folder });
  writeFileSync(at("merges.txt"), MERGES);

  const elsewhere = join(folder, "elsewhere");
  mkdirSync(elsewhere);
  for (const name of ["vocab.json", "merges.txt"]) copyFileSync(at(name), join(elsewhere, name));
  const file = (name) => new File([readFileSync(at(name))], name);
  for (const tokenizer of [
    undefined,
    elsewhere,
    join(elsewhere, "vocab.json"),
    join(elsewhere, "merges.txt"),
    [file("merges.txt"), file("vocab.json")],
  ]) {
    const { model, findings } = await choice({ tokenizer });
    assert.ok(findings.includes("tokenizer-assumed"));
    encodesAs({ encode: (text) => model.encode(text) }, "nothing added");
    model.dispose();
  }
  writeFileSync(at("tokenizer_config.json"), config({ tokenizer_class: "GPT2Tokenizer", eos_token: "<|end|>" }));
  const { model, findings } = await choice({});
  assert.ok(!findings.includes("tokenizer-assumed"));
  encodesAs({ encode: (text) => model.encode(text) }, "as it is");
  model.dispose();
  // A whole tokenizer goes before its parts.
  writeFileSync(at("tokenizer.json"), "{}");
  const whole = await open(at("model.safetensors"));
  assert.equal(whole.tokenizerName, "tokenizer.json");
  whole.dispose();
});

test("tokenizers of two files are the same where all that makes tokens is", async () => {
  const file = (name, text) => new File([text], name);
  const pair = (merges, ...more) => [file("vocab.json", VOCAB), file("merges.txt", merges), ...more];
  const told = (settings) => file("tokenizer_config.json", config(settings));
  const differ = async (...tokenizers) => {
    const both = await Promise.all(
      tokenizers.map((tokenizer) => open(fixture("fixtures/il_moe.safetensors"), { tokenizer })),
    );
    const why = tokensDiffer(...both);
    for (const it of both) it.dispose();
    return why;
  };
  assert.equal(await differ(pair(MERGES), pair(MERGES)), undefined);
  const longer = { tokenizer_class: "GPT2Tokenizer", model_max_length: 1024 };
  assert.equal(await differ(pair(MERGES), pair(MERGES, told(longer))), undefined);
  const fewer = MERGES.split("\n").slice(0, -20).join("\n");
  assert.match(await differ(pair(MERGES), pair(fewer)), /tokenizers differ: vocab\.json/);
  assert.match(
    await differ(pair(MERGES), pair(MERGES, told({ tokenizer_class: "Qwen2Tokenizer" }))),
    /tokenizers differ/,
  );
});

test("the command line takes a folder or either file, and generates from ids whatever the tokenizer is", async () => {
  const model = fixture("fixtures/il_moe.safetensors");
  const generate = (...more) => cli(["generate", model, "--max-tokens", "2", "--temperature", "0", "--json", ...more]);
  const plain = await generate("--prompt-ids", "1,2");
  for (const name of ["", "/vocab.json", "/merges.txt"]) {
    const { json } = await generate("--prompt-ids", "1,2", "--tokenizer", fixture(`tokenizers/gpt2${name}`));
    assert.deepEqual(json.ids, plain.json.ids);
    assert.equal(json.text, readTokenizer("vocab.json", VOCAB, { merges: MERGES }).decode(json.ids));
  }
  const bad = await generate("--prompt-ids", "1,2", "--tokenizer", fixture("tokenizers/expected.json"));
  assert.deepEqual(bad.json.ids, plain.json.ids);
  assert.match(bad.stderr, /without their text: expected\.json is no tokenizer/);
});

test("a file that is no tokenizer is named, with what would help", () => {
  const says = (name, text, words) => refused(() => readTokenizer(name, text), words);
  says(
    "mine.json",
    config({ tokenizer_class: "GPT2Tokenizer" }),
    /mine\.json cannot be used: it says how a tokenizer is used/,
  );
  says(
    "config.json",
    config({ model_type: "mamba", vocab_size: 3 }),
    /it is the configuration of a model: give tokenizer\.json/,
  );
  says("x.json", config({ metadata: {}, weight_map: {} }), /the index of a checkpoint in shards/);
  says("special_tokens_map.json", config({ bos_token: "<s>", eos_token: "</s>" }), /names the special tokens/);
  says("tekken.json", config({ config: {}, vocab: [{ rank: 0 }] }), /Mistral's tekken/);
  says("other.txt", MERGES, /merges of a byte-pair encoding: its vocab\.json must lie beside it/);
  says("merges.txt", "a b\nab c\n", /its vocab\.json/);
  says("some.txt", "IQ== 0\nIg== 1\nIw== 2\n", /a tiktoken vocabulary/);
  says("v.txt", "[PAD]\n[UNK]\n[CLS]\nthe\n", /WordPiece \(BERT\)/);
  says("w.txt", "1 '\\x00' 1\n2 '\\x01' 1\n", /RWKV/);
  says("my.model", "", /SentencePiece.*AutoTokenizer/);
});

test("a tokenizer that is not the model's, or that cannot be used, is told of when the checkpoint is opened", async () => {
  const weights = fixture("fixtures/il_moe.safetensors");
  const { inspection } = await open(weights);
  const rows = inspection.spec.vocab_size.value;
  const of = (count) => {
    const vocab = Object.fromEntries(Array.from({ length: count }, (_, id) => [`t${id}`, id]));
    return new File([config({ model: { type: "WordLevel", unk_token: "t0", vocab } })], `of${count}.json`);
  };
  const told = async (tokenizer) => {
    const checkpoint = await open(weights, { tokenizer });
    checkpoint.dispose();
    return checkpoint.inspection.findings.filter(({ code }) => code.startsWith("tokenizer-"));
  };
  assert.deepEqual(await told(of(rows)), []);
  const [larger] = await told(of(rows + 1));
  assert.deepEqual([larger.level, larger.code], ["warning", "tokenizer-larger"]);
  assert.match(
    larger.message,
    new RegExp(`of${rows + 1}\\.json has ids up to ${rows}, and the model has ${rows} tokens`),
  );
  const [smaller] = await told(of(Math.floor(rows / 3)));
  assert.deepEqual([smaller.level, smaller.code], ["warning", "tokenizer-smaller"]);
  const [few] = await told(of(Math.ceil(rows * 0.8)));
  assert.deepEqual([few.level, few.code], ["info", "tokenizer-smaller"]);
  const [bad] = await told(new File([config({ tokenizer_class: "X" })], "tokenizer_config.json"));
  assert.equal(bad.code, "tokenizer-unusable");
  assert.match(
    bad.message,
    /tokenizer_config\.json cannot be used: .*; until another is given, the model takes ids and no text/,
  );
  const made = { name: "mine", size: 2 * rows, encode: () => new Uint32Array(), decode: () => "" };
  assert.equal((await told(made))[0].code, "tokenizer-larger");
});

test("several tokenizers are a choice, whose candidates are named", async () => {
  const folder = scratch();
  copyFileSync(fixture("fixtures/il_moe.safetensors"), join(folder, "model.safetensors"));
  for (const name of ["tokenizer_a.json", "tokenizer-b.json"]) writeFileSync(join(folder, name), "{}");
  const checkpoint = await open(folder);
  assert.deepEqual([...checkpoint.tokenizerCandidates].sort(), ["tokenizer-b.json", "tokenizer_a.json"]);
  const told = checkpoint.inspection.findings.find(({ code }) => code === "no-tokenizer");
  assert.match(told.message, /several tokenizers lie beside the weights/);
  checkpoint.dispose();
});
