import type { Inspection, Recipe } from "statepress";
import { expect, test } from "vitest";
import { quantizeOf } from "../state/recipes.js";
import { allButEmbedding, bytesOf, embeddingOnly, memoryOf } from "./counts.js";

const field = (value: number) => ({ value, origin: "counted" as const, from: "" });
const inspection = {
  spec: {
    num_layers: field(4),
    ssm_state_size: field(8),
    ssm_conv_kernel: field(4),
    ssm_inner_size: field(256),
    hidden_size: field(128),
    max_seq_length: field(256),
  },
  tensors: [
    { name: "embedding.weight", shape: [2, 2], dtype: "F32", params: 4, bytes: 16 },
    { name: "lm_head.weight", shape: [2, 2], dtype: "F32", params: 4, bytes: 16, tiedTo: "embedding.weight" },
    { name: "layers.0.ssm.ssm.A_log", shape: [2], dtype: "F32", params: 2, bytes: 8 },
    { name: "layers.1.ssm.ssm.A_log", shape: [2], dtype: "F32", params: 2, bytes: 8 },
    { name: "layers.1.counter.weight", shape: [1], dtype: "F32", params: 1, bytes: 4, buffer: true },
  ],
} as unknown as Inspection;

const INT8: Recipe = {
  version: 1,
  name: "int8",
  steps: [
    {
      quantize: {
        rules: [{ match: "*", precision: "int8" }],
        otherwise: "fp16",
        int8: { granularity: "row", clip: "minmax", percentile: 99.99 },
        nf4: { block: 64, doubleQuant: true, absmax: "fp32" },
        int4: { group: 32, scale: "fp16" },
        groups: { group: 64, scale: "fp16" },
        errorCompensation: "none",
      },
    },
  ],
};

test("the memory of the demo, as its specification counts it", () => {
  expect(memoryOf(inspection)).toEqual({
    layers: 4,
    fading: 8,
    inputs: 768,
    state: 3104,
    perToken: 1024,
    longest: 256,
    overtaken: 4,
  });
});

test("bytes by the end of the name, tied ones and buffers not counted", () => {
  expect(bytesOf(inspection, ".weight")).toBe(16);
  expect(bytesOf(inspection, "A_log")).toBe(16);
  expect(bytesOf(inspection, "nothing")).toBe(0);
});

test("the two recipes divide the model at the embedding", () => {
  const only = embeddingOnly(INT8);
  expect(only.name).toBe("embedding-only");
  expect(quantizeOf(only)).toMatchObject({
    rules: [
      { match: "embedding.weight", precision: "int8" },
      { match: "*", precision: "fp32" },
    ],
  });
  const rest = allButEmbedding(INT8);
  expect(rest.name).toBe("all-but-embedding");
  expect(quantizeOf(rest)?.rules).toEqual([
    { match: "embedding.weight", precision: "fp32" },
    { match: "*", precision: "int8" },
  ]);
});
