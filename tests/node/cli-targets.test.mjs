// Where the command line writes: files, links, FIFOs, standard output, folders; and what it refuses before any work.

import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { open } from "statepress";
import { CLI, cli, fixture, readSafetensors, scratch, start } from "../support/node.mjs";

const folder = scratch();
const SMALL = fixture("fixtures/il_ffn.tied.safetensors");
const compressing = (out, ...more) => ["compress", SMALL, "-o", out, "--recipe", "int8", ...more];

/** The bytes that compressing SMALL makes. */
let expected;

before(async () => {
  const out = join(folder, "expected.safetensors");
  await wrote(out);
  expected = readFileSync(out);
});

async function wrote(out, ...more) {
  const { code, stderr } = await cli(compressing(out, ...more));
  assert.equal(code, 0, stderr);
}

/** Wants a refusal that has read nothing and written nothing. */
async function refused(words, out, ...more) {
  const { code, json, stderr } = await cli([...compressing(out, ...more), "--json"]);
  assert.match(stderr, /^error: [^\n]+\n$/, "and no finding: the checkpoint was not opened");
  assert.match(stderr, words);
  assert.ok(code === 1 || code === 2, `${code}`);
  assert.ok(json.error.code);
  return json.error;
}

const leftovers = (where) => readdirSync(where).filter((name) => name.includes("partial"));

test("a target that cannot be written is told of before the work", async () => {
  const here = scratch();
  await refused(/--output needs a value that is not empty/, "");
  await refused(/there is no folder .*nowhere/, join(here, "nowhere/out.safetensors"));
  mkdirSync(join(here, "sub"));
  for (const force of [[], ["--force"]])
    await refused(/sub cannot be written: it is a folder/, join(here, "sub"), ...force);
  writeFileSync(join(here, "plain"), "");
  await refused(/a part of the path is no folder \(ENOTDIR\)/, join(here, "plain/out.safetensors"));
  await refused(/the name is too long \(ENAMETOOLONG\)/, join(here, "x".repeat(300)));
  // The name will do, the report's will not.
  await refused(/the name is too long/, join(here, "x".repeat(250)));
  await refused(/name the same file/, join(here, "a.safetensors"), "--report", join(here, "sub/../a.safetensors"));
  await refused(/there is no folder .*none/, join(here, "a.safetensors"), "--report", join(here, "none/r.json"));
  symlinkSync("circle", join(here, "circle"));
  await refused(/links lead in a circle/, join(here, "circle"));
  const server = createServer();
  await new Promise((resolve) => server.listen(join(here, "socket"), resolve));
  await refused(/it is a socket, not a file/, join(here, "socket"), "--force");
  server.close();
  assert.deepEqual(readdirSync(here).sort(), ["circle", "plain", "sub"]);
});

test("what is read is never written, whatever it is called", async () => {
  const here = scratch();
  const input = join(here, "in.safetensors");
  copyFileSync(SMALL, input);
  linkSync(input, join(here, "hard.safetensors"));
  symlinkSync("in.safetensors", join(here, "soft.safetensors"));
  for (const name of ["in", "hard", "soft"]) {
    const args = ["compress", input, "-o", join(here, `${name}.safetensors`), "--recipe", "int8", "--force", "--quiet"];
    const { code, stderr } = await cli(args);
    assert.equal(code, 1);
    assert.match(stderr, /it is read as .*in\.safetensors; name another file/);
  }
  // The same of a folder that is opened, and of the report.
  const inside = join(here, "in.safetensors");
  for (const args of [
    ["-o", inside],
    ["-o", join(here, "new.safetensors"), "--report", inside],
  ]) {
    const { code, stderr } = await cli(["compress", here, ...args, "--recipe", "int8", "--force", "--quiet"]);
    assert.deepEqual([code, /it is read as/.test(stderr)], [1, true], stderr);
  }
  assert.ok(readFileSync(SMALL).equals(readFileSync(input)));
});

