// What a model loses at 8, 6, 5, 4, 3 and 2 bits a weight, every byte counted: as rows of a table.
//   node bits.mjs FOLDER_OR_FILE (--text TEXT | --ids BIN) [--calibrate TEXT | --calibrate-ids BIN] [--limit TOKENS] [--json]
//
// Every matrix is stored in the same codes: int8 with a scale for each row, nf4 in double-quantized blocks of 64, the others
// in groups of 64 with scales of 16 bits; the rest is FP16. With a calibration text, which must be another one, each row
// is also measured with rounding errors made up for. Ids are little-endian u16.

import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { compare, open } from "statepress";

const OPTIONS = Object.fromEntries(
  ["text", "ids", "calibrate", "calibrate-ids", "limit"].map((name) => [name, { type: "string" }]),
);
const USAGE =
  "usage: node bits.mjs FOLDER_OR_FILE (--text TEXT | --ids BIN) [--calibrate TEXT | --calibrate-ids BIN] [--limit TOKENS] [--json]";
const { values, positionals } = parsed();
const [input, ...others] = positionals;
const isJudged = (values.text === undefined) !== (values.ids === undefined);
const isCalibrated = values.calibrate !== undefined || values["calibrate-ids"] !== undefined;
const isOnce = values.calibrate === undefined || values["calibrate-ids"] === undefined;
if (!input || others.length > 0 || !isJudged || !isOnce) fail(USAGE);

const judged = await readEither("text", "ids");
const calibration = isCalibrated ? await readEither("calibrate", "calibrate-ids") : undefined;
const checkpoint = await open(input);
const { family, params } = checkpoint.inspection;
const protocol = {
  [typeof judged === "string" ? "text" : "ids"]: judged,
  backend: "cpu",
  ...(values.limit !== undefined && { limit: Number(values.limit) }),
};
const rows = [];
for (const precision of ["fp16", "int8", "int6", "int5", "nf4", "int4", "lm3", "int3", "lm2", "int2"]) {
  rows.push(await measured(precision, false));
  if (calibration && precision !== "fp16") rows.push(await measured(precision, true));
}
checkpoint.dispose();
if (values.json) console.log(JSON.stringify({ family, params, rows }, null, 2));
else print();

/** One row: all matrices in one precision, plainly or with rounding errors made up for. */
async function measured(precision, compensated) {
  const recipe = recipeOf(precision, compensated);
  const compressed = await checkpoint.compress(recipe, compensated ? { calibration } : {});
  try {
    const { after, ratio } = compressed.report.bytes;
    const { kl, a, b, perplexityChange } = await compare(checkpoint, compressed, protocol);
    return {
      precision,
      compensated,
      bytes: after,
      bitsPerWeight: (8 * after) / params,
      ratio,
      perplexity: b.perplexity,
      perplexityBefore: a.perplexity,
      perplexityChange,
      kl: kl.mean,
      tokens: b.tokens,
    };
  } finally {
    compressed.dispose();
  }
}

function recipeOf(precision, compensated) {
  const quantize = {
    rules: [
      ...["norm", "bias", "dynamics", "conv"].map((role) => ({ match: `role:${role}`, precision: "fp16" })),
      { match: "*", precision },
    ],
    otherwise: "fp16",
    int4: { group: 64 },
    groups: { group: 64, scale: "fp16" },
    errorCompensation: compensated ? "gptq" : "none",
  };
  return { version: 1, name: precision, steps: [{ quantize }] };
}

function print() {
  const [{ tokens, perplexityBefore }] = rows;
  console.log(`${family}, ${params} parameters; perplexity ${perplexityBefore.toFixed(3)} on ${tokens} tokens\n`);
  console.log("| codes | errors made up for | bits a weight | times smaller | perplexity | change | KL, nats |");
  console.log("| --- | --- | --- | --- | --- | --- | --- |");
  for (const row of rows) {
    const { precision, compensated, bitsPerWeight, ratio, perplexity, perplexityChange, kl } = row;
    const change = `${perplexityChange < 0 ? "" : "+"}${perplexityChange.toFixed(2)} %`;
    const cells = [precision, compensated ? "yes" : "no", bitsPerWeight.toFixed(2), `${ratio.toFixed(2)}x`];
    console.log(`| ${[...cells, perplexity.toFixed(2), change, kl.toPrecision(3)].join(" | ")} |`);
  }
}

function parsed() {
  try {
    return parseArgs({ options: { ...OPTIONS, json: { type: "boolean" } }, allowPositionals: true });
  } catch (error) {
    return fail(`${error.message}\n${USAGE}`);
  }
}

/** The text or the ids that one of two options names. */
async function readEither(text, ids) {
  const path = values[text] ?? values[ids];
  const bytes = await readFile(path).catch((error) => fail(`${path} cannot be read: ${error.message}`));
  if (bytes.length === 0) fail(`${path} is empty`);
  if (values[text] !== undefined) return bytes.toString("utf8");
  if (bytes.length % 2 === 1) fail(`${path} has ${bytes.length} bytes, which are no ids of two bytes each`);
  return new Uint16Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

function fail(message) {
  console.error(message);
  process.exit(2);
}
