// Folders as people have them: shards, what trainers leave beside weights, links to nothing.

import assert from "node:assert/strict";
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { open, StatepressError, weightsAmong } from "statepress";
import { cli, fixture, scratch } from "../support/node.mjs";

const SHARDS = fixture("cases/shards/safetensors");
const BINS = fixture("cases/shards/bin");
const expected = JSON.parse(readFileSync(fixture("cases/shards/expected.json"), "utf8"));

/** A folder with some files: names of fixtures, or contents. */
function folder(files) {
  const path = scratch();
  for (const [name, from] of Object.entries(files)) {
    if (typeof from === "string" && from.startsWith("/")) copyFileSync(from, join(path, name));
    else writeFileSync(join(path, name), from);
  }
  return path;
}

/** The sharded model in a folder of its own, with more files or other ones; undefined takes one away. */
function sharded(changes = {}, from = SHARDS) {
  const path = scratch();
  cpSync(from, path, { recursive: true });
  for (const [name, content] of Object.entries(changes)) {
    if (content === undefined) rmSync(join(path, name));
    else if (content.startsWith?.("/")) copyFileSync(content, join(path, name));
    else writeFileSync(join(path, name), content);
  }
  return path;
}

const shard = (n) => `model-0000${n}-of-00003.safetensors`;
const INDEX = "model.safetensors.index.json";

/** A file that holds all weights, made of the shards. */
const whole = await (async () => {
  const checkpoint = await open(SHARDS);
  const made = await checkpoint.compress("none");
  const path = join(scratch(), "model.safetensors");
  await made.save(path);
  made.dispose();
  checkpoint.dispose();
  return path;
})();

async function look(input, use = () => {}) {
  const checkpoint = await open(input);
  await use(checkpoint);
  checkpoint.dispose();
  return { ...checkpoint.inspection, weights: checkpoint.weightsName };
}

const codes = ({ findings }) => findings.map(({ code }) => code).filter((code) => code !== "config-beside");

async function refused(input, code, words) {
  await assert.rejects(open(input), (error) => {
    assert.ok(error instanceof StatepressError, `${error}`);
    assert.equal(error.code, code, error.message);
    assert.match(error.message, words);
    return true;
  });
}

async function computes(checkpoint) {
  const model = await checkpoint.load({ backend: "cpu" });
  const { data } = await model.logits(expected.ids);
  const wanted = expected.logits.flat();
  assert.equal(data.length, wanted.length);
  for (const [at, value] of wanted.entries()) assert.ok(Math.abs(data[at] - value) < 2e-5, `logit ${at}`);
  model.dispose();
}

test("a folder of shards, its index and the files together are the model that was cut", async () => {
  for (const from of [SHARDS, BINS]) {
    const index = join(
      from,
      readdirSync(from).find((name) => name.endsWith(".index.json")),
    );
    const files = readdirSync(from).map((name) => new File([readFileSync(join(from, name))], name));
    for (const input of [from, index, files]) {
      const { files: parts, fileBytes } = await look(input, computes);
      assert.equal(parts.length, 3);
      assert.equal(
        parts.reduce((sum, { bytes }) => sum + bytes, 0),
        fileBytes,
      );
    }
  }
});

test("compressing shards makes one file, whose report names them", async () => {
  const out = join(scratch(), "out.safetensors");
  const { json, code, stderr } = await cli(["compress", join(SHARDS, INDEX), "-o", out, "--recipe", "fp16", "--json"]);
  assert.equal(code, 0, stderr);
  assert.deepEqual(
    json.fromFiles.map(({ name }) => name),
    [1, 2, 3].map(shard),
  );
  const { files, family } = await look(out);
  assert.deepEqual([files, family], [undefined, "mamba"]);
});

