// Files for other tools, as the command line and the library write them: what is there, what is refused, what is left behind.
// What is in them is held by tests/rust/exports.rs and packed_exports.rs, and that the tools compute the same by tests/interop.

import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { compare, open } from "statepress";
import { cli, DEMO, fixture, readSafetensors, scratch } from "../support/node.mjs";

const folder = scratch();
const MAMBA = fixture("families/mamba-default");
const MODEL = fixture("families/mamba-default/model.safetensors");

/** Compresses with --json and wants success. */
async function done(...args) {
  const { code, json, stderr } = await cli(["compress", ...args, "--json"]);
  assert.equal(code, 0, stderr);
  return { ...json, stderr };
}

/** Wants a failure of that code, and what it says. */
async function fails(code, words, ...args) {
  const { code: exit, json, stderr } = await cli(["compress", ...args, "--json", "--quiet"]);
  assert.match(stderr, words);
  assert.equal(json.error.code, code);
  assert.equal(exit, code === "usage" ? 2 : 1);
}

test("gguf is a file with its report beside it", async () => {
  const out = join(folder, "m.gguf");
  const result = await done(MAMBA, "-o", out, "--recipe", "none", "--format", "gguf", "--gguf-type", "Q8_0");
  assert.deepEqual([result.format, result.files, result.file], ["gguf", [out], out]);
  assert.equal(readFileSync(out).subarray(0, 4).toString(), "GGUF");
  const { exported } = result;
  assert.deepEqual([exported.format, exported.fileBytes], ["gguf", statSync(out).size]);
  const [table] = exported.tensors;
  assert.deepEqual([table.name, table.from, table.dtype], ["token_embd.weight", "backbone.embeddings.weight", "Q8_0"]);
  assert.ok(exported.findings.some(({ code }) => code === "no-vocabulary"));
  assert.match(result.stderr, /no vocabulary/);
  assert.deepEqual(JSON.parse(readFileSync(`${out}.report.json`)).exported, exported);
  // Nothing of what was on its way is left.
  assert.deepEqual(readdirSync(folder).sort(), ["m.gguf", "m.gguf.report.json"]);
  await fails("exists", /m\.gguf exists/, MAMBA, "-o", out, "--recipe", "none", "--format", "gguf");
  const again = await done(MAMBA, "-o", out, "--recipe", "int8", "--format", "gguf", "--force");
  assert.ok(again.exported.findings.some(({ code }) => code === "coded-before"));
});

test("a GGUF file keeps its blocks, each tensor in the type that it has", async () => {
  const [first, again] = ["typed.gguf", "again.gguf"].map((name) => join(folder, name));
  const { exported } = await done(MAMBA, "-o", first, "--recipe", "none", "--format", "gguf", "--gguf-type", "Q5_1");
  const kept = (await done(first, "-o", again, "--format", "gguf")).exported;
  assert.deepEqual(
    kept.tensors.map(({ name, dtype }) => [name, dtype]),
    exported.tensors.map(({ name, dtype }) => [name, dtype]),
  );
  assert.ok(kept.findings.some(({ code, message }) => code === "blocks-kept" && /blocks that they are/.test(message)));
  assert.ok(!kept.findings.some(({ code }) => code === "coded-before"));
  const data = exported.tensors.reduce((sum, { bytes }) => sum + Math.ceil(bytes / 32) * 32, 0);
  assert.ok(readFileSync(first).subarray(-data).equals(readFileSync(again).subarray(-data)), "blocks are other ones");
  const rounded = await done(first, "-o", again, "--format", "gguf", "--gguf-type", "Q4_0", "--force");
  assert.ok(rounded.exported.findings.some(({ code }) => code === "coded-before"));
});

