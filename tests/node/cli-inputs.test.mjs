// What the command line reads: standard input where a file could be named, and several files one after the other.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { open } from "statepress";
import { CLI, cli, DEMO, fixture, HELDOUT, scratch, start } from "../support/node.mjs";

const SMALL = fixture("fixtures/il_ffn.tied.safetensors");
const REJECTED = fixture("fixtures/reject.whole_module.pt");
const small = readFileSync(SMALL);
const IDS = ["1", "2", "3", "4", "5", "6", "7", "8"];

/** Runs with a file of the tests as standard input. */
async function piped(input, ...args) {
  const { code, json, stderr } = await cli([...args, "--json"], { input });
  assert.equal(code, 0, stderr);
  return json;
}

test("a checkpoint comes on standard input, and nothing of it stays", async () => {
  const here = scratch();
  const env = { ...process.env, TMPDIR: here };
  const fromFile = (await cli(["inspect", SMALL, "--json"])).json;
  const { json, code } = await cli(["inspect", "-", "--json"], { input: small, env });
  assert.equal(code, 0);
  assert.deepEqual([json.params, json.tensors, json.spec], [fromFile.params, fromFile.tensors, fromFile.spec]);
  assert.ok((await piped(small, "plan", "-", "--recipe", "int8")).bytes.ratio > 1);
  assert.ok((await piped(small, "advise", "-")).recommended.length > 0);
  const out = join(here, "out.safetensors");
  const compressed = await cli(["compress", "-", "-o", out, "--recipe", "int8", "--json"], { input: small, env });
  assert.equal(compressed.code, 0, compressed.stderr);
  await cli(["compress", SMALL, "-o", join(here, "same.safetensors"), "--recipe", "int8"]);
  assert.ok(readFileSync(out).equals(readFileSync(join(here, "same.safetensors"))));
  assert.deepEqual(
    readdirSync(here).filter((name) => name.startsWith("statepress-")),
    [],
  );
  const empty = await cli(["inspect", "-", "--quiet"], { env });
  assert.deepEqual([empty.code, empty.stderr], [1, "error: standard input is empty\n"]);
  const folder = spawnSync("bash", ["-c", `exec ${process.execPath} ${CLI} inspect - --quiet < ${here}`]);
  assert.deepEqual([folder.status, /standard input cannot be read: it is a folder/.test(folder.stderr)], [1, true]);
});

test("texts, ids, recipes and prompts come on standard input", async () => {
  const recipe = { version: 1, name: "t", steps: [{ quantize: { rules: [], otherwise: "int8" } }] };
  const planned = await piped(JSON.stringify(recipe), "plan", SMALL, "--recipe", "-");
  assert.equal(planned.recipe.name, "t");
  const broken = await cli(["plan", SMALL, "--recipe", "-", "--json"], { input: "{" });
  assert.deepEqual([broken.code, broken.json.error.code], [1, "bad-recipe"]);

  const measured = async (input, ...args) => (await piped(input, "evaluate", DEMO, "--backend", "cpu", ...args)).nll;
  const text = readFileSync(HELDOUT).subarray(0, 3000);
  const file = join(scratch(), "text.txt");
  writeFileSync(file, text);
  assert.equal(await measured(text, "--text", "-"), await measured("", "--text", file));
  const ids = readFileSync(fixture("tokenizers/heldout.bpe8000.u16.bin")).subarray(0, 1024);
  writeFileSync(file, ids);
  assert.equal(await measured(ids, "--ids", "-"), await measured("", "--ids", file));
  const latin = await cli(["evaluate", DEMO, "--text", "-", "--json"], { input: Buffer.from([0x66, 0xfc, 0x72]) });
  assert.deepEqual([latin.code, latin.json.error.code], [1, "bad-input"]);

  const generated = (input, ...args) =>
    piped(input, "generate", DEMO, "--backend", "cpu", "--max-tokens", "4", ...args);
  const said = await generated("", "--prompt", "The film");
  const heard = await generated("The film\n", "--prompt", "-");
  assert.deepEqual([heard.ids, heard.prompt], [said.ids, "The film"]);
  const listed = await generated(`${IDS.join(" ")}\n`, "--prompt-ids", "-");
  assert.deepEqual(listed.ids, (await generated("", "--prompt-ids", IDS.join(","))).ids);
});

test("a FIFO is read as standard input is, and one that nobody writes is waited for until a signal", async () => {
  const fifo = join(scratch(), "fifo");
  spawnSync("mkfifo", [fifo]);
  const { done } = start(["inspect", fifo, "--json"]);
  const writer = spawn("cp", [SMALL, fifo], { stdio: "ignore" });
  const { code, stdout, stderr } = await done;
  writer.kill();
  assert.deepEqual([code, JSON.parse(stdout).family], [0, "itera-lite"], stderr);
  const waiting = start(["inspect", fifo, "--quiet"]);
  await sleep(1500);
  assert.equal(waiting.child.exitCode, null);
  waiting.child.kill("SIGTERM");
  assert.equal((await waiting.done).code, 143);
  // The library has no stream to offer: it refuses at once.
  await assert.rejects(open(fifo), { code: "bad-input", message: /no regular file/ });
});

test("there is one standard input", async () => {
  for (const [words, ...args] of [
    [/not by FILE and --recipe/, "plan", "-", "--recipe", "-"],
    [/not by FILE and FILE/, "inspect", "-", "-"],
    [/not by FILE and --text/, "evaluate", "-", "--text", "-"],
    [/not by FILE and FILE/, "compare", "-", "-", "--text", "x"],
  ]) {
    const { code, stderr } = await cli(args, { input: small });
    assert.equal(code, 2);
    assert.match(stderr, words);
  }
});

