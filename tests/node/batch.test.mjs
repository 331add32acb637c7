// Many checkpoints, as engines start them: the same work under the same name, what is done stays done, and exit codes that say
// whether to try again.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { codes } from "statepress";
import { cli, DEMO, fixture, HELDOUT, scratch, start } from "../support/node.mjs";

const folder = scratch();
const SMALL = fixture("fixtures/il_ffn.tied.safetensors");
const REJECTED = fixture("fixtures/reject.whole_module.pt");
const MAMBA = fixture("families/mamba-default");

/** Seven checkpoints of a few kilobytes, all different, and their manifest. */
const models = join(folder, "models");
mkdirSync(models);
const NAMES = ["a", "b", "c", "d", "e", "f", "g"].map((name) => `${name}.safetensors`);
for (const [at, name] of NAMES.entries()) {
  const bytes = readFileSync(SMALL);
  bytes[bytes.length - 1] = 0x3c + at;
  writeFileSync(join(models, name), bytes);
}
const ALL = manifest("all.txt", NAMES);

/** A manifest beside the checkpoints. */
function manifest(name, lines) {
  const path = join(models, name);
  writeFileSync(path, lines.map((line) => `${line}\n`).join(""));
  return path;
}

/** Runs a batch; answers with its exit code, its lines and what it says. */
async function batch(path, out, args = [], options = {}) {
  const run = await cli(["batch", path, "-o", out, "--recipe", "int8", "--quiet", ...args], options);
  const lines = run.stdout
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  return { ...run, lines };
}

const place = (name) => join(folder, name);
const statuses = (lines) => lines.map(({ status }) => status);

/** Everything in a folder, hidden or not, with its bytes. */
function contents(path) {
  const files = readdirSync(path, { recursive: true, withFileTypes: true }).filter((it) => it.isFile());
  return Object.fromEntries(
    files.map((it) => [
      join(it.parentPath, it.name).slice(path.length + 1),
      readFileSync(join(it.parentPath, it.name)),
    ]),
  );
}

test("the same work has the same name and the same bytes, wherever it is done", async () => {
  const [first, second] = [place("stable-1"), place("stable-2")];
  const { code, lines, stderr } = await batch(ALL, first);
  assert.equal(code, 0, stderr);
  assert.equal(stderr, "");
  assert.deepEqual(
    lines.map(({ input, line, status }) => [input, line, status]),
    NAMES.map((name, at) => [name, at + 1, "done"]),
  );
  for (const it of lines) {
    for (const name of ["key", "sha256", "recipe", "version", "bytesIn", "bytesOut", "ratio", "seconds", "peakBytes"]) {
      assert.ok(name in it, name);
    }
    assert.match(it.output, new RegExp(`${it.input[0]}\\.${it.key.slice(0, 16)}\\.safetensors$`));
    assert.ok(it.ratio > 2 && it.bytesIn / it.bytesOut === it.ratio && it.peakBytes > 1e7);
    assert.ok(Array.isArray(it.findings) && it.findings.some(({ code }) => code === "assumed"));
  }
  assert.equal(new Set(lines.map(({ key }) => key)).size, NAMES.length);

  // Elsewhere, from standard input, in another order.
  const moved = place("moved");
  cpSync(models, moved, { recursive: true });
  const input = [...NAMES].reverse().join("\r\n");
  const again = await batch("-", second, [], { input, cwd: moved });
  assert.equal(again.code, 0, again.stderr);
  assert.deepEqual(
    again.lines.map(({ key }) => key).reverse(),
    lines.map(({ key }) => key),
  );
  const results = (path) => Object.entries(contents(path)).filter(([name]) => name.endsWith(".safetensors"));
  assert.equal(results(first).length, NAMES.length);
  assert.deepEqual(results(second), results(first));

  // As compress makes it, with its report.
  const alone = place("alone.safetensors");
  await cli(["compress", join(models, "a.safetensors"), "-o", alone, "--recipe", "int8"]);
  assert.ok(readFileSync(alone).equals(readFileSync(lines[0].output)));
  assert.equal(JSON.parse(readFileSync(`${lines[0].output}.report.json`)).recipe.name, "int8");

  // Another recipe, another option, other bytes: other work.
  const other = await batch(manifest("one.txt", ["a.safetensors"]), place("other"), ["--coded"]);
  assert.deepEqual([other.code, other.lines[0].sha256], [0, lines[0].sha256]);
  assert.notEqual(other.lines[0].key, lines[0].key);
});

