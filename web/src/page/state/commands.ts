// The same job elsewhere: as a command line, as a Node script, and how other tools load the file.

import type { Recipe } from "statepress";
import type { Opened, Run } from "./state.js";

/** What the commands are about. */
interface Job {
  checkpoint: Opened;
  run: Run;
  builtin: boolean;
}

/** The file in which a recipe is taken along. A name that came with a link is a stranger's: no shell or path in it. */
export function recipeFile({ name }: Recipe): string {
  return `${name.replace(/[^\w+-]+/g, "-").replace(/^-+/, "")}.json`;
}

/** One line for a shell, and one more that measures. */
export function commandLine(job: Job): string {
  const { checkpoint, run, builtin } = job;
  const input = quoted(pathOf(checkpoint));
  const recipe = builtin ? run.report.recipe.name : recipeFile(run.report.recipe);
  const set = Object.entries(checkpoint.given).map(([field, value]) => ` --set ${field}=${value}`);
  const { offset, limit, backend, backendB } = protocolOf(job);
  const options = [
    ...(offset === undefined ? [] : [` --offset ${offset}`]),
    ...(limit === undefined ? [] : [` --limit ${limit}`]),
    ...(backend === undefined ? [] : [` --backend ${backend}`]),
    ...(backendB === undefined ? [] : [` --backend-b ${backendB}`]),
  ];
  const text = quoted(textOf(run));
  // Files that were dropped together need not lie together, or be the only ones.
  const named = checkpoint.place === "files" && checkpoint.tokenizer !== undefined;
  const tokenizer = named ? ` --tokenizer ${quoted(checkpoint.tokenizer ?? "")}` : "";
  return [
    `npx statepress compress ${input} -o ${run.file.name} --recipe ${recipe}${set.join("")}`,
    `npx statepress compare ${input} ${run.file.name} --text ${text}${tokenizer}${options.join("")}${set.join("")}`,
  ].join("\n");
}

/** A script for Node. */
export function nodeScript(job: Job): string {
  const { checkpoint, run, builtin } = job;
  const recipe = builtin ? JSON.stringify(run.report.recipe.name) : JSON.stringify(run.report.recipe, null, 2);
  const opening = {
    ...(checkpoint.place === "files" && checkpoint.tokenizer !== undefined && { tokenizer: checkpoint.tokenizer }),
    ...(Object.keys(checkpoint.given).length > 0 && { set: checkpoint.given }),
  };
  const given = Object.keys(opening).length > 0 ? `, ${JSON.stringify(opening)}` : "";
  const options = Object.entries(protocolOf(job)).map(([name, value]) => `, ${name}: ${JSON.stringify(value)}`);
  return `import { readFile } from "node:fs/promises";
import { compare, open } from "statepress";

const recipe = ${recipe};
const checkpoint = await open(${JSON.stringify(pathOf(checkpoint))}${given});
const compressed = await checkpoint.compress(recipe);
await compressed.save(${JSON.stringify(run.file.name)});

const text = await readFile(${JSON.stringify(textOf(run))}, "utf8");
const card = await compare(checkpoint, compressed, { text${options.join("")} });
console.log(card.bytes.ratio, card.kl.mean, card.perplexityChange);`;
}

// What a run was measured by, where that is not what would be done anyway.
function protocolOf({ checkpoint, run: { asked, comparison } }: Job) {
  const { limit, backend, backendB } = asked;
  const ahead = checkpoint.inspection.spec["prediction_offset"] !== undefined;
  return {
    ...(ahead && comparison && { offset: comparison.a.offset }),
    ...(limit !== undefined && { limit }),
    ...(backend !== "auto" && { backend }),
    ...(backendB !== "same" && { backendB }),
  };
}

/** How Python reads the file. NumPy has no bfloat16, PyTorch has. */
export function loadCommand(run: Run): string {
  const library = run.report.precisions.some(({ precision }) => precision === "bf16") ? "torch" : "numpy";
  return `python -c "from safetensors.${library} import load_file; print({k: v.shape for k, v in load_file('${run.file.name}').items()})"`;
}

function pathOf({ place, path, weights }: Opened): string {
  return place === "demo" ? "examples/demo/itera-tiny" : (path ?? weights);
}

/** The file that a run was measured on; what has none has to be saved under that name first. */
export function textOf({ asked }: Run): string {
  if (asked.text === "typed") return "text.txt";
  return asked.text === "own" && asked.own ? asked.own.name : "heldout.txt";
}

// A name that begins like an option is none.
function quoted(text: string): string {
  const path = text.startsWith("-") ? `./${text}` : text;
  return /^[\w./+-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
