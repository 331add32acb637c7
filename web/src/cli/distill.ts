// The command distill: a student is made of a teacher, trained, and written.

import { resolve } from "node:path";
import { checkFormat } from "../api/formats.js";
import {
  type Checkpoint,
  type DistillOptions,
  distill as distilled,
  type ResumeOptions,
  StatepressError,
} from "../api/node.js";
import { checkTarget, writeTarget } from "../api/target.js";
import { STANDARD, UsageError } from "./args.js";
import type { Run } from "./command.js";
import { save } from "./compress.js";
import { destinations } from "./destinations.js";
import { calibrationOf, readBytes, readTokens } from "./files.js";
import { running, withCheckpoint } from "./opened.js";
import { pruning } from "./recipes.js";
import * as show from "./show.js";

export async function distill(run: Run, file: string): Promise<number> {
  const { args, output } = run;
  const out = args.need("output");
  const training = await (args.flag("resume") ? goneOn(run) : begun(run));
  const place = (await destinations(run, [file], out, checkFormat(undefined))).get(file);
  if (!place) throw new StatepressError("internal", `${file} has no destination`);
  const texts = (["text", "ids", "held-out", "held-out-ids"] as const).map((name) => args.text(name));
  const read = texts.flatMap((it) => (it === undefined || it === STANDARD ? [] : [it]));
  const snapshots = await keeping(run, [...place.inputs, ...read]);
  await withCheckpoint(run, file, async (teacher) => {
    output.findings(teacher.inspection.findings);
    const made = await distilled(teacher, {
      ...training(teacher),
      onPoint: (point) => output.note(show.look(point)),
      ...snapshots.options,
      backend: args.one("backend"),
      beside: place.beside,
      ...running(run),
    }).finally(snapshots.written);
    try {
      const { report } = made;
      if (!report?.training) throw new StatepressError("internal", "training left no report");
      output.findings(report.findings);
      await save(run, made, report, place);
      const { training, ...written } = report;
      const { file: path, reportFile } = place;
      const paths = { ...(path !== undefined && { file: path }), ...(reportFile !== undefined && { reportFile }) };
      // The seconds are those of training: writing takes none.
      const result = { ...written, ...training, ...paths };
      output.result(result, () => show.trained(report, training, place.file ?? "standard output"));
    } finally {
      made.dispose();
    }
  });
  return 0;
}

/** What is asked of a teacher that is opened. */
type Training = (teacher: Checkpoint) => DistillOptions | ResumeOptions;

/** A training that begins. */
async function begun(run: Run): Promise<Training> {
  const { args } = run;
  const student = pruning(args, "student", true);
  if (student.length === 0) {
    throw new UsageError("what makes the student smaller is needed: --student inner=0.5, --student width=0.5, ...");
  }
  const text = await readTokens(run, "text", "ids");
  if (!text) throw new UsageError("a text to train on is needed: --text FILE or --ids BIN");
  const heldOut = await readTokens(run, "held-out", "held-out-ids");
  return (teacher) => ({
    student,
    init: args.one("init"),
    text: calibrationOf(text, teacher),
    heldOut: heldOut && calibrationOf(heldOut, teacher),
    steps: args.number("steps"),
    minutes: args.number("minutes"),
    batch: args.number("batch"),
    window: args.number("window"),
    alpha: args.number("alpha"),
    temperature: args.number("temperature"),
    learningRate: args.number("learning-rate"),
    patience: args.number("patience"),
    seed: args.number("seed"),
  });
}

/** What a snapshot says. */
const OF_THE_SNAPSHOT = [
  ...(["student", "init", "text", "ids", "held-out", "held-out-ids", "steps", "minutes", "batch", "window"] as const),
  ...(["alpha", "temperature", "learning-rate", "patience", "seed"] as const),
];

/** A training that goes on. */
async function goneOn(run: Run): Promise<Training> {
  const more = OF_THE_SNAPSHOT.find((name) => run.args.flag(name));
  if (more) throw new UsageError(`--${more} goes with a training that begins: --resume goes on with one as it began`);
  const resume = await readBytes(run.args.need("resume"), run.signal);
  return () => ({ resume });
}

/** Keeps snapshots in the file that is named, if one is: the last that is whole. One that cannot be written ends no training. */
async function keeping({ args, output }: Run, inputs: readonly string[]) {
  const file = args.text("snapshot");
  let writing: Promise<void> = Promise.resolve();
  const written = () => writing;
  if (file === undefined) return { options: {}, written };
  if (resolve(file) === resolve(args.need("output"))) {
    throw new UsageError("--snapshot and --output name the same file");
  }
  const target = { force: true, inputs };
  await checkTarget(file, { ...target, force: args.flag("force") || file === args.text("resume") });
  const onSnapshot = (bytes: Uint8Array) => {
    const write = () => writeTarget(file, target, [bytes]);
    writing = writing.then(write).catch(({ message }: Error) => {
      output.findings([{ level: "warning", code: "no-snapshot", message: `training goes on, but: ${message}` }]);
    });
  };
  return { options: { onSnapshot }, written };
}
