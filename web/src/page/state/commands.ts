// The same job elsewhere: as a command line, as a Node script, and how other tools load the file.

import type { Recipe } from "statepress";
import { hasOffset } from "./fields.js";
import { pruneOption } from "./pruning.js";
import { readsText, recoveryOf, roundsByText } from "./recipes.js";
import type { Opened, OtherRun, RecipeRun, Run, Source, Wanted, WantedTarget } from "./state.js";

/** The command line of a checkout: the package is in no registry. */
const COMMAND = "./pkg-scripts/statepress";

/** What the commands are about. */
interface Job {
  checkpoint: Opened;
  run: RecipeRun;
  builtin: boolean;
}

/** The file in which a recipe is taken along. A name that came with a link is a stranger's: no shell or path in it. */
export function recipeFile({ name }: Recipe): string {
  return `${name.replace(/[^\w+-]+/g, "-").replace(/^-+/, "")}.json`;
}

/** One line for a shell, and one more that measures. */
export function commandLine(job: Job): string {
  const { checkpoint, run } = job;
  const text = quoted(textFileOf(run));
  const comparing = `compare ${quoted(pathOf(checkpoint))} ${run.file.name} --text ${text}${secondOption(run)}`;
  const options = `${tokenizerOf("--tokenizer", checkpoint)}${optionsOf(checkpoint, run).join("")}${setOf(checkpoint)}`;
  return `${producing(job, run.file.name)}\n${COMMAND} ${comparing}${options}`;
}

/** The line for a shell that writes the same for another tool. */
export function exportLine(
  job: Job,
  out: string,
  { format, ggufType, layout }: { format: string; ggufType?: string | undefined; layout?: string | undefined },
): string {
  const how = [ggufType && ` --gguf-type ${ggufType}`, layout && ` --layout ${layout}`];
  return `${producing(job, out)} --format ${format}${how.filter((it) => it !== undefined).join("")}`;
}

function producing({ checkpoint, run, builtin }: Job, out: string): string {
  const recipe = builtin ? run.report.recipe.name : recipeFile(run.report.recipe);
  const read = calibrationFileOf(run);
  const gradients = run.asked.calibration.gradients ? " --gradients" : "";
  const tokenizer = tokenizerOf("--tokenizer", checkpoint);
  const uses = usesOf(run);
  const reading = read === undefined ? "" : quoted(read);
  const calibrate = uses.calibration ? ` --calibrate ${reading}${gradients}` : "";
  const recover = uses.recover ? ` --recover ${reading}` : "";
  const texts = read === undefined ? "" : `${calibrate}${recover}${tokenizer}`;
  const files = `${quoted(pathOf(checkpoint))} -o ${out}`;
  // A search judges its recipes by a part of the text that compressing alone would read as well.
  const how = run.wanted ? `search ${files}${searchOptions(run.wanted)}` : `compress ${files} --recipe ${recipe}`;
  return `${COMMAND} ${how}${texts}${setOf(checkpoint)}`;
}

function setOf({ given }: Opened): string {
  return Object.entries(given)
    .map(([field, value]) => ` --set ${field}=${value}`)
    .join("");
}

function goalOf(target: WantedTarget): string {
  if ("ratio" in target) return `--budget ${target.ratio}x`;
  if ("bytes" in target) return `--budget ${target.bytes}`;
  return "maxLoss" in target ? `--max-loss ${target.maxLoss}` : `--max-kl ${target.maxKl}`;
}

function searchOptions({ target, fast, coded, first }: Wanted): string {
  const goal = goalOf(target);
  const pruned = pruneOption(first);
  const prune = pruned === "" ? "" : ` --prune ${pruned}`;
  return ` ${goal}${fast ? " --fast" : ""}${coded ? " --coded" : ""}${prune}`;
}

/** One line for a shell that compares two models. */
export function compareLine(checkpoint: Opened, run: OtherRun): string {
  const [a, b] = [checkpoint, run.other].map((it) => quoted(pathOf(it)));
  const tokenizers = `${tokenizerOf("--tokenizer", checkpoint)}${tokenizerOf("--tokenizer-b", run.other)}`;
  const text = quoted(textFileOf(run));
  return `${COMMAND} compare ${a} ${b} --text ${text}${secondOption(run)}${tokenizers}${optionsOf(checkpoint, run).join("")}`;
}

