// The commands that run a model for what it says: generate, logits.

import { writeTarget } from "../api/target.js";
import { idList, STANDARD, UsageError } from "./args.js";
import type { Run } from "./command.js";
import { checkOutput, filesOf, writeStandardOutput } from "./destinations.js";
import { readText, safetensors } from "./files.js";
import { load, withCheckpoint } from "./opened.js";
import * as show from "./show.js";

export async function generate(run: Run, file: string): Promise<number> {
  const { args, output, signal } = run;
  const text = args.text("prompt");
  const listed = args.text("prompt-ids");
  if ((text === undefined) === (listed === undefined)) {
    throw new UsageError(`either --prompt or --prompt-ids is needed${text === undefined ? "" : ", not both"}`);
  }
  const prompt =
    text === undefined ? await listedIds("prompt-ids", listed ?? "", signal) : await promptOf(text, signal);
  const backend = args.one("backend");
  const options = {
    maxTokens: args.number("max-tokens"),
    temperature: args.number("temperature"),
    topK: args.number("top-k"),
    seed: args.number("seed"),
    signal,
  };
  await withCheckpoint(run, file, async (checkpoint) => {
    output.findings(checkpoint.inspection.findings);
    const model = await load(run, checkpoint, backend);
    // On a terminal the text appears as it is made.
    const live = !output.json && process.stdout.isTTY;
    if (live && typeof prompt === "string") process.stdout.write(prompt);
    const made = { text: "", ids: [] as number[] };
    const tokens = model.generate(prompt, options);
    for (;;) {
      const next = await tokens.next();
      if (next.done) {
        output.findings(next.value.findings);
        const result = { ...(typeof prompt === "string" && { prompt }), ...made, ...next.value };
        if (live) process.stdout.write("\n");
        output.result(result, () => show.generated(result, live));
        return;
      }
      made.text += next.value.text;
      made.ids.push(next.value.id);
      if (live) process.stdout.write(next.value.text);
    }
  });
  return 0;
}

// On standard input a text ends with the end of its last line, which is not part of it.
async function promptOf(text: string, signal: AbortSignal): Promise<string> {
  return text === STANDARD ? (await readText(STANDARD, signal)).replace(/\r?\n$/, "") : text;
}

async function listedIds(option: "ids" | "prompt-ids", list: string, signal: AbortSignal): Promise<Uint32Array> {
  return idList(option, list === STANDARD ? await readText(STANDARD, signal) : list);
}

export async function logits(run: Run, file: string): Promise<number> {
  const { args, output, signal } = run;
  const backend = args.one("backend");
  const out = args.need("output");
  const ids = await listedIds("ids", args.need("ids"), signal);
  const force = args.flag("force");
  const inputs = await filesOf(file);
  await checkOutput(run, out, "safetensors", inputs);
  await withCheckpoint(run, file, async (checkpoint) => {
    output.findings(checkpoint.inspection.findings);
    const model = await load(run, checkpoint, backend);
    const { data, shape } = await model.logits(ids);
    const bytes = safetensors("logits", data, shape);
    if (out === STANDARD) await writeStandardOutput(bytes);
    else await writeTarget(out, { force, inputs, signal }, [bytes]);
    const result = { shape, backend: model.backend.name, ...(out !== STANDARD && { file: out }) };
    const where = out === STANDARD ? "standard output" : out;
    output.result(result, () => `logits [${shape.join(", ")}] F32 written to ${where}`);
  });
  return 0;
}
