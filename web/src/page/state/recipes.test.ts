// Recipes as the page edits, links and orders them.

import { QUANTIZE_DEFAULTS, type Quantize, RECOVER_DEFAULTS, type Recipe } from "statepress";
import { describe, expect, test } from "vitest";
import { fragmentOf, recipeIn } from "./link.js";
import {
  chosenOf,
  compensates,
  compensating,
  edited,
  firstOf,
  labelOf,
  picked,
  quantizeOf,
  readsText,
  recovering,
  recoveryOf,
  roundsByText,
  withTensor,
} from "./recipes.js";

const quantize = { rules: [{ match: "*norm*", precision: "fp32" }], otherwise: "int8" } as Quantize;
const INT8: Recipe = { version: 1, name: "int8", description: "INT8", steps: [{ quantize }] };
const NONE: Recipe = { version: 1, name: "none", steps: [] };

describe("training afterwards", () => {
  const builtin = [INT8, NONE];
  const mine = recovering(INT8, { ...RECOVER_DEFAULTS, steps: 7 }, builtin);

  test("is the last step of a recipe of the user's own, and without it that is the built-in one again", () => {
    expect([mine.name, recoveryOf(mine)]).toEqual(["my-int8", { weights: "vectors", steps: 7, alpha: 1 }]);
    expect([recovering(mine, undefined, builtin), chosenOf(mine, builtin)]).toEqual([INT8, INT8]);
    expect(recovering(INT8, undefined, builtin)).toBe(INT8);
    expect(recovering(NONE, RECOVER_DEFAULTS, builtin).steps, "there is nothing to recover from").toEqual([]);
    const both = compensating(mine, true, builtin);
    expect([recoveryOf(picked(INT8, both, builtin)), compensates(picked(INT8, both, builtin))]).toEqual([
      recoveryOf(mine),
      true,
    ]);
    expect([recoveryOf(INT8), readsText(mine), roundsByText(mine)]).toEqual([undefined, true, false]);
  });

  test("stays the last step through edits, and is no step before rounding", () => {
    const changed = withTensor(compensating(mine, true, builtin), "a.weight", "nf4");
    expect(changed.steps.map((step) => Object.keys(step)[0])).toEqual(["quantize", "recover"]);
    expect([firstOf(changed), roundsByText(changed)]).toEqual([[], true]);
    expect(recipeIn(fragmentOf(mine, builtin), builtin)).toEqual(mine);
  });
});

describe("making up for rounding errors", () => {
  const builtin = [INT8, NONE];

  test("is part of a recipe of the user's own, and without it that is the built-in one again", () => {
    const mine = compensating(INT8, true, builtin);
    expect(quantizeOf(mine)).toMatchObject({ errorCompensation: "gptq", otherwise: "int8" });
    expect([mine.name, labelOf(mine), labelOf(INT8)]).toEqual(["my-int8", "my-int8, compensated", "int8"]);
    expect(compensating(mine, true, builtin)).toBe(mine);
    expect(compensating(mine, false, builtin)).toBe(INT8);
    expect([chosenOf(mine, builtin), chosenOf(INT8, builtin)]).toEqual([INT8, INT8]);
    expect(compensating(NONE, true, builtin), "it rounds nothing").toBe(NONE);
    const searched = { ...mine, name: "searched-8.00x" };
    const next = (before: Recipe) => picked(INT8, before, builtin);
    expect([mine, searched, INT8].map((it) => compensates(next(it)))).toEqual([true, false, false]);
  });

  test("is no reason to read a text where scales clip by activations: that is one of its own", () => {
    const clipped = edited(INT8, { int8: { ...QUANTIZE_DEFAULTS.int8, clip: "activation" } });
    const unused = edited(INT8, { nf4: { ...QUANTIZE_DEFAULTS.nf4, clip: "activation" } });
    const made = compensating(INT8, true, builtin);
    expect([clipped, unused, made, INT8, NONE].map(readsText)).toEqual([true, false, true, false, false]);
    expect([compensates(clipped), labelOf(clipped)]).toEqual([false, "my-int8"]);
    // Of links and files nothing is sure before the package has read them.
    for (const rows of [5, [null], [{ precision: "?" }]]) {
      const odd = edited(INT8, { rules: [{ match: "*", precision: "int8", rows }] as unknown as Quantize["rules"] });
      expect(readsText(odd)).toBe(false);
    }
  });

  test("is kept by edits and links, with how it is done", () => {
    const gptq = { windows: 2, window: 64, passes: 1, damping: 0.01 };
    const mine = edited(compensating(INT8, true, builtin), { gptq });
    expect(quantizeOf(withTensor(mine, "a.weight", "nf4"))).toMatchObject({ errorCompensation: "gptq", gptq });
    const linked = recipeIn(fragmentOf(mine, builtin), builtin);
    expect(linked).toEqual(mine);
    const off = compensating(mine, false, builtin);
    expect([compensates(off), off.name], "how it was done is not lost").toEqual([false, "my-int8"]);
    expect(quantizeOf(off)).toMatchObject({ gptq });
  });
});

