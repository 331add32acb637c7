// Recovery: what was compressed is trained to predict as the original does; by itself, or as the last step of a recipe.

import { checkOptions } from "./check.js";
import type { Checkpoint } from "./checkpoint.js";
import { quantizes, readsText } from "./coded.js";
import { compareBy } from "./compare.js";
import type { Environment } from "./environment.js";
import { badOption } from "./errors.js";
import { keepingFirstSteps } from "./first-steps.js";
import { fisherOf } from "./gradients.js";
import { type CompressOptions, present, type RecipeDraft, type RecoverOptions } from "./options.js";
import { type Read, textsOf, train } from "./training.js";
import type { CompressReport } from "./types/statepress.js";
import { Workers } from "./workers.js";

/** What the weights that are asked for are called where they are trained. */
const TRAINS = { vectors: "vectors", all: "rounded" } as const;

/**
 * Trains a compressed checkpoint to predict as the original does: what no codes stand for, which costs next to nothing and
 * leaves every code (norms, biases, and how states decay, skip and step), or all weights as their codes can hold them.
 */
export async function recover(
  environment: Environment,
  pair: [Checkpoint, Checkpoint],
  options: RecoverOptions,
): Promise<Checkpoint> {
  const { weights = "vectors" } = options;
  if (!Object.hasOwn(TRAINS, weights)) throw badOption("weights", String(weights), Object.keys(TRAINS).join(", "));
  const read = await textsOf(environment, pair[0], options);
  try {
    return await recovered(environment, pair, read, options);
  } finally {
    await read.host.call("release", { handle: read.original }).catch(() => {});
  }
}

/** The same, once the texts are read. */
async function recovered(
  environment: Environment,
  [original, compressed]: [Checkpoint, Checkpoint],
  read: Read,
  options: RecoverOptions,
  workers?: Workers,
): Promise<Checkpoint> {
  const { weights = "vectors", uncoded, signal, onProgress } = options;
  const { host, heldOut, findings } = read;
  const trains = TRAINS[weights];
  const opened: number[] = [];
  const open = async ({ opening }: Checkpoint) => {
    const { checkpoint } = await host.call("open", opening, { signal });
    opened.push(checkpoint);
    return checkpoint;
  };
  try {
    const how = { trains, ...(uncoded && { uncoded: await open(uncoded) }) };
    // Nothing is to be learned but what the original knows, and there is little to move; codes by the bits that they have.
    const { alpha = 1, learningRate = trains === "vectors" ? 1e-3 : undefined } = options;
    const asked = { ...read.asked, alpha, ...present({ learningRate }, "learningRate") };
    const student = await open(compressed);
    const { opened: made, report } = await train(environment, { ...read, asked }, student, how, options);
    const before = compressed.report;
    const told = [...findings, ...(before?.findings ?? []), ...report.findings];
    const healed = compressed.made({
      ...made,
      report: { ...report, ...before, ...written(report, before, trains), findings: told },
    });
    const kl = async (it: Checkpoint) => {
      const how = { ids: heldOut, backend: "cpu" as const, signal, onProgress };
      return (await compareBy(environment, original, it, how, workers)).kl.mean;
    };
    try {
      const measured = {
        klBefore: await kl(compressed),
        klAfter: await kl(healed),
        bytesBefore: compressed.inspection.bytes,
        bytesAfter: healed.inspection.bytes,
        ...present(report.training, "codesChanged"),
      };
      // The file says what made it, training included.
      const { recipe = report.recipe } = healed.inspection;
      return healed.reporting({ recipe, training: report.training, recovered: measured });
    } catch (error) {
      healed.dispose();
      throw error;
    }
  } finally {
    for (const handle of opened) await host.call("release", { handle }).catch(() => {});
  }
}

// In place of what a report said before training: bytes as they are now, and no rounding errors of codes that were trained since.
function written(
  report: CompressReport,
  before: CompressReport | undefined,
  trains: "rounded" | "vectors",
): Partial<CompressReport> {
  const now = new Map(report.tensors.map((it) => [it.name, it]));
  const tensors = before?.tensors.map((it) => {
    const { error, ...kept } = it;
    const { bytesAfter } = now.get(it.name) ?? it;
    return { ...kept, bytesAfter, ...(error && trains === "vectors" && { error }) };
  });
  return { fileBytes: report.fileBytes, bytes: report.bytes, ...(tensors && { tensors }) };
}

/** Carries out a recipe whose last step trains, as `compress` does. */
export async function compressAndRecover(
  environment: Environment,
  checkpoint: Checkpoint,
  draft: RecipeDraft,
  { recover: asked, ...options }: CompressOptions,
  lent?: Workers,
): Promise<Checkpoint> {
  // What the recipe is refused for should not be heard after a minute; and what it leaves out is said there.
  const { recipe } = await checkpoint.plan(draft);
  const steps = recipe.steps.slice(0, -1);
  const last = recipe.steps.at(-1);
  if (!last || !("recover" in last)) return checkpoint.compressBy(recipe, options, lent);
  if (!asked) throw badOption("recover", "not given", "an object with the text to train on, as the recipe trains");
  checkOptions("recovery", asked, "the recipe, or compress itself, says the rest");
  const { calibration, gradients, beside, signal, onProgress } = options;
  const running = { signal, onProgress };
  const training = { ...asked, ...last.recover, ...running, beside };
  const read = await textsOf(environment, checkpoint, training);
  const workers = lent ?? new Workers(environment, checkpoint.inspection.params, options.workers);
  const made: Checkpoint[] = [];
  const follow = async (these: RecipeDraft["steps"], how: CompressOptions) => {
    const compressed = await checkpoint.compressBy({ ...recipe, steps: these }, how, workers);
    made.push(compressed);
    return compressed;
  };
  try {
    const input = calibration === undefined ? undefined : checkpoint.tokenizer.input(calibration);
    // Taken once, for all that is followed.
    const fisher = gradients && input && (await fisherOf(environment, checkpoint, gradients, input, running));
    const how = { ...options, gradients: fisher ?? gradients };
    const first = steps.filter((step) => !quantizes(step));
    // Whether codes that are trained were rounded from other numbers than the original's.
    const isChanged = training.weights === "all" && first.length > 0 && first.length < steps.length;
    const { compressed, uncoded } = await keepingFirstSteps(environment, checkpoint, async () => ({
      compressed: await follow(steps, how),
      // Codes begin beside what they were rounded from.
      uncoded: isChanged ? await follow(first, await withoutRounding(checkpoint, first, how)) : undefined,
    }));
    return await recovered(environment, [checkpoint, compressed], read, { ...training, uncoded }, workers);
  } finally {
    for (const it of made) it.dispose();
    if (!lent) await workers.close();
    await read.host.call("release", { handle: read.original }).catch(() => {});
  }
}

/** How the steps before rounding are followed by themselves: some read no text, and take none. */
async function withoutRounding(
  checkpoint: Checkpoint,
  steps: RecipeDraft["steps"],
  how: CompressOptions,
): Promise<CompressOptions> {
  if (readsText(await checkpoint.plan({ version: 1, name: "first", steps }))) return how;
  const { calibration, gradients, ...without } = how;
  return without;
}
