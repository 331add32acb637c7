// Graphs that onnxruntime runs, in the build that pages load (onnxruntime-web): logits of every family, in every way that weights
// are written, against our own of the same codes. tests/interop holds them to the reference implementations' in Python.

import assert from "node:assert/strict";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import * as onnx from "onnxruntime-web";
import { open } from "statepress";
import { cli, DEMO, fixture, HELDOUT, scratch } from "../support/node.mjs";

onnx.env.wasm.numThreads = 1;
onnx.env.logLevel = "error";

const folder = scratch();
const families = Object.keys(JSON.parse(readFileSync(fixture("families/manifest.json"), "utf8")).entries);

/** The export of a checkpoint as it is, with what is told of it. */
async function exported(checkpoint) {
  let report;
  const onExport = (it) => {
    report = it;
  };
  const blob = await checkpoint.save("blob", { format: "onnx", onExport });
  assert.equal(blob.size, report.fileBytes);
  return { bytes: new Uint8Array(await blob.arrayBuffer()), report };
}

/** Logits of a sequence, token by token. */
async function logitsOf(bytes, ids) {
  const session = await onnx.InferenceSession.create(bytes);
  const shapes = session.inputMetadata.map(({ name, shape }) => [
    name,
    shape.map((it) => (Number.isInteger(it) ? it : 0)),
  ]);
  const zeros = (shape) => new onnx.Tensor("float32", new Float32Array(shape.reduce((all, it) => all * it, 1)), shape);
  const past = shapes.filter(([name]) => name.startsWith("past."));
  let memory = Object.fromEntries(past.map(([name, shape]) => [name, zeros(shape)]));
  const rows = [];
  for (const [position, id] of ids.entries()) {
    const whole = (value) => new onnx.Tensor("int64", BigInt64Array.of(BigInt(value)), [1]);
    const token = { input_ids: whole(id) };
    if (session.inputNames.includes("position_ids")) token.position_ids = whole(position);
    const { logits, ...present } = await session.run({ ...memory, ...token });
    rows.push(logits.data);
    memory = Object.fromEntries(Object.entries(present).map(([name, it]) => [name.replace("present.", "past."), it]));
  }
  await session.release();
  return rows;
}

/** How far logits of a graph are from those that are computed here. */
async function distance(checkpoint, bytes) {
  const model = await checkpoint.load({ backend: "cpu" });
  const ids = Array.from({ length: 10 }, (_, i) => (i * 37 + ((i * i) % 11)) % model.info.vocabSize);
  const { data, shape } = await model.logits(ids);
  model.dispose();
  const rows = await logitsOf(bytes, ids);
  return rows.reduce((worst, row, at) => {
    assert.equal(row.length, shape[1]);
    return row.reduce((far, logit, id) => Math.max(far, Math.abs(logit - data[at * shape[1] + id])), worst);
  }, 0);
}

const dtypes = ({ tensors }) => new Set(tensors.map(({ dtype }) => dtype.replace(/, blocks.*/, "")));

test("every family computes in onnxruntime what it computes here", async (t) => {
  let [graphs, worst] = [0, 0];
  for (const name of families) {
    const checkpoint = await open(fixture(`families/${name}`));
    const error = await checkpoint.exportable({ format: "onnx" }).catch((it) => it);
    if (error === undefined) {
      const { bytes } = await exported(checkpoint);
      const far = await distance(checkpoint, bytes);
      assert.ok(far < 1e-4, `${name}: ${far}`);
      [graphs, worst] = [graphs + 1, Math.max(worst, far)];
    } else {
      // What cannot be run here cannot be exported either, for the same reason.
      await assert.rejects(checkpoint.load({ backend: "cpu" }), { message: error.message });
    }
    checkpoint.dispose();
  }
  t.diagnostic(`${graphs} graphs of ${families.length} checkpoints, at most ${worst.toExponential(1)} apart`);
  assert.ok(graphs > 35, "nearly all can");
});

const groups = (precision, group) => ({
  version: 1,
  name: precision,
  steps: [
    {
      quantize: {
        rules: [],
        otherwise: precision,
        groups: { group },
        int4: { group },
        nf4: { block: Math.max(32, group) },
      },
    },
  ],
});