test("gguf goes to standard output and through the library, too", async () => {
  const { stdout, code } = await cli(["compress", MAMBA, "-o", "-", "--recipe", "none", "--format", "gguf", "--quiet"]);
  assert.equal(code, 0);
  assert.ok(stdout.startsWith("GGUF"));
  const checkpoint = await open(MODEL);
  const told = [];
  const blob = await checkpoint.save("blob", { format: "gguf", ggufType: "Q4_0", onExport: (it) => told.push(it) });
  assert.equal(blob.size, told[0].fileBytes);
  assert.ok(told[0].tensors.some(({ dtype }) => dtype === "Q4_0"));
  const chunks = [];
  await checkpoint.save(new WritableStream({ write: (bytes) => void chunks.push(bytes) }), { format: "gguf" });
  assert.ok(chunks.length > 0);
  // An opened checkpoint has nothing of ours to be saved as.
  await assert.rejects(checkpoint.save(join(folder, "x.safetensors")), { code: "unsupported" });
  await assert.rejects(checkpoint.save("blob", { format: "gguf", ggufType: "Q2_K" }), {
    code: "bad-option",
    message: /Q8_0/,
  });
  await assert.rejects(checkpoint.save("blob", { format: "tflite" }), {
    code: "bad-option",
    message: /plain, bitsandbytes, compressed-tensors, gguf, onnx/,
  });
  await assert.rejects(checkpoint.save("blob", { format: "plain" }), { code: "bad-input", message: /folder/ });
  const signal = AbortSignal.abort();
  await assert.rejects(checkpoint.save("blob", { format: "gguf", signal }), { code: "aborted" });
  checkpoint.dispose();
});

test("plain is a folder with configuration and tokenizer", async () => {
  const model = join(folder, "model");
  cpSync(MAMBA, model, { recursive: true });
  const tokenizer = JSON.stringify({
    model: { type: "BPE", vocab: { a: 0, b: 1, ab: 2 }, merges: [["a", "b"]] },
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: true },
  });
  writeFileSync(join(model, "tokenizer.json"), tokenizer);
  writeFileSync(join(model, "tokenizer_config.json"), '{"eos_token": "ab"}');
  const out = join(folder, "plain");
  const result = await done(model, "-o", `${out}/`, "--recipe", "none", "--format", "plain");
  const names = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];
  assert.deepEqual(
    result.files.map((file) => file.replace(`${out}/`, "")),
    names,
  );
  assert.deepEqual(readdirSync(out).sort(), [...names].sort());
  assert.ok(existsSync(`${out}.report.json`));
  assert.equal(readFileSync(join(out, "tokenizer.json"), "utf8"), tokenizer);
  const config = JSON.parse(readFileSync(join(out, "config.json")));
  const original = JSON.parse(readFileSync(join(MAMBA, "config.json")));
  // What the original says beyond our own fields is still said, as it was spelt.
  for (const [name, value] of Object.entries(original)) assert.deepEqual(config[name], value, name);
  assert.match(readFileSync(join(out, "config.json"), "utf8"), /"time_step_scale": 1\.0/);
  const [found, expected] = [readSafetensors(join(out, "model.safetensors")), readSafetensors(MODEL)];
  for (const [name, { values }] of Object.entries(found)) assert.deepEqual(values, expected[name].values, name);

  await fails("exists", /plain is not empty/, model, "-o", out, "--recipe", "none", "--format", "plain");
  await done(model, "-o", out, "--recipe", "none", "--format", "plain", "--force");
  const gguf = await done(model, "-o", join(folder, "v.gguf"), "--recipe", "none", "--format", "gguf");
  assert.deepEqual(gguf.exported.findings.map(({ code }) => code).sort(), ["unused-tokens"]);
});

