// Which files among some are the weights of a checkpoint: one file, or shards that are one together.
//
// Names alone decide, in the order in which transformers looks for them; what is in the files decides what they are.

import { checkFiles } from "./check.js";
import { StatepressError } from "./errors.js";
import { isTokenizerName } from "./names.js";
import type { Finding } from "./types/statepress.js";

/** The weights among some files. */
export interface Weights<T> {
  /** What they are called: the file, the index, or what the shards would be called as one file. */
  name: string;
  /** The file, or every shard that is there. */
  files: T[];
  /** The `*.index.json` that says which tensor is in which shard. */
  index?: T | undefined;
  /** What is to be said of the files that were not taken. */
  findings: Finding[];
}

/** Something that could be the weights. */
interface Candidate<T> extends Omit<Weights<T>, "findings"> {
  /** The file that it would be as one: `model.safetensors`. */
  whole: string;
  /** Whether all shards are there. */
  complete: boolean;
}

interface Named {
  readonly name: string;
}

const WEIGHTS = /\.(pt|pth|bin|ckpt|safetensors|gguf|npz)$/i;
const INDEX = /\.index(\.[^.]+)?\.json$/i;
const SHARD = /^(.*?)[-_.]?(\d+)[-_]of[-_](\d+)((?:(?![-_]of[-_]\d).)*)$/i;

/** What trainers leave beside the weights. */
const TRAINING =
  /^(optimizer|scheduler|lr_scheduler|scaler|grad_scaler|training_args|trainer_state|rng_state|random_states|sampler|dataloader)([._-].*)?\.\w+$|_optim_states\.pt$/i;
const ADAPTER = /^(adapter_model|pytorch_lora_weights)\b.*\.(safetensors|bin)$/i;
const SLICE = /^(consolidated\.\d+\.pth|mp_rank_\d+_model_states\.pt)$/i;

/** Weights of other programs, with what would help. */
const FOREIGN: [RegExp, string][] = [
  [/\.(h5|keras)$/i, "Keras"],
  [/\.msgpack$/i, "Flax"],
  [/\.onnx$/i, "ONNX"],
  [/\.(tflite|pb)$/i, "TensorFlow"],
  [/\.npy$/i, "NumPy"],
  [
    /\.distcp$/i,
    "torch.distributed (`python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER model.pt` makes one file of it)",
  ],
];

/** In this order one is taken where there are several. */
const USUAL = ["model.safetensors", "pytorch_model.bin", "consolidated.safetensors"];

/** Whether a file of that name is the index of a sharded checkpoint. */
export function isIndexName(name: string): boolean {
  return INDEX.test(name);
}

/**
 * Which of some files that belong together are the weights.
 *
 * `shardsOf` says which files an index names; where it does not know, those that are called like shards are taken.
 *
 * @throws StatepressError `bad-input` with the names of the candidates, when there is none or one cannot be told.
 */
export function weightsAmong<T extends Named>(
  files: readonly T[],
  shardsOf: (index: T) => readonly string[] | undefined = () => undefined,
): Weights<T> {
  checkFiles(files);
  const [only] = files;
  // A single file is the weights whatever its name, for its content decides; but one shard of several is not all.
  const shard = only && WEIGHTS.test(only.name) ? shardOf(only.name) : undefined;
  const part = shard !== undefined && shard.count > 1;
  if (files.length === 1 && only && !isTokenizerName(only.name) && !part) return alone(only, files, shardsOf);
  const candidates = candidatesAmong(files, shardsOf);
  const complete = candidates.filter((it) => it.complete);
  // Where a shard of the usual weights lacks, another file is not taken for them: it is said which.
  const cut = usual(candidates.filter((it) => !it.complete && it.files.length > 0));
  const possible = complete.length > 0 ? complete : candidates;
  const chosen = usual(complete) ?? cut ?? (possible.length === 1 ? possible[0] : undefined);
  if (!chosen) throw undecided(files, possible);
  const others = candidates.filter((it) => it !== chosen);
  return { ...taken(chosen), findings: leftOut(files, chosen, others) };
}