test("codes stay what they are, in every width and in blocks of any size that there is an operator for", async () => {
  for (const [path, recipe, expected] of [
    [DEMO, "int8", "MatMulNBits 8 bits"],
    [DEMO, "int4", "MatMulNBits 4 bits"],
    [DEMO, "nf4", "MatMulBnb4 NF4"],
    [DEMO, "mixed", "MatMulNBits 8 bits"],
    [DEMO, groups("int2", 32), "MatMulNBits 4 bits"],
    [DEMO, groups("int3", 64), "MatMulNBits 4 bits"],
    [DEMO, groups("int5", 16), "MatMulNBits 8 bits"],
    [DEMO, groups("int6", 128), "MatMulNBits 8 bits"],
    [fixture("families/granite-moe"), "int8", "MatMulNBits 8 bits"],
    [fixture("families/mamba-odd"), "int8", "MatMulNBits 8 bits"],
    [fixture("families/gpt2"), "fp16", "F16"],
    [fixture("families/mamba2-groups"), "bf16", "BF16"],
  ]) {
    const checkpoint = await open(path);
    const compressed = await checkpoint.compress(recipe);
    const { bytes, report } = await exported(compressed);
    const name = typeof recipe === "string" ? recipe : recipe.name;
    assert.ok(dtypes(report).has(expected), `${name}: ${[...dtypes(report)].join()}`);
    const far = await distance(compressed, bytes);
    assert.ok(far < 1e-4, `${path}, ${name}: ${far}`);
    for (const it of [compressed, checkpoint]) it.dispose();
  }
});

test("what has no operator is written as floats, and said", async () => {
  const text = readFileSync(HELDOUT, "utf8").slice(0, 6000);
  const rules = [{ match: "*", precision: "int8", step: 0.3 }];
  const quantize = { rules, otherwise: "fp32", coded: true, errorCompensation: "gptq" };
  for (const [path, steps, words] of [
    [DEMO, groups("lm3", 64).steps, /codes of the table lm3/],
    [fixture("families/gpt2"), groups("int4", 32).steps, /the other way round/],
    [fixture("families/mamba-odd"), groups("nf4", 64).steps, /no blocks of 16 or more/],
    // Rows of a table in a basis of their own, entropy-coded, with a table that is centered.
    [DEMO, [{ center: {} }, { basis: {} }, { quantize }], /what no product goes over/],
  ]) {
    const checkpoint = await open(path);
    const recipe = { version: 1, name: "some", steps };
    const calibration = "basis" in (steps[1] ?? {}) ? { calibration: text } : {};
    const compressed = await checkpoint.compress(recipe, calibration);
    const { bytes, report } = await exported(compressed);
    const told = report.findings.filter(({ code }) => code === "floats-again").map(({ message }) => message);
    assert.ok(
      told.some((it) => words.test(it)),
      told.join("\n"),
    );
    assert.ok((await distance(compressed, bytes)) < 1e-4);
    for (const it of [compressed, checkpoint]) it.dispose();
  }
});

test("what others have quantized is written as floats, and said", async () => {
  const checkpoint = await open(fixture("fixtures/il_moe.int8dyn.pt"));
  const { bytes, report } = await exported(checkpoint);
  const messages = report.findings.map(({ message }) => message);
  assert.ok(
    messages.some((it) => /QI8 has no operator/.test(it)),
    messages.join("\n"),
  );
  assert.ok((await distance(checkpoint, bytes)) < 1e-4);
  checkpoint.dispose();
});

test("on the command line it is a file with its report, and a model that lacks rows is refused", async () => {
  const out = join(folder, "m.onnx");
  const args = [
    "compress",
    fixture("families/mamba-default"),
    "-o",
    out,
    "--recipe",
    "int8",
    "--format",
    "onnx",
    "--json",
  ];
  const { code, json, stderr } = await cli(args);
  assert.equal(code, 0, stderr);
  assert.deepEqual([json.exported.format, json.exported.fileBytes], ["onnx", statSync(out).size]);
  const [table] = json.exported.tensors;
  assert.equal(table.from, "backbone.embeddings.weight");
  // One finding for each reason, about a tensor of the checkpoint.
  const odd = [fixture("families/mamba-odd"), "-o", join(folder, "odd.onnx"), "--recipe", "int4", "--format", "onnx"];
  const { exported: other } = (await cli(["compress", ...odd, "--json"])).json;
  const said = other.findings.filter((it) => it.code === "floats-again");
  assert.ok(
    said.every(({ tensor }) => other.tensors.some(({ from }) => from === tensor)),
    JSON.stringify(said),
  );
  assert.equal(new Set(said.map(({ message }) => message.replace(/^.*: /, ""))).size, said.length);
  const checkpoint = await open(fixture("fixtures/il_moe.safetensors"));
  await assert.rejects(checkpoint.save("blob", { format: "onnx", ggufType: "Q8_0" }), {
    code: "bad-option",
    message: /ggufType is Q8_0; allowed: none, as onnx/,
  });
  const prune = { kind: "vocabulary", keep: 0.5, by: "usage" };
  const ids = Uint32Array.from({ length: 512 }, (_, i) => (i * 7) % 20);
  const pruned = await checkpoint.compress({ version: 1, name: "rows", steps: [{ prune }] }, { calibration: ids });
  await assert.rejects(pruned.save("blob", { format: "onnx" }), {
    code: "unknown-model",
    message: /rows for some ids only/,
  });
  for (const it of [pruned, checkpoint]) it.dispose();
});
