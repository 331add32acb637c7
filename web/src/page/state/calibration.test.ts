// What a model reads, what it is judged by, and what is said where the two are not apart.

import type { Inspection, Plan, Recipe } from "statepress";
import { expect, test } from "vitest";
import heldout from "../../../../examples/demo/heldout.txt?raw";
import {
  calibrationFor,
  judgedText,
  objectionTo,
  objectionToSearch,
  readText,
  settled,
  splitText,
  stops,
  tokensRead,
} from "./calibration.js";
import { compensates, compensating, edited } from "./recipes.js";
import { reduce } from "./reducer.js";
import { changes, sameProtocol } from "./run.js";
import { type Asked, initial, type State } from "./state.js";

const NF4: Recipe = edited({ version: 1, name: "nf4", steps: [] }, { otherwise: "nf4" });
const GPTQ = compensating(NF4, true, []);
const checkpoint = { inspection: { findings: [] } as unknown as Inspection, tokenizer: "t.json", tokenizers: [] };
const own = Array.from({ length: 300 }, (_, i) => `line ${i} of a text of one's own`).join("\n");
const asked: Asked = {
  ...initial.asked,
  recipe: GPTQ,
  calibration: { from: "demo", own: undefined, typed: "", gradients: false },
};
const typing = (typed: string, change: Partial<Asked> = {}): Asked => ({
  ...asked,
  calibration: { from: "typed", own: undefined, typed, gradients: false },
  ...change,
});

test("the held-out text is parted between two articles, any other text at a line", () => {
  const [first, last] = splitText(heldout);
  expect(first + last).toBe(heldout);
  expect(last).toMatch(/^ = Hurricane .* = \n/);
  expect([first.length, last.length].map((it) => Math.round((it / heldout.length) * 10))).toEqual([6, 4]);
  expect(splitText("one line\nanother line\nthe third")).toEqual(["one line\nanother line\n", "the third"]);
  expect(splitText("abcd")).toEqual(["ab", "cd"]);
});

test("what reads the first articles is judged by the last ones, whichever way that was asked for", () => {
  const apart = settled(asked);
  expect(apart.text).toBe("last");
  expect(readText(apart, heldout).text + judgedText(apart, heldout).text).toBe(heldout);
  expect(judgedText(apart, heldout).name).toBe("the last articles of heldout.txt");
  const state = reduce({ ...initial, asked: { ...asked, recipe: NF4 } }, { type: "asked", change: { recipe: GPTQ } });
  expect(state.asked.text).toBe("last");
  const back = reduce(state, { type: "asked", change: { text: "demo" } });
  expect(back.asked.text, "not to be had while the rest of it is read").toBe("last");
  const off = reduce(state, { type: "asked", change: { recipe: NF4 } });
  expect(off.asked.text, "so that both can be set side by side").toBe("last");
  expect(reduce(off, { type: "asked", change: { text: "demo" } }).asked.text).toBe("demo");
  const undone = reduce({ ...off, asked: { ...off.asked, text: "demo" } }, { type: "undone" });
  expect([compensates(undone.asked.recipe), undone.asked.text]).toEqual([true, "last"]);
  expect(settled(typing(own)).text, "a text of one's own takes nothing from it").toBe("demo");
});

test("the held-out text is offered to be read by the demo alone", () => {
  expect(calibrationFor(initial.asked, "demo").calibration.from).toBe("demo");
  expect(calibrationFor(asked, "files").calibration.from).toBe("typed");
  expect(calibrationFor(typing("mine"), "demo").calibration).toMatchObject({ from: "typed", typed: "mine" });
});

