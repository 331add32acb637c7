// A second text beside the first: the same comparison once more, on the same models.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { compare, open, qualityCard } from "statepress";
import { cli, DEMO, fixture, scratch } from "../support/node.mjs";

const folder = scratch();
const SMALL = fixture("fixtures/il_moe.safetensors");
const made = (of) => Uint16Array.from({ length: 1024 }, (_, i) => of(i) % 50);
const ids = made((i) => i * 37 + ((i * i) % 11));
const others = made((i) => i * 13 + 7 * Math.floor(i / 3));
const [bin, second, again, read] = ["ids.bin", "others.bin", "again.bin", "read.bin"].map((name) => join(folder, name));
writeFileSync(bin, ids);
writeFileSync(read, ids.slice(0, 960));
writeFileSync(second, others);
writeFileSync(again, ids);
const packed = join(folder, "nf4.safetensors");

/** What a comparison by itself says that one on a second text says as well. */
const MEASURES = ["kl", "top1Agreement", "perplexityChange", "perplexityChangeStderr"];

test("a second text is measured like a first one, and is on the card", async () => {
  const calibrated = ["--recipe", "nf4", "--calibrate-ids", read];
  assert.equal((await cli(["compress", SMALL, "-o", packed, ...calibrated])).code, 0);
  const comparing = ["compare", SMALL, packed, "--backend", "cpu"];
  const [both, alone, first] = await Promise.all(
    [
      ["--ids", bin, "--second-ids", second],
      ["--ids", second],
      ["--ids", bin],
    ].map((tokens) => cli([...comparing, ...tokens, "--json"])),
  );
  assert.equal(both.code, 0, both.stderr);
  assert.deepEqual(Object.keys(both.json.second), ["tokens", ...MEASURES, "findings"]);
  assert.equal(both.json.second.tokens, alone.json.b.tokens);
  for (const measure of MEASURES) {
    assert.deepEqual(both.json.second[measure], alone.json[measure], measure);
    assert.deepEqual(both.json[measure], first.json[measure], measure);
  }
  assert.notEqual(both.json.second.kl.mean, both.json.kl.mean);
  assert.ok(!("second" in first.json));
  assert.deepEqual(both.json.verdict, first.json.verdict, "the verdict is by the first");

  const { stdout } = await cli([...comparing, "--ids", bin, "--second-ids", second]);
  assert.match(stdout, /^second text: KL divergence, mean \(nats\) +\d\.\d\de-\d$/m);
  assert.match(stdout, /^second text: perplexity change +[+-]?[\d.]+ % ± [\d.]+$/m);
  assert.match(stdout, /^second text: tokens predicted +966 +966$/m);

  // What the model was calibrated with is told of, whichever of the two it is.
  const warned = ({ findings }) => findings.find(({ code }) => code === "calibration-text");
  assert.ok(warned(both.json.b) && !warned(both.json.second));
  const swapped = await cli([...comparing, "--ids", second, "--second-ids", bin, "--json"]);
  assert.ok(!warned(swapped.json.b));
  assert.match(warned(swapped.json.second).message, /^second text: /);
  assert.match(swapped.stderr, /warning: second text: .* \(calibration-text\)/);
  // By the very text it read nothing is judged, whichever of the two it is.
  for (const tokens of [
    ["--ids", read],
    ["--ids", second, "--second-ids", read],
  ]) {
    const refused = await cli([...comparing, ...tokens, "--json"]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /fitted to this very text, .* judge it by another text/);
  }
});

test("in JavaScript both are run over models that are loaded once", async () => {
  const [base, other] = await Promise.all([open(SMALL), open(packed)]);
  const stages = [];
  const onProgress = ({ stage }) => stages.at(-1) === stage || stages.push(stage);
  const compared = await compare(base, other, { ids, second: { ids: others }, backend: "cpu", onProgress });
  assert.deepEqual(
    stages.filter((stage) => stage !== "load"),
    ["compare", "compare second"],
  );
  assert.ok(stages.lastIndexOf("load") < stages.indexOf("compare"));
  const lines = new Map(qualityCard(compared).map((line) => [line.id, line]));
  assert.equal(lines.get("second-kl-mean").compressed, compared.second.kl.mean.toExponential(2));
  assert.ok(!qualityCard({ ...compared, second: undefined }).some(({ id }) => id.startsWith("second-")));
  const limited = await compare(base, other, { ids, second: { ids: others }, limit: 512, backend: "cpu" });
  assert.equal(limited.second.tokens, limited.b.tokens);
  for (const it of [base, other]) it.dispose();
});

test("the same text again is refused, and what is no text", async () => {
  const comparing = ["compare", SMALL, packed, "--ids", bin];
  for (const [options, code, words] of [
    [["--second-ids", bin], 2, /--second-ids takes another file than --ids, not .*ids\.bin again/],
    [["--second-ids", again], 1, /option second is the text that is compared on already; allowed: another one/],
    [["--second-ids", second, "--second-text", bin], 2, /either --second-text or --second-ids is needed, not both/],
    [["--second-text", join(folder, "none.txt")], 1, /none\.txt/],
  ]) {
    const { code: exit, stderr } = await cli([...comparing, ...options]);
    assert.match(stderr, words);
    assert.equal(exit, code);
  }
  const [base, other] = await Promise.all([open(SMALL), open(packed)]);
  for (const [wrong, message] of [
    [{}, /option second is an object with nothing; allowed: one of text and ids/],
    [{ txt: "a" }, /option second is an object with txt; allowed: one of text and ids/],
    [{ text: "a", ids }, /option second is an object with text and ids; allowed: one of/],
    ["a text", /option second is "a text"; allowed: an object/],
    [{ ids: Array.from(ids) }, /option second is the text that is compared on already/],
  ]) {
    await assert.rejects(compare(base, other, { ids, second: wrong }), { code: "bad-option", message });
  }
  // What differs only behind what is read is the same.
  const longer = { ids: [...ids.slice(0, 512), ...others] };
  await assert.rejects(compare(base, other, { ids, second: longer, limit: 512 }), { code: "bad-option" });
  for (const it of [base, other]) it.dispose();

  const demo = await open(DEMO);
  const text = "The film was made in the year of the flood .";
  await assert.rejects(compare(demo, demo, { text, second: { text } }), { code: "bad-option", message: /already/ });
  demo.dispose();
  // By text nothing is compared token by token: there is nothing that a second text would say.
  const words = join(folder, "words.txt");
  writeFileSync(words, text.repeat(60));
  const more = join(folder, "more.txt");
  writeFileSync(more, "It was a film of the year .".repeat(60));
  const tiny = [fixture("itera-lite/itera_lite_micro_distilled.pt"), "--tokenizer-b"];
  const apart = await cli([
    ...["compare", DEMO, ...tiny, fixture("itera-lite/tokenizer_1000.json")],
    ...["--text", words, "--second-text", more],
  ]);
  assert.equal(apart.code, 1);
  assert.match(apart.stderr, /--second-text is for two models of the same tokens, and the .* differ/);
});