test("what is done stays done, and what is damaged is made again", async () => {
  const out = place("again");
  const { lines } = await batch(ALL, out);
  const before = contents(out);
  const second = await batch(ALL, out, ["--skip-existing"]);
  assert.equal(second.code, 0);
  assert.deepEqual(new Set(statuses(second.lines)), new Set(["skipped"]));
  // A skipped line says all that the first one said.
  const facts = ({ status: _, seconds: __, ...it }) => it;
  assert.deepEqual(second.lines.map(facts), lines.map(facts));
  assert.deepEqual(contents(out), before);

  const [a, b, c, d] = lines.map(({ output }) => output);
  truncateSync(a, 100);
  const flipped = readFileSync(b);
  flipped[flipped.length - 1] ^= 1;
  writeFileSync(b, flipped);
  rmSync(`${c}.batch.json`);
  writeFileSync(`${d}.batch.json`, '{"key": "x", "files": [{"name": "../all.txt"}]}');
  const third = await cli(["batch", ALL, "-o", out, "--recipe", "int8", "--skip-existing"]);
  const made = third.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line).status);
  assert.deepEqual(made, ["done", "done", "done", "done", "skipped", "skipped", "skipped"]);
  assert.match(third.stderr, /line 1: a\.safetensors: made again: a\.\w+\.safetensors is not what it was/);
  assert.match(third.stderr, /line 4: .*its record is not of this work/);
  assert.match(third.stderr, /7 files: 4 done, 3 skipped/);
  const results = (files) => Object.entries(files).filter(([name]) => name.endsWith(".safetensors"));
  assert.deepEqual(results(contents(out)), results(before));

  // Nothing is replaced that nobody asked to have replaced.
  const refused = await batch(ALL, out);
  assert.deepEqual([refused.code, new Set(refused.lines.map(({ error }) => error.code))], [42, new Set(["exists"])]);
  assert.match(refused.stderr, /--skip-existing keeps/);
  const forced = await batch(manifest("two.txt", ["a.safetensors", "a.safetensors"]), out, ["--force"]);
  // The same file in two lines is made once.
  assert.deepEqual(statuses(forced.lines), ["done", "skipped"]);
});

test("formats of other tools are results as well: a folder appears at once, and is held to its record", async () => {
  const list = manifest("formats.txt", [JSON.stringify({ input: MAMBA })]);
  const gguf = await batch(list, place("gguf"), ["--format", "gguf", "--gguf-type", "Q8_0"]);
  assert.equal(gguf.code, 0, gguf.stderr);
  assert.match(gguf.lines[0].output, /mamba-default\.[0-9a-f]{16}\.gguf$/);
  assert.ok(gguf.lines[0].findings.some(({ code }) => code === "coded-before"));

  const out = place("plain");
  const plain = await batch(list, out, ["--format", "plain"]);
  const [{ output }] = plain.lines;
  assert.deepEqual(readdirSync(output).sort(), ["config.json", "model.safetensors"]);
  appendFileSync(join(output, "config.json"), " ");
  assert.deepEqual(statuses((await batch(list, out, ["--format", "plain", "--skip-existing"])).lines), ["done"]);
  assert.deepEqual(statuses((await batch(list, out, ["--format", "plain", "--skip-existing"])).lines), ["skipped"]);
  const refused = await batch(manifest("demo.txt", [DEMO]), place("gguf"), ["--format", "gguf"]);
  assert.deepEqual([refused.code, refused.lines[0].error.code], [42, "unknown-model"]);
});

test("what is trained is trained by the CPU, whatever the machine has: its bytes are the key's", async () => {
  const ids = place("train.bin");
  let state = 1;
  const next = () => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return Math.floor(state / 2 ** 16) % 50;
  };
  writeFileSync(ids, Uint16Array.from({ length: 2048 }, next));
  const trains = ["--recover-ids", ids, "--ids-type", "u16", "--steps", "2"];
  const { code, lines, stderr } = await batch(manifest("one.txt", NAMES.slice(0, 1)), place("trained"), trains);
  assert.deepEqual([code, statuses(lines)], [0, ["done"]], stderr);
  const report = readdirSync(place("trained"), { recursive: true }).find((it) => it.endsWith(".report.json"));
  const { training, findings } = JSON.parse(readFileSync(join(place("trained"), report), "utf8"));
  assert.equal(training.device, "flex");
  // Whoever leaves the choice to the machine is told of what it has not.
  assert.ok(!findings.some(({ code }) => code === "backend-cpu"), JSON.stringify(findings));
});

