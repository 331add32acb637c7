// What the commands answer and what a recipe is, generated from crate/core (see tests/rust/alone/types.rs).
// Do not edit: UPDATE_TYPES=1 cargo test -p statepress-tests --test types

/**
 * What to do with a checkpoint (`advise`).
 */
export type Advice = {
/**
 * Recipes that are recommended, best first.
 */
recommended: Array<Recommendation>,
/**
 * What is advised against.
 */
avoid: Array<Recommendation>,
/**
 * What can be done beyond a recipe by itself: making up for rounding errors, searching, ...
 */
techniques: Array<TechniqueAdvice>,
/**
 * What was measured on this very model, as it was given.
 */
measured: Array<MeasuredRecipe>,
/**
 * How to have the figures of this very model; absent where it cannot be run.
 */
measure?: MeasureOffer,
/**
 * How the order came about, which rules gave way to which, and what was measured against them.
 */
findings: Array<Finding>, };

/**
 * Where the figures of a piece of advice come from.
 */
export type Basis = "measured" | "unmeasured" | "literature";

/**
 * At most 64 consecutive numbers of what shares one scale: of an INT8 row (or tensor), an INT4 group or
 * an NF4 block, the one that holds the tensor's largest magnitude, which is among them. Floats have
 * no blocks: theirs are the tensor's first numbers, and may be NaN or infinite (in JSON: `null`).
 */
export type BlockView = {
/**
 * Index of the first one in the flattened tensor.
 */
start: number,
/**
 * The numbers.
 */
values: Array<number>,
/**
 * What their codes decode to.
 */
decoded: Array<number>,
/**
 * The scale of INT8 and INT4, the absmax of NF4, as decoding uses it.
 */
scale: number | null,
/**
 * Everything the block's codes can stand for, ascending, each once: 16 values of NF4, 15 of INT4,
 * 255 of INT8, and one more below them where the block uses the lowest code, -8 or -128.
 * Empty for floats.
 */
levels: Array<number>, };

/**
 * Bytes of weights, scales and tables; tied ones once, buffers not at all.
 */
export type Bytes = {
/**
 * Bytes of the same, whole model in FP32: what published ratios compare with. Weights of types that no recipe
 * touches count as they are.
 */
fp32: number,
/**
 * Bytes as opened.
 */
before: number,
/**
 * Bytes after. Of a recipe that says `coded`, planned: as if codes were packed; only compressing tells how many they
 * are.
 */
after: number,
/**
 * Bytes of the same in memory, where codes are packed: fewer are only in the file.
 */
memory: number,
/**
 * `before / after`.
 */
ratio: number, };

/**
 * Center the token table: there is nothing to choose.
 */
export type Center = Record<symbol, never>;

/**
 * Where the numbers that share a scale are clipped.
 */
export type ClipBy = "minmax" | "percentile" | "mse" | "activation";

/**
 * A tensor as `compress` would store it.
 */
export type CodedView = {
/**
 * What was asked for.
 */
precision: Precision,
/**
 * What it is stored in: another one where the shape refuses, `kept` where no recipe touches it. A finding
 * says why.
 */
stored: StoredAs,
/**
 * Bytes of codes, scales and tables.
 */
bytes: number,
/**
 * `8 * bytes / params`; 0 of an empty tensor.
 */
bitsPerWeight: number,
/**
 * What rounding did, as `compress` reports it.
 */
error: RoundingError,
/**
 * The numbers that are finite, decoded, in the bins of the tensor's own histogram. What is
 * decoded to somewhere beyond its ends is in the outermost bins.
 */
histogram: Array<number>,
/**
 * A few numbers before and after.
 */
block: BlockView,
/**
 * What a shape refused, what was clipped.
 */
findings: Array<Finding>, };

/**
 * Sizes of two models.
 */
export type ComparedBytes = {
/**
 * Weights, scales and tables of the base, tied once.
 */
a: number,
/**
 * The same of the other.
 */
b: number,
/**
 * `a / b`.
 */
ratio: number,
/**
 * Bytes of the base's file.
 */
fileA: number,
/**
 * Bytes of the other's file.
 */
fileB: number, };

/**
 * Two models on the same tokens (`compare`): the quality card. `a` is the base.
 */
export type Comparison = {
/**
 * The base.
 */
a: Evaluation,
/**
 * The other, normally the compressed one.
 */
b: Evaluation,
/**
 * Sizes.
 */
bytes: ComparedBytes,
/**
 * Percent; positive is worse.
 */
perplexityChange: number,
/**
 * Its standard error, in percent: both judge the same tokens, so it is far below that of either perplexity.
 */
perplexityChangeStderr: number,
/**
 * Standard error of the difference of the two mean NLLs over the same tokens.
 */
nllDifferenceStderr: number,
/**
 * Kullback-Leibler divergence KL(a || b) per position, nats.
 */
kl: Distribution,
/**
 * Share of positions where both put the same token first.
 */
top1Agreement: number,
/**
 * Change of the probability of the right token, `p_b - p_a`.
 */
deltaP: DeltaP,
/**
 * Drift along the window.
 */
byPosition: Array<PositionDrift>,
/**
 * Drift through the layers.
 */
byLayer: Array<LayerDrift>,
/**
 * Mean KL that rounding alone produces: `a` run window-wise against `a` run token by token.
 */
noiseFloor: number,
/**
 * Whether that is a success, by size and by quality.
 */
verdict: Verdict, };

/**
 * What compressing did (`compress`): the plan, measured.
 */