test("the same text is refused, a passage in both is warned of, another text is taken", () => {
  const level = (it: Asked) => objectionTo(it, checkpoint, heldout, undefined)?.level;
  expect(level(typing(own))).toBeUndefined();
  expect(level(settled(asked))).toBeUndefined();
  expect(level(typing(heldout))).toBe("error");
  expect(level(typing(heldout.replaceAll("\n", "\r\n")))).toBe("error");
  expect(level(typing(`${own}\n${heldout}`)), "all that judges stands in it").toBe("error");
  expect(level(typing(`${own}\n${heldout.slice(5000, 5400)}`))).toBe("warning");
  const mine = { name: "mine.txt", text: own };
  expect(level(typing(own, { text: "own", own: mine }))).toBe("error");
  expect(level({ ...asked, text: "typed", typed: heldout.slice(0, 900) })).toBe("error");
  expect(objectionTo(typing(own, { text: "own", own: mine }), checkpoint, undefined, undefined)?.level).toBe("error");
  expect(level(typing(heldout, { recipe: NF4 })), "nothing is read").toBeUndefined();
});

test("a search reads and judges by the same rules, whether or not a recipe compensates; a warning does not stop it", () => {
  const said = (it: Asked, about = checkpoint) => objectionToSearch({ ...it, recipe: NF4 }, about, heldout);
  expect(said(asked), "the demo's text is parted").toBeUndefined();
  expect(said(typing(heldout))).toMatchObject({ level: "error" });
  const passage = said(typing(`${own}\n${heldout.slice(5000, 5400)}`));
  expect([passage?.level, stops(passage)]).toEqual(["warning", false]);
  expect(stops(said(typing("")))).toBe(true);
  const mute = said(typing(own), { ...checkpoint, tokenizer: undefined } as never);
  expect(mute?.message).toMatch(/^The best recipe cannot be searched for, because .*tokenizer\.json/);
});

test("what is missing is named: the text, the tokenizer, anything to make up for", () => {
  const said = (it: Asked, about = checkpoint, plan?: Plan) => objectionTo(it, about, heldout, plan);
  expect(said(typing(" \n"))).toMatchObject({ level: "info" });
  expect(stops(said(typing(" \n")))).toBe(true);
  expect(said(asked, { ...checkpoint, tokenizer: undefined } as never)?.message).toContain("drop the tokenizer.json");
  const several = { ...checkpoint, tokenizer: undefined, tokenizers: ["a", "b"] };
  expect(said(asked, several as never)?.message).toContain("choose one of them in step 2");
  const findings = [{ code: "cannot-run", message: "no reader", level: "warning" }];
  const mute = { ...checkpoint, inspection: { findings } as unknown as Inspection };
  expect(said(asked, mute)).toMatchObject({ level: "error", message: expect.stringContaining("no reader") });
  const plan = (precision: string) => ({ precisions: [{ precision }] }) as unknown as Plan;
  expect(said(settled(asked), checkpoint, plan("fp16"))?.message).toContain("rounds nothing to codes");
  expect(said(settled(asked), checkpoint, plan("lm3"))).toBeUndefined();
});

test("how much is read is what the recipe says", () => {
  expect(tokensRead(asked), "that is the package's").toBeUndefined();
  const gptq = { windows: 2, window: 64, passes: 1, damping: 0.01 };
  expect(tokensRead({ ...asked, recipe: edited(GPTQ, { gptq }) })).toBe(128);
  expect(tokensRead({ ...asked, recipe: edited(GPTQ, { gptq: { passes: 0 } as never }) })).toBeUndefined();
});

test("another calibration text is another setting, but no other measure", () => {
  const [a, b] = [typing(own), typing(`${own}.`)];
  expect(changes(a, b)).toEqual(["calibration text"]);
  expect(sameProtocol(a, b)).toBe(true);
  expect(changes({ ...a, recipe: NF4 }, { ...b, recipe: NF4 })).toEqual([]);
  expect(sameProtocol({ ...asked, text: "last" }, { ...asked, recipe: NF4, text: "last" })).toBe(true);
  expect(sameProtocol({ ...asked, text: "last" }, { ...asked, recipe: NF4, text: "demo" })).toBe(false);
});

test("the held-out text stays when checkpoints come and go", () => {
  const here: State = reduce(initial, { type: "heldoutCame", text: heldout });
  expect(reduce(here, { type: "dropped" }).heldout).toBe(heldout);
});
