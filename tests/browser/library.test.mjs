// The library in a page and in a worker of the user's own: abort, crash, builds, streams.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { launch } from "../support/browser.mjs";
import { fixture } from "../support/node.mjs";

let session;
let page;
let problems;

before(async () => {
  session = await launch();
  // A page of the user's own has a policy of its own: some of these tests start workers that the playground may not.
  ({ page, problems } = await session.open("/", { bypassCSP: true }));
  // The library and the demo's files, for all tests.
  await page.evaluate(async () => {
    window.lib = await import("/statepress/dist/api/web.js");
    const fetched = async (name) => new File([await (await fetch(`/demo/itera-tiny/${name}`)).blob()], name);
    window.files = await Promise.all(["model.safetensors", "config.json", "tokenizer.json"].map(fetched));
    window.text = await (await fetch("/demo/heldout.txt")).text();
    window.refused = (promise) =>
      promise.then(
        () => "resolved",
        ({ name, code, message }) => ({ name, code, message }),
      );
  });
});
after(() => session.close());

test("the work happens in a worker, and the page stays awake", async () => {
  const frames = await page.evaluate(async () => {
    const checkpoint = await lib.open(files);
    const model = await checkpoint.load();
    let longest = 0;
    let last = performance.now();
    let going = true;
    const tick = () => {
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
      if (going) setTimeout(tick, 0);
    };
    tick();
    const progress = [];
    const { perplexity } = await model.evaluate(text.slice(0, 20000), {
      onProgress: ({ done }) => progress.push(done),
    });
    going = false;
    model.dispose();
    checkpoint.dispose();
    return { longest, perplexity, progress };
  });
  assert.ok(page.workers().length === 1, "one worker for all calls");
  assert.ok(frames.longest < 500, `the page was blocked for ${frames.longest} ms`);
  assert.ok(frames.perplexity > 40 && frames.perplexity < 120);
  assert.ok(frames.progress.length > 2);
});

test("aborting rejects with its code, in the worker too", async () => {
  const errors = await page.evaluate(async () => {
    const checkpoint = await lib.open(files);
    const model = await checkpoint.load();
    const stop = new AbortController();
    const first = await refused(model.evaluate(text, { signal: stop.signal, onProgress: () => stop.abort() }));
    const second = await refused(checkpoint.compress("int8", { signal: AbortSignal.abort() }));
    let tokens = 0;
    for await (const token of model.generate("The", { maxTokens: 200 })) {
      tokens += token.text.length > 0 ? 1 : 0;
      if (tokens === 3) break;
    }
    const { windows } = await model.evaluate(text.slice(0, 3000));
    model.dispose();
    checkpoint.dispose();
    return { first, second, tokens, windows };
  });
  assert.equal(errors.first.code, "aborted");
  assert.equal(errors.first.name, "AbortError");
  assert.equal(errors.second.code, "aborted");
  assert.equal(errors.tokens, 3);
  assert.ok(errors.windows > 0);
});

test("errors cross from the worker with code and words; paths are no business of a page", async () => {
  const errors = await page.evaluate(async () => ({
    format: await refused(lib.open(new Blob(["not a checkpoint at all"]))),
    path: await refused(lib.open("/etc/model.pt")),
    recipe: await refused(lib.open(files).then((it) => it.plan("int3"))),
  }));
  assert.equal(errors.format.name, "StatepressError");
  assert.ok(errors.format.message.length > 10);
  assert.equal(errors.path.code, "bad-input");
  assert.equal(errors.recipe.code, "bad-recipe");
});

test("a compressed checkpoint is saved to a stream and to a file of the page's own file system", async () => {
  const sizes = await page.evaluate(async () => {
    const checkpoint = await lib.open(files);
    const compressed = await checkpoint.compress("nf4");
    let streamed = 0;
    const write = (part) => {
      streamed += part.length;
    };
    await compressed.save(new WritableStream({ write }));
    const root = await navigator.storage.getDirectory();
    const handle = await root.getFileHandle("nf4.safetensors", { create: true });
    await compressed.save(handle);
    const stored = (await handle.getFile()).size;
    await root.removeEntry("nf4.safetensors");
    const blob = await compressed.save("blob");
    checkpoint.dispose();
    compressed.dispose();
    return { streamed, stored, blob: blob.size, reported: compressed.report.fileBytes };
  });
  const { reported, ...rest } = sizes;
  assert.deepEqual(rest, { streamed: reported, stored: reported, blob: reported });
});