export type CompressReport = {
/**
 * Bytes of the produced file.
 */
fileBytes: number,
/**
 * The shards that it was made from; empty where that was one file.
 */
fromFiles?: Array<FileReport>,
/**
 * Wall time.
 */
seconds: number,
/**
 * The most bytes of tensor buffers held at once while compressing.
 */
peakMemory: number,
/**
 * The recipe in full.
 */
recipe: Recipe,
/**
 * Tensors that a rule decided. What no recipe touches is in neither of the two.
 */
matched: Matched,
/**
 * Tensors that took `otherwise`.
 */
unmatched: Matched,
/**
 * Bytes before and after.
 */
bytes: Bytes,
/**
 * Element widths alone, without scales, against FP32: the way the research counted.
 */
nominal: Nominal,
/**
 * Parameters and bytes after, by precision; buffers are not counted.
 */
precisions: Array<PrecisionShare>,
/**
 * What prune steps remove, one after the other; empty where there is none.
 */
pruned?: Array<Pruned>,
/**
 * Every tensor that is written, in file order.
 */
tensors: Array<TensorPlan>,
/**
 * Patterns that match nothing, shapes that refuse, too much unmatched.
 */
findings: Array<Finding>, };

/**
 * What a precision costs a tensor.
 */
export type Cost = {
/**
 * Which.
 */
precision: Precision,
/**
 * How far apart the levels of its rows are, where they are chosen for an entropy coder.
 */
step?: number,
/**
 * Bytes of codes and scales; with a step, as they are stored, coded.
 */
bytes: number,
/**
 * Divergence of the model with this tensor, or these rows, alone rounded, in nats a token.
 */
kl: number,
/**
 * Whether that was measured, or is nothing because the tensor has these codes already; else it follows from the
 * measurement of the nearest number of bits, a quarter for each bit more, or from those of other steps.
 */
measured: boolean, };

/**
 * Rows of a token table or a head, counted from the most used.
 */
export type CostRows = {
/**
 * How many are used more.
 */
after: number,
/**
 * How many these are.
 */
count: number, };

/**
 * One of the two criteria of the scorecard.
 */
export type Criterion = {
/**
 * What was measured.
 */
value: number,
/**
 * What was wanted.
 */
limit: number,
/**
 * Whether that is so.
 */
reached: boolean, };

/**
 * Change of the probability of the right token.
 */
export type DeltaP = {
/**
 * Root mean square.
 */
rms: number,
/**
 * 1st percentile: the worst losses.
 */
p01: number,
/**
 * 99th percentile.
 */
p99: number, };

/**
 * A distribution in four numbers.
 */
export type Distribution = { mean: number, median: number, p99: number, max: number, };

/**
 * Whether later weights make up for the rounding of earlier ones.
 */
export type ErrorCompensation = "none" | "gptq";

/**
 * Perplexity of a model on a text (`evaluate`).
 */
export type Evaluation = {
/**
 * Tokens predicted.
 */
tokens: number,
/**
 * Mean negative log-likelihood, nats per token.
 */
nll: number,
/**
 * Standard error of `nll` over tokens.
 */
nllStderr: number,
/**
 * `exp(nll)`.
 */
perplexity: number,
/**
 * Tokens of a window.
 */
window: number,
/**
 * Windows evaluated.
 */
windows: number,
/**
 * Tokens given that lie in no full window and were dropped.
 */
dropped: number,
/**
 * Position `t` predicts token `t + offset`.
 */
offset: number,
/**
 * What computed: `cpu` or `webgpu`.
 */
backend: string,
/**
 * The GPU that computed.
 */
adapter?: string,
/**
 * Wall time.
 */
seconds: number,
/**
 * Tokens put in over wall time.
 */
tokensPerSecond: number,
/**
 * Mean NLL at offsets 0 to 3, when the offset was detected.
 */
nllByOffset?: Array<number>,
/**
 * What was assumed or found odd.
 */
findings: Array<Finding>, };

/**
 * What was written for another tool.
 */
export type ExportReport = {
/**
 * `plain`, `bitsandbytes`, `compressed-tensors`, `gguf` or `onnx`.
 */
format: string,
/**
 * Bytes of the file that has the weights.
 */
fileBytes: number,
/**
 * What is in it, in file order.
 */
tensors: Array<ExportedTensor>,
/**
 * What was changed, rounded again, left out or stored finer.
 */
findings: Array<Finding>, };

/**
 * A tensor as the other tool has it.
 */
export type ExportedTensor = {
/**
 * Its name there.
 */
name: string,
/**
 * The key it was made of; there is none where the configuration says its numbers.
 */
from?: string,
/**
 * Its shape there, outermost dimension first.
 */
shape: Array<number>,
/**
 * How its numbers are stored, in the other tool's words: `F32`, `Q8_0`, `nf4`, ...
 */
dtype: string,
/**
 * Bytes of its numbers.
 */
bytes: number, };

/**
 * A family of models, by its name in reports: `mamba2`. The list is open: families are declared
 * where they are read, and a report of a newer version may name one that this version does not know.
 */
export type Family = string;

/**
 * One field of a configuration.
 */
export type Field = {
/**
 * A number, a boolean or a list of numbers.
 */
value: number | boolean | string | number[],
/**
 * Where it comes from.
 */
origin: Origin,
/**
 * The tensor, the config key or the rule that it comes from.
 */
from: string, };

/**
 * One of the files of a checkpoint.
 */
export type FileReport = {
/**
 * What it is called.
 */
name: string,
/**
 * Its size.
 */
bytes: number, };

/**
 * One thing worth telling, with the tensor that caused it.
 */
export type Finding = {
/**
 * How loud it is.
 */
level: Level,
/**
 * A stable kebab-case word for programs: `tied-again`, `unmatched`, ...
 */
code: string,
/**
 * One sentence for people, lower case.
 */
message: string,
/**
 * The tensor, where there is one.
 */
tensor?: string, };

/**
 * The Fisher information of a model at its look-ups and at the outputs of its products: second moments of gradients g of
 * the negative log-likelihood, summed over a window, of labels drawn from the model's own predictions. A small change there
 * costs half its square, weighted so, in divergence (Martens 2020, section 5).
 */
export type Fisher = {
/**
 * Tokens that it was taken over.
 */
tokens: number,
/**
 * `F_in = mean g g^T`, `[d, d]` row-major, with g the gradient by the row of the table that a token looks up.
 */
lookedUp: Array<number>,
/**
 * Of every matrix that something enters, but the head.
 */
outputs: Array<OutputFisher>, };