/** A script for Node that compares two models. */
export function compareScript(checkpoint: Opened, run: OtherRun): string {
  const call = run.other.apart === undefined ? "compare" : "compareByText";
  const opened = (name: string, it: Source, set: object) => {
    const options = { ...tokenizerOption(it), ...(Object.keys(set).length > 0 && { set }) };
    const given = Object.keys(options).length > 0 ? `, ${JSON.stringify(options)}` : "";
    return `const ${name} = await open(${JSON.stringify(pathOf(it))}${given});`;
  };
  const options = Object.entries(protocolOf(checkpoint, run)).map(
    ([name, value]) => `, ${name}: ${JSON.stringify(value)}`,
  );
  const [reading, second] = secondInScript(run);
  return `import { readFile } from "node:fs/promises";
import { ${call}, open, qualityCard } from "statepress";

${opened("a", checkpoint, checkpoint.given)}
${opened("b", run.other, {})}
const text = await readFile(${JSON.stringify(textFileOf(run))}, "utf8");
${reading}const comparison = await ${call}(a, b, { text${second}${options.join("")} });
console.table(qualityCard(comparison));`;
}

/** A script for Node. */
export function nodeScript(job: Job): string {
  const { checkpoint, run, builtin } = job;
  const recipe = builtin ? JSON.stringify(run.report.recipe.name) : JSON.stringify(run.report.recipe, null, 2);
  const opening = {
    ...tokenizerOption(checkpoint),
    ...(Object.keys(checkpoint.given).length > 0 && { set: checkpoint.given }),
  };
  const given = Object.keys(opening).length > 0 ? `, ${JSON.stringify(opening)}` : "";
  const options = Object.entries(protocolOf(checkpoint, run)).map(
    ([name, value]) => `, ${name}: ${JSON.stringify(value)}`,
  );
  const read = calibrationFileOf(run);
  const uses = usesOf(run);
  const calibration =
    read === undefined ? "" : `const calibration = await readFile(${JSON.stringify(read)}, "utf8");\n`;
  const { wanted } = run;
  const further = [
    ...(uses.calibration ? ["calibration"] : []),
    ...(uses.calibration && run.asked.calibration.gradients ? ["gradients: true"] : []),
    ...(uses.recover ? ["recover: { text: calibration }"] : []),
    ...(wanted?.fast ? ["fast: true"] : []),
    ...(wanted?.coded ? ["coded: true"] : []),
    ...(wanted && wanted.first.length > 0 ? [`first: ${JSON.stringify(wanted.first)}`] : []),
  ].join(", ");
  const how = read === undefined ? "" : `, { ${further} }`;
  const [calls, asked, producing] = wanted
    ? [
        "open, search",
        `target = ${JSON.stringify(wanted.target)}`,
        `{ compressed } = await search(checkpoint, target${how});`,
      ]
    : ["open", `recipe = ${recipe}`, `compressed = await checkpoint.compress(recipe${how});`];
  const [readingSecond, second] = secondInScript(run);
  return `import { readFile } from "node:fs/promises";
import { compare, ${calls} } from "statepress";

const ${asked};
const checkpoint = await open(${JSON.stringify(pathOf(checkpoint))}${given});
${calibration}const ${producing}
await compressed.save(${JSON.stringify(run.file.name)});

const text = await readFile(${JSON.stringify(textFileOf(run))}, "utf8");
${readingSecond}const card = await compare(checkpoint, compressed, { text${second}${options.join("")} });
console.log(card.bytes.ratio, card.kl.mean, card.perplexityChange);`;
}

/** The file of a tokenizer: what has another name is in the weights themselves. */
export function tokenizerFile({ tokenizer }: Pick<Source, "tokenizer">): string | undefined {
  return tokenizer?.endsWith(".json") ? tokenizer : undefined;
}

