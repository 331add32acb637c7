// What a page and Node have in common: classes and types. node.ts and web.ts add open, compare and recipes.

export type { Tokenizer } from "../tokenizer/tokenizer.js";
export type { BenchOptions, BenchResult, Generation } from "../worker/protocol.js";
export type { AdapterInfo, BackendInfo, Build, Explained, ModelInfo } from "../worker/wasm.js";
export { bitsPerByte, type TextComparison, type TextEvaluation, tokensDiffer } from "./by-text.js";
export { type CardLine, computes, qualityCard } from "./card.js";
export { Checkpoint } from "./checkpoint.js";
export { codes, type ErrorCode, StatepressError } from "./errors.js";
export { vocabularyOf } from "./fit.js";
export { FOLDERS, type Format, formats, GGUF_TYPES, type GgufType, LAYOUTS, type Layout } from "./formats.js";
export type { Library } from "./library.js";
export { Model } from "./model.js";
export { isTokenizerName, replacesTokenizer, TOKENIZER_CONFIG } from "./names.js";
export type * from "./options.js";
export { PRESETS, type Preset, stepsBefore } from "./presets.js";
export type { Found, Outcome, Recovered, Report } from "./search.js";
export type { Compared, SecondComparison } from "./second.js";
export { decodeText, withoutMark } from "./text.js";
export { readTokenizer } from "./tokenizers.js";
export * from "./types/statepress.js";
export { type Weights, weightsAmong } from "./weights.js";
