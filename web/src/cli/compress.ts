// The command compress: one checkpoint to a file, a FIFO or standard output; several into a folder.

import { join } from "node:path";
import { checkFormat, type Format } from "../api/formats.js";
import {
  type Checkpoint,
  type RecipeInput,
  type Report,
  recipes,
  StatepressError,
  type StepDraft,
  stepsBefore,
  type Written,
} from "../api/node.js";
import { type Preset, presetOf } from "../api/presets.js";
import { type TargetOptions, writeTarget } from "../api/target.js";
import { UsageError } from "./args.js";
import type { Run } from "./command.js";
import { checkExportable, type Destination, destinations, writeStandardOutput } from "./destinations.js";
import { calibrationOf, ofRecipe, readRecipe, readTokens, type Tokens } from "./files.js";
import { peakBytes } from "./memory.js";
import { each, running, withCheckpoint, workersOf } from "./opened.js";
import { changed, checkTraining, firstSteps, needsText, TRAINING } from "./recipes.js";
import { find } from "./search.js";
import * as show from "./show.js";

/** What is to be made of a checkpoint, whichever it is. */
export interface Asked {
  format: Format;
  /** Undefined: as is advised. */
  recipe: RecipeInput | undefined;
  preset: Preset | undefined;
  /** Steps before those of the recipe. */
  first: StepDraft[];
  calibration: Tokens | undefined;
  healing: Tokens | undefined;
}

export async function compress(run: Run, files: string[]): Promise<number> {
  const { args } = run;
  const out = args.need("output");
  const { format, recipe, preset, first, calibration, healing } = await askedFor(run);
  if (args.one("backend") !== undefined && !healing) {
    throw new UsageError(
      "--backend goes with --recover: all else is computed by the CPU, so that bytes are the same everywhere",
    );
  }
  // Said before the work rather than after it.
  const places = await destinations(run, files, out, format);
  return each(run, files, (file) =>
    withCheckpoint(run, file, async (checkpoint) => {
      run.output.findings(checkpoint.inspection.findings);
      const place = places.get(file);
      if (!place) throw new StatepressError("internal", `${file} has no destination`);
      await checkExportable(run, checkpoint, format);
      if (preset && calibration) {
        const steps = stepsBefore(checkpoint.inspection, first);
        const asked = {
          ...preset.search,
          first: steps,
          gradients: args.flag("gradients"),
          workers: workersOf(args),
        };
        await find(run, checkpoint, { ...asked, calibration: calibrationOf(calibration, checkpoint) }, place);
        return;
      }
      const taken = recipe ?? (await recommended(run, checkpoint));
      await one(run, checkpoint, await changed(run, taken, first), place, { calibration, healing });
    }),
  );
}

/** Reads the options that say what is to be made, and what they name. Wrong usage is an error before any work. */
export async function askedFor(run: Run): Promise<Asked> {
  const { args } = run;
  const format = formatOf(run);
  // Codes would be rounded once more, or made floats of again: for another tool the weights go as they are.
  const asked = args.text("recipe") ?? (format === "safetensors" ? undefined : "none");
  const recipe = asked === undefined ? undefined : await readRecipe(asked, run.signal);
  const calibration = await readTokens(run, "calibrate", "calibrate-ids");
  if (args.flag("compensate") && !calibration) {
    throw new UsageError("--compensate needs a text for the model to read: --calibrate TEXT or --calibrate-ids BIN");
  }
  if (args.flag("gradients") && !calibration) {
    throw new UsageError("--gradients are taken over a text: --calibrate TEXT or --calibrate-ids BIN");
  }
  const healing = await readTokens(run, "recover", "recover-ids");
  checkTraining(run, recipe, healing !== undefined);
  for (const name of TRAINING) {
    if (args.flag(name) && !healing) throw new UsageError(`--${name} goes with --recover TEXT or --recover-ids BIN`);
  }
  const preset = presetOf(recipe);
  if (preset && healing) throw new UsageError(`--recover goes with a recipe, not with the search ${preset.name}`);
  if (preset && !calibration) {
    const need = "a text for the model to read: --calibrate TEXT or --calibrate-ids BIN";
    throw new UsageError(`--recipe ${preset.name} is searched for by measuring, which needs ${need}`);
  }
  const first = firstSteps(run, calibration !== undefined);
  for (const step of calibration ? [] : first) {
    const fits = "prune" in step ? needsText(step.prune) && `--prune ${step.prune.kind}` : "basis" in step && "--basis";
    if (!fits) continue;
    throw new UsageError(`${fits} needs a text for the model to read: --calibrate TEXT or --calibrate-ids BIN`);
  }
  return { format, recipe, preset, first, calibration, healing };
}

