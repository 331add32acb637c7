// Compresses a checkpoint, measures what that cost on a text, and saves it:
//   node compress.mjs FOLDER_OR_FILE TEXT OUT [RECIPE]

import { readFile } from "node:fs/promises";
import { compare, open, qualityCard } from "statepress";

const [input, textFile, out, recipe = "int8"] = process.argv.slice(2);
if (!input || !textFile || !out) {
  console.error("usage: node compress.mjs FOLDER_OR_FILE TEXT OUT [RECIPE]");
  process.exit(2);
}

const checkpoint = await open(input);
const { family, params } = checkpoint.inspection;
console.log(`${family}, ${params} parameters`);

const planned = await checkpoint.plan(recipe);
console.log(`${recipe}: ${planned.bytes.ratio.toFixed(2)}x expected, ${planned.unmatched.percent} % matched no rule`);

const compressed = await checkpoint.compress(recipe);
const comparison = await compare(checkpoint, compressed, { text: await readFile(textFile, "utf8") });
for (const { label, base, compressed: value } of qualityCard(comparison)) {
  console.log(label.padEnd(36), base.padStart(18), value.padStart(22));
}

await compressed.save(out, { force: true });
console.log(`saved ${out}`);
checkpoint.dispose();
compressed.dispose();
