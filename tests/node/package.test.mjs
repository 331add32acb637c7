// What is shipped: the contents of the npm package, the example, the page's server.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { brotliCompress, brotliCompressSync, constants } from "node:zlib";
import { DEMO, fixture, HELDOUT, ROOT, scratch, start } from "../support/node.mjs";

const run = promisify(execFile);
const brotli = promisify(brotliCompress);

test("the npm package holds the library, the wasm modules and no tests or sources", async () => {
  const { stdout } = await run("npm", ["pack", "--dry-run", "--json"], { cwd: join(ROOT, "web") });
  const packed = JSON.parse(stdout);
  const [{ files, size }] = Array.isArray(packed) ? packed : Object.values(packed);
  const paths = files.map(({ path }) => path);
  for (const build of ["base", "simd", "relaxed", "extra", "distill"]) {
    assert.ok(paths.includes(`wasm/${build}/statepress_wasm_bg.wasm`), build);
  }
  for (const path of [
    "dist/api/node.js",
    "dist/api/web.d.ts",
    "dist/worker/worker.js",
    "dist/cli/main.js",
    "dist/page/index.html",
    "dist/page/statepress-compare.js",
    // The text to measure on, and what its licence asks for.
    "dist/page/heldout.txt",
    "dist/page/CREDITS.md",
    "README.md",
  ]) {
    assert.ok(paths.includes(path), path);
  }
  assert.deepEqual(
    paths.filter((path) => /^src\/|test|node_modules/.test(path)),
    [],
  );
  assert.ok(size < 9_000_000, `${size} bytes packed`);
});

test("each wasm build stays within its budget, and only the right ones hold SIMD instructions", async () => {
  const path = (build) => join(ROOT, `web/wasm/${build}/statepress_wasm_bg.wasm`);
  const builds = ["base", "simd", "relaxed"];
  const sizes = await Promise.all(builds.map(async (build) => (await brotli(readFileSync(path(build)))).length));
  for (const [at, build] of builds.entries()) {
    assert.ok(sizes[at] < 810_000, `${build}: ${sizes[at]} bytes of brotli, the GPU included`);
  }
  // A module that holds instructions which are not allowed is no module.
  const isValid = async (build, ...without) => {
    const tool = join(ROOT, "web/node_modules/.bin/wasm-opt");
    return run(tool, ["--all-features", ...without, path(build)], { maxBuffer: 1 << 28 }).then(
      () => true,
      ({ stderr }) => {
        assert.match(stderr, /requires|feature|unexpected/i);
        return false;
      },
    );
  };
  assert.ok(await isValid("base", "--disable-simd"));
  assert.ok(await isValid("simd", "--disable-relaxed-simd"));
  assert.ok(!(await isValid("simd", "--disable-simd")));
  assert.ok(!(await isValid("relaxed", "--disable-relaxed-simd")));
});

test("the modules with more are within budgets of their own, and only one has what trains", async () => {
  const read = (build) => readFileSync(join(ROOT, `web/wasm/${build}/statepress_wasm_bg.wasm`));
  // Burn and its compiler of shaders are most of what trains. At the quality that a server takes for what it compresses while it is asked.
  const options = { params: { [constants.BROTLI_PARAM_QUALITY]: 5 } };
  for (const [build, most] of [
    ["distill", 3_500_000],
    ["extra", 1_100_000],
  ]) {
    const compressed = brotliCompressSync(read(build), options).length;
    assert.ok(compressed < most, `${build}: ${compressed} bytes of brotli`);
  }
  assert.ok(read("distill").includes("cubecl"), "what trains on a GPU");
  for (const build of ["simd", "extra"]) assert.ok(!read(build).includes("burn"), `burn is not in ${build}`);
});

test("the Node example does what it says", async () => {
  const out = join(scratch(), "out.safetensors");
  const example = join(ROOT, "examples/node/compress.mjs");
  const { stdout } = await run(process.execPath, [example, DEMO, HELDOUT, out, "int8"]);
  assert.match(stdout, /itera-lite, 1902880 parameters/);
  assert.match(stdout, /perplexity change +[+-]?\d/);
  assert.ok(existsSync(out));
  assert.ok(readFileSync(example, "utf8").split("\n").length <= 40);
});

