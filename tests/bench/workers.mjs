// What workers save: a calibrated compression, or a search, by one and by several, one after the other in one run.
//
// node tests/bench/workers.mjs MODEL --ids BIN [--workers 2] [--recipe nf4 | --search 8 [--coded]] [--json]
//
// BIN holds ids of 16 bits. Seconds are those of the whole call. The rival is one worker; both have to write the same bytes.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { open, search } from "../../web/dist/api/node.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    ids: { type: "string" },
    workers: { type: "string", default: "2" },
    recipe: { type: "string", default: "nf4" },
    search: { type: "string" },
    coded: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});
const [model] = positionals;
if (!model || !values.ids) throw new Error("give a model, and the ids that it reads: MODEL --ids BIN");
const file = readFileSync(values.ids);
const calibration = new Uint16Array(file.buffer, file.byteOffset, file.length >> 1);

const checkpoint = await open(model);

async function timed(workers) {
  const options = { calibration, workers };
  const began = performance.now();
  const found =
    values.search === undefined
      ? { compressed: await checkpoint.compress(values.recipe, options) }
      : await search(checkpoint, { ratio: Number(values.search) }, { ...options, fast: true, coded: values.coded });
  const seconds = (performance.now() - began) / 1000;
  const { compressed } = found;
  const bytes = await (await compressed.save("blob")).arrayBuffer();
  const { ratio } = compressed.report.bytes;
  const { peakMemory } = compressed.report;
  compressed.dispose();
  return { workers, seconds, ratio, peakMemory, sha256: createHash("sha256").update(Buffer.from(bytes)).digest("hex") };
}

const one = await timed(1);
const several = await timed(Number(values.workers));
checkpoint.dispose();
if (several.sha256 !== one.sha256) throw new Error(`${several.workers} workers wrote other bytes than one`);
const result = { model, what: values.search === undefined ? values.recipe : `search ${values.search}x`, one, several };
if (values.json) console.log(JSON.stringify({ ...result, ofOne: one.seconds / several.seconds }));
else {
  console.log(`${model} (${result.what}, ${calibration.length} ids)`);
  for (const { workers, seconds, ratio, peakMemory } of [one, several]) {
    const times = (one.seconds / seconds).toFixed(2);
    const held = `${(peakMemory / 2 ** 20).toFixed(0)} MiB held`;
    console.log(`${workers} workers  ${seconds.toFixed(1)} s  x${times}  ${ratio.toFixed(2)}x smaller  ${held}`);
  }
}