test("a name that promises another format is refused, and says what is written", async () => {
  const here = scratch();
  for (const name of ["x.gguf", "x.pt", "x.onnx", "x.PTH", "x.bin", "x.npz"]) {
    const error = await refused(/would hold safetensors: name it .*x\.safetensors/, join(here, name), "--force");
    assert.deepEqual(
      [error.code, error.allowed],
      ["bad-option", ["safetensors", "plain", "bitsandbytes", "compressed-tensors", "gguf", "onnx"]],
    );
  }
  await refused(
    /--format is 'tflite'; allowed: safetensors, plain, bitsandbytes, compressed-tensors, gguf, onnx/,
    join(here, "x.tflite"),
    "--format",
    "tflite",
  );
  for (const name of ["plain", "x.compressed", "v1.3b"]) await wrote(join(here, name));
  assert.ok(expected.equals(readFileSync(join(here, "plain"))));
});

test("a link stays a link: what it leads to is written, also where nothing is yet", async () => {
  const here = scratch();
  mkdirSync(join(here, "far"));
  writeFileSync(join(here, "far/there.safetensors"), "old", { mode: 0o600 });
  symlinkSync("far", join(here, "near"));
  symlinkSync("near/there.safetensors", join(here, "link"));
  symlinkSync("link", join(here, "second"));
  await refused(/second exists/, join(here, "second"));
  await wrote(join(here, "second"), "--force");
  symlinkSync("near/new.safetensors", join(here, "dangling"));
  await wrote(join(here, "dangling"));
  for (const name of ["link", "second", "dangling"]) assert.ok(lstatSync(join(here, name)).isSymbolicLink(), name);
  assert.equal(readlinkSync(join(here, "second")), "link");
  for (const name of ["there", "new"]) assert.ok(expected.equals(readFileSync(join(here, `far/${name}.safetensors`))));
  assert.equal(statSync(join(here, "far/there.safetensors")).mode & 0o777, 0o600, "permissions are kept");
  assert.deepEqual([leftovers(here), leftovers(join(here, "far"))], [[], []]);
  symlinkSync("nowhere/new.safetensors", join(here, "lost"));
  await refused(/there is no folder .*nowhere/, join(here, "lost"));
});

test("a FIFO is written through and stays one, with --force as well, and through a link", async () => {
  const here = scratch();
  const fifo = join(here, "fifo");
  execFileSync("mkfifo", [fifo]);
  symlinkSync("fifo", join(here, "link"));
  for (const [name, ...more] of [["fifo"], ["fifo", "--force"], ["link", "--force"]]) {
    const reader = spawn("cat", [fifo]);
    const parts = [];
    reader.stdout.on("data", (part) => parts.push(part));
    const read = new Promise((resolve) => reader.on("close", resolve));
    const { code, stdout, stderr } = await cli([...compressing(join(here, name), ...more), "--json"]);
    assert.equal(code, 0, stderr);
    await read;
    assert.ok(expected.equals(Buffer.concat(parts)), name);
    assert.equal("reportFile" in JSON.parse(stdout), false, "nothing is left beside what is sent away");
    assert.ok(lstatSync(fifo).isFIFO() && lstatSync(join(here, "link")).isSymbolicLink());
  }
  assert.deepEqual(readdirSync(here).sort(), ["fifo", "link"]);
  // A report has to be asked for.
  const reader = spawn("cat", [fifo], { stdio: "ignore" });
  await wrote(fifo, "--report", join(here, "report.json"));
  reader.kill();
  assert.ok(JSON.parse(readFileSync(join(here, "report.json"), "utf8")).bytes.ratio > 1);
});

test("a FIFO without a reader is waited for, and a signal ends that", async () => {
  const here = scratch();
  execFileSync("mkfifo", [join(here, "fifo")]);
  const { child, done } = start(compressing(join(here, "fifo")), { env: { ...process.env, TMPDIR: here } });
  const working = () => readdirSync(here).some((name) => name.startsWith("statepress-"));
  while (!working() && child.exitCode === null) await sleep(2);
  await sleep(100);
  child.kill("SIGTERM");
  assert.equal((await done).code, 143);
  assert.deepEqual(readdirSync(here), ["fifo"]);
});

test("a reader of a FIFO that leaves is an error", async () => {
  const here = scratch();
  const fifo = join(here, "fifo");
  execFileSync("mkfifo", [fifo]);
  // The demo is larger than a pipe holds.
  const { done } = start([
    "compress",
    fixture("../../examples/demo/itera-tiny"),
    "-o",
    fifo,
    "--recipe",
    "none",
    "--quiet",
  ]);
  const reader = spawn("head", ["-c", "10", fifo], { stdio: "ignore" });
  const { code, stderr } = await done;
  reader.kill();
  assert.equal(code, 1);
  assert.match(stderr, /^error: .*fifo cannot be written: whoever read it has left \(EPIPE\)\n$/);
});