/**
 * A container format.
 */
export type Format = "pytorch" | "safetensors" | "gguf" | "numpy";

/**
 * One generated token.
 */
export type GeneratedToken = {
/**
 * Its id.
 */
id: number,
/**
 * Its probability under the model (before temperature and top-k).
 */
probability: number, };

/**
 * How `gptq` is done: scales are refitted and codes moved once more as often as `passes` says.
 */
export type GptqOptions = {
/**
 * Windows of the calibration text that are read, evenly spaced: 1 to 4096. Of a shorter text as many as it has.
 */
windows: number,
/**
 * Tokens of a window: 1 to 65536, or the model's positions where they are fewer.
 */
window: number,
/**
 * How often scales are refitted and codes moved: 0 to 8. With 0 it is GPTQ.
 */
passes: number,
/**
 * What is added to the diagonal of the statistics, as a share of its mean: above 0 and at most 1.
 */
damping: number, };

/**
 * What one scale covers, where it is no group.
 */
export type Granularity = "row" | "tensor";

/**
 * Levels, and so many bits for a code of one of them. Finer grids come first.
 */
export type Grid = "int8" | "int6" | "int5" | "int4" | "nf4" | "int3" | "lm3" | "int2" | "lm2";

/**
 * Integers of 6, 5, 3 and 2 bits and Lloyd-Max levels, in groups of the flattened tensor.
 */
export type GroupOptions = {
/**
 * Values that share a scale: 16, 32, 64, 128 or 256.
 */
group: number,
/**
 * The type of the scales: `log8`, `fp16` or `fp32`.
 */
scale: ScaleType,
/**
 * Where a scale clips: anything but `percentile`. `minmax` when left out.
 */
clip?: ClipBy, };

/**
 * Counts in equal bins: bin `i` of `b` holds `from + i * w <= x < from + (i + 1) * w` with
 * `w = (to - from) / b`, the last one `to` as well. Where `from` is `to`, all are in the first.
 */
export type Histogram = {
/**
 * The smallest finite number; 0 where there is none.
 */
from: number,
/**
 * The largest finite number; 0 where there is none.
 */
to: number,
/**
 * Finite numbers in each bin.
 */
counts: Array<number>, };

/**
 * What a checkpoint is (`inspect`).
 */
export type Inspection = {
/**
 * The container.
 */
format: Format,
/**
 * Where in it the tensors were: the keys to them; what their keys begin with; several with `+` between, which are one
 * model; or `bare`, the top level of the file.
 */
wrapper: string,
/**
 * Everything that could be the weights, what was taken first.
 */
weights: Array<WeightsAt>,
/**
 * The family of models.
 */
family: Family,
/**
 * Parameters; tied ones once, buffers not at all.
 */
params: number,
/**
 * Bytes of weights, scales and tables; tied ones once, buffers not at all.
 */
bytes: number,
/**
 * Bytes of the file, or of all shards together.
 */
fileBytes: number,
/**
 * The shards of a checkpoint in several files; empty where it is one.
 */
files?: Array<FileReport>,
/**
 * The recipe that produced the file, when it is one of ours.
 */
recipe?: Recipe,
/**
 * Every tensor in file order.
 */
tensors: Array<TensorReport>,
/**
 * Every configuration field with its origin.
 */
spec: { [key in string]: Field },
/**
 * What was assumed, skipped, refused or found odd.
 */
findings: Array<Finding>, };

/**
 * INT4: symmetric groups along rows, `scale = absmax / 7`.
 */
export type Int4Options = {
/**
 * Values of a row that share a scale: 16, 32, 64 or 128.
 */
group: number,
/**
 * The type of the scales.
 */
scale: ScaleType,
/**
 * Where a scale clips: anything but `percentile`. `minmax` when left out.
 */
clip?: ClipBy, };

/**
 * INT8: `scale = c / 127` with `c` where magnitudes are clipped, as a rule the largest.
 */
export type Int8Options = {
/**
 * What one scale covers.
 */
granularity: Granularity,
/**
 * Where a scale clips.
 */
clip: ClipBy,
/**
 * With `percentile`: which one, above 0 and at most 100.
 */
percentile: number, };

/**
 * Drift after one layer.
 */
export type LayerDrift = {
/**
 * `embedding`, `layers.0`, ...
 */
layer: string,
/**
 * `||h_b - h_a|| / ||h_a||` over all positions of the residual stream.
 */
relativeError: number, };

/**
 * How loud a finding is.
 */
export type Level = "info" | "warning" | "error";

/**
 * How much a set of rules covers.
 */
export type Matched = {
/**
 * Tensors.
 */
tensors: number,
/**
 * Parameters.
 */
params: number,
/**
 * Share of the parameters that a recipe decides about.
 */
percent: number, };

/**
 * How to have a model's own figures.
 */
export type MeasureOffer = {
/**
 * The recipes that are worth it.
 */
recipes: Array<string>,
/**
 * Tokens to read, unless said otherwise.
 */
tokens: number,
/**
 * What it takes on one core of a CPU, roughly.
 */
seconds: number,
/**
 * The command that does it.
 */
command: string, };

/**
 * What was measured of a built-in recipe on the checkpoint that is advised on.
 */
export type MeasuredRecipe = {
/**
 * Its name; `none` is the original.
 */
recipe: string,
/**
 * Perplexity change in percent.
 */
loss: number,
/**
 * Standard error of that, in percent.
 */
stderr?: number,
/**
 * Mean KL divergence, nats a token.
 */
kl: number,
/**
 * Bytes before over bytes after.
 */
ratio: number,
/**
 * Tokens that were judged.
 */
tokens?: number,
/**
 * Tokens a second, made one after the other.
 */
tokensPerSecond?: number,
/**
 * What made them: `cpu` or `webgpu`.
 */
backend?: string, };

