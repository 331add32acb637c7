// What would help with a file that could not be opened, by the code of its error.

import type { Problem } from "../../state/state.js";

const HELP: Partial<Record<Problem["code"], string>> = {
  "unsupported-format":
    "What opens: PyTorch .pt, .pth and .bin files, .safetensors, .gguf and .npz. Others can be converted to safetensors.",
  truncated: "The file ends too early: the download or copy was probably cut off. Get it again.",
  malformed: "The file is damaged, or is not what its name says.",
  "malformed-tensor": "The file is damaged, or was written by a tool that does not follow the format.",
  "refused-global":
    "The file is nothing but a call of a function, which this page never runs. Save the model's state_dict() instead.",
  "too-large": "A limit protects this tab from files that claim absurd sizes.",
  "bad-input":
    "Drop one file of weights, or all shards of one model, with its config.json and tokenizer.json beside it.",
  "bad-option": "The value was not taken: the model is as it was before.",
  "bad-tokenizer": "Drop the weights without it to compress only; measuring and trying need one.",
};

/** A sentence, or nothing. */
export function help(code: Problem["code"]): string | undefined {
  return HELP[code];
}