/** Runs with standard output as it comes: bytes. */
function bytesOf(args, options = {}) {
  return spawnSync(process.execPath, [CLI, ...args], { maxBuffer: 1 << 30, ...options });
}

test("-o - is the compressed bytes and nothing else; what is said goes to stderr", () => {
  const { status, stdout, stderr } = bytesOf(compressing("-"));
  assert.equal(status, 0);
  assert.ok(expected.equals(stdout));
  assert.match(`${stderr}`, /^file +standard output, /m);
  const quiet = bytesOf(compressing("-", "--quiet"));
  assert.deepEqual([quiet.status, `${quiet.stderr}`, expected.equals(quiet.stdout)], [0, "", true]);

  const report = join(folder, "stdout.report.json");
  assert.ok(expected.equals(bytesOf(compressing("-", "--report", report)).stdout));
  assert.ok(JSON.parse(readFileSync(report, "utf8")).recipe);
  const both = bytesOf(compressing("-", "--json"));
  assert.equal(both.status, 2);
  assert.match(`${both.stderr}`, /no room for --json/);
  const failed = bytesOf(["compress", join(folder, "none.pt"), "-o", "-", "--recipe", "int8"]);
  assert.deepEqual([failed.status, failed.stdout.length], [1, 0]);
  assert.ok(!existsSync("-"));

  const out = join(folder, "logits.safetensors");
  const asking = ["logits", SMALL, "--ids", "1,2,3", "--backend", "cpu"];
  assert.equal(bytesOf([...asking, "-o", out]).status, 0);
  assert.ok(readFileSync(out).equals(bytesOf([...asking, "-o", "-"]).stdout));
  assert.equal(readSafetensors(out).logits.shape[0], 3);
  // A pipe is a pipe: bytes out of one command are a checkpoint for the next.
  const again = bytesOf(["inspect", "-", "--json"], { input: stdout });
  assert.equal(JSON.parse(again.stdout).recipe.name, "int8");
});

test("a full standard output is told of", { skip: !existsSync("/dev/full") }, () => {
  const full = openSync("/dev/full", "w");
  for (const args of [["recipes"], ["recipes", "--json"], ["--help"], ["--version"], compressing("-")]) {
    const { status, stderr } = bytesOf(args, { stdio: ["ignore", full, "pipe"] });
    assert.equal(status, 1, args.join(" "));
    assert.match(`${stderr}`, /error: standard output cannot be written: the disk is full \(ENOSPC\)\n$/);
  }
  closeSync(full);
});

test("a file that grows too large leaves nothing, and says so", () => {
  const here = scratch();
  const out = join(here, "out.safetensors");
  // In blocks of 1024 bytes, for every file: of the temporary ones as well.
  const limited = (blocks, ...args) =>
    spawnSync("bash", ["-c", `ulimit -f ${blocks}; exec "$@"`, "bash", process.execPath, CLI, ...args], {
      env: { ...process.env, TMPDIR: here },
    });
  const demo = fixture("../../examples/demo/itera-tiny");
  const { status, stderr } = limited(1000, "compress", demo, "-o", out, "--recipe", "int8", "--quiet");
  assert.equal(status, 1);
  assert.match(
    `${stderr}`,
    /^error: .*out\.safetensors cannot be written: it grows larger than a file may be here \(EFBIG\)\n$/,
  );
  assert.deepEqual(readdirSync(here), []);
});

test("a full disk is told of by the name of the file, and nothing is left", (t) => {
  const disk = scratch();
  if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=600k", "none", disk]).status !== 0)
    return t.skip("no right to mount");
  const demo = fixture("../../examples/demo/itera-tiny");
  try {
    const args = ["compress", demo, "-o", join(disk, "out.safetensors"), "--recipe", "int8", "--quiet"];
    const target = bytesOf(args);
    assert.equal(target.status, 1);
    assert.match(`${target.stderr}`, /^error: .*out\.safetensors cannot be written: the disk is full \(ENOSPC\)\n$/);
    assert.deepEqual(readdirSync(disk), []);
    const elsewhere = ["compress", demo, "-o", "-", "--recipe", "int8", "--quiet"];
    const temporary = bytesOf(elsewhere, { env: { ...process.env, TMPDIR: disk } });
    assert.equal(temporary.status, 1);
    assert.match(`${temporary.stderr}`, /^error: the folder of temporary files.*the disk is full \(ENOSPC\); TMPDIR/);
    const spooled = bytesOf(["inspect", "-", "--quiet"], {
      input: readFileSync(join(demo, "model.safetensors")),
      env: { ...process.env, TMPDIR: disk },
    });
    assert.equal(spooled.status, 1);
    assert.match(`${spooled.stderr}`, /^error: the folder of temporary files.*the disk is full \(ENOSPC\); TMPDIR/);
    assert.deepEqual(readdirSync(disk), []);
  } finally {
    execFileSync("umount", [disk]);
  }
});

