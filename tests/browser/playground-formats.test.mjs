// A result taken away for another tool: what writes it is fetched when it is asked for, what is written is what the command line
// writes, and what is refused is said in words.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch, PATIENCE } from "../support/browser.mjs";
import { cli, fixture, scratch } from "../support/node.mjs";
import {
  advised,
  compress,
  copyable,
  downloaded,
  openDemo,
  openFiles,
  overflow,
  pick,
  QUICK,
  seriousIn,
} from "../support/playground.mjs";

const folder = scratch();
const READER = fixture("../../examples/python/reader.py");
const MAMBA = ["model.safetensors", "config.json"].map((name) => fixture(`families/mamba-default/${name}`));

let session;
before(async () => {
  session = await launch({ webgpu: false });
});
after(() => session.close());

/** A page, in a browser that writes folders or in one that does not. */
async function opened({ folders = false } = {}) {
  const context = await session.browser.newContext();
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const problems = [];
  const fetched = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  context.on("request", (request) => fetched.push(new URL(request.url()).pathname));
  await page.addInitScript((folders) => {
    // A folder of the browser's own stands for one that a user picks, which no test can.
    globalThis.showDirectoryPicker = folders ? () => navigator.storage.getDirectory() : undefined;
  }, folders);
  await page.goto(session.url);
  return { context, page, problems, fetched };
}

const format = (page, label) => page.getByRole("radio", { name: label, exact: true }).check({ force: true });

test("what no other tool has a place for is refused in words, and nothing of it is fetched before", async () => {
  const { context, page, problems, fetched } = await opened();
  await openDemo(page);
  await page.selectOption("#limit", QUICK);
  await compress(page, "int8");
  assert.match(await page.textContent("#download"), /Download itera-tiny-int8\.safetensors/);
  assert.match(await copyable(page, "Python"), /reader\.load\("itera-tiny-int8\.safetensors"\)/);
  const reader = await downloaded(page, "#reader");
  assert.equal(reader.name, "reader.py");
  assert.equal(reader.bytes.toString(), readFileSync(READER, "utf8"));
  await page.getByText("Read reader.py").click();
  assert.match(await copyable(page, "reader.py"), /^def load\(path\):$/m);
  const writers = () => fetched.filter((path) => path.includes("/extra/"));
  assert.deepEqual(writers(), []);

  await format(page, "llama.cpp (GGUF)");
  const refusal = page.locator("#formats").getByRole("alert");
  await refusal.waitFor();
  assert.match(await refusal.textContent(), /no place in that format.*itera-lite.*mamba/s);
  assert.equal(await page.locator("#take-gguf").count(), 0);
  assert.ok(writers().length > 0, "what writes it came when it was asked for");

  // Of a family that only this research has, the folder is for its own programs.
  await format(page, "transformers");
  await page.locator("#take-plain[aria-disabled=false]").waitFor();
  assert.match(await page.textContent("#take-plain"), /Download itera-tiny-int8\.zip/);
  assert.match(await copyable(page, "Python"), /load_file\("itera-tiny-int8\/model\.safetensors"\)/);
  const zip = await downloaded(page, "#take-plain");
  assert.equal(zip.name, "itera-tiny-int8.zip");
  await page.locator("#taken").waitFor();
  assert.match(await page.textContent("#taken"), /itera-tiny-int8\.zip.*none of transformers/s);
  writeFileSync(join(folder, zip.name), zip.bytes);
  execFileSync("python3", ["-m", "zipfile", "-e", join(folder, zip.name), folder]);
  const { json } = await cli(["inspect", join(folder, "itera-tiny-int8"), "--json"]);
  assert.deepEqual(
    [json.family, json.tensors.some(({ dtype }) => dtype !== "F32" && dtype !== "I64")],
    ["itera-lite", false],
  );
  assert.deepEqual(await seriousIn(page), []);
  assert.deepEqual(problems, []);
  await context.close();
});