/** The weights that one file stands for; an index stands for shards among `around`. */
export function alone<T extends Named>(
  file: T,
  around: readonly T[],
  shardsOf: (index: T) => readonly string[] | undefined = () => undefined,
): Weights<T> {
  if (isIndexName(file.name)) return { ...taken(ofIndex(file, around, shardsOf(file))), findings: [] };
  const shard = shardOf(file.name);
  const findings: Finding[] = [];
  if (shard && shard.count > 1 && WEIGHTS.test(file.name)) {
    const there = around.filter(({ name }) => name !== file.name && alike(shardOf(name)?.whole ?? "", shard.whole));
    const help =
      there.length > 0
        ? `${there.length} of the others lie beside it: open their folder or index for the whole`
        : "the others are not beside it: open all of them together for the whole";
    const message = `${file.name} is one of ${shard.count} shards: what is opened, measured and written is that part of the model and no more; ${help}`;
    findings.push({ level: "warning", code: "one-shard-of-several", message });
  }
  return { name: file.name, files: [file], findings };
}

/** Whether weights are among files of these names. */
export function hasWeights(names: readonly string[]): boolean {
  return names.some((name) => isIndexName(name) || (WEIGHTS.test(name) && !TRAINING.test(name)));
}

/** What an index says, as far as names of files go: undefined where it is no index. */
export function shardNames(text: string): string[] | undefined {
  try {
    const { weight_map: map } = JSON.parse(text) as { weight_map?: unknown };
    if (typeof map !== "object" || map === null || Array.isArray(map)) return undefined;
    const names = new Set(Object.values(map));
    return [...names].filter((name) => typeof name === "string").sort();
  } catch {
    return undefined;
  }
}

function candidatesAmong<T extends Named>(
  files: readonly T[],
  shardsOf: (index: T) => readonly string[] | undefined,
): Candidate<T>[] {
  const named = files.filter(({ name }) => WEIGHTS.test(name) && !TRAINING.test(name));
  const adapters = named.filter(({ name }) => ADAPTER.test(name));
  const weights = named.length > adapters.length ? named.filter((file) => !adapters.includes(file)) : named;
  const found: Candidate<T>[] = [];
  const used = new Set<T>();
  for (const index of files.filter(({ name }) => isIndexName(name))) {
    const whole = wholeOf(index.name);
    // The whole file goes before its shards, which then need not be there.
    if (weights.some(({ name }) => alike(name, whole))) continue;
    const candidate = ofIndex(index, weights, shardsOf(index));
    found.push(candidate);
    for (const file of candidate.files) if (candidate.complete) used.add(file);
  }
  const sets = new Map<string, { whole: string; count: number; files: T[] }>();
  for (const file of weights.filter((it) => !used.has(it))) {
    const shard = shardOf(file.name);
    if (!shard) {
      found.push({ name: file.name, whole: file.name, files: [file], complete: true });
      continue;
    }
    const key = `${shard.whole}/${shard.count}`;
    const set = sets.get(key) ?? { whole: shard.whole, count: shard.count, files: [] };
    set.files.push(file);
    sets.set(key, set);
  }
  for (const { whole, count, files: shards } of sets.values()) {
    const [first, ...more] = shards;
    // One of one is a file like any other.
    if (first && count === 1 && more.length === 0) {
      found.push({ name: first.name, whole, files: shards, complete: true });
    } else if (!found.some((it) => it.index && !it.complete && alike(it.whole, whole) && shards.length < count)) {
      found.push({ name: whole, whole, files: sorted(shards), complete: shards.length === count });
    }
  }
  return found;
}

function ofIndex<T extends Named>(index: T, files: readonly T[], names: readonly string[] | undefined): Candidate<T> {
  const whole = wholeOf(index.name);
  const others = files.filter((file) => file !== index);
  if (names === undefined) {
    const weights = others.filter(({ name }) => WEIGHTS.test(name) && !TRAINING.test(name));
    const shards = weights.filter(({ name }) => alike(shardOf(name)?.whole ?? "", whole));
    const likely = shards.length > 0 ? shards : weights;
    return { name: index.name, whole, index, files: sorted(likely), complete: likely.length > 0 };
  }
  const there = names.map((name) => others.find((file) => file.name === name)).filter((file) => file !== undefined);
  return { name: index.name, whole, index, files: there, complete: there.length === names.length && names.length > 0 };
}

function taken<T>({ name, files, index }: Candidate<T>): Omit<Weights<T>, "findings"> {
  return { name, files, ...(index && { index }) };
}

/** The one that is looked for first, if any of them is. */
function usual<T>(candidates: Candidate<T>[]): Candidate<T> | undefined {
  for (const name of USUAL) {
    const of = candidates.filter(({ whole }) => alike(whole, name));
    // One file, then what an index vouches for, then shards by their names.
    const best = of.find((it) => !it.index && it.files.length === 1) ?? of.find((it) => it.index) ?? of[0];
    if (best) return best;
  }
  return undefined;
}