test("the table of bits has every precision, plainly and with errors made up for, of a model of any family", async () => {
  const [ids, read] = ["ids.bin", "read.bin"].map((name) => join(scratch(), name));
  for (const [path, factor] of [
    [ids, 37],
    [read, 31],
  ])
    writeFileSync(
      path,
      Uint16Array.from({ length: 2048 }, (_, i) => (i * factor + ((i * i) % 11)) % 48),
    );
  const example = join(ROOT, "examples/node/bits.mjs");
  const model = fixture("families/mamba-default");
  const asked = [model, "--ids", ids, "--limit", "512", "--calibrate-ids", read];
  const { family, rows } = JSON.parse((await run(process.execPath, [example, ...asked, "--json"])).stdout);
  assert.equal(family, "mamba");
  assert.equal(rows.length, 19);
  for (const row of rows) {
    for (const name of ["bytes", "bitsPerWeight", "ratio", "perplexity", "perplexityChange", "kl"])
      assert.ok(Number.isFinite(row[name]), `${row.precision}: ${name} is ${row[name]}`);
  }
  const bits = rows.filter(({ compensated }) => !compensated).map(({ bitsPerWeight }) => bitsPerWeight);
  assert.ok(
    bits.every((it, i) => i === 0 || it <= bits[i - 1] + 0.5),
    bits.join(),
  );
  const { stdout } = await run(process.execPath, [example, model, "--ids", ids, "--limit", "256"]);
  assert.equal(stdout.match(/^\| (fp16|int\d|nf4|lm\d) \| no \|/gm).length, 10, stdout);
  const empty = join(scratch(), "empty.txt");
  writeFileSync(empty, "");
  for (const [options, why] of [
    [[], /^usage: /],
    [["--text", HELDOUT, "--ids", ids], /^usage: /],
    [["--ids", ids, "--bits", "3"], /'--bits'/],
    [["--ids", ids, "--calibrate", empty], /empty\.txt is empty/],
    [["--text", join(empty, "none")], /cannot be read/],
  ]) {
    const failed = await run(process.execPath, [example, model, ...options]).catch((error) => error);
    assert.equal(failed.code, 2, `${options}`);
    assert.match(failed.stderr, why);
  }
});

test("serve answers on the loopback interface with the right types, and with nothing outside its folders", async (t) => {
  const { child, done } = start(["serve", "--port", "0", "--json"]);
  t.after(() => child.kill());
  const url = await new Promise((resolve, reject) => {
    child.stdout.once("data", (text) => resolve(JSON.parse(text).url));
    done.then(({ stderr }) => reject(new Error(stderr)));
  });
  assert.match(url, /^http:\/\/127\.0\.0\.1:\d+\/#local=[\w-]+$/);
  const type = async (path) => {
    const response = await fetch(new URL(path, url));
    await response.arrayBuffer();
    return `${response.status} ${response.headers.get("content-type")}`;
  };
  assert.equal(await type("/"), "200 text/html; charset=utf-8");
  assert.equal(await type("/service-worker.js"), "200 text/javascript; charset=utf-8");
  assert.equal(await type("/examples/page/page.js"), "200 text/javascript; charset=utf-8");
  assert.equal(await type("/statepress/dist/api/web.js"), "200 text/javascript; charset=utf-8");
  assert.equal(await type("/statepress/wasm/simd/statepress_wasm_bg.wasm"), "200 application/wasm");
  for (const path of ["/heldout.txt", "/demo/heldout.txt"]) {
    assert.equal(await type(path), "200 text/plain; charset=utf-8");
  }
  for (const path of ["/%2e%2e/package.json", "/demo/%2e%2e/page/page.js", "/statepress/package.json", "/nothing"]) {
    assert.match(await type(path), /^404/, path);
  }
  child.kill("SIGINT");
  assert.equal((await done).code, 130);
});
