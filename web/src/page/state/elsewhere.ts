// A produced file in the format of another tool: what it is called, and what loads it there.

import { FOLDERS, type Format, type GgufType, type Layout } from "statepress";
import { exportLine, loadCommand, tokenizerFile } from "./commands.js";
import type { Opened, RecipeRun, State } from "./state.js";

/** What a run is to be taken away as. */
export interface Elsewhere {
  format: Format;
  /** The type of matrices in GGUF; undefined is that which is nearest to what the recipe has left. */
  ggufType: GgufType | undefined;
  /** Whose keys floats have; undefined is transformers. */
  layout: Layout | undefined;
}

/** Something to copy. */
export interface Snippet {
  label: string;
  text: string;
}

/** The formats as somebody chooses among them. */
export const FORMATS: readonly { format: Format; label: string; about: string }[] = [
  {
    format: "safetensors",
    label: "statepress",
    about: "Every precision as it was chosen, packed: the file that was measured.",
  },
  {
    format: "plain",
    label: "transformers",
    about:
      "A folder that transformers loads: config.json, the tokenizer, and weights. Codes become the floats that they stand for, so it is as large as those are.",
  },
  {
    format: "bitsandbytes",
    label: "bitsandbytes",
    about:
      "A folder that transformers loads with bitsandbytes: linear layers keep their NF4 or INT8 codes bit for bit, everything else is floats.",
  },
  {
    format: "compressed-tensors",
    label: "compressed-tensors",
    about:
      "A folder that transformers loads with compressed-tensors: linear layers keep their whole-number codes of 2 to 8 bits bit for bit, each in its own width; everything else is floats.",
  },
  {
    format: "gguf",
    label: "llama.cpp (GGUF)",
    about:
      "One file that llama.cpp and what is built on it load. Matrices are of a type of ggml: what is coded otherwise is rounded once more.",
  },
  {
    format: "onnx",
    label: "onnxruntime (ONNX)",
    about:
      "One file that onnxruntime runs, in Python, C++ or a page: a graph that takes one token, and what the sequence remembers. Whole-number codes of 2 to 8 bits and NF4 stay what they are wherever it has an operator for them.",
  },
];

/** What transformers has to find installed beside itself. */
const NEEDED: { [format in Format]?: string } = {
  bitsandbytes: "accelerate bitsandbytes",
  "compressed-tensors": "compressed-tensors",
};

/** Families of the research that this comes from: no other tool has a model for them. */
const OURS = ["itera-lite", "transformer"];

/** What it is called, by the name of the produced file: a file, or a folder. */
export function nameElsewhere({ file }: RecipeRun, { format, ggufType }: Elsewhere): string {
  const base = file.name.replace(/\.safetensors$/, "");
  if (format === "safetensors") return file.name;
  if (format === "plain") return base;
  if (FOLDERS.includes(format)) return `${base}-${format}`;
  return format === "onnx" ? `${base}.onnx` : `${base}${ggufType === undefined ? "" : `-${ggufType}`}.gguf`;
}

/** What loads it: of ONNX `example`, the text of the program that runs such files, with this one's names in it. */
export function loadingOf(checkpoint: Opened, run: RecipeRun, as: Elsewhere, example = ""): Snippet {
  const name = nameElsewhere(run, as);
  const { prompt } = run.asked;
  if (as.format === "gguf") {
    return { label: "llama.cpp", text: `llama-cli -m ${name} -p ${quoted(prompt)} -n 64` };
  }
  if (as.format === "onnx") {
    const said = [name, tokenizerFile(checkpoint) ?? "tokenizer.json", prompt]
      .map((it) => JSON.stringify(it))
      .join(", ");
    return {
      label: "Python",
      text: example.replace(/^(MODEL, TOKENIZER, PROMPT) = .*$/m, (_, names) => `${names} = ${said}`),
    };
  }
  if (as.format === "safetensors") return { label: "Python", text: loadCommand(run) };
  const folder = JSON.stringify(name);
  if (as.layout === "original" || OURS.includes(checkpoint.inspection.family)) {
    const text = `from safetensors.torch import load_file

weights = load_file(${JSON.stringify(`${name}/model.safetensors`)})`;
    return { label: "Python", text };
  }
  const reading = `
tokenizer = AutoTokenizer.from_pretrained(${folder})
tokens = tokenizer(${JSON.stringify(prompt)}, return_tensors="pt")
print(tokenizer.decode(model.generate(**tokens, max_new_tokens=64)[0]))`;
  const withText = checkpoint.tokenizer !== undefined;
  const needed = NEEDED[as.format];
  const needs = needed === undefined ? "" : `# pip install ${needed}\n`;
  const text = `${needs}from transformers import AutoModelForCausalLM${withText ? ", AutoTokenizer" : ""}

model = AutoModelForCausalLM.from_pretrained(${folder})${withText ? reading : ""}`;
  return { label: "Python", text };
}

/** The same on the command line. */
export function makingOf(checkpoint: Opened, run: RecipeRun, recipes: State["recipes"], as: Elsewhere): Snippet {
  const builtin = recipes.includes(run.asked.recipe);
  return {
    label: "Command line for this format",
    text: exportLine({ checkpoint, run, builtin }, nameElsewhere(run, as), as),
  };
}

// For a shell.
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