/**
 * NF4 as in QLoRA and bitsandbytes.
 */
export type Nf4Options = {
/**
 * Values that share an absmax: 32, 64, 128, 256, 512, 1024, 2048 or 4096.
 */
block: number,
/**
 * Whether the absmax values are themselves quantized to 8 bits.
 */
doubleQuant: boolean,
/**
 * The type of the absmax values when they are not.
 */
absmax: ScaleType,
/**
 * Where a scale clips: anything but `percentile`. `minmax` when left out.
 */
clip?: ClipBy, };

/**
 * Sizes from element widths alone.
 */
export type Nominal = {
/**
 * Bytes of the codes.
 */
bytes: number,
/**
 * FP32 bytes over those.
 */
ratio: number, };

/**
 * Where the value of a field comes from.
 */
export type Origin = "read" | "counted" | "assumed" | "given";

/**
 * Of the outputs of one matrix.
 */
export type OutputFisher = {
/**
 * The usual key of its tensor.
 */
key: string,
/**
 * Which of several matrices in one tensor it is.
 */
part: number,
/**
 * `mean g_i^2` of every output i: one for each row.
 */
rows: Array<number>, };

/**
 * What a recipe will do (`plan`), or did (`compress`).
 */
export type Plan = {
/**
 * The recipe in full.
 */
recipe: Recipe,
/**
 * Tensors that a rule decided. What no recipe touches is in neither of the two.
 */
matched: Matched,
/**
 * Tensors that took `otherwise`.
 */
unmatched: Matched,
/**
 * Bytes before and after.
 */
bytes: Bytes,
/**
 * Element widths alone, without scales, against FP32: the way the research counted.
 */
nominal: Nominal,
/**
 * Parameters and bytes after, by precision; buffers are not counted.
 */
precisions: Array<PrecisionShare>,
/**
 * What prune steps remove, one after the other; empty where there is none.
 */
pruned?: Array<Pruned>,
/**
 * Every tensor that is written, in file order.
 */
tensors: Array<TensorPlan>,
/**
 * Patterns that match nothing, shapes that refuse, too much unmatched.
 */
findings: Array<Finding>, };

/**
 * Drift in one stretch of the window.
 */
export type PositionDrift = {
/**
 * First position of the stretch.
 */
from: number,
/**
 * Position after its last.
 */
to: number,
/**
 * Mean KL(a || b).
 */
kl: number,
/**
 * Mean NLL of b minus that of a.
 */
nllChange: number, };

/**
 * How the numbers of a tensor are to be stored. What a precision needs beside its name
 * (group, block, granularity) is in [`crate::Encoding`].
 */
export type Precision = "fp32" | "fp16" | "bf16" | Grid;

/**
 * What a precision holds after compression, or all that is kept.
 */
export type PrecisionShare = {
/**
 * The precision.
 */
precision: StoredAs,
/**
 * Parameters in it.
 */
params: number,
/**
 * Their bytes, scales included.
 */
bytes: number, };

/**
 * How far a job is.
 */
export type Progress = {
/**
 * What is being done: `compress`, `evaluate`, `compare`, ...
 */
stage: string,
/**
 * Units done.
 */
done: number,
/**
 * Units in all.
 */
total: number,
/**
 * What is counted: `tensors`, `tokens`, ...
 */
unit: string,
/**
 * The thing just finished, where it has a name.
 */
item?: string, };

/**
 * Remove structure, so that a smaller model is left which runs like any other.
 */
export type Prune = {
/**
 * What is removed.
 */
kind: PruneKind,
/**
 * What stays of it in every layer, or of all layers. At most 1: the share, rounded down, though one stays, and 1 is all; a whole number from
 * 2: how many.
 */
keep: number,
/**
 * How candidates are ranked. `l2` when left out.
 */
by: PruneBy,
/**
 * Whether the weights that read what is removed are fitted to do without it, by least squares over what a calibration
 * text sends them. `false` when left out.
 */
repair: boolean,
/**
 * Windows of 256 tokens of the calibration text that are read, evenly spaced, 1 to 4096; of a shorter text as many as it
 * has. 32 when left out: fitting takes more than rounding does. Of kinds layers and sublayers no more than 4, as whole models are run over them.
 */
windows: number,
/**
 * The layers it is done in, counted from 0; all that have such structure when left out.
 */
layers?: Array<number>, };

/**
 * How a prune step ranks candidates. All but the first two need a calibration text.
 */
export type PruneBy = "l1" | "l2" | "activation" | "loss" | "usage";

/**
 * What a prune step removes.
 */
export type PruneKind = "inner" | "state" | "head" | "attentionHead" | "width" | "experts" | "delta" | "hidden" | "layers" | "sublayers" | "vocabulary";

/**
 * What one prune step removed, or will.
 */
export type Pruned = {
/**
 * The step.
 */
step: Prune,
/**
 * Parameters before it.
 */
paramsBefore: number,
/**
 * Parameters after it.
 */
paramsAfter: number,
/**
 * Every place where something was removed.
 */
places: Array<PrunedPlace>, };

/**
 * What was removed in one place: the channels of a layer, or of one expert.
 */
export type PrunedPlace = {
/**
 * The layer, from 0.
 */
layer: number | null,
/**
 * The weights that had them.
 */
tensors: Array<string>,
/**
 * How many there were.
 */
before: number,
/**
 * How many are left.
 */
after: number,
/**
 * Which were removed, counted from 0 as they were before. Empty in a plan, and of what was fitted instead of cut.
 */
removed: Array<number>,
/**
 * What the outputs of their readers lost on the calibration text, as a share of their squares: with repair what is
 * left of it; of a step size's projection, what it lost. Of whole layers and parts of them: how far predictions are from the
 * original's there, in nats a token.
 */
error?: number, };

/**
 * Store numbers in fewer bits.
 */