test("without an index the names say which shards are one, and which lack", async () => {
  const bare = sharded({ [INDEX]: undefined });
  assert.deepEqual(codes(await look(bare, computes)), ["shards-without-index"]);
  const cut = sharded({ [INDEX]: undefined, [shard(2)]: undefined });
  await refused(cut, "missing-shard", /1 of 3 shards is missing: `model-00002-of-00003\.safetensors`/);
  // Another file is not taken in the place of weights that were cut.
  await refused(sharded({ [shard(2)]: undefined, "ema.safetensors": whole }), "missing-shard", /00002-of-00003/);
  const alone = await look(join(SHARDS, shard(2)));
  assert.ok(codes(alone).includes("one-shard-of-several"));
  // Nor is a shard that lies alone in a folder taken for the model.
  await refused(
    sharded({ [INDEX]: undefined, [shard(1)]: undefined, [shard(3)]: undefined }),
    "missing-shard",
    /2 of 3/,
  );
  const files = [1, 3].map((n) => new File([readFileSync(join(SHARDS, shard(n)))], shard(n)));
  await refused(files, "missing-shard", /00002-of-00003/);
});

test("a shard that lacks, and an index that is none, are named", async () => {
  await refused(sharded({ [shard(3)]: undefined }), "missing-shard", /1 of 3 shards is missing: `model-00003/);
  const broken = sharded({ [INDEX]: "{" });
  await refused(join(broken, INDEX), "malformed", /index\.json: EOF/);
  // In a folder the shards do without it.
  const told = await look(broken, computes);
  assert.deepEqual(codes(told), ["shards-without-index", "index-ignored"]);
  const ignored = told.findings.find(({ code }) => code === "index-ignored").message;
  assert.match(ignored, /^the 3 shards model-00001-of-00003\.safetensors .* cannot be read or names no shards/);
  const outside = JSON.stringify({ weight_map: { a: "../model.safetensors" } });
  await refused(join(sharded({ [INDEX]: outside }), INDEX), "malformed", /no file beside the index/);
});

test("a whole file goes before an index, whose shards need not be there", async () => {
  const stale = folder({ "model.safetensors": whole, [INDEX]: join(SHARDS, INDEX) });
  const { weights, files, ...inspection } = await look(stale);
  assert.deepEqual(
    [weights, files, codes(inspection).filter((it) => it !== "assumed")],
    ["model.safetensors", undefined, ["index-ignored"]],
  );
  assert.deepEqual(codes(await look(sharded({ "model.safetensors": whole }))), ["several-weights", "index-ignored"]);
});

test("one shard of one is a file like any other, with its index or without", async () => {
  const map = JSON.parse(readFileSync(join(SHARDS, INDEX), "utf8"));
  const name = "model-00001-of-00001.safetensors";
  for (const key of Object.keys(map.weight_map)) map.weight_map[key] = name;
  const config = join(SHARDS, "config.json");
  const files = { [name]: whole, "config.json": config, [INDEX]: JSON.stringify(map) };
  assert.deepEqual(codes(await look(folder(files), computes)), []);
  delete files[INDEX];
  assert.deepEqual(codes(await look(folder(files), computes)), []);
});

test("what trainers leave beside weights is not taken for them, and that is said", async () => {
  const bin = join(BINS, "pytorch_model-00001-of-00003.bin");
  const state = ["optimizer.pt", "scheduler.pt", "rng_state_0.pth", "training_args.bin", "scaler.pt", "optimizer.bin"];
  const files = Object.fromEntries(state.map((name) => [name, "state"]));
  const found = await look(folder({ "pytorch_model.bin": bin, ...files }));
  assert.equal(found.weights, "pytorch_model.bin");
  const told = found.findings.find(({ code }) => code === "training-state");
  for (const name of state) assert.ok(told.message.includes(name));
  await refused(
    folder({ ...files, "config.json": "{}" }),
    "bad-input",
    /no weights among .*optimizer\.pt.* the state of a training/,
  );
});

test("a choice that cannot be made names the candidates, and what would help", () => {
  const among = (...names) => weightsAmong(names.map((name) => ({ name })));
  const fails = (names, words) => assert.throws(() => among(...names), { code: "bad-input", message: words });
  fails(["a.pt", "b.pt"], /several files could be the weights, name one: a\.pt, b\.pt$/);
  fails(["consolidated.00.pth", "consolidated.01.pth", "params.json"], /slices of one model/);
  fails(["tf_model.h5", "config.json"], /tf_model\.h5 is of Keras/);
  fails(["__0_0.distcp", ".metadata"], /format_utils dcp_to_torch/);
  assert.equal(among("config.json", "MODEL.SAFETENSORS").name, "MODEL.SAFETENSORS");
  assert.equal(among("consolidated.00.pth", "params.json").name, "consolidated.00.pth");
  const usual = ["adapter_model.safetensors", "pytorch_model.bin", "model.safetensors", "ema.safetensors"];
  const { name, findings } = among(...usual);
  assert.equal(name, "model.safetensors");
  assert.match(findings[0].message, /not pytorch_model\.bin, ema\.safetensors, adapter_model\.safetensors/);
  const both = [shard(1), shard(2), shard(3), INDEX, "consolidated.safetensors"];
  assert.deepEqual([among(...both).name, among(...both).files.length], [INDEX, 3]);
  const variant = ["model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"];
  assert.equal(among(...variant, "model.safetensors.index.fp16.json").files.length, 2);
});

test("weights in a folder of the folder are named", async () => {
  const outer = folder({ "config.json": "{}", latest: "global_step5", "zero_to_fp32.py": "#" });
  for (const inner of ["global_step5", "checkpoint-500", "logs"]) mkdirSync(join(outer, inner));
  writeFileSync(join(outer, "global_step5/mp_rank_00_model_states.pt"), "");
  copyFileSync(whole, join(outer, "checkpoint-500/model.safetensors"));
  writeFileSync(join(outer, "logs/events.txt"), "");
  await refused(outer, "bad-input", /open \S+checkpoint-500 or \S+global_step5\. DeepSpeed's zero_to_fp32\.py/);
  assert.equal((await look(join(outer, "checkpoint-500"))).family, "mamba");
});

test("an adapter says what it is, and what would help", async () => {
  const tensor = { dtype: "F32", shape: [1], data_offsets: [0, 4] };
  const header = JSON.stringify({ "base_model.model.x.lora_A.weight": tensor });
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const bytes = Buffer.concat([length, Buffer.from(header), Buffer.alloc(4)]);
  const { findings } = await look(folder({ "adapter_model.safetensors": bytes, "adapter_config.json": "{}" }));
  assert.match(findings.find(({ code }) => code === "adapter").message, /merge_and_unload/);
});

test("links to nothing beside the weights are ignored with a word; weights that are one say so", async () => {
  const path = folder({ "model.safetensors": whole });
  for (const name of ["config.json", "tokenizer.json"]) symlinkSync("../../blobs/gone", join(path, name));
  const found = codes(await look(path));
  assert.ok(found.includes("config-ignored") && found.includes("tokenizer-ignored"), `${found}`);
  mkdirSync(join(path, "inner"));
  symlinkSync("../../blobs/gone", join(path, "inner/model.safetensors"));
  for (const input of ["inner", "inner/model.safetensors"])
    await refused(join(path, input), "io", /is a link to \.\.\/\.\.\/blobs\/gone, which is not there/);
});

test("no config.json keeps weights from opening", async () => {
  const utf16 = Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from('{"model_type": "mamba"}', "utf16le")]);
  for (const [config, words] of [
    ["[]", /a list was found/],
    ['{"a": 1,', /EOF/],
    [utf16, /it seems to be UTF-16LE/],
    [utf16.subarray(2), /it seems to be UTF-16LE/],
    [Buffer.from([0x7b, 0xe9, 0x7d]), /Latin-1/],
    ["", /EOF/],
  ]) {
    const { findings, family } = await look(folder({ "model.safetensors": whole, "config.json": config }));
    assert.equal(family, "mamba");
    const told = findings.filter(({ code }) => code.startsWith("config-"));
    assert.deepEqual([told.length, told[0].code], [1, "config-ignored"]);
    assert.match(told[0].message, words);
  }
  const text = readFileSync(join(SHARDS, "config.json"), "utf8");
  const odd = `\ufeff${text.replace("{", '{"x": Infinity, "y": [-Infinity, NaN],')}`;
  assert.deepEqual(codes(await look(folder({ "model.safetensors": whole, "config.json": odd }), computes)), []);
});
