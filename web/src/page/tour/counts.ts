// What the lessons count: numbers of a state, shares of bytes. Everything from the inspection of the file.

import type { Inspection, Recipe } from "statepress";
import { edited, quantizeOf } from "../state/recipes.js";

/** The table of token vectors. */
export const EMBEDDING = "embedding.weight";

/** Numbers that a model remembers between two tokens. */
export interface Memory {
  layers: number;
  /** Fading numbers of a layer. */
  fading: number;
  /** The last inputs of a layer's convolution. */
  inputs: number;
  /** Of all layers. */
  state: number;
  /** What a transformer of the same width and depth keeps of each token: a key and a value in every layer. */
  perToken: number;
  /** Tokens of the longest text. */
  longest: number;
  /** The token at which that transformer remembers more for the first time. */
  overtaken: number;
}

/** The memory of an Itera-Lite model: L ((k - 1) D + N) numbers. */
export function memoryOf({ spec }: Inspection): Memory {
  const layers = field(spec, "num_layers");
  const fading = field(spec, "ssm_state_size");
  const inputs = (field(spec, "ssm_conv_kernel") - 1) * field(spec, "ssm_inner_size");
  const state = layers * (fading + inputs);
  const perToken = 2 * layers * field(spec, "hidden_size");
  return {
    layers,
    fading,
    inputs,
    state,
    perToken,
    longest: field(spec, "max_seq_length"),
    overtaken: Math.floor(state / perToken) + 1,
  };
}

function field(spec: Inspection["spec"], name: string): number {
  return Number(spec[name]?.value);
}

/** Bytes of the tensors whose name ends so; tied ones and buffers not counted. */
export function bytesOf({ tensors }: Inspection, end: string): number {
  const counted = tensors.filter((it) => !it.buffer && it.tiedTo === undefined && it.name.endsWith(end));
  return counted.reduce((sum, it) => sum + it.bytes, 0);
}

/** Stores the embedding in INT8, and leaves everything else alone: by a rule, since what no rule matches raises an alarm. */
export function embeddingOnly(int8: Recipe): Recipe {
  return {
    ...edited(int8, {
      rules: [
        { match: EMBEDDING, precision: "int8" },
        { match: "*", precision: "fp32" },
      ],
    }),
    name: "embedding-only",
  };
}

/** Stores every matrix in INT8 except the embedding. */
export function allButEmbedding(int8: Recipe): Recipe {
  const rules = quantizeOf(int8)?.rules ?? [];
  return {
    ...edited(int8, { rules: [{ match: EMBEDDING, precision: "fp32" }, ...rules] }),
    name: "all-but-embedding",
  };
}