test("plain has the keys of transformers, or those of the file", async () => {
  const [model, hf, original] = [fixture("families/mamba-original"), join(folder, "hf"), join(folder, "original")];
  const plain = ["--recipe", "none", "--format", "plain"];
  const renamed = (await done(model, "-o", hf, ...plain)).exported;
  assert.ok(renamed.findings.some(({ code }) => code === "renamed"));
  const kept = (await done(model, "-o", original, ...plain, "--layout", "original")).exported;
  assert.deepEqual(
    kept.findings.map(({ code }) => code),
    [],
  );
  const names = (place) => Object.keys(readSafetensors(join(place, "model.safetensors"))).sort();
  const { json } = await cli(["inspect", model, "--json"]);
  assert.deepEqual(names(original), json.tensors.map(({ name }) => name).sort());
  assert.notDeepEqual(names(hf), names(original));
  const config = (place) => JSON.parse(readFileSync(join(place, "config.json"), "utf8"));
  assert.deepEqual(config(original), config(model));
  const ids = ["--ids", "3,1,4,1,5,9,2,6", "--json", "--backend", "cpu", "--force"];
  const logits = async (place) => {
    const out = join(folder, "logits.safetensors");
    const { code, stderr } = await cli(["logits", place, "-o", out, ...ids]);
    assert.equal(code, 0, stderr);
    return readSafetensors(out).logits.values;
  };
  assert.deepEqual(await logits(original), await logits(model));
  await fails(
    "usage",
    /--layout goes with --format plain/,
    model,
    "-o",
    hf,
    "--format",
    "gguf",
    "--layout",
    "original",
  );
  const checkpoint = await open(model);
  for (const [options, message] of [
    [{ format: "onnx", layout: "original" }, /layout is original; allowed: none, as onnx/],
    [{ format: "plain", layout: "llama" }, /layout is "llama"; allowed: hf, original/],
  ]) {
    await assert.rejects(checkpoint.save(join(folder, "y"), options), { code: "bad-option", message });
  }
  checkpoint.dispose();
});

test("bitsandbytes is a folder whose linear layers keep their codes", async () => {
  const out = join(folder, "packed");
  const result = await done(MAMBA, "-o", out, "--recipe", "nf4", "--format", "bitsandbytes");
  assert.equal(result.exported.format, "bitsandbytes");
  const packed = result.exported.tensors.filter(({ dtype }) => dtype === "nf4").map(({ name }) => name);
  assert.deepEqual(
    packed.slice(0, 3),
    ["in_proj", "out_proj", "x_proj"].map((it) => `backbone.layers.0.mixer.${it}.weight`),
  );
  const { quantization_config: says } = JSON.parse(readFileSync(join(out, "config.json")));
  assert.deepEqual([says.quant_method, says.load_in_4bit, says.bnb_4bit_quant_type], ["bitsandbytes", true, "nf4"]);
  // What is opened again has the codes that a file of ours has.
  const ours = join(folder, "packed.safetensors");
  await done(MAMBA, "-o", ours, "--recipe", "nf4");
  const [a, b] = [await open(out), await open(ours)];
  const compared = await compare(a, b, { ids: Array.from({ length: 300 }, (_, i) => (i * 7) % 64), backend: "cpu" });
  assert.equal(compared.kl.max, 0);
  a.dispose();
  b.dispose();
  await fails(
    "bad-option",
    /format is bitsandbytes.*no linear layer.*nf4 and int8/s,
    MAMBA,
    "-o",
    join(folder, "x"),
    "--recipe",
    "none",
    "--format",
    "bitsandbytes",
  );
  await fails(
    "unknown-model",
    /itera-lite is none of transformers'/,
    DEMO,
    "-o",
    join(folder, "x"),
    "--recipe",
    "nf4",
    "--format",
    "bitsandbytes",
  );
  assert.ok(!existsSync(join(folder, "x")));
});