test("results are compared with their originals where that is asked for, and measured once", async () => {
  const list = manifest("compared.txt", [DEMO]);
  const out = place("compared");
  const asked = ["--compare", HELDOUT, "--limit", "300", "--backend", "cpu"];
  const { code, lines, stderr } = await batch(list, out, asked);
  assert.equal(code, 0, stderr);
  const [{ ppl, pplIn, pplChange, kl, top1Agreement, tokens }] = lines;
  assert.ok(Math.abs(pplChange - 100 * (ppl / pplIn - 1)) < 1e-6 && kl > 0 && top1Agreement > 0.9 && tokens === 255);
  const again = await batch(list, out, [...asked, "--skip-existing"]);
  assert.deepEqual([statuses(again.lines), again.lines[0].kl], [["skipped"], kl]);
  // Measured otherwise it is another number, and not there yet.
  const shorter = ["--compare", HELDOUT, "--limit", "200", "--window", "64", "--backend", "cpu", "--skip-existing"];
  assert.deepEqual(statuses((await batch(list, out, shorter)).lines), ["done"]);
  // Without a measurement whoever asks for none is content.
  assert.deepEqual(statuses((await batch(list, out, ["--skip-existing"])).lines), ["skipped"]);
});

test("shards are a partition, by numbers and by an engine's environment", async () => {
  const out = place("shards");
  const parts = [];
  for (const shard of ["0/3", "1/3", "2/3"]) {
    const { code, lines } = await batch(ALL, out, ["--shard", shard]);
    assert.equal(code, 0);
    parts.push(lines.map(({ input }) => input));
  }
  assert.deepEqual(
    parts.map(({ length }) => length),
    [3, 2, 2],
  );
  assert.deepEqual(parts.flat().sort(), NAMES);
  const named = async (value, variable) => {
    const env = { ...process.env, JOB_COMPLETION_INDEX: value };
    const { code, lines, stderr } = await batch(ALL, out, ["--skip-existing", "--shard-env", variable], { env });
    return code === 0 ? lines.map(({ input }) => input) : [code, stderr];
  };
  assert.deepEqual(await named("1", "JOB_COMPLETION_INDEX/3"), parts[1]);
  assert.deepEqual(await named("1/3", "JOB_COMPLETION_INDEX"), parts[1]);
  // Without a count: one file a job.
  assert.deepEqual(await named("4", "JOB_COMPLETION_INDEX"), ["e.safetensors"]);
  for (const [value, variable, words] of [
    ["7", "JOB_COMPLETION_INDEX", /all\.txt has 7 files, and none has the number 7/],
    ["-1", "JOB_COMPLETION_INDEX", /takes a number from 0, or I\/N, not '-1'/],
    ["3", "JOB_COMPLETION_INDEX/3", /0\/8 to 7\/8, not '3\/3'/],
    ["", "JOB_COMPLETION_INDEX", /no environment variable JOB_COMPLETION_INDEX/],
  ]) {
    const [code, stderr] = await named(value, variable);
    assert.deepEqual([code, words.test(stderr)], [2, true], stderr);
  }
  // More parts than files: a part may be empty.
  const empty = await batch(ALL, out, ["--shard", "8/9"]);
  assert.deepEqual([empty.code, empty.lines], [0, []]);
});