function undecided<T extends Named>(files: readonly T[], candidates: Candidate<T>[]): StatepressError {
  const names = candidates.map(({ name }) => name);
  const slices = names.filter((name) => SLICE.test(name));
  if (slices.length > 1 && slices.length === names.length) {
    const message = `${slices.join(", ")} are slices of one model, cut within its tensors: join them with the script of their makers (for Llama, transformers' convert_llama_weights_to_hf.py)`;
    return new StatepressError("bad-input", message, { files: names });
  }
  if (names.length > 0) {
    const message = `several files could be the weights, name one: ${names.join(", ")}`;
    return new StatepressError("bad-input", message, { files: names });
  }
  const training = files.filter(({ name }) => TRAINING.test(name)).map(({ name }) => name);
  const foreign = files.flatMap(({ name }) =>
    FOREIGN.filter(([ending]) => ending.test(name)).map(([, of]) => ({ name, of })),
  );
  const [other] = foreign;
  const but = other
    ? `; ${other.name} is of ${other.of}`
    : training.length > 0
      ? `; ${training.join(", ")} hold the state of a training, not its weights`
      : "";
  const [only] = files;
  const where = !only
    ? ", for there are no files"
    : files.length === 1
      ? ` in ${only.name}`
      : ` among ${files.length} files`;
  const message = `no weights${where}: expected a .pt, .pth, .bin, .safetensors, .gguf or .npz file${but}`;
  return new StatepressError("bad-input", message, { files: [] });
}

/** What is to be said of files that were not taken, though they look like weights. */
function leftOut<T extends Named>(files: readonly T[], chosen: Candidate<T>, others: Candidate<T>[]): Finding[] {
  const findings: Finding[] = [];
  const mine = (file: T) => chosen.files.includes(file);
  const left = others.filter((it) => !it.index && !it.files.every(mine)).map(({ name }) => name);
  const adapters = files.filter((file) => ADAPTER.test(file.name) && !mine(file)).map(({ name }) => name);
  if (left.length + adapters.length > 0) {
    const taken =
      chosen.files.length > 1 && !chosen.index ? `the ${chosen.files.length} shards of ${chosen.name}` : chosen.name;
    const message = `${taken} ${taken === chosen.name ? "was" : "were"} taken for the weights, not ${[...left, ...adapters].join(", ")}`;
    findings.push({ level: "info", code: "several-weights", message });
  }
  const unused = files.filter((file) => isIndexName(file.name) && file !== chosen.index).map(({ name }) => name);
  if (unused.length > 0) {
    const { length } = chosen.files;
    const shards = `the ${length} shards ${chosen.files[0]?.name} and so on were taken by their names`;
    const what = length > 1 ? shards : `${chosen.name} was taken for the weights`;
    const own = length > 1 && unused.some((name) => alike(wholeOf(name), chosen.whole));
    const why = own ? "cannot be read or names no shards" : "is of other shards";
    const message = `${what}; ${unused.join(", ")} ${why}, and was not used`;
    findings.push({ level: "info", code: "index-ignored", message });
  }
  const training = files.filter(({ name }) => TRAINING.test(name) && WEIGHTS.test(name)).map(({ name }) => name);
  if (training.length > 0) {
    const message = `${training.join(", ")}: the state of a training, which is no part of the model and was not read`;
    findings.push({ level: "info", code: "training-state", message });
  }
  return findings;
}

/** What the name of a shard says. */
function shardOf(name: string): { whole: string; count: number } | undefined {
  const [, stem, number, count, ending = ""] = SHARD.exec(name) ?? [];
  if (number === undefined || Number(count) === 0 || Number(number) > Number(count)) return undefined;
  return { whole: `${stem}${ending}`, count: Number(count) };
}

/** `model.safetensors` of `model.safetensors.index.json`, and of `model.safetensors.index.fp16.json`. */
function wholeOf(index: string): string {
  const [, variant = ""] = INDEX.exec(index) ?? [];
  const whole = index.replace(INDEX, "");
  return variant === "" ? whole : whole.replace(/(\.[^.]+)$/, `${variant}$1`);
}

function alike(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}

function sorted<T extends Named>(files: T[]): T[] {
  return [...files].sort((a, b) => (a.name < b.name ? -1 : 1));
}