test("compressed-tensors is a folder whose layers keep their codes, each in its own width", async () => {
  const out = join(folder, "whole");
  const recipe = join(folder, "mixed.json");
  const rules = [
    { match: "*in_proj*", precision: "int4" },
    { match: "*_proj*", precision: "int8" },
  ];
  writeFileSync(
    recipe,
    JSON.stringify({ version: 1, name: "mixed", steps: [{ quantize: { rules, otherwise: "fp32" } }] }),
  );
  const result = await done(MAMBA, "-o", out, "--recipe", recipe, "--format", "compressed-tensors");
  assert.equal(result.exported.format, "compressed-tensors");
  const types = Object.fromEntries(result.exported.tensors.map(({ name, dtype }) => [name, dtype]));
  assert.deepEqual(
    ["in_proj", "x_proj", "out_proj"].map((it) => types[`backbone.layers.0.mixer.${it}.weight`]),
    ["int4", "int8", "F32"],
  );
  const kept = result.exported.findings.filter(({ code }) => code === "coded-before").map(({ message }) => message);
  assert.match(kept.join("\n"), /as transformers initializes them as it loads.*layers\.0\.mixer\.out_proj/);
  const { quantization_config: says } = JSON.parse(readFileSync(join(out, "config.json")));
  const targets = Object.values(says.config_groups).map((group) => [group.weights.num_bits, ...group.targets]);
  assert.deepEqual(targets, [
    [4, "re:.*\\.in_proj$"],
    [8, "re:.*\\.x_proj$"],
  ]);
  // What is opened again has the codes that a file of ours has.
  const ours = join(folder, "whole.safetensors");
  await done(MAMBA, "-o", ours, "--recipe", recipe);
  const [a, b] = [await open(out), await open(ours)];
  const compared = await compare(a, b, { ids: Array.from({ length: 300 }, (_, i) => (i * 7) % 64), backend: "cpu" });
  assert.equal(compared.kl.max, 0);
  a.dispose();
  b.dispose();
  for (const [model, asked, code, words] of [
    [MAMBA, "nf4", "bad-option", /in_proj\.weight: nf4 is codes of a table.*int4 and int8/s],
    [DEMO, "int4", "unknown-model", /itera-lite is none of transformers'/],
    [fixture("families/gpt2"), "int4", "unknown-model", /stored the other way round/],
  ]) {
    await fails(code, words, model, "-o", join(folder, "x"), "--recipe", asked, "--format", "compressed-tensors");
  }
  assert.ok(!existsSync(join(folder, "x")));
});

test("several checkpoints become files and folders in one", async () => {
  const copy = join(folder, "other");
  cpSync(MAMBA, copy, { recursive: true });
  for (const [format, names] of [
    ["gguf", ["mamba-default.gguf", "other.gguf"]],
    ["plain", ["mamba-default", "other"]],
  ]) {
    const out = join(folder, `several-${format}`);
    const { code, stderr } = await cli(["compress", MAMBA, copy, "-o", out, "--recipe", "fp16", "--format", format]);
    assert.equal(code, 0, stderr);
    const reports = names.map((name) => `${name}.report.json`);
    assert.deepEqual(readdirSync(out).sort(), [...names, ...reports].sort());
  }
});

test("what cannot be written is refused, and nothing is left of it", async () => {
  const place = join(folder, "refused");
  mkdirSync(place);
  const to = (name) => ["-o", join(place, name), "--recipe", "none"];
  await fails("unknown-model", /family itera-lite.*mamba/, DEMO, ...to("x.gguf"), "--format", "gguf");
  const biased = fixture("families/mamba-odd");
  await fails("unknown-model", /ssm_in\.bias/, biased, ...to("x.gguf"), "--format", "gguf");
  await fails("bad-option", /named as safetensors is.*x\.gguf/s, MAMBA, ...to("x.safetensors"), "--format", "gguf");
  await fails("bad-option", /named as GGUF is/, MAMBA, ...to("x.gguf"), "--format", "plain");
  await fails("usage", /--gguf-type goes with --format gguf/, MAMBA, ...to("x.safetensors"), "--gguf-type", "Q8_0");
  await fails("usage", /allowed: F32, F16/, MAMBA, ...to("x.gguf"), "--format", "gguf", "--gguf-type", "q8");
  await fails("usage", /cannot go to standard output/, MAMBA, "-o", "-", "--recipe", "none", "--format", "plain");
  writeFileSync(join(place, "file"), "");
  await fails("io", /it is no folder/, MAMBA, ...to("file"), "--format", "plain");
  await fails("io", /there is no folder/, MAMBA, ...to("none/plain"), "--format", "plain");
  assert.deepEqual(readdirSync(place), ["file"]);
});