export type Quantize = {
/**
 * First match wins.
 */
rules: Array<Rule>,
/**
 * The precision of tensors that no rule matches.
 */
otherwise: Precision,
/**
 * How `int8` is done.
 */
int8: Int8Options,
/**
 * How `nf4` is done.
 */
nf4: Nf4Options,
/**
 * How `int4` is done.
 */
int4: Int4Options,
/**
 * How `int6`, `int5`, `int3`, `int2`, `lm3` and `lm2` are done.
 */
groups: GroupOptions,
/**
 * Whether the codes of quantized tensors are entropy-coded in the file, which is smaller for it; in memory they are
 * what they are without. `false` when left out.
 */
coded: boolean,
/**
 * Whether rounding errors are made up for. `none` when left out.
 */
errorCompensation: ErrorCompensation,
/**
 * How `gptq` is done, if not as usual.
 */
gptq?: GptqOptions, };

/**
 * What to do to a checkpoint.
 */
export type Recipe = {
/**
 * Version of the schema: 1.
 */
version: number,
/**
 * A short name; it goes into the produced file and the report.
 */
name: string,
/**
 * One line for people.
 */
description?: string,
/**
 * What is done, in order.
 */
steps: Array<Step>, };

/**
 * One piece of advice.
 */
export type Recommendation = {
/**
 * Name of a built-in recipe; among what is advised against also of a technique.
 */
recipe: string,
/**
 * The reason.
 */
why: string,
/**
 * Bytes before over bytes after: measured, or planned for this checkpoint.
 */
expectedRatio?: number,
/**
 * Perplexity change in percent, measured on `measured_on`; absent where neither this model nor one of its family was
 * measured.
 */
expectedLoss?: number,
/**
 * Standard error of `expected_loss`, in percent.
 */
lossStderr?: number,
/**
 * Mean KL divergence in nats a token, measured as `expected_loss` was.
 */
kl?: number,
/**
 * Tokens it was measured on.
 */
tokens?: number,
/**
 * The model that was measured: `this file`, or the name of another one of its family.
 */
measuredOn?: string,
/**
 * Tokens a second that this device makes one after the other, where that was measured.
 */
tokensPerSecond?: number,
/**
 * What the scorecard says of these figures.
 */
verdict?: Verdict,
/**
 * `low`, `medium` or `high`.
 */
risk: Risk,
/**
 * Where the figures come from: `measured`, `unmeasured` or `literature`.
 */
basis: Basis,
/**
 * The rules behind it, the one that counts most first.
 */
rules: Array<RuleReport>, };

/**
 * Train what the other steps have made to predict as the original does, on a text that is given beside the recipe.
 */
export type Recover = {
/**
 * What is trained. `vectors` when left out.
 */
weights: RecoverWeights,
/**
 * Updates of the weights, from 1. 1000 when left out.
 */
steps: number,
/**
 * How much the original's predictions count, 0 to 1; the text itself counts the rest. 1 when left out. Of a student as much
 * as when it was taught.
 */
alpha: number,
/**
 * The highest learning rate, above 0 and at most 1. When left out 0.001 for vectors, and for codes the higher the fewer bits they have.
 */
learningRate?: number, };

/**
 * What recovery trains.
 */
export type RecoverWeights = "vectors" | "all";

/**
 * How likely harm is.
 */
export type Risk = "low" | "medium" | "high";

/**
 * What a weight does.
 */
export type Role = "table" | "positions" | "basis" | "head" | "norm" | "conv" | "in-proj" | "out-proj" | "x-proj" | "dt-proj" | "delta-proj" | "state-matrix" | "dynamics" | "attention-in" | "attention-out" | "ffn-in" | "ffn-out" | "expert-in" | "expert-out" | "router" | "bias";

/**
 * The difference between a tensor and what its codes decode to.
 *
 * NaN and infinities that were in the tensor already stay what they are and are left out of the first three.
 * Where a finite number became infinite there is no distance: those three are `null`.
 */
export type RoundingError = {
/**
 * Mean squared difference.
 */
mse: number | null,
/**
 * Largest absolute difference.
 */
maxAbs: number | null,
/**
 * Cosine of the angle between the two; 1 when both are zero.
 */
cosine: number | null,
/**
 * Values brought nearer to 0, to the last code: beyond where a recipe clips, or
 * what a scale or absmax in 16 bits does not reach.
 */
clipped: number,
/**
 * Finite values that became infinite: beyond the range of FP16 or BF16, or float64 beyond that of float32.
 */
overflowed: number,
/**
 * Values other than 0 that became 0: with FP16 and BF16 each of them; with codes those of rows, groups
 * or blocks of which nothing but zeros is left.
 */
zeroed: number,
/**
 * NaN and infinities that were there before.
 */
nonFinite: number, };

/**
 * Some rows of a matrix, and their precision: those of a part of it that has a name, or the most used of a vocabulary.
 */
export type RowRule = {
/**
 * What the rows are called: `z`, `x`, `B`, `C`, `dt`, as `inspect` names the parts of a matrix.
 */
label?: string,
/**
 * How many of the rows that are left, the most used first: of a token table or a head, by how often a calibration text
 * makes the model predict them.
 */
count?: number,
/**
 * Their precision.
 */
precision: Precision, };

/**
 * Rows of a tensor that share a precision.
 */
export type RowsPlan = {
/**
 * What they are stored in.
 */
precision: Precision,
/**
 * How many they are.
 */
rows: number,
/**
 * Their bytes. Which class a row is of takes a few bits beside them.
 */
bytes: number, };

/**
 * Which tensors, which precision.
 */
export type Rule = {
/**
 * A glob over the checkpoint's keys, with or without their prefix, or `role:` and a [`Role`]: `role:norm`.
 */
match: string,
/**
 * The precision of what matches.
 */
precision: Precision,
/**
 * Of `int8` with errors made up for: how far apart the levels of a row are, in units of what the matrix puts out, instead
 * of as close as 8 bits allow. Most codes are small then, and take few bits once they are entropy-coded. Numbers whose errors
 * cannot be made up for, as no product goes over them, have levels that far apart themselves; the report says so.
 */
step?: number,
/**
 * Rows of a matrix that take another precision than the rest of it.
 */
rows?: Array<RowRule>, };

