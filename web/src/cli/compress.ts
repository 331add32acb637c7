// The command compress: one checkpoint to a file, a FIFO or standard output; several into a folder.

import { checkFormat } from "../api/formats.js";
import { type Checkpoint, type Report, recipes, recover, StatepressError, stepsBefore } from "../api/node.js";
import { presetOf } from "../api/presets.js";
import { type TargetOptions, writeTarget } from "../api/target.js";
import { UsageError } from "./args.js";
import type { Run } from "./command.js";
import { type Destination, destinations, writeStandardOutput } from "./destinations.js";
import { calibrationOf, ofRecipe, readRecipe, readTokens, type Tokens } from "./files.js";
import { each, running, withCheckpoint } from "./opened.js";
import { changed, firstSteps, needsText } from "./recipes.js";
import { find } from "./search.js";
import * as show from "./show.js";

export async function compress(run: Run, files: string[]): Promise<number> {
  const { args } = run;
  const format = checkFormat(args.one("format"));
  const out = args.need("output");
  const asked = args.text("recipe");
  const recipe = asked === undefined ? undefined : await readRecipe(asked, run.signal);
  const calibration = await readTokens(run, "calibrate", "calibrate-ids");
  if (args.flag("compensate") && !calibration) {
    throw new UsageError("--compensate needs a text for the model to read: --calibrate TEXT or --calibrate-ids BIN");
  }
  if (args.flag("gradients") && !calibration) {
    throw new UsageError("--gradients are taken over a text: --calibrate TEXT or --calibrate-ids BIN");
  }
  const healing = await readTokens(run, "recover", "recover-ids");
  if (args.flag("steps") && !healing) throw new UsageError("--steps are those of --recover TEXT or --recover-ids BIN");
  const preset = presetOf(recipe);
  if (preset && healing) throw new UsageError(`--recover goes with a recipe, not with the search ${preset.name}`);
  if (preset && !calibration) {
    const need = "a text for the model to read: --calibrate TEXT or --calibrate-ids BIN";
    throw new UsageError(`--recipe ${preset.name} is searched for by measuring, which needs ${need}`);
  }
  const first = firstSteps(run, calibration !== undefined);
  for (const step of calibration ? [] : first) {
    if (!("prune" in step && needsText(step.prune))) continue;
    const need = "a text to fit to: --calibrate TEXT or --calibrate-ids BIN";
    throw new UsageError(`--prune ${step.prune.kind} needs ${need}`);
  }
  // Said before the work rather than after it.
  const places = await destinations(run, files, out, format);
  return each(run, files, (file) =>
    withCheckpoint(run, file, async (checkpoint) => {
      run.output.findings(checkpoint.inspection.findings);
      const place = places.get(file);
      if (!place) throw new StatepressError("internal", `${file} has no destination`);
      if (preset && calibration) {
        const steps = stepsBefore(checkpoint.inspection, first);
        const asked = { ...preset.search, first: steps, gradients: args.flag("gradients") };
        await find(run, checkpoint, { ...asked, calibration: calibrationOf(calibration, checkpoint) }, place);
        return;
      }
      const taken = recipe ?? (await recommended(run, checkpoint));
      await one(run, checkpoint, await changed(run, taken, first), place, { calibration, healing });
    }),
  );
}

async function one(
  run: Run,
  checkpoint: Checkpoint,
  recipe: Awaited<ReturnType<typeof readRecipe>>,
  place: Destination,
  { calibration, healing }: { calibration: Tokens | undefined; healing: Tokens | undefined },
): Promise<void> {
  const { args, output } = run;
  const { file, reportFile } = place;
  const produced = await ofRecipe(
    args.text("recipe"),
    checkpoint.compress(recipe, {
      ...running(run),
      beside: file,
      calibration: calibration && calibrationOf(calibration, checkpoint),
      gradients: args.flag("gradients"),
    }),
  );
  const compressed = healing ? await healed(run, checkpoint, produced, healing, file) : produced;
  try {
    const { report } = compressed;
    if (!report) throw new StatepressError("internal", "compressing left no report");
    output.findings(report.findings);
    await save(run, compressed, report, place);
    const result = {
      ...report,
      ...(file !== undefined && { file }),
      ...(reportFile !== undefined && { reportFile }),
    };
    output.result(result, () => show.compressed(report, file ?? "standard output", reportFile));
  } finally {
    compressed.dispose();
  }
}

/** Trains what no codes stand for; what was compressed is let go. */
async function healed(
  run: Run,
  original: Checkpoint,
  produced: Checkpoint,
  healing: Tokens,
  beside: string | undefined,
): Promise<Checkpoint> {
  try {
    return await recover(original, produced, {
      ...running(run),
      text: calibrationOf(healing, original),
      steps: run.args.number("steps"),
      onPoint: (point) => run.output.note(show.look(point)),
      beside,
    });
  } finally {
    produced.dispose();
  }
}

/** Writes the file and its report. */
export async function save(
  { args, signal }: Run,
  compressed: Checkpoint,
  report: Report,
  place: Destination,
): Promise<void> {
  const { file, reportFile, inputs } = place;
  const force = args.flag("force");
  await compressed.save(file ?? new WritableStream({ write: writeStandardOutput }), { force, signal });
  if (reportFile !== undefined) await writeJson(reportFile, report, { force, inputs, signal });
}

/** Writes a value as a JSON file. */
export async function writeJson(path: string, value: unknown, options: TargetOptions): Promise<void> {
  await writeTarget(path, options, [new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`)]);
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
