// Logits of the small random checkpoints, in every format, against PyTorch's; and of every wasm build.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { open } from "statepress";
import { cli, DEMO, fixture, readSafetensors, scratch } from "../support/node.mjs";

/** |a - b| / (1 + |b|): torch and another float32 implementation differ by at most 2.2e-5 on these. */
const TOLERANCE = 1e-4;

/** Half-precision builds of one kernel differ from another in summation order only. */
const BUILDS = 2e-5;

function furthest(found, expected) {
  assert.equal(found.length, expected.length);
  return expected.reduce((most, value, i) => Math.max(most, Math.abs(found[i] - value) / (1 + Math.abs(value))), 0);
}

const CASES = [
  ["il_moe.safetensors", "il_moe"],
  ["il_moe.zip.pt", "il_moe"],
  ["il_moe.wrap_config_class.pt", "il_moe"],
  ["il_moe.f16.pt", "il_moe.f16"],
  ["il_odd.safetensors", "il_odd", { top_k_experts: 1 }],
  ["il_odd.wrap_config_dict.pt", "il_odd"],
  ["il_odd.safetensors", "il_odd.topk3", { top_k_experts: 3 }],
  ["il_ffn.tied.safetensors", "il_ffn"],
  ["tf.safetensors", "tf", { num_attention_heads: 4 }],
  ["tf.safetensors", "tf.heads8", { num_attention_heads: 8 }],
];

for (const [file, golden, set] of CASES) {
  test(`${file} gives the logits of ${golden}${set ? ` (${JSON.stringify(set)})` : ""}`, async () => {
    const expected = readSafetensors(fixture(`fixtures/${golden}.golden.safetensors`));
    const checkpoint = await open(fixture(`fixtures/${file}`), { set });
    const model = await checkpoint.load();
    let cases = 0;
    for (const [name, { values: ids }] of Object.entries(expected)) {
      if (!/^len\d+\/ids$/.test(name)) continue;
      const { values, shape } = expected[name.replace("ids", "logits")];
      const logits = await model.logits(ids);
      assert.deepEqual(logits.shape, shape);
      const far = furthest(logits.data, values);
      assert.ok(far < TOLERANCE, `${name}: ${far}`);
      cases += 1;
    }
    assert.ok(cases >= 2);
    model.dispose();
    checkpoint.dispose();
  });
}

test("the command writes the same logits as safetensors, with every build that this Node runs", async () => {
  const folder = scratch();
  const ids = "5,9,2,7,1000,4,4,31";
  const checkpoint = await open(DEMO);
  const model = await checkpoint.load();
  const expected = await model.logits(ids.split(",").map(Number));
  for (const build of ["base", "simd", "auto"]) {
    const out = join(folder, `${build}.safetensors`);
    const { code, json, stderr } = await cli(["logits", DEMO, "--ids", ids, "-o", out, "--build", build, "--json"]);
    assert.equal(code, 0, stderr);
    assert.deepEqual(json.shape, [8, 8000]);
    assert.equal(json.backend, "cpu");
    const { logits } = readSafetensors(out);
    assert.deepEqual(logits.shape, [8, 8000]);
    const far = furthest(logits.values, expected.data);
    assert.ok(far < BUILDS, `${build}: ${far}`);
  }
  model.dispose();
  checkpoint.dispose();
});
