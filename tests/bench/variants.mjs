// A model in a precision in a build of our module, ready to be timed.

import { closeSync, existsSync, fstatSync, openSync, readdirSync, readFileSync, readSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { setFlagsFromString } from "node:v8";
import { GROUPED } from "../../web/dist/api/node.js";

/** Tokens asked for at a time: what the package asks for. They are decoded one after the other. */
const STEP = 32;

/** A checkpoint on disk, and the configuration beside it. */
export class ModelFile {
  constructor(path) {
    const folder = statSync(path).isDirectory() ? resolve(path) : dirname(resolve(path));
    this.path = statSync(path).isDirectory() ? join(path, checkpointIn(path)) : path;
    this.name = basename(folder);
    const config = join(folder, "config.json");
    this.config = existsSync(config) ? readFileSync(config, "utf8") : undefined;
  }

  /** Gives `use` a source of the file's bytes; it is open until `use` has ended. */
  async read(use) {
    const file = openSync(this.path);
    try {
      return await use({
        size: fstatSync(file).size,
        readAt: (offset, buffer) => {
          for (let done = 0; done < buffer.length; ) {
            const read = readSync(file, buffer, done, buffer.length - done, offset + done);
            if (read === 0) throw new Error(`${this.path} ends early`);
            done += read;
          }
        },
      });
    } finally {
      closeSync(file);
    }
  }
}

function checkpointIn(folder) {
  const names = readdirSync(folder);
  const found =
    names.find((name) => name === "model.safetensors") ??
    names.find((name) => /\.(safetensors|pt|pth|bin)$/.test(name));
  if (!found) throw new Error(`no checkpoint in ${folder}`);
  return found;
}

/** A build of the module: `label` tells two of them apart. */
export async function loadBuild(folder, label) {
  const bytes = readFileSync(join(folder, "statepress_wasm_bg.wasm"));
  // Node 20 has relaxed SIMD, behind a flag.
  if (!WebAssembly.validate(bytes)) setFlagsFromString("--experimental-wasm-relaxed-simd");
  // The same folder twice still makes two modules.
  const wasm = await import(`${pathToFileURL(resolve(folder, "statepress_wasm.js")).href}?${label}`);
  wasm.initSync({ module: bytes });
  return new Build(wasm, label);
}

/** By the name of a precision that no recipe has: every matrix in it, in groups of 64, and what is no matrix in FP16. */
function recipeOf(name) {
  if (!GROUPED.includes(name)) return name;
  const floats = ["norm", "bias", "dynamics", "conv"].map((role) => ({ match: `role:${role}`, precision: "fp16" }));
  const rules = [...floats, { match: "*", precision: name }];
  return {
    version: 1,
    name,
    steps: [{ quantize: { rules, otherwise: "fp16", groups: { group: 64, scale: "fp16" } } }],
  };
}

class Build {
  #wasm;

  constructor(wasm, label) {
    this.#wasm = wasm;
    this.label = label;
    this.name = wasm.build();
  }

  /** What a recipe in this build is called. */
  title(recipe) {
    return `statepress ${recipe}${this.label === "other" ? ", other build" : ""}`;
  }

  /** A checkpoint with the text of its configuration; builds from before that took an object. */
  #open(source, config) {
    try {
      return this.#wasm.Checkpoint.open(source, { config });
    } catch (error) {
      if (this.label !== "other" || config === undefined) throw error;
      return this.#wasm.Checkpoint.open(source, { config: JSON.parse(config) });
    }
  }

  /** Sizes of a model. */
  async look(file) {
    return file.read(async (source) => {
      const checkpoint = this.#open(source, file.config);
      const parameters = checkpoint.inspection().params;
      const model = await this.#load(checkpoint);
      const { vocabSize, maxTokens } = model.info();
      model.free();
      return { parameters, vocabSize, maxTokens };
    });
  }

  /** The model after a recipe. */
  async variant(file, recipe, ids, { decoded, window, windows }) {
    const model = await file.read((source) => this.#compressed(source, file.config, recipe));
    const prompt = Uint32Array.from(ids.slice(0, Math.max(2, model.info().offset)));
    const whole = Uint32Array.from(ids.slice(0, window));
    return {
      name: this.title(recipe),
      build: this.label,
      recipe,
      decode: async () => {
        // One more at the end: the last token of a generation is not taken in any more.
        const generator = model.generate(prompt, { maxTokens: decoded + 2 });
        await generator.step(1);
        const timed = await clock(decoded, async () => {
          for (let left = decoded; left > 0; ) left -= (await generator.step(Math.min(left, STEP))).length;
        });
        generator.free();
        return timed;
      },
      prefill: () =>
        clock(window * windows, async () => {
          for (let i = 0; i < windows; i++) {
            const generator = model.generate(whole, {});
            await generator.prefill();
            generator.free();
          }
        }),
      release: () => model.free(),
    };
  }

  async #compressed(source, config, recipe) {
    const checkpoint = this.#open(source, config);
    if (recipe === "none") return this.#load(checkpoint);
    const chunks = [];
    await finish(checkpoint.compress(recipeOf(recipe), { write: (bytes) => chunks.push(Buffer.from(bytes)) }));
    checkpoint.free();
    const bytes = Buffer.concat(chunks);
    const produced = {
      size: bytes.length,
      readAt: (offset, buffer) => buffer.set(bytes.subarray(offset, offset + buffer.length)),
    };
    return this.#load(this.#wasm.Checkpoint.open(produced, {}));
  }

  async #load(checkpoint) {
    const backend = await this.#wasm.Backend.choose("cpu", {});
    const model = await finish(checkpoint.load(backend));
    backend.free();
    checkpoint.free();
    return model;
  }
}

async function finish(job) {
  while ((await job.step()) !== undefined);
  return job.finish();
}

/**
 * Seconds that this process was running: what it took by the clock, less what others took of the core
 * meanwhile. (CPU time above it is the engine's compiler at work on another core.)
 */
export async function clock(tokens, work) {
  const start = performance.now();
  const used = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(used);
  return { tokens, seconds: Math.min((performance.now() - start) / 1000, (user + system) / 1e6) };
}