test("a file grows beside its name: the folder of temporary files has no part in it, and the space is needed once", async (t) => {
  const here = scratch();
  const out = join(here, "out.safetensors");
  const env = { ...process.env, TMPDIR: join(here, "missing") };
  const { code, stderr } = await cli(compressing(out), { env });
  assert.equal(code, 0, stderr);
  assert.ok(expected.equals(readFileSync(out)));
  assert.equal(statSync(out).nlink, 1, "the name that it grew under is gone");
  // A file that is replaced keeps its permissions, and so does the one that takes its place.
  writeFileSync(out, "old", { mode: 0o600 });
  chmodSync(out, 0o640);
  assert.equal((await cli(compressing(out, "--force"), { env })).code, 0);
  assert.equal(statSync(out).mode & 0o777, 0o640);
  assert.deepEqual(readdirSync(here).sort(), ["out.safetensors", "out.safetensors.report.json"]);
  const piped = await cli(compressing("-"), { env });
  assert.deepEqual([piped.code, /the folder of temporary files.*TMPDIR names another/.test(piped.stderr)], [1, true]);

  const disk = scratch();
  if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=3m", "none", disk]).status !== 0)
    return t.skip("no right to mount");
  try {
    const args = ["compress", fixture("../../examples/demo/itera-tiny"), "--recipe", "int8", "--quiet"];
    const once = bytesOf([...args, "-o", join(disk, "a.safetensors")], { env: { ...process.env, TMPDIR: disk } });
    assert.equal(once.status, 0, `${once.stderr}`);
    assert.ok(statSync(join(disk, "a.safetensors")).size > 1.9e6, "twice that is more than there is");
    // A second does not fit, and the first is as it was.
    const twice = bytesOf([...args, "-o", join(disk, "b.safetensors")]);
    assert.equal(twice.status, 1);
    assert.match(`${twice.stderr}`, /^error: .*b\.safetensors cannot be written: the disk is full \(ENOSPC\)\n$/);
    assert.deepEqual(readdirSync(disk).sort(), ["a.safetensors", "a.safetensors.report.json"]);
  } finally {
    execFileSync("umount", [disk]);
  }
});

test("the library saves with and without a place of its own, on another disk as well", async (t) => {
  const here = scratch();
  const disk = scratch();
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=3m", "none", disk]).status === 0;
  if (!mounted) t.diagnostic("no right to mount: the other disk is this one");
  try {
    const checkpoint = await open(SMALL);
    const out = join(here, "a.safetensors");
    const compressed = await checkpoint.compress("int8", { beside: out });
    assert.equal(leftovers(here).length, 1);
    for (const [path, force] of [
      [out, false],
      [out, true],
      [join(here, "b.safetensors"), false],
      [join(disk, "c.safetensors"), false],
    ]) {
      await compressed.save(path, { force });
      assert.ok(expected.equals(readFileSync(path)), path);
    }
    const [first, second] = ["a.safetensors", "b.safetensors"].map((name) => statSync(join(here, name)).ino);
    assert.notEqual(first, second, "a change of one is none of the other");
    assert.equal((await compressed.tensor("embedding.weight")).name, "embedding.weight", "it can be read still");
    compressed.dispose();
    checkpoint.dispose();
    assert.deepEqual(readdirSync(here).sort(), ["a.safetensors", "b.safetensors"]);
    assert.deepEqual(readdirSync(disk), ["c.safetensors"]);
    await assert.rejects((await open(SMALL)).compress("int8", { beside: join(here, "none", "x") }), {
      code: "io",
      message: /there is no folder/,
    });
  } finally {
    if (mounted) execFileSync("umount", [disk]);
  }
});