/**
 * A rule behind a piece of advice.
 */
export type RuleReport = {
/**
 * A stable kebab-case word for programs.
 */
id: string,
/**
 * The rule in a few words.
 */
title: string,
/**
 * The document it is from, and where in it.
 */
source: string,
/**
 * That document, where it can be opened.
 */
url?: string, };

/**
 * The type of stored scales.
 */
export type ScaleType = "fp16" | "fp32" | "log8" | "double" | "affine";

/**
 * What rounding each tensor of a model alone costs: all that a search needs to know of it.
 */
export type SearchCosts = {
/**
 * What is stored how where the search does not choose.
 */
base: Recipe,
/**
 * Bytes of the model as opened.
 */
bytesBefore: number,
/**
 * Bytes of what the search does not choose about.
 */
fixedBytes: number,
/**
 * The tensors that it chooses about.
 */
tensors: Array<TensorCosts>,
/**
 * How many more it would choose about that are not measured yet: they are stored as the base says, and in no prediction.
 */
unmeasured: number,
/**
 * Whether tensors were rounded by gradients.
 */
gradients: boolean,
/**
 * Tokens on which divergences were measured.
 */
tokens: number,
/**
 * Tokens of a window of them.
 */
window: number, };

/**
 * What a search does next, and how far it got.
 */
export type SearchNext = {
/**
 * The recipe to try; none where the search is over.
 */
next?: SearchResult,
/**
 * Which of those that were tried is the best, counted from 0.
 */
best?: number,
/**
 * Whether that reaches the target.
 */
reached: boolean, };

/**
 * A recipe on the front.
 */
export type SearchPoint = {
/**
 * Bytes of weights and scales.
 */
bytes: number,
/**
 * Bytes as opened over these.
 */
ratio: number,
/**
 * Predicted divergence in nats a token: the sum of what each tensor costs alone.
 */
kl: number,
/**
 * Predicted perplexity change in percent, `100 (e^kl - 1)`: that of a text which the model itself could have written.
 */
perplexityChange: number, };

/**
 * The recipe that reaches a target by what was measured of each tensor.
 */
export type SearchResult = {
/**
 * An ordinary recipe: a rule for each tensor that was chosen about, then what the base says.
 */
recipe: Recipe,
/**
 * Where it lies.
 */
chosen: SearchPoint,
/**
 * Everything on the way from the smallest to the closest recipe, smallest first.
 */
front: Array<SearchPoint>, };

/**
 * What a search begins with.
 */
export type SearchSteps = {
/**
 * The steps that come before anything is chosen; there may be none.
 */
first: Recipe,
/**
 * Whether a text has to be read for any of them.
 */
readsText: boolean,
/**
 * What is to be known of these steps.
 */
findings: Array<Finding>, };

/**
 * What is to be reached: exactly one of the four.
 */
export type SearchTarget = {
/**
 * Bytes as opened over bytes after, above 1.
 */
ratio?: number,
/**
 * Bytes of weights and scales that may be left.
 */
bytes?: number,
/**
 * Divergence that may be lost, in nats a token.
 */
maxKl?: number,
/**
 * Perplexity change that may be lost, in percent.
 */
maxLoss?: number, };

/**
 * What was measured of a recipe that was tried.
 */
export type SearchTry = {
/**
 * Bytes of weights and scales, as they are stored.
 */
bytes: number,
/**
 * Divergence on the part of the text that judges, in nats a token.
 */
kl: number,
/**
 * Perplexity change on it, in percent.
 */
perplexityChange: number, };

/**
 * Rows of a tensor that belong together, as `x`, `B` and `C` in one projection.
 */
export type Segment = {
/**
 * What the rows are called: `z`, `x`, `B`, `C`, `dt`, ...
 */
label: string,
/**
 * How many they are.
 */
rows: number, };

/**
 * The finite numbers `x` of a tensor, `n` of them, in f64. With none of them, all but the counts is 0
 * and a finding says so.
 */
export type Statistics = {
/**
 * The smallest.
 */
min: number,
/**
 * The largest.
 */
max: number,
/**
 * `sum(x) / n`
 */
mean: number,
/**
 * `sqrt(sum((x - mean)^2) / n)`
 */
std: number,
/**
 * The largest magnitude.
 */
absMax: number,
/**
 * How many are 0.
 */
zeros: number,
/**
 * NaN and infinities; nothing else here counts them.
 */
nonFinite: number,
/**
 * How heavy the tails are: `n * sum((x - mean)^4) / sum((x - mean)^2)^2 - 3`. A normal
 * distribution has 0, a uniform one -1.2, outliers make it large; 0 where all numbers are the same.
 */
kurtosis: number, };

/**
 * One step of a recipe.
 */
export type Step = { "prune": Prune } | { "center": Center } | { "basis": TableBasis } | { "quantize": Quantize } | { "recover": Recover };

/**
 * What a tensor is stored as after compressing: a precision, or `kept`: whole numbers, booleans and
 * types that no recipe touches stay as they were, bit for bit.
 */
export type StoredAs = "kept" | Precision;

/**
 * Write the rows of the token table in a basis in which all directions matter alike and have nothing in common, as far as a
 * calibration text tells: the basis is stored beside the table. Such rows take fewer bits once they are entropy-coded.
 */
export type TableBasis = {
/**
 * Windows of 256 tokens of the calibration text that are read, evenly spaced, 1 to 4096; of a shorter text as many as it
 * has. 16 when left out.
 */
windows: number, };

/**
 * What can be done beyond a recipe by itself.
 */
export type TechniqueAdvice = {
/**
 * What it is called.
 */
technique: string,
/**
 * What it does, and what is known of it.
 */
why: string,
/**
 * The command that does it.
 */
command: string,
/**
 * Where it comes from, and the rules that recommend it.
 */
rules: Array<RuleReport>, };