describe("editing", () => {
  test("makes a recipe of the user's own, and leaves the built-in one alone", () => {
    const mine = edited(INT8, { otherwise: "nf4" });
    expect(mine).not.toBe(INT8);
    expect(mine.name).toBe("my-int8");
    expect(mine.description).toBeUndefined();
    expect(quantizeOf(mine)).toMatchObject({ otherwise: "nf4", rules: quantize.rules });
    expect(quantizeOf(INT8)?.otherwise).toBe("int8");
    expect(edited(mine, {}).name).toBe("my-int8");
  });

  test("gives a recipe that does nothing a step to edit, and keeps other steps", () => {
    expect(quantizeOf(edited(NONE, { otherwise: "fp16" }))?.otherwise).toBe("fp16");
    const prune = { prune: { kind: "experts", keep: 0.5, by: "usage", repair: false, windows: 32 } } as const;
    const both = edited({ ...INT8, steps: [prune, { quantize }] }, { otherwise: "bf16" });
    expect(both.steps[0]).toEqual(prune);
    expect(both.steps).toHaveLength(2);
  });

  test("reads older recipes by the names of now, and leaves what is wrong in them to be refused", () => {
    const older = (step: object) => ({ version: 1, name: "old", steps: [{ quantize: step }] }) as unknown as Recipe;
    const known = { rules: [], otherwise: "int8", int8: { calibration: "percentile" }, int4: { symmetric: true } };
    const step = quantizeOf(older(known));
    expect(step?.int8).toEqual({ granularity: "row", clip: "percentile", percentile: 99.99 });
    expect(step?.int4).toEqual({ group: 32, scale: "fp16" });
    expect(step).toHaveProperty("errorCompensation", "none");
    const wrong = quantizeOf(older({ rules: [], otherwise: "int8", int4: { symmetric: false } }));
    expect(wrong).toMatchObject({ int4: { symmetric: false } });
  });

  test("shows a stranger's recipe with the defaults in what it leaves out, whatever stands in it", () => {
    const odd = (steps: unknown) => ({ version: 1, name: "odd", steps }) as Recipe;
    const rules = [null, { match: "*", precision: "int3" }];
    expect(
      quantizeOf(odd([1, null, { quantize: { rules, int8: { granularity: "tensor" }, nf4: null } }])),
    ).toMatchObject({
      rules: [{ match: "*", precision: "int3" }],
      otherwise: "fp32",
      int8: { granularity: "tensor", percentile: 99.99 },
      nf4: { block: 64 },
      int4: { group: 32 },
    });
    expect(quantizeOf(odd([{ quantize: null }]))?.rules).toEqual([]);
    expect(quantizeOf(odd([{ quantize: { rules: 7 } }]))?.rules).toEqual([]);
    expect(edited(odd([null]), { otherwise: "fp16" }).steps).toHaveLength(2);
  });

  test("puts a tensor's rule first, once", () => {
    const once = withTensor(INT8, "a.weight", "int4");
    const twice = withTensor(once, "a.weight", "nf4");
    expect(quantizeOf(twice)?.rules).toEqual([{ match: "a.weight", precision: "nf4" }, ...quantize.rules]);
  });
});

describe("links", () => {
  test("come back as the recipe they were made from", () => {
    expect(fragmentOf(INT8, [INT8])).toBe("#recipe=int8");
    expect(recipeIn("#recipe=int8", [INT8])).toBe(INT8);
    const mine = edited(INT8, { rules: [{ match: "a&b=c #*+%", precision: "nf4" }] });
    expect(recipeIn(fragmentOf(mine, [INT8]), [INT8])).toEqual(mine);
  });

  test("to nothing, to what is not there, and damaged ones", () => {
    expect(recipeIn("", [INT8])).toBeUndefined();
    expect(recipeIn("#choose", [INT8])).toBeUndefined();
    expect(() => recipeIn("#recipe=int9", [INT8])).toThrow(/"int9"; there are int8/);
    const cut = fragmentOf(edited(INT8, {}), [INT8]).slice(0, -20);
    expect(() => recipeIn(cut, [INT8])).toThrow(/cut off/);
    expect(() => recipeIn(`#recipe=${encodeURIComponent("{}")}`, [INT8])).toThrow(/no name/);
  });
});
