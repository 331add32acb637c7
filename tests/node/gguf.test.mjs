// A file of llama.cpp's as a checkpoint: what it is, its tokenizer, and all that is done with any other.

import assert from "node:assert/strict";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { compare, open } from "statepress";
import { cli, fixture, scratch } from "../support/node.mjs";

const folder = scratch();
const MODEL = join(folder, "model");
const Q4 = join(folder, "alone", "mamba-Q4_0.gguf");

cpSync(fixture("families/mamba-default"), MODEL, { recursive: true });
mkdirSync(join(folder, "alone"));
const tokenizer = {
  model: { type: "BPE", vocab: { a: 0, b: 1, ab: 2, aba: 3 }, merges: ["a b", "ab a"] },
  pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: true },
};
writeFileSync(join(MODEL, "tokenizer.json"), JSON.stringify(tokenizer));

/** Runs a command and wants success. */
async function done(...args) {
  const { code, json, stderr } = await cli([...args, "--json"]);
  assert.equal(code, 0, stderr);
  return json;
}

test("it is inspected, planned, compressed and written again by the command line", async () => {
  await done("compress", MODEL, "-o", Q4, "--recipe", "none", "--format", "gguf", "--gguf-type", "Q4_0");
  const inspection = await done("inspect", Q4);
  assert.deepEqual([inspection.format, inspection.family], ["gguf", "mamba"]);
  const named = (name) => inspection.tensors.find((tensor) => tensor.name === name);
  const matrix = named("backbone.layers.1.mixer.in_proj.weight");
  assert.deepEqual([matrix.dtype, matrix.bytes, matrix.role], ["Q4_0", (128 * 32 * 18) / 32, "in-proj"]);
  assert.equal(named("backbone.layers.1.mixer.A_log").dtype, "F32");
  assert.deepEqual(inspection.spec.layer_norm_epsilon.value, 1e-5);
  const told = inspection.findings.find(({ code }) => code === "quantized");
  assert.match(told.message, /Q4_0: run from the same codes/);
  // No field is one that nobody said.
  assert.deepEqual(
    Object.values(inspection.spec).filter(({ origin }) => origin === "assumed"),
    [],
  );
  for (const [recipe, format] of [
    ["int8", "safetensors"],
    ["nf4", "bitsandbytes"],
    ["none", "plain"],
    ["none", "gguf"],
    ["none", "onnx"],
  ]) {
    const out = join(
      folder,
      `${recipe}-${format}${{ safetensors: ".safetensors", gguf: ".gguf", onnx: ".onnx" }[format] ?? ""}`,
    );
    const result = await done("compress", Q4, "-o", out, "--recipe", recipe, "--format", format);
    assert.equal(result.format, format);
  }
});

test("it brings its tokenizer, and runs as what it was made of", async () => {
  const original = await open(MODEL);
  const file = await original.save("blob", { format: "gguf", ggufType: "Q8_0" });
  const quantized = await open(new File([file], "mamba-Q8_0.gguf"));
  assert.match(quantized.tokenizerName, /mamba-Q8_0\.gguf/);
  const text = "abab ba aab abaabab".repeat(40);
  const card = await compare(original, quantized, { text, backend: "cpu" });
  assert.ok(card.kl.mean > 0 && card.kl.mean < 0.01, `${card.kl.mean}`);
  assert.equal(card.a.tokens, card.b.tokens);
  const compressed = await quantized.compress("fp16");
  const halves = await compare(quantized, compressed, { text, backend: "cpu" });
  assert.ok(halves.kl.mean < 1e-4, `${halves.kl.mean}`);
  // What is made of it is written with the tokenizer as well.
  const blob = await compressed.save("blob", { format: "gguf" });
  const again = await open(new File([blob], "again.gguf"));
  assert.match(again.tokenizerName, /again\.gguf/);
  for (const checkpoint of [original, quantized, compressed, again]) checkpoint.dispose();
});

test("one that is cut off, or of another version, says so", async () => {
  const bytes = new Uint8Array(readFileSync(Q4));
  await assert.rejects(open(new File([bytes.subarray(0, bytes.length - 100)], "m.gguf")), {
    code: "truncated",
    message: /reaches past the end/,
  });
  const older = bytes.slice();
  older[4] = 1;
  await assert.rejects(open(new File([older], "m.gguf")), { code: "unsupported-format", message: /version 1/ });
});
