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
  return `${name.replace(/[^\w+-]+/g, "-")}.json`;
}

/** One line for a shell, and one more that measures. */
export function commandLine({ checkpoint, run, builtin }: Job): string {
  const input = inputOf(checkpoint);
  const recipe = builtin ? run.report.recipe.name : recipeFile(run.report.recipe);
  const set = Object.entries(checkpoint.given).map(([field, value]) => ` --set ${field}=${value}`);
  const text = quoted(textOf(checkpoint, run));
  const limit = run.asked.limit === undefined ? "" : ` --limit ${run.asked.limit}`;
  return [
    `npx statepress compress ${input} -o ${run.file.name} --recipe ${recipe}${set.join("")}`,
    `npx statepress compare ${input} ${run.file.name} --text ${text}${limit}${set.join("")}`,
  ].join("\n");
}

/** A script for Node. */
export function nodeScript({ checkpoint, run, builtin }: Job): string {
  const recipe = builtin ? JSON.stringify(run.report.recipe.name) : JSON.stringify(run.report.recipe, null, 2);
  const given = Object.keys(checkpoint.given).length > 0 ? `, { set: ${JSON.stringify(checkpoint.given)} }` : "";
  return `import { readFile } from "node:fs/promises";
import { compare, open } from "statepress";

const recipe = ${recipe};
const checkpoint = await open(${JSON.stringify(pathOf(checkpoint))}${given});
const compressed = await checkpoint.compress(recipe);
await compressed.save(${JSON.stringify(run.file.name)});

const text = await readFile(${JSON.stringify(textOf(checkpoint, run))}, "utf8");
const card = await compare(checkpoint, compressed, { text, offset: "detect" });
console.log(card.bytes.ratio, card.kl.mean, card.perplexityChange);`;
}

/** How Python reads the file. NumPy has no bfloat16, PyTorch has. */
export function loadCommand(run: Run): string {
  const library = run.report.precisions.some(({ precision }) => precision === "bf16") ? "torch" : "numpy";
  return `python -c "from safetensors.${library} import load_file; print({k: v.shape for k, v in load_file('${run.file.name}').items()})"`;
}

function pathOf(checkpoint: Opened): string {
  if (checkpoint.place === "demo") return "examples/demo/itera-tiny";
  const weights = checkpoint.files.find((file) => /\.(pt|pth|bin|ckpt|safetensors|gguf)$/i.test(file.name));
  return weights?.name ?? checkpoint.name;
}

function textOf(checkpoint: Opened, { asked }: Run): string {
  if (asked.text === "typed") return "text.txt";
  if (asked.text === "own" && checkpoint.ownText) return checkpoint.ownText.name;
  return checkpoint.place === "demo" ? "examples/demo/heldout.txt" : "heldout.txt";
}

function inputOf(checkpoint: Opened): string {
  return quoted(pathOf(checkpoint));
}

function quoted(text: string): string {
  return /^[\w./+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