test("wrong usage is 2, before anything is done", async () => {
  const out = place("usage");
  for (const [words, ...args] of [
    [/--shard takes I\/N.*not '3\/3'/, "--shard", "3/3"],
    [/--shard takes I\/N.*not '1'/, "--shard", "1"],
    [/either --shard or --shard-env/, "--shard", "0/1", "--shard-env", "X"],
    [/--limit needs --compare/, "--limit", "3"],
    [/either --compare or --compare-ids/, "--compare", HELDOUT, "--compare-ids", HELDOUT],
    [
      /onnx is not opened: with it --format is one of safetensors, plain, bitsandbytes, compressed-tensors, gguf/,
      "--format",
      "onnx",
      "--compare",
      HELDOUT,
    ],
    [/--compare is read for every file, and standard input can be read once/, "--compare", "-"],
    [/--calibrate is read for every file/, "--calibrate", "-"],
    [/--gguf-type goes with --format gguf/, "--gguf-type", "Q8_0"],
    [/--compensate needs a text/, "--compensate"],
    [/--calibrate and --compare name the same text/, "--calibrate", HELDOUT, "--compare", HELDOUT],
    [/--max-memory takes a whole number from 1/, "--max-memory", "2G"],
  ]) {
    const { code, stderr, stdout } = await batch(ALL, out, args);
    assert.deepEqual([code, stdout, words.test(stderr)], [2, "", true], stderr);
  }
  for (const args of [
    ["batch", ALL, "--recipe", "int8"],
    ["batch", ALL, "-o", "-", "--recipe", "int8"],
    ["batch", "-o", out],
  ]) {
    assert.equal((await cli(args)).code, 2, args.join(" "));
  }
  assert.ok(!existsSync(out));
});

test("what always fails is 42, and does not keep the others from being done", async () => {
  copyFileSync(REJECTED, join(models, "module.pt"));
  writeFileSync(join(models, "notes.safetensors"), "not a checkpoint");
  mkdirSync(join(models, "empty"));
  const list = manifest("hostile.txt", [
    "",
    "a.safetensors\r",
    "   ",
    "../models/b.safetensors",
    "module.pt",
    "none.pt",
    "empty",
    "notes.safetensors",
    "-",
    "{not json",
    '{"inptu": "a.safetensors"}',
    '{"input": 3}',
    "[1]",
    '{"input": "a.safetensors", "recipe": "nf5"}',
    '{"input": "a.safetensors", "set": {"top_k_experts": "x"}}',
    '{"input": "a.safetensors", "recipe": "nf4", "set": {"prediction_offset": 0}}',
    "\u4e2d\u6587 \u0000".slice(0, 3),
    "/dev/null",
    "a.safetensors",
  ]);
  const out = place("hostile");
  const { code, lines, stderr } = await batch(list, out);
  assert.equal(code, 42);
  const told = Object.fromEntries(lines.map(({ line, status, error }) => [line, error?.code ?? status]));
  assert.deepEqual(told, {
    2: "done",
    4: "done",
    5: "whole-module",
    6: "io",
    7: "bad-input",
    8: "unsupported-format",
    9: "bad-input",
    10: "bad-input",
    11: "bad-input",
    12: "bad-input",
    13: "io",
    14: "bad-recipe",
    15: "bad-input",
    16: "done",
    17: "io",
    18: "bad-input",
    19: "skipped",
  });
  for (const { error } of lines) if (error) assert.ok(error.retry === false && codes.includes(error.code), error.code);
  assert.match(stderr, /hostile\.txt line 11: .*did you mean 'input'\?.*input, recipe, tokenizer, weights, set/);
  assert.match(stderr, /hostile\.txt line 6: none\.pt: .*does not exist/);
  assert.equal(stderr.trim().split("\n").length, 13, "one line for each that failed");
  // Nothing but results is in the folder, and nothing beside it.
  const names = readdirSync(out);
  assert.equal(names.length, 9);
  for (const name of names) assert.match(name, /^[ab]\.[0-9a-f]{16}\.safetensors(\.(report|batch)\.json)?$/);

  for (const [bytes, words] of [
    [Buffer.from([0x61, 0x0a, 0xff, 0xfe, 0x0a]), /line 2 is not UTF-8/],
    [readFileSync(SMALL), /line 1 holds a NUL/],
    [Buffer.alloc(1 << 21, 0x61), /line 1 is too long/],
  ]) {
    writeFileSync(join(models, "bytes.txt"), bytes);
    const refused = await batch(join(models, "bytes.txt"), place("bytes"));
    assert.deepEqual([refused.code, words.test(refused.stderr)], [42, true], refused.stderr);
  }
  for (const path of [join(models, "none.txt"), models]) assert.equal((await batch(path, place("bytes"))).code, 42);
  const nothing = await batch(manifest("nothing.txt", ["", "", ""]), place("bytes"));
  assert.deepEqual([nothing.code, nothing.lines], [0, []]);
});

