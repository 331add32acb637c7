// The commands over the library: what each takes, does and shows. Anything they can do, the library can.

import { writeFile } from "node:fs/promises";
import {
  type Checkpoint,
  compare,
  compareByText,
  type Model,
  open,
  qualityCard,
  recipes,
  StatepressError,
  tokensDiffer,
} from "../api/node.js";
import { hasOffset } from "../api/offset.js";
import { checkTarget, place } from "../api/place.js";
import { type Args, idList, UsageError } from "./args.js";
import type { Run } from "./command.js";
import { readIds, readRecipe, readText, safetensors } from "./files.js";
import * as show from "./show.js";
import { tensor } from "./tensor.js";

// Opens FILE, and closes it when the command is done with it.
async function withCheckpoint<T>(
  { args, signal }: Run,
  path: string,
  use: (checkpoint: Checkpoint) => Promise<T>,
  tokenizer = args.text("tokenizer"),
): Promise<T> {
  const checkpoint = await open(path, { tokenizer, set: args.fields(), signal });
  try {
    return await use(checkpoint);
  } finally {
    checkpoint.dispose();
  }
}

const running = ({ output, signal }: Run) => ({ signal, onProgress: output.progress });

const backend = (args: Args) => args.one("backend", "auto", "cpu", "webgpu");

const backendB = (args: Args) => args.one("backend-b", "auto", "cpu", "webgpu") ?? backend(args);

// Loads a model; which GPU computes, and what that offers, is said.
async function load(run: Run, checkpoint: Checkpoint, wanted = backend(run.args)): Promise<Model> {
  const model = await checkpoint.load({ backend: wanted, ...running(run) });
  const { adapter } = model.backend;
  if (adapter) run.output.note(`GPU: ${show.adapter(adapter)}`);
  return model;
}

const protocol = (args: Args) => ({
  window: args.count("window"),
  limit: args.count("limit"),
  offset: args.text("offset") === "detect" ? ("detect" as const) : args.count("offset"),
});

// The text or the ids that were named; exactly one of the two.
async function evaluated(args: Args, vocabSize: number): Promise<{ text: string } | { ids: Uint32Array }> {
  const text = args.text("text");
  const ids = args.text("ids");
  if ((text === undefined) === (ids === undefined)) throw new UsageError("either --text or --ids is needed");
  if (text !== undefined) return { text: await readText(text) };
  return { ids: await readIds(ids ?? "", args.one("ids-type", "u16", "u32"), vocabSize) };
}

export async function inspect(run: Run, file: string): Promise<void> {
  const { args, output, signal } = run;
  const name = args.text("tensor");
  const options = {
    bins: args.count("bins"),
    precisions: args.some("precision", "fp32", "fp16", "bf16", "int8", "int4", "nf4"),
    signal,
  };
  for (const option of ["bins", "precision"] as const) {
    if (name === undefined && args.text(option) !== undefined) throw new UsageError(`--${option} needs --tensor`);
  }
  await withCheckpoint(run, file, async (checkpoint) => {
    const { inspection } = checkpoint;
    output.findings(inspection.findings);
    if (name === undefined) {
      output.result(inspection, () => show.inspection(inspection));
      return;
    }
    const view = await checkpoint.tensor(name, options);
    output.findings([...view.findings, ...view.coded.flatMap(({ findings }) => findings)]);
    output.result(view, () => tensor(view));
  });
}

export async function advise(run: Run, file: string): Promise<void> {
  const { args, output } = run;
  const options = {
    target: args.one("target", "gpu", "cpu", "edge"),
    maxLoss: args.number("max-loss"),
    maxSize: args.count("max-size"),
  };
  await withCheckpoint(run, file, async (checkpoint) => {
    const advice = await checkpoint.advise(options);
    output.findings([...checkpoint.inspection.findings, ...advice.findings]);
    output.result(advice, () => show.advice(advice));
  });
}

export async function plan(run: Run, file: string): Promise<void> {
  const recipe = await readRecipe(run.args.need("recipe"));
  await withCheckpoint(run, file, async (checkpoint) => {
    const planned = await checkpoint.plan(recipe);
    run.output.findings([...checkpoint.inspection.findings, ...planned.findings]);
    run.output.result(planned, () => show.plan(planned));
  });
}

export async function compress(run: Run, file: string): Promise<void> {
  const { args, output } = run;
  const out = args.need("output");
  const reportFile = `${out}.report.json`;
  const force = args.flag("force");
  const format = args.one("format", "safetensors");
  // Said before the work rather than after it.
  await checkTarget(out, force);
  await checkTarget(reportFile, force);
  await withCheckpoint(run, file, async (checkpoint) => {
    output.findings(checkpoint.inspection.findings);
    const asked = args.text("recipe");
    const recipe = asked === undefined ? await recommended(run, checkpoint) : await readRecipe(asked);
    const compressed = await checkpoint.compress(recipe, running(run));
    try {
      const { report } = compressed;
      if (!report) throw new StatepressError("internal", "compressing left no report");
      output.findings(report.findings);
      run.signal.throwIfAborted();
      await compressed.save(out, { format, force });
      const json = JSON.stringify(report, null, 2);
      await place(reportFile, force, (partial) => writeFile(partial, `${json}\n`));
      output.result({ ...report, file: out, reportFile }, () => show.compressed(report, out, reportFile));
    } finally {
      compressed.dispose();
    }
  });
}