/**
 * What rounding one tensor costs, or some of its rows.
 */
export type TensorCosts = {
/**
 * Its name.
 */
tensor: string,
/**
 * Of a token table or a head, which is chosen about in classes of rows: which rows these are.
 */
rows?: CostRows,
/**
 * What it does.
 */
role?: Role | null,
/**
 * Its parameters, those of these rows alone.
 */
params: number,
/**
 * What each precision would cost, the smallest first.
 */
choices: Array<Cost>, };

/**
 * One tensor of a plan.
 */
export type TensorPlan = {
/**
 * The real key.
 */
name: string,
/**
 * What it is stored in afterwards. `kept`: whole numbers, booleans and types that no recipe touches stay as
 * they are, bit for bit.
 */
precision: StoredAs,
/**
 * How far apart the levels of its rows are, where the recipe says so.
 */
step?: number,
/**
 * Where its rows are of several classes: those classes. `precision` is that of most rows then. Empty where all are alike.
 */
rows?: Array<RowsPlan>,
/**
 * The pattern that decided, or `otherwise`, or in parentheses why no pattern did.
 */
rule: string,
/**
 * What it does in the model, where its family is known and says so.
 */
role?: Role,
/**
 * Why it takes this precision, as a sentence.
 */
why?: string,
/**
 * Numbers in it.
 */
params: number,
/**
 * Bytes as opened.
 */
bytesBefore: number,
/**
 * Bytes after; see [`Bytes::after`].
 */
bytesAfter: number,
/**
 * What rounding did; only after compressing.
 */
error?: RoundingError, };

/**
 * One tensor of an inspection.
 */
export type TensorReport = {
/**
 * The real key.
 */
name: string,
/**
 * Dimensions, outermost first.
 */
shape: Array<number>,
/**
 * `F32`, `BF16`, `QI8`, `NF4`, ...
 */
dtype: string,
/**
 * Numbers in it.
 */
params: number,
/**
 * Bytes of codes, scales and tables, as they are stored.
 */
bytes: number,
/**
 * Whether its codes are entropy-coded, so that it takes more bytes in memory.
 */
coded?: boolean,
/**
 * The earlier tensor that holds the same storage.
 */
tiedTo?: string,
/**
 * What it does in the model, where its family is known and says so.
 */
role?: Role,
/**
 * Where its rows are of several kinds: those kinds, in order. Empty where they are not.
 */
segments?: Array<Segment>,
/**
 * True for tensors that are not weights (counters, masks).
 */
buffer?: boolean, };

/**
 * A tensor, its numbers, and what they become in each precision that was asked for.
 */
export type TensorView = {
/**
 * The real key.
 */
name: string,
/**
 * Dimensions, outermost first.
 */
shape: Array<number>,
/**
 * What it is stored in as opened: `F32`, `BF16`, `QI8`, `NF4`, ...
 */
dtype: string,
/**
 * Numbers in it.
 */
params: number,
/**
 * What its numbers are like.
 */
statistics: Statistics,
/**
 * How they are spread.
 */
histogram: Histogram,
/**
 * One for each precision that was asked for, in that order.
 */
coded: Array<CodedView>,
/**
 * Numbers that are not finite, digits lost in reading, a storage that is another's.
 */
findings: Array<Finding>, };

/**
 * What a training run did.
 */
export type Training = {
/**
 * What computed: `flex` or `ndarray`, both on the CPU.
 */
device: string,
/**
 * Parameters of the student.
 */
params: number,
/**
 * Those of them that were trained.
 */
trainedParams: number,
/**
 * Updates of the weights.
 */
steps: number,
/**
 * Tokens that they were computed from, repeated ones counted again.
 */
tokens: number,
/**
 * Tokens of the held-out text that every look was about.
 */
heldOutTokens: number,
/**
 * Seconds from the first look to the last.
 */
seconds: number,
/**
 * Bytes of memory that it was estimated to take before it began.
 */
memory: number,
/**
 * How much the teacher counts; the text counts the rest.
 */
alpha: number,
/**
 * What logits are divided by before teacher and student are compared.
 */
temperature: number,
/**
 * The learning rate at its highest.
 */
learningRate: number,
/**
 * What decided the order of windows, and fresh numbers.
 */
seed: number,
/**
 * The share of the codes that are others than before, where codes were trained.
 */
codesChanged?: number,
/**
 * Why it ended.
 */
stopped: TrainingStop,
/**
 * Every look at the held-out text.
 */
validation: Array<TrainingPoint>,
/**
 * The best of them, by `kl` where there is one, else by `nll`: the weights are those of that step.
 */
best: TrainingPoint, };

/**
 * How good a model in training was at some step.
 */
export type TrainingPoint = {
/**
 * Updates until then.
 */
step: number,
/**
 * Tokens that these were computed from, repeated ones counted again.
 */
tokens: number,
/**
 * Seconds until then, those of looks among them.
 */
seconds: number,
/**
 * The mean loss of training since the point before, nats a token; there is none at the first.
 */
loss?: number,
/**
 * Mean negative log-likelihood of the held-out text, nats a token.
 */
nll: number,
/**
 * The exponential of it.
 */
perplexity: number,
/**
 * Mean divergence from the teacher's predictions of the held-out text, nats a token, where the teacher counts alone.
 */
kl?: number, };

/**
 * Why a training run ended.
 */
export type TrainingStop = "finished" | "noBetter" | "asked" | { "diverged": {
/**
 * The step that was not done.
 */
step: number,
/**
 * The first tensor whose numbers or gradient it was; where there is none, the loss.
 */
what: string, } };

/**
 * The scorecard of the findings document of Itera-Lite ("Success Metrics"), with its direction put right.
 *
 * The document divides the final size by the baseline's and asks that the quotient be at least 1.5, which only a file that
 * has grown could reach. Here compression is what it means: bytes of the base over bytes of the other.
 */