// Files that were dropped together need not lie together, or be the only ones.
function tokenizerOption(source: Source): { tokenizer?: string } {
  const tokenizer = tokenizerFile(source);
  return source.place === "files" && tokenizer !== undefined ? { tokenizer } : {};
}

function tokenizerOf(option: string, source: Source): string {
  const { tokenizer } = tokenizerOption(source);
  return tokenizer === undefined ? "" : ` ${option} ${quoted(tokenizer)}`;
}

function optionsOf(checkpoint: Opened, run: Run): string[] {
  const { offset, limit, window, backend, backendB } = protocolOf(checkpoint, run);
  return [
    ...(offset === undefined ? [] : [` --offset ${offset}`]),
    ...(window === undefined ? [] : [` --window ${window}`]),
    ...(limit === undefined ? [] : [` --limit ${limit}`]),
    ...(backend === undefined ? [] : [` --backend ${backend}`]),
    ...(backendB === undefined ? [] : [` --backend-b ${backendB}`]),
  ];
}

// What a run was measured by, where that is not what would be done anyway.
function protocolOf(checkpoint: Opened, run: Run) {
  const { limit, window, backend, backendB } = run.asked;
  const offset = offsetOf(checkpoint, run);
  return {
    ...(offset !== undefined && { offset }),
    ...(window !== undefined && { window }),
    ...(limit !== undefined && { limit }),
    ...(backend !== "auto" && { backend }),
    ...(backendB !== "same" && { backendB }),
  };
}

// By text each side has an offset of its own: `detect` is a question to those alone that have the field.
function offsetOf(checkpoint: Opened, { comparison, byText, other }: Run): number | "detect" | undefined {
  if (byText) return [checkpoint, other].some((it) => it && hasOffset(it)) ? "detect" : undefined;
  return hasOffset(checkpoint) ? comparison?.a.offset : undefined;
}

/** How Python reads the file, with the reader beside it. */
export function loadCommand(run: RecipeRun): string {
  return `import reader

weights = reader.load(${JSON.stringify(run.file.name)})  # arrays of numpy by their names; reader.state_dict for PyTorch`;
}

function pathOf({ place, path, weights }: Source): string {
  return place === "demo" ? "examples/demo/itera-tiny" : (path ?? weights);
}

/** The file that a run was measured on; what has none has to be saved under that name first. */
export function textFileOf({ asked }: Run): string {
  if (asked.text === "typed") return "text.txt";
  if (asked.text === "last") return "heldout-last.txt";
  return asked.text === "own" && asked.own ? asked.own.name : "heldout.txt";
}

/** The file of the second text that a run was measured on, as `textFileOf`; undefined where it had none. */
export function secondFileOf({ asked, secondName }: Run): string | undefined {
  if (secondName === undefined) return undefined;
  return asked.second.from === "own" && asked.second.own ? asked.second.own.name : "second.txt";
}

function secondOption(run: Run): string {
  const file = secondFileOf(run);
  return file === undefined ? "" : ` --second-text ${quoted(file)}`;
}

// In a script: the text as it is read, and how it is given.
function secondInScript(run: Run): [reading: string, option: string] {
  const file = secondFileOf(run);
  if (file === undefined) return ["", ""];
  const reading = `const second = { text: await readFile(${JSON.stringify(file)}, "utf8") };\n`;
  return [reading, ", second"];
}

/** What the text is for that a run has read while it was compressed. */
function usesOf({ report, wanted }: RecipeRun): { calibration: boolean; recover: boolean } {
  const { recipe } = report;
  return {
    calibration: wanted !== undefined || roundsByText(recipe),
    recover: !wanted && recoveryOf(recipe) !== undefined,
  };
}

/** The file that a run has read while it was compressed, as `textFileOf`; undefined where it has read none. */
export function calibrationFileOf({ asked, report }: Run): string | undefined {
  if (!report || !readsText(report.recipe)) return undefined;
  const { from, own } = asked.calibration;
  if (from === "demo") return "heldout-first.txt";
  return from === "own" && own ? own.name : "calibration.txt";
}

// A name that begins like an option is none.
function quoted(text: string): string {
  const path = text.startsWith("-") ? `./${text}` : text;
  return /^[\w./+-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
