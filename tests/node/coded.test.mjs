// Entropy-coded codes, as a user has them: a recipe that says so, on the command line and in the library.

import assert from "node:assert/strict";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { open } from "statepress";
import { cli, DEMO, HELDOUT, scratch } from "../support/node.mjs";

const folder = scratch();
const recipe = (coded) => ({
  version: 1,
  name: "coded",
  steps: [{ quantize: { rules: [{ match: "role:norm", precision: "fp16" }], otherwise: "int4", ...coded } }],
});
const written = (name, content) => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};

test("a coded file is smaller, says so, and computes the same", async () => {
  const [packed, coded] = ["packed.safetensors", "coded.safetensors"].map((name) => join(folder, name));
  const [plain, asked] = [{}, { coded: true }].map((it, i) => written(`${i}.json`, JSON.stringify(recipe(it))));

  const planned = await cli(["plan", DEMO, "--recipe", asked, "--json"]);
  assert.equal(planned.code, 0, planned.stderr);
  assert.equal(planned.json.bytes.after, planned.json.bytes.memory);
  assert.ok(planned.json.findings.some(({ code }) => code === "coded-smaller"));

  const before = await cli(["compress", DEMO, "-o", packed, "--recipe", plain, "--json"]);
  assert.equal(before.code, 0, before.stderr);
  const said = await cli(["compress", DEMO, "-o", coded, "--recipe", asked, "--json"]);
  assert.equal(said.code, 0, said.stderr);
  const { bytes, fileBytes } = said.json;
  assert.deepEqual([before.json.bytes.memory, bytes.memory], [before.json.bytes.after, before.json.bytes.after]);
  assert.ok(bytes.after < 0.9 * bytes.memory, `${bytes.after} of ${bytes.memory}`);
  assert.equal(fileBytes, statSync(coded).size);
  assert.ok(fileBytes < 0.9 * before.json.fileBytes);
  assert.deepEqual(JSON.parse(readFileSync(`${coded}.report.json`, "utf8")).bytes, bytes);

  // The option is the same as the recipe that says so; both are written to the file.
  const text = await cli(["compress", DEMO, "-o", coded, "--recipe", plain, "--coded", "--force"]);
  assert.match(text.stdout, /^in memory +[\d,]+ bytes: codes are packed there$/m);
  const without = await cli(["compress", DEMO, "-o", packed, "--recipe", plain, "--force"]);
  assert.doesNotMatch(without.stdout, /in memory/);

  const seen = await cli(["inspect", coded, "--json"]);
  assert.equal(seen.json.bytes, bytes.after);
  const table = seen.json.tensors.find(({ name }) => name === "embedding.weight");
  assert.deepEqual([table.dtype, table.coded], ["INT4", true]);
  assert.match((await cli(["inspect", coded])).stdout, /embedding\.weight .* INT4 .*entropy-coded/);

  const evaluated = [packed, coded].map((file) =>
    cli(["evaluate", file, "--text", HELDOUT, "--limit", "512", "--tokenizer", join(DEMO, "tokenizer.json"), "--json"]),
  );
  const [a, b] = await Promise.all(evaluated);
  assert.equal(a.code, 0, a.stderr);
  assert.deepEqual([a.json.nll, a.json.tokens], [b.json.nll, b.json.tokens]);

  const base = await open(DEMO);
  const compressed = await base.compress(recipe({ coded: true }));
  const saved = new Uint8Array(await (await compressed.save("blob")).arrayBuffer());
  assert.ok(readFileSync(coded).equals(saved), "the library writes the same bytes");
  compressed.dispose();
  base.dispose();

  const none = await cli(["plan", DEMO, "--recipe", "none", "--coded"]);
  assert.equal(none.code, 2);
  assert.match(none.stderr, /--coded needs a quantize step, which the recipe none does not have/);
  const builtin = await cli(["plan", DEMO, "--recipe", "nf4", "--coded", "--json"]);
  assert.equal(builtin.json.recipe.steps[0].quantize.coded, true);

  // A stream that was changed is an error by the tensor's name.
  const damaged = readFileSync(coded);
  const header = 8 + Number(damaged.readBigUInt64LE());
  const streams = JSON.parse(damaged.subarray(8, header).toString());
  damaged[header + streams["embedding.weight"].data_offsets[1] - 100] ^= 1;
  const file = written("broken.safetensors", damaged);
  const broken = await cli(["logits", file, "--ids", "1,2,3", "-o", join(folder, "logits.safetensors")]);
  assert.equal(broken.code, 1);
  assert.match(broken.stderr, /tensor `embedding\.weight`: malformed entropy-coded stream: .* have the checksum/);
});