export type Verdict = {
/**
 * `success`: both criteria are reached; `partial`: compression alone; `failure`: else.
 */
result: VerdictResult,
/**
 * Bytes of the base over bytes of the other: at least the limit.
 */
compression: Criterion,
/**
 * Perplexity change, `(new - base) / base`, in percent: at most the limit.
 */
degradation: Criterion, };

/**
 * The three outcomes of the scorecard.
 */
export type VerdictResult = "success" | "partial" | "failure";

/**
 * Tensors of a file that could be the weights.
 */
export type WeightsAt = {
/**
 * The keys to them, with dots between; what their keys begin with; several with `+` between, which are one model; `bare`
 * at the top level of the file.
 */
path: string,
/**
 * How many they are.
 */
tensors: number,
/**
 * Numbers in them.
 */
params: number, };

/**
 * What each role does, in words.
 */
export const ROLE_WORDS: Readonly<Record<Role, string>> = {
  "table": "a row for every token of the vocabulary",
  "positions": "a row for every position",
  "basis": "the directions that the rows of the table are written in",
  "head": "makes the logits",
  "norm": "scales what a norm has normalised",
  "conv": "mixes a channel's last few inputs",
  "in-proj": "the first projection of an SSM block",
  "out-proj": "the last projection of an SSM block",
  "x-proj": "computes step size, B and C of every token",
  "dt-proj": "computes how far the state moves for every token",
  "delta-proj": "computes how far the state moves as a mean over its rows, in which errors cancel",
  "state-matrix": "leads into the state, or out of it",
  "dynamics": "how the state decays and steps: a small error grows over the text",
  "attention-in": "queries, keys or values of attention",
  "attention-out": "the last projection of attention",
  "ffn-in": "the first projection of a feed-forward network",
  "ffn-out": "the last projection of a feed-forward network",
  "expert-in": "the first projection of an expert",
  "expert-out": "the last projection of an expert",
  "router": "chooses the experts of every token",
  "bias": "is added to a projection's output",
};

/**
 * A quantize step to start from. `rules` and `otherwise` must always be given; the rest is what one takes for what it does not say.
 */
export const QUANTIZE_DEFAULTS: Quantize = {
  "rules": [],
  "otherwise": "fp32",
  "int8": {
    "granularity": "row",
    "clip": "minmax",
    "percentile": 99.99
  },
  "nf4": {
    "block": 64,
    "doubleQuant": true,
    "absmax": "fp32"
  },
  "int4": {
    "group": 32,
    "scale": "fp16"
  },
  "groups": {
    "group": 64,
    "scale": "fp16"
  },
  "coded": false,
  "errorCompensation": "none"
};

/**
 * A recover step that says nothing else.
 */
export const RECOVER_DEFAULTS: Recover = {
  "weights": "vectors",
  "steps": 1000,
  "alpha": 1.0
};

/**
 * Every precision, by bits of a number, most first.
 */
export const PRECISIONS: readonly Precision[] = ["fp32", "fp16", "bf16", "int8", "int6", "int5", "int4", "nf4", "int3", "lm3", "int2", "lm2"];

/**
 * What the levels of each grid are, in words.
 */
export const GRID_WORDS: Readonly<Record<Grid, string>> = {
  "int8": "255 levels at equal distance, from minus to plus the largest number that shares the scale. One outlier makes all steps coarse.",
  "int6": "63 levels at equal distance, and one more below zero.",
  "int5": "31 levels at equal distance, and one more below zero.",
  "int4": "15 levels at equal distance. Small groups of numbers share a scale, so that an outlier spoils only its own group.",
  "nf4": "16 levels placed where a bell curve has its numbers: dense around zero, sparse in the tails.",
  "int3": "7 levels at equal distance, and one more below zero.",
  "lm3": "8 levels where they cost a bell curve the least: the Lloyd-Max levels.",
  "int2": "3 levels at equal distance, and one more below zero.",
  "lm2": "4 levels where they cost a bell curve the least. Too coarse for most tensors without error compensation.",
};

/**
 * Grids that `groups` of a quantize step says how to do.
 */
export const GROUPED: readonly Grid[] = ["int6", "int5", "int3", "lm3", "int2", "lm2"];

/**
 * What a prune step can remove.
 */
export const PRUNE_KINDS: readonly PruneKind[] = ["inner", "state", "head", "attentionHead", "width", "experts", "delta", "hidden", "layers", "sublayers", "vocabulary"];

/**
 * How each kind is pruned best where there is a text: how candidates are ranked, whether what is left is fitted to do without the others, and whether it takes a text at all.
 */
export const PRUNING: Readonly<Record<PruneKind, { by: PruneBy; repair: boolean; needsText: boolean }>> = {
  inner: { by: "loss", repair: true, needsText: false },
  state: { by: "loss", repair: true, needsText: false },
  head: { by: "loss", repair: true, needsText: false },
  attentionHead: { by: "loss", repair: true, needsText: false },
  width: { by: "loss", repair: true, needsText: false },
  experts: { by: "loss", repair: false, needsText: false },
  delta: { by: "loss", repair: true, needsText: true },
  hidden: { by: "loss", repair: true, needsText: true },
  layers: { by: "loss", repair: false, needsText: true },
  sublayers: { by: "loss", repair: false, needsText: true },
  vocabulary: { by: "usage", repair: false, needsText: true },
};

/**
 * What `int4.group` may be.
 */
export const INT4_GROUPS: readonly number[] = [16, 32, 64, 128];

/**
 * What `nf4.block` may be.
 */
export const NF4_BLOCKS: readonly number[] = [32, 64, 128, 256, 512, 1024, 2048, 4096];

/**
 * What `groups.group` may be.
 */
export const GROUP_SIZES: readonly number[] = [16, 32, 64, 128, 256];

/**
 * What `groups.scale` may be.
 */
export const GROUP_SCALES: readonly ScaleType[] = ["log8", "fp16", "fp32"];
