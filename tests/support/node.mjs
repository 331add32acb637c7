// What the Node and browser tests share: paths, the command line, safetensors, scratch folders.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));
export const FIXTURES = join(ROOT, "tests/fixtures/");
export const DEMO = join(ROOT, "examples/demo/itera-tiny");
export const HELDOUT = join(ROOT, "examples/demo/heldout.txt");

// The command as npm would link it: what `bin` of the installed package names.
const require = createRequire(import.meta.url);
const manifest = require.resolve("statepress/package.json");
export const CLI = join(dirname(manifest), require(manifest).bin.statepress);

/** A path of the fixtures. */
export const fixture = (name) => join(FIXTURES, name);

/** A folder that is gone after the tests of the file. */
export function scratch() {
  const folder = mkdtempSync(join(tmpdir(), "statepress-test-"));
  after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Starts the command line. */
export function start(args, options = {}) {
  const child = spawn(process.execPath, [CLI, ...args], { stdio: ["pipe", "pipe", "pipe"], ...options });
  const result = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text) => {
    result.stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text) => {
    result.stderr += text;
  });
  const done = new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ ...result, code, signal }));
  });
  return { child, done };
}

/** Runs the command line to its end; `json` is stdout as JSON where it is that. */
export async function cli(args, { input = "", ...options } = {}) {
  const { child, done } = start(args, options);
  child.stdin.on("error", () => {}).end(input);
  const result = await done;
  let json;
  try {
    json = JSON.parse(result.stdout);
  } catch {
    json = undefined;
  }
  return { ...result, json };
}

/** The tensors of a safetensors file of F32, I32 and I64 numbers. */
export function readSafetensors(path) {
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString("utf8"));
  const tensors = {};
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [from, to] = entry.data_offsets;
    const data = Uint8Array.from(bytes.subarray(8 + length + from, 8 + length + to)).buffer;
    const values = {
      F32: () => new Float32Array(data),
      I32: () => new Int32Array(data),
      I64: () => Array.from(new BigInt64Array(data), Number),
    }[entry.dtype]();
    tensors[name] = { shape: entry.shape, values };
  }
  return tensors;
}
