// Compressing with a calibration text, as a user does: the other half of the demo's text judges.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { compare, open } from "statepress";
import { cli, DEMO, fixture, HELDOUT, scratch } from "../support/node.mjs";

const folder = scratch();
const lines = readFileSync(HELDOUT, "utf8").split("\n");
const half = Math.floor(lines.length / 2);
const [read, judged] = [lines.slice(0, half).join("\n"), lines.slice(half).join("\n")];
const text = join(folder, "read.txt");
writeFileSync(text, read);

test("a calibration text makes up for rounding errors, on the command line and in the library alike", async () => {
  const out = join(folder, "calibrated.safetensors");
  const said = await cli(["compress", DEMO, "-o", out, "--recipe", "nf4", "--calibrate", text, "--json"]);
  assert.equal(said.code, 0, said.stderr);
  assert.deepEqual(said.json.recipe.steps[0].quantize.gptq, {
    windows: 16,
    window: 256,
    passes: 2,
    damping: 0.01,
  });
  assert.ok(said.json.findings.some((it) => it.code === "compensated" && / 4096 tokens /.test(it.message)));

  const base = await open(DEMO);
  const progress = new Set();
  const onProgress = ({ stage }) => progress.add(stage);
  const calibrated = await base.compress("nf4", { calibration: read, onProgress });
  assert.ok(
    ["load", "calibrate", "compress"].every((stage) => progress.has(stage)),
    [...progress].join(),
  );
  const bytes = new Uint8Array(await (await calibrated.save("blob")).arrayBuffer());
  assert.ok(readFileSync(out).equals(bytes), "both give the same bytes");

  // Its ids are the text, and a recipe of one's own may say what `--compensate` says.
  const model = await base.load({ backend: "cpu" });
  const [bin, own, recipe] = ["read.bin", "own.safetensors", "own.json"].map((name) => join(folder, name));
  writeFileSync(bin, Uint16Array.from(model.encode(read)));
  model.dispose();
  writeFileSync(recipe, JSON.stringify(said.json.recipe));
  const byIds = ["--recipe", recipe, "--compensate", "--calibrate-ids", bin, "--json"];
  const again = await cli(["compress", DEMO, "-o", own, ...byIds]);
  assert.equal(again.code, 0, again.stderr);
  assert.ok(readFileSync(own).equals(bytes), "so do the ids of the text");

  const plain = await base.compress("nf4");
  assert.deepEqual(plain.report.bytes, calibrated.report.bytes, "weights of the same size");
  const asked = { text: judged, limit: 4096, backend: "cpu" };
  const [better, worse] = [await divergence(base, calibrated, asked), await divergence(base, plain, asked)];
  assert.ok(better < 0.5 * worse, `${better} with compensation, ${worse} without`);
  for (const checkpoint of [base, calibrated, plain]) checkpoint.dispose();
});

test("where scales clip by activations a text does no more than that, unless it is asked to", async () => {
  const [recipe, ids, out] = ["clipped.json", "ids.bin", "clipped.safetensors"].map((name) => join(folder, name));
  writeFileSync(
    ids,
    Uint16Array.from({ length: 512 }, (_, i) => (i * 37 + ((i * i) % 11)) % 50),
  );
  const quantize = { rules: [], otherwise: "nf4", nf4: { clip: "activation" }, gptq: { windows: 2, window: 64 } };
  writeFileSync(recipe, JSON.stringify({ version: 1, name: "clipped", steps: [{ quantize }] }));
  const model = fixture("fixtures/il_moe.safetensors");
  const compress = (...more) => cli(["compress", model, "-o", out, "--force", "--recipe", recipe, ...more, "--json"]);
  const told = ({ json }, code) => json.findings.some((it) => it.code === code);
  const clipped = await compress("--calibrate-ids", ids);
  assert.equal(clipped.code, 0, clipped.stderr);
  assert.deepEqual([told(clipped, "clipped-by-text"), told(clipped, "compensated")], [true, false]);
  const compensated = await compress("--calibrate-ids", ids, "--compensate");
  assert.deepEqual([told(compensated, "clipped-by-text"), told(compensated, "compensated")], [false, true]);
  const without = await compress();
  assert.deepEqual([without.code, /calibration is not given; allowed: a text/.test(without.stderr)], [1, true]);
});

test("what cannot be calibrated is refused by name", async () => {
  const out = join(folder, "never.safetensors");
  const none = await cli(["compress", DEMO, "-o", out, "--recipe", "none", "--calibrate", text]);
  assert.equal(none.code, 1);
  assert.match(
    none.stderr,
    /option calibration is given; allowed: none, as the recipe quantizes nothing with errorCompensation gptq/,
  );
  const alone = await cli(["compress", DEMO, "-o", out, "--recipe", "nf4", "--compensate"]);
  assert.equal(alone.code, 2);
  assert.match(
    alone.stderr,
    /--compensate needs a text for the model to read: --calibrate TEXT or --calibrate-ids BIN/,
  );
  const both = await cli(["compress", DEMO, "-o", out, "--calibrate", text, "--calibrate-ids", text]);
  assert.equal(both.code, 2);
  assert.match(both.stderr, /either --calibrate or --calibrate-ids is needed, not both/);
  const missing = await cli(["compress", DEMO, "-o", out, "--recipe", "nf4", "--calibrate", join(folder, "no.txt")]);
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /no\.txt/);
  const without = await cli(["compress", fixture("fixtures/il_ffn.safetensors"), "-o", out, "--calibrate", text]);
  assert.equal(without.code, 1);
  assert.match(without.stderr, /tokenizer/);

  const base = await open(DEMO);
  await assert.rejects(base.compress("nf4", { calibration: [1, 2, 3] }), (error) => {
    assert.equal(error.name, "StatepressError");
    assert.match(error.message, /3 tokens do not fill one window of 256/);
    return true;
  });
  await assert.rejects(base.compress("nf4", { calibration: 7 }), { name: "StatepressError" });
  const stop = new AbortController();
  const stopped = base.compress("nf4", { calibration: read, signal: stop.signal, onProgress: () => stop.abort() });
  await assert.rejects(stopped, { name: "AbortError" });
  base.dispose();
});

async function divergence(base, other, asked) {
  return (await compare(base, other, asked)).kl.mean;
}