test("GGUF and ONNX are the command line's, byte for byte, with what loads them", async () => {
  const { context, page, problems } = await opened();
  // Without a tokenizer nothing is measured.
  await openFiles(page, MAMBA);
  await compress(page, "fp16");
  await format(page, "llama.cpp (GGUF)");
  await page.selectOption("#gguf-type", "Q8_0");
  await page.locator("#take-gguf[aria-disabled=false]").waitFor();
  assert.match(await copyable(page, "llama.cpp"), /^llama-cli -m model-fp16-Q8_0\.gguf -p 'The film was' -n 64$/);
  const file = await downloaded(page, "#take-gguf");
  assert.equal(file.name, "model-fp16-Q8_0.gguf");
  await page.locator("#taken").waitFor();
  assert.match(await page.textContent("#taken"), /no vocabulary/);
  const sameByCommand = async ({ name, bytes }) => {
    const line = await copyable(page, "Command line for this format");
    const args = line.replace("./pkg-scripts/statepress ", "").split(" ");
    const { code, stderr } = await cli([...args.map((it) => (it === "model.safetensors" ? MAMBA[0] : it))], {
      cwd: folder,
    });
    assert.equal(code, 0, stderr);
    assert.ok(bytes.equals(readFileSync(join(folder, name))), "the command wrote the page's bytes");
  };
  await sameByCommand(file);
  await format(page, "onnxruntime (ONNX)");
  await page.locator("#take-onnx[aria-disabled=false]").waitFor();
  assert.match(await copyable(page, "Python"), /^MODEL, TOKENIZER, PROMPT = "model-fp16\.onnx", /m);
  const graph = await downloaded(page, "#take-onnx");
  assert.equal(graph.name, "model-fp16.onnx");
  await sameByCommand(graph);

  for (const width of [1280, 360]) {
    await page.setViewportSize({ width, height: 800 });
    assert.equal(await overflow(page), "");
  }
  // And back: a file of llama.cpp's is a model like any other.
  await pick(page, [join(folder, file.name)]);
  await page.getByRole("heading", { name: "Opened: model-fp16-Q8_0" }).waitFor();
  await advised(page);
  assert.match(await page.textContent("#understand"), /container\s*gguf/);
  await compress(page, "int8");
  assert.match(await page.textContent("#compare"), /int8/);
  assert.deepEqual(problems, []);
  await context.close();
});

test("a folder goes where it was picked, and over nothing that is there", async () => {
  const { context, page, problems } = await opened({ folders: true });
  // Without a tokenizer nothing is measured.
  await openFiles(page, MAMBA);
  await compress(page, "none");
  await format(page, "transformers");
  await page.locator("#take-plain[aria-disabled=false]").waitFor();
  assert.match(await page.textContent("#take-plain"), /Save the folder model-none/);
  assert.match(await copyable(page, "Python"), /AutoModelForCausalLM\.from_pretrained\("model-none"\)/);
  // Floats are not what bitsandbytes is for.
  await format(page, "bitsandbytes");
  const refusal = page.locator("#formats").getByRole("alert");
  await refusal.waitFor();
  assert.match(await refusal.textContent(), /no linear layer of the model is one that bitsandbytes stores/);
  await format(page, "transformers");
  await page.locator("#take-plain[aria-disabled=false]").waitFor();
  await page.click("#take-plain");
  await page.locator("#taken").waitFor();
  const files = await page.evaluate(async () => {
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("model-none");
    const found = {};
    for await (const [name, handle] of folder.entries()) {
      const bytes = new Uint8Array(await (await handle.getFile()).arrayBuffer());
      found[name] = bytes.reduce((text, byte) => text + String.fromCharCode(byte), "");
    }
    return found;
  });
  const out = join(folder, "plain");
  await cli(["compress", MAMBA[0], "-o", out, "--recipe", "none", "--format", "plain"]);
  assert.deepEqual(Object.keys(files).sort(), ["config.json", "model.safetensors"]);
  for (const [name, text] of Object.entries(files)) {
    assert.ok(Buffer.from(text, "latin1").equals(readFileSync(join(out, name))), name);
  }
  await page.click("#take-plain");
  await page.locator("#formats").getByText("it is not empty: pick another place").waitFor();
  assert.equal(await page.locator("#taken").count(), 0);
  assert.deepEqual(problems, []);
  await context.close();
});
