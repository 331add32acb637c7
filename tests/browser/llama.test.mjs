// GGUF files in llama.cpp itself, in the build that pages load (wllama): what it says of them, token for token, is what we say of
// the same weights. tests/interop holds logits of every type and family to llama.cpp's in Python.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { launch, PATIENCE } from "../support/browser.mjs";
import { cli, fixture, ROOT, scratch } from "../support/node.mjs";
import { compress, downloaded, openFiles, QUICK } from "../support/playground.mjs";

const WLLAMA = dirname(createRequire(import.meta.url).resolve("@wllama/wllama/package.json"));
const PROMPT = "state space";
const TOKENS = 32;
const END = "<|endoftext|>";
const folder = scratch();

let session;
before(async () => {
  session = await launch({ webgpu: false });
});
after(() => session.close());

/** A checkpoint's files in a folder of their own, with a vocabulary of single characters, as byte-level BPE without merges. */
function withTokenizer(name, files, size = 64) {
  const place = join(folder, name);
  mkdirSync(place);
  for (const [name, path] of Object.entries(files)) copyFileSync(path, join(place, name));
  const characters = "ĠĊabcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWX.";
  const vocab = Object.fromEntries([END, ...characters].slice(0, size).map((it, id) => [it, id]));
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  writeFileSync(
    join(place, "tokenizer.json"),
    JSON.stringify({
      version: "1.0",
      added_tokens: [{ id: 0, content: END, special: true }],
      normalizer: null,
      pre_tokenizer: byteLevel,
      decoder: byteLevel,
      model: { type: "BPE", vocab, merges: [] },
    }),
  );
  return place;
}

/** What llama.cpp says behind the prompt, always the likeliest token: tokens and their text. */
async function saidByLlama(bytes) {
  const context = await session.browser.newContext();
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  await context.route("**/llama/**", (route) => {
    const path = new URL(route.request().url()).pathname.replace("/llama/", "");
    if (path === "")
      return route.fulfill({ contentType: "text/html", body: "<!doctype html><title>llama.cpp</title>" });
    if (path === "model.gguf") return route.fulfill({ contentType: "application/octet-stream", body: bytes });
    return route.fulfill({ path: join(WLLAMA, path) });
  });
  await page.goto(new URL("/llama/", session.url).href);
  const [said] = await page.evaluate(
    async ([prompt, tokens]) => {
      const { Wllama } = await import("/llama/esm/index.js");
      const wllama = new Wllama({ default: "/llama/esm/wasm/wllama.wasm" });
      const file = await (await fetch("/llama/model.gguf")).blob();
      await wllama.loadModel([file], { n_ctx: 256, n_gpu_layers: 0, n_threads: 1 });
      // It names tokens where it is asked for their probabilities.
      const answer = await wllama.createCompletion({ prompt, max_tokens: tokens, temperature: 0, logprobs: 1 });
      await wllama.exit();
      return answer.choices;
    },
    [PROMPT, TOKENS],
  );
  await context.close();
  return { ids: said.logprobs.content.map(({ id }) => id), text: said.text };
}

/** What we say of a file, as far as the end of a text, where llama.cpp stops. */
async function saidByUs(file) {
  const args = ["--prompt", PROMPT, "--temperature", "0", "--max-tokens", String(TOKENS), "--json"];
  const { code, stderr, json } = await cli(["generate", file, ...args]);
  assert.equal(code, 0, stderr);
  const end = json.ids.indexOf(0) + 1;
  return { ids: end > 0 ? json.ids.slice(0, end) : json.ids, text: json.text.split(END)[0] };
}

for (const [name, vocabulary] of Object.entries({ "mamba-default": 64, "mamba2-one-group": 64, "llama-gqa": 60 })) {
  test(`${name} in F32 says the same tokens`, async () => {
    const files = ["model.safetensors", "config.json"].map((it) => [it, fixture(`families/${name}/${it}`)]);
    const original = withTokenizer(name, Object.fromEntries(files), vocabulary);
    const out = join(folder, `${name}.gguf`);
    const { code, stderr } = await cli(["compress", original, "-o", out, "--recipe", "none", "--format", "gguf"]);
    assert.equal(code, 0, stderr);
    const ours = await saidByUs(original);
    assert.ok(new Set(ours.ids).size > 4, "it says more than one word");
    assert.deepEqual(await saidByLlama(readFileSync(out)), ours);
  });
}

test("a Mamba is dropped, and its download in Q4_K runs", async () => {
  const weights = join(folder, "model.safetensors");
  const size = ["--hidden", "256", "--layers", "2", "--vocab", "64"];
  execFileSync(process.execPath, [join(ROOT, "tests/bench/shape.mjs"), weights, ...size]);
  const original = withTokenizer("wide", { "model.safetensors": weights });
  const context = await session.browser.newContext();
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  await page.goto(session.url);
  await openFiles(
    page,
    ["model.safetensors", "tokenizer.json"].map((it) => join(original, it)),
  );
  await page.selectOption("#limit", QUICK);
  await compress(page, "none");
  await page.getByRole("radio", { name: "llama.cpp (GGUF)", exact: true }).check({ force: true });
  await page.selectOption("#gguf-type", "Q4_K");
  await page.locator("#take-gguf[aria-disabled=false]").waitFor();
  const file = await downloaded(page, "#take-gguf");
  await context.close();
  const out = join(folder, file.name);
  writeFileSync(out, file.bytes);
  const said = await saidByLlama(file.bytes);
  // llama.cpp rounds what enters products with codes to eight bits: here the likeliest token stays the likeliest all the same.
  assert.deepEqual(said, await saidByUs(out));
  assert.notDeepEqual(said, await saidByUs(original), "four bits are not the original");
});