// Without --recipe: the first recommendation that is a recipe; which and why is said.
async function recommended({ output }: Run, checkpoint: Checkpoint): Promise<string> {
  const names = new Set((await recipes()).map((recipe) => recipe.name));
  const first = (await checkpoint.advise()).recommended.find(({ recipe }) => names.has(recipe));
  if (!first)
    throw new StatepressError("bad-recipe", "no built-in recipe is recommended for this checkpoint: name one");
  output.note(`recipe: ${first.recipe}, as advised (${first.why})`);
  return first.recipe;
}

export async function evaluate(run: Run, file: string): Promise<void> {
  const { args, output } = run;
  const asked = { ...protocol(args), ...running(run) };
  await withCheckpoint(run, file, async (checkpoint) => {
    output.findings(checkpoint.inspection.findings);
    const model = await load(run, checkpoint);
    const input = await evaluated(args, model.info.vocabSize);
    const evaluation = await model.evaluate("text" in input ? input.text : input.ids, asked);
    output.findings(evaluation.findings);
    output.result(evaluation, () => show.evaluation(evaluation, hasOffset(checkpoint.inspection)));
  });
}

export async function compareFiles(run: Run, a: string, b: string): Promise<void> {
  const { args, output } = run;
  const asked = {
    ratioTarget: args.number("ratio-target"),
    lossTarget: args.number("loss-target"),
    ...protocol(args),
    ...running(run),
  };
  const both = async (base: Checkpoint, other: Checkpoint) => {
    output.findings([...base.inspection.findings, ...other.inspection.findings]);
    const model = await load(run, base);
    const input = await evaluated(args, model.info.vocabSize);
    const second = await load(run, other, backendB(args));
    // Ids are of one vocabulary: only a text can be put through two that differ.
    const why = "text" in input ? tokensDiffer(base, other) : undefined;
    if (why !== undefined) output.note(`compared by text: ${why}`);
    const comparison =
      "text" in input && why !== undefined
        ? await compareByText(model, second, { ...asked, ...input, why })
        : await compare(model, second, { ...asked, ...input });
    output.findings([...comparison.a.findings, ...comparison.b.findings]);
    output.result(comparison, () => show.card(qualityCard(comparison), a, b));
  };
  const tokenizer = args.text("tokenizer-b") ?? args.text("tokenizer");
  await withCheckpoint(run, a, (base) => withCheckpoint(run, b, (other) => both(base, other), tokenizer));
}

export async function generate(run: Run, file: string): Promise<void> {
  const { args, output, signal } = run;
  const text = args.text("prompt");
  const listed = args.text("prompt-ids");
  if ((text === undefined) === (listed === undefined))
    throw new UsageError("either --prompt or --prompt-ids is needed");
  const prompt = text ?? idList("prompt-ids", listed ?? "");
  const options = {
    maxTokens: args.count("max-tokens"),
    temperature: args.number("temperature"),
    topK: args.count("top-k"),
    seed: args.count("seed"),
    signal,
  };
  await withCheckpoint(run, file, async (checkpoint) => {
    output.findings(checkpoint.inspection.findings);
    const model = await load(run, checkpoint);
    // On a terminal the text appears as it is made.
    const live = !output.json && process.stdout.isTTY;
    if (live) process.stdout.write(text ?? "");
    const made = { text: "", ids: [] as number[] };
    const tokens = model.generate(prompt, options);
    for (;;) {
      const next = await tokens.next();
      if (next.done) {
        output.findings(next.value.findings);
        const result = { prompt: text, ...made, ...next.value };
        if (live) process.stdout.write("\n");
        output.result(result, () => show.generated(result, live));
        return;
      }
      made.text += next.value.text;
      made.ids.push(next.value.id);
      if (live) process.stdout.write(next.value.text);
    }
  });
}

export async function logits(run: Run, file: string): Promise<void> {
  const { args, output } = run;
  const ids = idList("ids", args.need("ids"));
  const out = args.need("output");
  const force = args.flag("force");
  await checkTarget(out, force);
  await withCheckpoint(run, file, async (checkpoint) => {
    output.findings(checkpoint.inspection.findings);
    const model = await load(run, checkpoint);
    const { data, shape } = await model.logits(ids);
    await place(out, force, (partial) => writeFile(partial, safetensors("logits", data, shape)));
    const result = { shape, backend: model.backend.name, file: out };
    output.result(result, () => `logits [${shape.join(", ")}] F32 written to ${out}`);
  });
}

export async function bench(run: Run, file: string): Promise<void> {
  const { args, output } = run;
  const recipe = await readRecipe(args.text("recipe") ?? "int8");
  await withCheckpoint(run, file, async (checkpoint) => {
    output.findings(checkpoint.inspection.findings);
    const model = await load(run, checkpoint);
    const speed = await model.bench({ repeats: args.count("repeats"), explain: args.flag("explain"), ...running(run) });
    const compressed = await checkpoint.compress(recipe, running(run));
    const report = compressed.report;
    compressed.dispose();
    if (!report) throw new StatepressError("internal", "compressing left no report");
    const result = {
      ...speed,
      compressBytesPerSecond: report.bytes.before / report.seconds,
      recipe: report.recipe.name,
    };
    output.result(result, () => show.bench(result));
  });
}

export async function listRecipes(run: Run): Promise<void> {
  const all = await recipes();
  run.output.result({ recipes: all }, () => show.recipes(all));
}
