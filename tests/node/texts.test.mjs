// Texts are UTF-8 on every path: a byte order mark is no part of them, and what is something else is refused by its name.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { decodeText, open, StatepressError } from "statepress";
import { cli, DEMO, HELDOUT, scratch } from "../support/node.mjs";

const MARK = Buffer.from([0xef, 0xbb, 0xbf]);
const LATIN1 = Buffer.from("Zürich liegt an der Limmat, und das Café heißt Odéon. ".repeat(20), "latin1");
const utf16 = (text, mark = true) => Buffer.from(mark ? `\ufeff${text}` : text, "utf16le");
const swapped = (bytes) => Buffer.from(bytes).swap16();

const says = (bytes, words, offset) =>
  assert.throws(
    () => decodeText(bytes, "a.txt"),
    (error) => {
      assert.ok(error instanceof StatepressError && error.code === "bad-input" && error.file === "a.txt", `${error}`);
      assert.match(error.message, words);
      if (offset !== undefined) assert.equal(error.offset, offset);
      return true;
    },
  );

/** What is said of bytes that are no text. */
function failure(bytes) {
  try {
    return decodeText(bytes, "a.txt");
  } catch (error) {
    return error.message;
  }
}

test("what is UTF-8 is read as it is, but for its mark", () => {
  const texts = ["", "a", "a\0b", "naïve 日本語 😀\u{10ffff}\ud7ff\ue000", "\ufeffinner \ufeff mark"];
  for (const text of texts) {
    assert.equal(decodeText(Buffer.from(text), "a"), text.replace(/^\ufeff/, ""));
    assert.equal(decodeText(Buffer.concat([MARK, Buffer.from(text)]), "a"), text);
  }
});

test("what is no UTF-8 is refused with its place and what it seems to be", () => {
  const cyrillic = "Привет, мир! Это обычный текст, без всяких меток. ".repeat(3);
  for (const text of ["Hello, world. ".repeat(9), cyrillic]) {
    for (const mark of [true, false]) {
      says(utf16(text, mark), /it seems to be UTF-16LE; .*iconv -f UTF-16LE/);
      says(swapped(utf16(text, mark)), /it seems to be UTF-16BE/);
    }
  }
  says(utf16("hi", false), /UTF-16LE/);
  says(Buffer.from([0xff, 0xfe, 0, 0, 0x41, 0, 0, 0]), /UTF-32LE/);
  says(LATIN1, /byte 1 is 0xfc, and it seems to be Latin-1 \(Windows-1252\); .*iconv/, 1);
  says(Buffer.from([0xcf, 0xf0, 0xe8, 0xe2, 0xe5, 0xf2]), /an older encoding/, 0);
  says(Buffer.from("日本語の文章").subarray(0, 16), /it ends in the middle of a character; it was cut/, 15);
  // A last letter with an accent, and nothing else to judge by.
  says(Buffer.from("un petit café", "latin1"), /middle of a character, or is Latin-1; fetch .* else .*iconv/, 12);
  // What can be no beginning was not cut there.
  says(Buffer.from([...Buffer.from("日本"), 0xed, 0xa0, 0x80]), /half of a surrogate pair/, 6);
  for (const last of [[0xff], [0xf5, 0x80], [0xe0, 0x80]])
    assert.doesNotMatch(failure(Buffer.from([0x41, ...last])), /middle of a character/);
  for (const last of [[0xe0], [0xf0, 0x90], [0xed, 0x9f], [0xf4]])
    assert.match(failure(Buffer.from([0x41, ...last])), /middle of a character/);
  const damaged = Buffer.from("日本語の文章と中文字符。".repeat(9));
  damaged[30] = 0xff;
  says(damaged, /byte 30 is 0xff, and the rest seems to be UTF-8/, 30);
  says(Buffer.from([0x50, 0x4b, 3, 4, 0xff, 0xff]), /it is a zip archive/);
  says(Buffer.from(Array.from({ length: 999 }, (_, at) => (at * 89) % 256)), /no text at all/);
  // Too long by one byte, surrogates and beyond the last character.
  for (const [bytes, offset] of [
    [[0x41, 0xc0, 0xaf], 1],
    [[0xe0, 0x9f, 0xbf, 0x41], 0],
    [[0x41, 0x41, 0xed, 0xa0, 0x80, 0x41], 2],
    [[0xf4, 0x90, 0x80, 0x80, 0x41], 0],
    [[0xf0, 0x8f, 0xbf, 0xbf, 0x41], 0],
  ])
    says(Buffer.from(bytes), /is not UTF-8/, offset);
});

test("a file, standard input and the library give the same numbers with a mark and without", async () => {
  const folder = scratch();
  const text = readFileSync(HELDOUT).subarray(0, 1500);
  const marked = Buffer.concat([MARK, text]);
  const path = join(folder, "marked.txt");
  writeFileSync(path, marked);
  const evaluate = async (from, input) => {
    const { json, stderr } = await cli(
      ["evaluate", DEMO, "--backend", "cpu", "--window", "64", "--json", "--text", from],
      { input },
    );
    assert.ok(json.nll, stderr);
    return [json.tokens, json.nll];
  };
  const plain = await evaluate("-", text);
  assert.deepEqual(await evaluate("-", marked), plain);
  assert.deepEqual(await evaluate(path), plain);
  const checkpoint = await open(DEMO);
  const model = await checkpoint.load({ backend: "cpu" });
  const { tokens, nll } = await model.evaluate(marked.toString("utf8"), { window: 64 });
  assert.deepEqual([tokens, nll], plain);
  model.dispose();
  checkpoint.dispose();
});

test("standard input that is no UTF-8 is refused as a file is", async () => {
  for (const [input, words] of [
    [LATIN1, /standard input is not UTF-8 text: .*Latin-1/],
    [utf16("Hello, world. ".repeat(50)), /standard input is not UTF-8 text: it seems to be UTF-16LE/],
    [utf16("Hello, world. ".repeat(50), false), /UTF-16LE/],
  ]) {
    const { code, json } = await cli(["evaluate", DEMO, "--backend", "cpu", "--json", "--text", "-"], { input });
    assert.deepEqual([code, json.error.code], [1, "bad-input"]);
    assert.match(json.error.message, words);
  }
});

test("recipes and tokenizers may begin with a mark", async () => {
  const folder = scratch();
  const recipe = join(folder, "recipe.json");
  const { json } = await cli(["recipes", "--json"]);
  writeFileSync(recipe, `\ufeff${JSON.stringify(json.recipes.find(({ name }) => name === "int8"))}`);
  const planned = await cli(["plan", DEMO, "--recipe", recipe, "--json"]);
  assert.equal(planned.json?.recipe.name, "int8", planned.stderr);
  writeFileSync(recipe, utf16("{}"));
  const refused = await cli(["plan", DEMO, "--recipe", recipe, "--json"]);
  assert.match(refused.json.error.message, /recipe\.json is not UTF-8 text: it seems to be UTF-16LE/);

  const tokenizer = join(folder, "mine.json");
  writeFileSync(tokenizer, Buffer.concat([MARK, readFileSync(join(DEMO, "tokenizer.json"))]));
  const found = await cli(["inspect", DEMO, "--tokenizer", tokenizer, "--json"]);
  assert.equal(found.code, 0, found.stderr);
  assert.deepEqual(
    found.json.findings.filter(({ code }) => code.startsWith("tokenizer")),
    [],
  );
});