/** The format that is asked for. */
export function formatOf({ args }: Run): Format {
  const format = checkFormat(args.one("format"));
  if (format !== "gguf" && args.flag("gguf-type")) throw new UsageError("--gguf-type goes with --format gguf");
  if (format !== "plain" && args.flag("layout")) throw new UsageError("--layout goes with --format plain");
  return format;
}

async function one(
  run: Run,
  checkpoint: Checkpoint,
  recipe: Awaited<ReturnType<typeof readRecipe>>,
  place: Destination,
  { calibration, healing }: { calibration: Tokens | undefined; healing: Tokens | undefined },
): Promise<void> {
  const { args, output } = run;
  const { file, beside, reportFile } = place;
  const compressed = await ofRecipe(
    args.text("recipe"),
    checkpoint.compress(recipe, {
      ...running(run),
      beside,
      calibration: calibration && calibrationOf(calibration, checkpoint),
      gradients: args.flag("gradients"),
      recover: healing && {
        text: calibrationOf(healing, checkpoint),
        onPoint: (point) => output.note(show.look(point)),
        backend: args.one("backend"),
      },
      workers: workersOf(args),
    }),
  );
  try {
    const { report } = compressed;
    if (!report) throw new StatepressError("internal", "compressing left no report");
    output.findings(report.findings);
    // Where nothing is done, what our own layout has no place for stays: blocks from GGUF to GGUF, and every key of the original.
    const stays = place.format === "gguf" ? checkpoint.inspection.format === "gguf" : args.one("layout") === "original";
    const taken = stays && report.recipe.steps.length === 0 ? checkpoint : compressed;
    const exported = await save(run, taken, report, place);
    const result = {
      ...report,
      ...written(place, exported),
      ...(file !== undefined && { file }),
      ...(reportFile !== undefined && { reportFile }),
      checkpoint: original(checkpoint),
      peakBytes: peakBytes(),
    };
    output.result(result, () => show.compressed(report, file ?? "standard output", reportFile, exported));
  } finally {
    compressed.dispose();
  }
}

/** Writes the file and its report; answers with what was written for another tool, where it is for one. */
export async function save(
  { args, output, signal }: Run,
  compressed: Checkpoint,
  report: Report,
  place: Destination,
): Promise<Written | undefined> {
  const { file, format, reportFile, inputs } = place;
  const force = args.flag("force");
  let exported: Written | undefined;
  await compressed.save(file ?? new WritableStream({ write: writeStandardOutput }), {
    format,
    ggufType: args.one("gguf-type"),
    layout: args.one("layout"),
    onProgress: output.progress,
    onExport: (it) => {
      exported = it;
      output.findings(it.findings);
    },
    force,
    signal,
  });
  const whole = { ...report, ...(exported && { exported }) };
  if (reportFile !== undefined) await writeJson(reportFile, whole, { force, inputs, signal });
  return exported;
}

/** What a result says of the files it is in. */
export function written({ file, format }: Destination, exported: Written | undefined): object {
  const inside = exported?.files?.map((name) => join(file ?? "", name));
  return { format, files: inside ?? (file === undefined ? [] : [file]), ...(exported && { exported }) };
}

/** What a result says of the checkpoint that it was made of. */
export function original({ inspection: { family, params, findings } }: Checkpoint): object {
  return { family, params, findings };
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