test("a page saves for other tools: a folder of its own file system, and a file", async () => {
  const weights = readFileSync(fixture("families/mamba-default/model.safetensors"));
  const config = readFileSync(fixture("families/mamba-default/config.json"), "utf8");
  const saved = await page.evaluate(
    async ([numbers, config]) => {
      const files = [new File([new Uint8Array(numbers)], "model.safetensors"), new File([config], "config.json")];
      const checkpoint = await lib.open(files);
      const gguf = await checkpoint.save("blob", { format: "gguf", ggufType: "Q8_0" });
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("plain", { create: true });
      await checkpoint.save(folder, { format: "plain" });
      const names = [];
      for await (const name of folder.keys()) names.push(name);
      const again = await lib.open(
        await Promise.all(names.map(async (name) => (await folder.getFileHandle(name)).getFile())),
      );
      const { family } = again.inspection;
      again.dispose();
      const ofLlamaCpp = await lib.open(new File([gguf], "m.gguf"));
      const { format } = ofLlamaCpp.inspection;
      const ids = Array.from({ length: 300 }, (_, at) => (at * 7) % 64);
      const card = await lib.compare(checkpoint, ofLlamaCpp, { ids, backend: "cpu" });
      ofLlamaCpp.dispose();
      checkpoint.dispose();
      const path = await refused(checkpoint.save("plain", { format: "plain" }));
      const close = card.kl.mean < 0.01;
      return { magic: await gguf.slice(0, 4).text(), names: names.sort(), family, path: path.code, format, close };
    },
    [[...weights], config],
  );
  const names = ["config.json", "model.safetensors"];
  const expected = { magic: "GGUF", names, family: "mamba", path: "bad-input", format: "gguf", close: true };
  assert.deepEqual(saved, expected);
});

test("workers that share the rounding are ended with it, and give the bytes of one", async () => {
  const { one, two, told } = await page.evaluate(async () => {
    const checkpoint = await lib.open(files);
    const digest = async (workers) => {
      const compressed = await checkpoint.compress("nf4", { calibration: text, workers });
      const blob = await compressed.save("blob");
      const told = compressed.report.findings.find(({ code }) => code === "workers")?.message;
      compressed.dispose();
      const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
      return { bytes: hash.join(), told };
    };
    const [one, two] = [await digest(1), await digest(2)];
    checkpoint.dispose();
    return { one: one.bytes, two: two.bytes, told: two.told };
  });
  assert.equal(two, one);
  assert.match(told, /^2 workers /);
  // A page is told of the end of its workers a little later.
  for (let tries = 0; page.workers().length > 2 && tries < 50; tries++)
    await new Promise((done) => setTimeout(done, 100));
  assert.ok(page.workers().length <= 2, "the library's own, and the one that exports");
});

test("a worker that dies fails every pending call, and the next call starts another", async () => {
  const outcome = await page.evaluate(async () => {
    // A library of its own, whose worker's script cannot be loaded: the first life ends at once.
    const { WorkerHost } = await import("/statepress/dist/worker/client.js");
    const { webThread } = await import("/statepress/dist/worker/thread.js");
    let lives = 0;
    const host = new WorkerHost(() => {
      const script = lives++ === 0 ? "/statepress/dist/worker/missing.js" : "/statepress/dist/worker/worker.js";
      return webThread(() => new Worker(script, { type: "module" }));
    });
    const pending = await Promise.all([refused(host.call("recipes", {})), refused(host.call("recipes", {}))]);
    const recipes = await host.call("recipes", {});
    return { codes: pending.map(({ code }) => code), recipes: recipes.length, lives };
  });
  assert.deepEqual(outcome.codes, ["crashed", "crashed"]);
  assert.equal(outcome.lives, 2);
  assert.ok(outcome.recipes > 5);
});