/** A folder of two good files and a bad one between them. */
function some() {
  const here = scratch();
  copyFileSync(SMALL, join(here, "a.safetensors"));
  copyFileSync(REJECTED, join(here, "b.pt"));
  copyFileSync(SMALL, join(here, "c.weights"));
  return { here, files: ["a.safetensors", "b.pt", "c.weights"].map((name) => join(here, name)) };
}

const lines = (text) =>
  text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

test("several files: a line of JSON each, on after a failure, and an exit code that tells", async () => {
  const { files } = some();
  for (const args of [
    ["inspect", ...files],
    ["plan", ...files, "--recipe", "int8"],
  ]) {
    const { code, stdout, stderr } = await cli([...args, "--json"]);
    assert.equal(code, 1);
    const told = lines(stdout);
    assert.deepEqual(
      told.map(({ input }) => input),
      files,
    );
    assert.deepEqual(
      told.map(({ error }) => error?.code),
      [undefined, "whole-module", undefined],
    );
    assert.ok(told[0].tensors && told[2].tensors);
    assert.match(stderr, /^error: .*b\.pt: /m);
    assert.match(stderr, /^2 of 3 done, 1 failed$/m);
  }
  const { code, stdout, stderr } = await cli(["inspect", files[0], files[2], "--quiet"]);
  assert.deepEqual([code, stderr], [0, ""]);
  assert.deepEqual(
    stdout.match(/^==> .* <==$/gm),
    [files[0], files[2]].map((file) => `==> ${file} <==`),
  );
});

test("several checkpoints are compressed into a folder, under their names", async () => {
  const { here, files } = some();
  const out = join(here, "out");
  const { code, stdout, stderr } = await cli(["compress", ...files, "-o", `${out}/`, "--recipe", "int8", "--json"]);
  assert.equal(code, 1, stderr);
  const told = lines(stdout);
  assert.deepEqual(
    told.map(({ input, file, error }) => [input, file, error?.code]),
    [
      [files[0], join(out, "a.safetensors"), undefined],
      [files[1], undefined, "whole-module"],
      [files[2], join(out, "c.weights.safetensors"), undefined],
    ],
  );
  const made = ["a.safetensors", "a.safetensors.report.json"];
  assert.deepEqual(readdirSync(out), [...made, ...made.map((name) => name.replace("a.", "c.weights."))]);
  assert.match(stderr, /^2 of 3 done, 1 failed$/m);

  // A second time they are there: nothing is done without --force.
  const again = ["compress", files[0], files[2], "-o", out, "--recipe", "nf4", "--quiet"];
  const refused = await cli(again);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /^error: .*a\.safetensors exists; it is replaced only when forced \(--force\)\n$/);
  assert.deepEqual(await cli([...again, "--force"]).then((it) => [it.code, it.stderr]), [0, ""]);
  // One file that is named so goes there as well.
  const one = await cli(["compress", SMALL, "-o", `${out}/`, "--recipe", "int8", "--json"]);
  assert.equal(one.json.file, join(out, "il_ffn.tied.safetensors"));
});

test("what several checkpoints cannot have is told of before the work", async () => {
  const { here, files } = some();
  mkdirSync(join(here, "other"));
  copyFileSync(SMALL, join(here, "other/a.pt"));
  const [a] = files;
  const c = files[2];
  for (const [code, words, ...args] of [
    [
      2,
      /a\.safetensors and .*other\/a\.pt would both become .*out\/a\.safetensors/,
      a,
      join(here, "other/a.pt"),
      "-o",
      join(here, "out/"),
    ],
    [2, /would both become/, a, a, "-o", join(here, "out/")],
    [2, /cannot go to standard output/, a, c, "-o", "-"],
    [2, /--report is for one file/, a, c, "-o", join(here, "out/"), "--report", join(here, "r.json")],
    [2, /need a folder, not .*both\.safetensors/, a, c, "-o", join(here, "both.safetensors")],
    [1, /there is no folder/, a, c, "-o", join(here, "no/where/")],
    [1, /is no folder: the results/, a, c, "-o", files[1]],
    // Into their own folder, where one of them has the name of its result.
    [1, /it is read as .*a\.safetensors; name another/, a, c, "-o", here, "--force"],
  ]) {
    const { code: exit, stdout, stderr } = await cli(["compress", ...args, "--recipe", "int8", "--quiet"]);
    assert.match(stderr, words);
    assert.deepEqual([exit, stdout, stderr.split("\n").length], [code, "", 2]);
  }
  assert.deepEqual(readdirSync(here).sort(), ["a.safetensors", "b.pt", "c.weights", "other"]);
  assert.ok(small.equals(readFileSync(a)));
});

test("a signal ends several as it ends one", async () => {
  const here = scratch();
  const files = Array.from({ length: 200 }, (_, i) => join(here, `${i}.safetensors`));
  for (const file of files) copyFileSync(SMALL, file);
  const out = join(here, "out/");
  const { child, done } = start(["compress", ...files, "-o", out, "--recipe", "nf4", "--json", "--quiet"]);
  while (!existsSync(join(out, "1.safetensors")) && child.exitCode === null) await sleep(2);
  child.kill("SIGHUP");
  const { code, stdout } = await done;
  assert.equal(code, 129);
  const told = stdout.trimEnd().split("\n").length;
  assert.ok(told < 200, `${told} were done`);
  assert.deepEqual(
    readdirSync(out).filter((name) => name.includes("partial")),
    [],
  );
});