test("what does not fit in the memory that is allowed is refused, and its result is not there", async () => {
  const out = place("memory");
  const { code, lines, stderr } = await batch(manifest("demo.txt", [DEMO]), out, ["--max-memory", "20000000"]);
  const [{ error }] = lines;
  assert.deepEqual([code, error.code, error.limit, error.retry], [42, "too-large", 20000000, false]);
  assert.match(stderr, /it does not fit: \d+ bytes of memory are taken.*--max-memory allows 20000000/);
  assert.deepEqual(readdirSync(out), []);
  assert.equal((await batch(manifest("demo.txt", [DEMO]), out, ["--max-memory", "2000000000"])).code, 0);
  // Nor do workers change what a result is, so that it is found again.
  const again = await batch(manifest("demo.txt", [DEMO]), out, ["--workers", "2", "--skip-existing"]);
  assert.deepEqual(statuses(again.lines), ["skipped"]);
});

/** A batch in the middle of a long piece of work, which is to let a model read a text. */
async function inTheMiddle(out) {
  const text = place("read.txt");
  writeFileSync(text, readFileSync(HELDOUT).subarray(0, 8000));
  const list = manifest("long.txt", ["a.safetensors", DEMO, "b.safetensors"]);
  const asked = ["--recipe", "int8", "--calibrate", text, "--skip-existing", "--quiet"];
  // The small ones have no tokenizer, and fail at once.
  const { child, done } = start(["batch", list, "-o", out, ...asked]);
  const hidden = () => (existsSync(out) ? readdirSync(out).filter((name) => name.startsWith(".itera-tiny")) : []);
  for (let tries = 0; hidden().length === 0; tries += 1) {
    assert.ok(tries < 600, "the work begins");
    await sleep(50);
  }
  await sleep(300);
  return { child, done, args: ["batch", list, "-o", out, ...asked] };
}

/** The processes that a process has started. */
const children = (pid) =>
  execFileSync("ps", ["-o", "pid=", "--ppid", `${pid}`], { encoding: "utf8" })
    .trim()
    .split(/\s+/)
    .map(Number);

test("a signal in the middle leaves nothing that looks whole, and the same command goes on", async () => {
  const out = place("signal");
  for (const [signal, expected] of [
    ["SIGTERM", 143],
    ["SIGINT", 130],
  ]) {
    const { child, done } = await inTheMiddle(out);
    child.kill(signal);
    const { code, stdout, stderr } = await done;
    assert.equal(code, expected, stderr);
    const last = JSON.parse(stdout.trim().split("\n").at(-1));
    assert.deepEqual([last.status, last.line, last.recipe], ["cancelled", 2, "int8"]);
    assert.match(stderr, /stopped; what is done stays done/);
    assert.deepEqual(readdirSync(out), []);
  }
  // Killed, nobody takes anything away: what is left is hidden, and the next one removes it.
  const { child, done, args } = await inTheMiddle(out);
  const [working] = children(child.pid);
  child.kill("SIGKILL");
  assert.equal((await done).signal, "SIGKILL");
  assert.ok(readdirSync(out).every((name) => name.startsWith(".")));
  const again = await cli(args);
  assert.equal(again.code, 42);
  assert.deepEqual(
    statuses(
      again.stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ),
    ["failed", "done", "failed"],
  );
  assert.ok(readdirSync(out).every((name) => /^itera-tiny\.[0-9a-f]{16}\.safetensors/.test(name)));
  // Whoever worked for it has ended as well.
  for (let tries = 0; existsSync(`/proc/${working}`); tries += 1) {
    assert.ok(tries < 400, "the process of the file ends");
    await sleep(50);
  }
});

test("what may pass another time is 75, also where something else never will", async () => {
  const out = place("transient");
  const { child, done, args } = await inTheMiddle(out);
  for (const pid of children(child.pid)) process.kill(pid, "SIGKILL");
  const { code, stdout, stderr } = await done;
  assert.equal(code, 75, stderr);
  const lines = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    lines.map(({ error }) => error.retry),
    [false, true, false],
  );
  assert.match(lines[1].error.message, /ended by SIGKILL/);
  assert.deepEqual(readdirSync(out), []);
  assert.equal((await cli(args)).code, 42, "the next time what never will is left");
});