test("the best build is taken, another one on request, and they agree", async () => {
  const builds = await page.evaluate(async () => {
    const results = {};
    for (const build of ["", "base", "simd"]) {
      // In a worker of the user's own the library works in place.
      const script = `
        globalThis.STATEPRESS_BUILD = "${build}";
        onmessage = async ({ data: { files, text } }) => {
          const { open } = await import("${location.origin}/statepress/dist/api/web.js");
          const checkpoint = await open(files);
          const model = await checkpoint.load();
          const { nll } = await model.evaluate(text);
          const bench = await model.bench({ repeats: 1, prefillTokens: 8, decodeTokens: 2 });
          postMessage({ nll, build: bench.build });
        };`;
      const worker = new Worker(URL.createObjectURL(new Blob([script], { type: "text/javascript" })), {
        type: "module",
      });
      results[build || "auto"] = await new Promise((resolve, reject) => {
        worker.onmessage = ({ data }) => resolve(data);
        worker.onerror = ({ message }) => reject(new Error(message));
        worker.postMessage({ files, text: text.slice(0, 4000) });
      });
      worker.terminate();
    }
    return results;
  });
  assert.equal(builds.base.build, "base");
  assert.equal(builds.simd.build, "simd");
  assert.equal(builds.auto.build, "relaxed", "Chromium has relaxed SIMD");
  for (const { nll } of Object.values(builds)) assert.ok(Math.abs(nll - builds.base.nll) < 1e-4);
});

test("a GPU trains in a page what the CPU trains, and the page stays awake", async (t) => {
  const small = readFileSync(fixture("fixtures/il_ffn.safetensors"));
  const made = await page.evaluate(
    async (bytes) => {
      const teacher = await lib.open(new File([new Uint8Array(bytes)], "model.safetensors"));
      const ids = (count, by) => Array.from({ length: count }, (_, at) => (at * by + Math.floor(at / 24)) % 50);
      const asked = {
        ...{ student: [{ prune: { kind: "inner", keep: 0.5 } }], text: ids(1024, 7), heldOut: ids(240, 11) },
        ...{ window: 24, batch: 2, steps: 4, validateEvery: 2 },
      };
      let longest = 0;
      let last = performance.now();
      const ticking = setInterval(() => {
        longest = Math.max(longest, performance.now() - last);
        last = performance.now();
      }, 5);
      const looks = {};
      for (const backend of ["cpu", "webgpu", "auto"]) {
        const student = await lib.distill(teacher, { ...asked, backend });
        const { training, findings } = student.report;
        const told = findings.filter(({ code }) => code === "trained-by-gpu" || code === "backend-cpu");
        looks[backend] = { device: training.device, nll: training.validation.map(({ nll }) => nll), told };
        student.dispose();
      }
      clearInterval(ticking);
      teacher.dispose();
      return { longest, ...looks };
    },
    [...small],
  );
  const { cpu, webgpu, auto, longest } = made;
  assert.deepEqual([cpu.device, webgpu.device], ["flex", "wgpu"]);
  assert.equal(cpu.nll.length, 3);
  for (const [at, nll] of cpu.nll.entries()) assert.ok(Math.abs(webgpu.nll[at] - nll) < 2e-3, JSON.stringify(made));
  assert.match(webgpu.told[0].message, /^the GPU .+ trained, by burn-wgpu$/);
  // What is emulated on the CPU is slower than the CPU: nobody is given that who leaves the choice.
  assert.deepEqual([auto.device, auto.told[0].code, auto.nll], ["flex", "backend-cpu", cpu.nll]);
  assert.match(auto.told[0].message, /the only adapter is emulated on the CPU/);
  t.diagnostic(`the page was blocked for ${Math.round(longest)} ms at the most`);
  assert.ok(longest < 1000, `the page was blocked for ${longest} ms`);
});

test("nothing was logged as an error", () => {
  // The worker that could not be loaded is the one exception.
  assert.deepEqual(
    problems.filter((text) => !/404|missing\.js/.test(text)),
    [],
  );
});

