// Advice by what was measured on the model itself, as a user has it: on the command line and in the library.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { open, StatepressError } from "statepress";
import { cli, fixture, scratch } from "../support/node.mjs";

const folder = scratch();
const SMALL = fixture("fixtures/il_moe.safetensors");
const ids = Uint16Array.from({ length: 2048 }, (_, i) => (i * 37 + ((i * i) % 11)) % 50);
const bin = join(folder, "ids.bin");
writeFileSync(bin, ids);

test("measured, the advice is this model's own, and a target has its speeds", async () => {
  const args = ["advise", SMALL, "--measure-ids", bin, "--limit", "1024", "--target", "cpu", "--max-loss", "50"];
  const { code, json, stderr } = await cli([...args, "--json"]);
  assert.equal(code, 0, stderr);
  const { recommended, avoid, measured, measure } = json;
  const all = [...recommended, ...avoid.filter(({ basis }) => basis !== "literature")];
  assert.deepEqual(
    measured.map(({ recipe }) => recipe),
    ["none", ...measure.recipes],
  );
  for (const it of all) {
    const own = measured.find(({ recipe }) => recipe === it.recipe);
    assert.deepEqual(
      [it.basis, it.measuredOn, it.expectedLoss, it.kl, it.expectedRatio, it.tokensPerSecond],
      ["measured", "this file", own.loss, own.kl, own.ratio, own.tokensPerSecond],
    );
    assert.ok(it.tokens > 0 && it.tokens < 1024 && it.lossStderr > 0 && it.kl >= 0 && own.backend === "cpu");
    assert.ok(["success", "partial", "failure"].includes(it.verdict.result));
  }
  const speeds = recommended.map(({ tokensPerSecond }) => tokensPerSecond);
  assert.deepEqual(
    speeds,
    speeds.toSorted((a, b) => b - a),
    "the fastest first",
  );
  const codes = json.findings.map((finding) => finding.code);
  assert.ok(codes.includes("measured-here") && codes.includes("order"), codes.join());

  // What was measured can be given back: nothing is measured again, and nothing is forgotten.
  const checkpoint = await open(SMALL);
  const again = await checkpoint.advise({ measured, target: "cpu", maxLoss: 50 });
  assert.deepEqual(again, json);
  checkpoint.dispose();
});

test("measuring tells how far it is, can be stopped, and says what it needs", async () => {
  const checkpoint = await open(SMALL);
  const measure = { ids, limit: 512 };
  const seen = [];
  const { measured } = await checkpoint.advise({ measure, onProgress: (progress) => seen.push(progress) });
  assert.ok(measured.length > 3 && measured.every((it) => it.tokensPerSecond === undefined), "no target, no speeds");
  const told = seen.filter(({ stage }) => stage === "measure");
  assert.ok(told.length > 3 && told.every(({ done, total }, i) => done <= total && done >= (told[i - 1]?.done ?? 0)));
  const controller = new AbortController();
  const onProgress = ({ item }) => item && controller.abort();
  const stopped = checkpoint.advise({ measure, onProgress, signal: controller.signal });
  await assert.rejects(stopped, (error) => error instanceof StatepressError && error.code === "aborted");
  for (const [options, why] of [
    [{ measure: {} }, /measure needs a text or ids/],
    [{ measure: "a text" }, /option measure is "a text"/],
    [{ measured: [{ recipe: "int8" }] }, /option measured: missing field `loss`/],
    [{ measured: [{ recipe: "int8", loss: 1, kl: 0, ratio: 4, speed: 3 }] }, /unknown field `speed`/],
  ]) {
    await assert.rejects(checkpoint.advise(options), (error) => error.code === "bad-option" && why.test(error.message));
  }
  checkpoint.dispose();
  const { code, stderr } = await cli(["advise", SMALL, "--limit", "5"]);
  assert.equal(code, 2);
  assert.match(stderr, /--limit needs --measure or --measure-ids/);
});

test("what nobody has measured is unknown, with the command that measures it, and every rule is named", async () => {
  const { code, stdout } = await cli(["advise", fixture("families/mamba2-groups"), "--quiet"]);
  assert.equal(code, 0);
  const unknown = /^recommended: int8, \d\.\d\dx, loss unknown, measure: about \d+ s, risk low$/m;
  assert.match(stdout, unknown);
  assert.match(stdout, /^measure: statepress advise FILE --measure TEXT \(about \d+ s\)$/m);
  assert.match(stdout, /^ {4}by int8-first/m);
  assert.match(
    stdout,
    /^ {2}loss-under-3: up to 3 % lost: mixed precision only\n {6}Project Compression Findings .*https:\/\//m,
  );
  assert.match(stdout, /^also: search\n.*\n {4}statepress search FILE -o OUT/m);
});