test("whoever does not hear of the rest is not told that it was done", async () => {
  const { child, done } = start(["batch", ALL, "-o", place("deaf"), "--recipe", "int8", "--quiet"]);
  child.stdout.destroy();
  assert.equal((await done).code, 75);
  assert.ok(readdirSync(place("deaf")).every((name) => !name.startsWith(".")));
});

test("a manifest of a million lines is read as it is needed", async () => {
  const list = join(models, "million.txt");
  const line = `${"x".repeat(90)}.safetensors\n`;
  writeFileSync(list, line.repeat(999_999));
  appendFileSync(list, "a.safetensors\n");
  const env = { ...process.env, NODE_OPTIONS: "--max-old-space-size=64" };
  for (const shard of [
    ["--shard", "999999/1000000"],
    ["--shard-env", "LAST"],
  ]) {
    const out = place(`million${shard[0]}`);
    const { code, lines, stderr } = await batch(list, out, shard, { env: { ...env, LAST: "999999" } });
    assert.equal(code, 0, stderr);
    assert.deepEqual([lines.length, lines[0].line, lines[0].status], [1, 1_000_000, "done"]);
  }
  rmSync(list);
});

test("merge makes one table and one page of the lines of many, the furthest of each file", async () => {
  const first = await cli(["batch", ALL, "-o", place("merged"), "--recipe", "int8", "--shard", "0/2", "--quiet"]);
  const second = await batch(ALL, place("merged"), ["--skip-existing"]);
  const [one, two] = [place("one.jsonl"), place("two.jsonl")];
  const evil = "<script>alert('x')</script>&\"";
  const failed = { status: "failed", line: 1, error: { code: "io", message: evil, retry: true } };
  writeFileSync(
    one,
    [
      first.stdout.trim(),
      JSON.stringify({ ...failed, input: NAMES[1] }),
      JSON.stringify({ ...failed, input: evil, findings: [{ level: "warning", code: "x", message: evil }] }),
      '{"status": "done", "input": "cut o',
      "[]",
      '{"status": "odd", "input": "x"}',
    ].join("\n"),
  );
  writeFileSync(two, second.stdout);
  const page = place("page.html");
  const { code, json, stderr } = await cli(["merge", one, two, "-o", page, "--json"]);
  assert.equal(code, 0, stderr);
  assert.deepEqual(json.counts, { done: 7, skipped: 0, failed: 1, cancelled: 0 });
  assert.deepEqual(
    json.unread.map(({ file, line }) => [file, line]),
    [4, 5, 6].map((it) => [one, it + 3]),
  );
  const sum = (name) => second.lines.reduce((total, line) => total + line[name], 0);
  assert.deepEqual(json.bytes, { in: sum("bytesIn"), out: sum("bytesOut"), ratio: sum("bytesIn") / sum("bytesOut") });
  assert.match(stderr, /one\.jsonl line 7 is left out: it is not JSON, or was cut off/);

  const html = readFileSync(page, "utf8");
  assert.ok(!html.includes("<script"));
  assert.ok(html.includes("&#60;script&#62;alert(&#39;x&#39;)&#60;/script&#62;&#38;&#34;"));
  assert.match(html, /Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/);
  assert.match(html, /--paper: light-dark/);
  for (const name of NAMES) assert.ok(html.includes(`>${name}</td>`), name);

  const table = await cli(["merge", two, "--quiet"]);
  assert.match(table.stdout, /^file +family +recipe +status +bytes before +after +ratio/m);
  assert.match(table.stdout, /^b\.safetensors +itera-lite +int8 +done +31,776 +[\d,]+ +2\.77x/m);
  assert.match(table.stdout, /7 files: 3 done, 4 skipped; 222,432 to [\d,]+ bytes, 2\.77x\n$/);
  const streamed = await cli(["merge", "-", "-o", "-"], { input: readFileSync(two) });
  assert.ok(streamed.stdout.startsWith("<!doctype html>") && streamed.stderr.includes("7 files"));

  assert.equal((await cli(["merge", one, "-o", page])).code, 1, "a page is not replaced by itself");
  assert.equal((await cli(["merge", one, "-o", place("x.pdf")])).code, 2);
  const none = await cli(["merge", HELDOUT]);
  assert.deepEqual([none.code, /no line of a batch is in/.test(none.stderr)], [1, true]);
  assert.ok(statSync(page).size < 40_000);
});