test("a GPU that is lost in the middle of a text is replaced by the CPU, and the page goes on", async () => {
  const outcome = await page.evaluate(async () => {
    const checkpoint = await lib.open(files);
    const model = await checkpoint.load({ backend: "auto", backendOptions: { software: true } });
    const first = model.backend.name;
    const made = [];
    const tokens = model.generate([5, 6, 7], { maxTokens: 5 });
    made.push((await tokens.next()).value.id);
    await model.loseGpu();
    let end;
    for (;;) {
      const next = await tokens.next();
      if (next.done) {
        end = next.value;
        break;
      }
      made.push(next.value.id);
    }
    const cpu = await checkpoint.load({ backend: "cpu" });
    const expected = [];
    for await (const { id } of cpu.generate([5, 6, 7], { maxTokens: 5 })) expected.push(id);
    const left = await checkpoint.load();
    const plain = { ...left.backend };
    for (const it of [model, cpu, left, checkpoint]) it.dispose();
    return { first, made, expected, end, plain };
  });
  assert.equal(outcome.first, "webgpu");
  assert.deepEqual(outcome.made, outcome.expected);
  assert.equal(outcome.end.backend, "cpu");
  assert.deepEqual(
    outcome.end.findings.map(({ code }) => code),
    ["backend-cpu"],
  );
  // Left to itself the library does not take a program on the CPU for a GPU.
  assert.equal(outcome.plain.name, "cpu");
  assert.match(outcome.plain.reason, /emulated on the CPU/);
});

test("whatever happens to the GPU, the page goes on with it", async () => {
  const bytes = readFileSync(fixture("fixtures/il_moe.safetensors")).toString("base64");
  const outcome = await page.evaluate(async (base64) => {
    const file = new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))]);
    const checkpoint = await lib.open(file);
    const load = (backendOptions) => checkpoint.load({ backend: "webgpu", backendOptions });
    const text = async (model) => {
      const ids = [];
      for await (const { id } of model.generate([1, 2, 3], { maxTokens: 8 })) ids.push(id);
      return ids;
    };
    const ones = (count) => new Array(count).fill(1);

    const tooSmall = await refused(load({ maxBuffer: 1024 }));
    const [first, second] = [await load(), await load({ opByOp: true })];
    const alone = await text(first);
    const together = await Promise.all([text(first), text(second), text(first)]);
    const stop = new AbortController();
    const aborted = await refused(first.evaluate(ones(4800), { signal: stop.signal, onProgress: () => stop.abort() }));
    for await (const _ of first.generate([1, 2, 3], { maxTokens: 20 })) break;
    const afterAbort = (await first.evaluate(ones(48))).backend;

    await first.loseGpu();
    const lost = await refused(first.evaluate(ones(48)));
    const third = await load();
    const afterLoss = await text(third);
    for (const it of [first, second, third, checkpoint]) it.dispose();
    return { tooSmall, alone, together, aborted, afterAbort, lost, afterLoss };
  }, bytes);
  const { alone } = outcome;
  assert.equal(outcome.tooSmall.code, "gpu-limit");
  assert.match(outcome.tooSmall.message, /allows 1024/);
  assert.equal(alone.length, 8);
  assert.deepEqual(outcome.together, [alone, alone, alone]);
  assert.deepEqual([outcome.aborted.code, outcome.afterAbort], ["aborted", "webgpu"]);
  assert.equal(outcome.lost.code, "gpu-lost");
  assert.deepEqual(outcome.afterLoss, alone);
});

test("a page without WebGPU has the CPU, and says so", async () => {
  const plain = await launch({ webgpu: false });
  try {
    const { page } = await plain.open();
    const outcome = await page.evaluate(async () => {
      const { open } = await import("/statepress/dist/api/web.js");
      const checkpoint = await open(new File([await (await fetch("/demo/itera-tiny/model.safetensors")).blob()], "m"));
      const { backend } = await checkpoint.load();
      const asked = await checkpoint.load({ backend: "webgpu" }).catch(({ code, message }) => ({ code, message }));
      return { backend, asked };
    });
    assert.equal(outcome.backend.name, "cpu");
    assert.equal(outcome.backend.finding.code, "backend-cpu");
    assert.equal(outcome.asked.code, "no-gpu");
  } finally {
    await plain.close();
  }
});
