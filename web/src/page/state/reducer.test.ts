// The reducer: what is shown belongs to the settings it was made under, and what is too late is ignored.

import type { Comparison, CompressReport, Inspection, Plan, Recipe, TensorView, TextComparison } from "statepress";
import { describe, expect, test } from "vitest";
import type { PageEvent } from "./events.js";
import { reduce } from "./reducer.js";
import { initial, type Other, type State } from "./state.js";

const recipe = (name: string): Recipe => ({ version: 1, name, steps: [] });
const INT8 = recipe("int8");
const NF4 = recipe("nf4");
const plan = { bytes: { before: 8, after: 2, ratio: 4, fp32: 8 } } as Plan;
const report = { recipe: INT8 } as CompressReport;
const comparison = { kl: { mean: 0.1 } } as Comparison;
const problem = { code: "aborted", message: "Cancelled." } as const;

const opened = (id: number, ownText?: State["asked"]["own"]): PageEvent => ({
  type: "opened",
  checkpoint: {
    id,
    name: `model-${id}`,
    weights: `model-${id}.pt`,
    place: "files",
    path: undefined,
    inspection: {} as Inspection,
    given: {},
    weightsPath: undefined,
    tokenizer: undefined,
    tokenizers: [],
  },
  ownText,
});

function after(...events: PageEvent[]): State {
  return events.reduce(reduce, initial);
}

const compressed: PageEvent = {
  type: "compressed",
  run: 1,
  asked: { ...initial.asked, recipe: INT8 },
  report,
  file: { name: "a.safetensors", size: 2 },
  wanted: undefined,
};

describe("a checkpoint", () => {
  test("replaces what was measured on another one, and keeps the settings", () => {
    const state = after(
      { type: "started", recipes: [INT8, NF4] },
      opened(1),
      { type: "asked", change: { recipe: INT8, backend: "cpu" } },
      compressed,
      { type: "compared", run: 1, comparison, textName: "a.txt", secondName: undefined },
      { type: "looking", tensor: "a", codes: "" },
      opened(2),
    );
    expect(state.checkpoint?.name).toBe("model-2");
    expect(state.runs).toEqual([]);
    expect(state.shown).toBeUndefined();
    expect(state.look).toBeUndefined();
    expect(state.plan).toBeUndefined();
    expect(state.asked).toMatchObject({ recipe: INT8, backend: "cpu" });
    expect(state.recipes).toHaveLength(2);
  });

  test("that fails to open leaves the one that is there", () => {
    const state = after(
      opened(1),
      { type: "opening" },
      { type: "openFailed", problem, what: "b.pt", field: undefined },
    );
    expect(state.checkpoint?.id).toBe(1);
    expect(state.opening).toBe(false);
    expect(state.openProblem).toEqual({ ...problem, what: "b.pt" });
  });

  test("is lost with the worker until something is opened; its numbers stay", () => {
    const state = after(opened(1), compressed, { type: "lost" });
    expect(state.lost).toBe(true);
    expect(state.runs).toHaveLength(1);
    expect(reduce(state, opened(2)).lost).toBe(false);
    expect(after({ type: "lost" })).toBe(initial);
  });

  test("that fails because of a field says so at the field", () => {
    const state = after(
      opened(1),
      { type: "opening" },
      { type: "openFailed", problem, what: "a.pt", field: "top_k_experts" },
    );
    expect(state.fieldProblem).toEqual({ ...problem, field: "top_k_experts" });
    expect(state.openProblem).toBeUndefined();
    expect(reduce(state, { type: "opening" }).fieldProblem).toBeUndefined();
  });

  test("takes a text that comes later", () => {
    const state = reduce(after(opened(1)), { type: "textTaken", text: { name: "late.txt", text: "words" } });
    expect(state.asked.own?.name).toBe("late.txt");
    expect(state.asked.text).toBe("own");
  });

  test("brings its own text, and takes it along when it goes", () => {
    const own = after(opened(1, { name: "own.txt", text: "words" }));
    expect(own.asked.text).toBe("own");
    expect(reduce(own, opened(2)).asked.text).toBe("demo");
    expect(reduce(own, { type: "dropped" }).asked.text).toBe("demo");
  });

  test("is not told what is about an earlier one", () => {
    const advice = { recommended: [], avoid: [], techniques: [], measured: [], findings: [] };
    const late: PageEvent = { type: "advised", checkpoint: 1, advice, plans: {} };
    expect(after(opened(1), late).checkpoint?.advice).toEqual(advice);
    expect(after(opened(2), late).checkpoint?.advice).toBeUndefined();
  });
});

describe("a plan", () => {
  test("of an earlier recipe is ignored", () => {
    const asked = after(opened(1), { type: "asked", change: { recipe: NF4 } }, { type: "planning" });
    const late = reduce(asked, { type: "planned", recipe: INT8, plan });
    expect(late).toBe(asked);
    const right = reduce(asked, { type: "planned", recipe: NF4, plan });
    expect(right).toMatchObject({ plan, planning: false });
  });

  test("that fails takes the old one away: it was of another recipe", () => {
    const state = after(
      opened(1),
      { type: "asked", change: { recipe: INT8 } },
      { type: "planned", recipe: INT8, plan },
      { type: "asked", change: { recipe: NF4 } },
      { type: "planFailed", recipe: NF4, problem },
    );
    expect(state.plan).toBeUndefined();
    expect(state.planProblem).toEqual(problem);
  });
});

describe("a run", () => {
  const measured = after(opened(1), { type: "compressing", run: 1, now: 0 }, compressed, {
    type: "compared",
    run: 1,
    comparison,
    textName: "a.txt",
    secondName: undefined,
  });

  test("keeps the settings of its time", () => {
    const later = reduce(measured, { type: "asked", change: { recipe: NF4 } });
    expect(later.asked.recipe).toBe(NF4);
    expect(later.runs[0]?.asked.recipe).toBe(INT8);
    expect(later.shown).toBe(1);
    expect(later.work).toBeUndefined();
  });

  test("that is cancelled while it is measured keeps its file, and says so", () => {
    const state = after(opened(1), { type: "compressing", run: 1, now: 0 }, compressed, {
      type: "workFailed",
      run: 1,
      problem,
    });
    expect(state.runs[0]).toMatchObject({ file: { size: 2 }, comparison: undefined, problem });
    expect(state.workProblem).toEqual(problem);
    expect(state.work).toBeUndefined();
  });

  test("that is cancelled while it is compressed leaves no run", () => {
    const state = after(opened(1), { type: "compressing", run: 1, now: 0 }, { type: "workFailed", run: 1, problem });
    expect(state.runs).toEqual([]);
    expect(state.shown).toBeUndefined();
  });

  test("can be forgotten: another one is shown then, or none", () => {
    const two = reduce(measured, { ...compressed, run: 2 } as PageEvent);
    expect(reduce(two, { type: "forgotten", run: 2 })).toMatchObject({ shown: 1, runs: [{ id: 1 }] });
    expect(reduce(two, { type: "forgotten", run: 1 }).shown).toBe(2);
    expect(reduce(measured, { type: "forgotten", run: 1 }).shown).toBeUndefined();
  });

  test("is shown only if it exists", () => {
    expect(reduce(measured, { type: "shown", run: 7 }).shown).toBe(1);
  });

  test("has a clock for each stage", () => {
    const at = (stage: string, now: number): PageEvent => ({
      type: "progressed",
      run: 1,
      progress: { stage, done: 1, total: 2, unit: "tokens" },
      now,
    });
    const state = after({ type: "compressing", run: 1, now: 100 }, at("compress", 150), at("compress", 180));
    expect(state.work, "the first stage begins with its first report").toMatchObject({ since: 150, now: 180 });
    expect(reduce(state, at("compare", 300)).work).toMatchObject({ since: 300, now: 300 });
    expect(reduce(state, { ...at("compress", 200), run: 2 } as PageEvent)).toBe(state);
  });
});

describe("another model", () => {
  const other = { name: "b", inspection: {}, apart: "the vocabularies differ" } as Other;
  const brought: PageEvent = { type: "brought", run: 2, asked: initial.asked, other, problem: undefined };
  const byText = { why: other.apart, bitsPerByteChange: 3 } as TextComparison;

  test("stands among the runs as one of them, and is shown", () => {
    const state = after(opened(1), compressed, { type: "opening" }, brought);
    expect(state.runs.map(({ id, other: it }) => [id, it?.name])).toEqual([
      [1, undefined],
      [2, "b"],
    ]);
    expect(state).toMatchObject({ shown: 2, opening: false, checkpoint: { id: 1 } });
  });

  test("is measured by text where its tokens differ", () => {
    const state = after(opened(1), brought, { type: "comparing", run: 2, now: 0 });
    expect(state.work).toMatchObject({ run: 2, doing: "compare" });
    const measured = reduce(state, {
      type: "comparedByText",
      run: 2,
      byText,
      textName: "a.txt",
    });
    expect(measured.runs[0]).toMatchObject({ byText, comparison: undefined, textName: "a.txt" });
    expect(measured.work).toBeUndefined();
  });

  test("that cannot be measured is there all the same, with the reason", () => {
    const state = after(opened(1), { ...brought, problem });
    expect(state.runs[0]).toMatchObject({ other, problem, comparison: undefined, byText: undefined });
    expect(state.workProblem).toBeUndefined();
  });

  test("goes with the checkpoint that it was set beside", () => {
    expect(after(opened(1), brought, opened(2)).runs).toEqual([]);
  });

  test("is asked about only beside one that is open, and until that is answered", () => {
    const offered: PageEvent = { type: "offered", what: "b.pt" };
    expect(after(offered)).toBe(initial);
    const state = after(opened(1), offered);
    expect(state.offer).toEqual({ what: "b.pt" });
    expect(reduce(state, { type: "offerEnded" }).offer).toBeUndefined();
    expect(reduce(state, { type: "opening" }).offer).toBeUndefined();
    expect(reduce(state, { type: "dropped" }).offer).toBeUndefined();
  });
});

describe("a closer look", () => {
  test("of another tensor than the last one asked for is ignored", () => {
    const view = { name: "a" } as TensorView;
    const state = after({ type: "looking", tensor: "a", codes: "" }, { type: "looking", tensor: "b", codes: "" });
    expect(reduce(state, { type: "looked", view })).toBe(state);
    expect(reduce(state, { type: "looked", view: { ...view, name: "b" } }).look?.view?.name).toBe("b");
  });

  test("at the same tensor once more keeps the picture until the new one is there", () => {
    const view = { name: "a" } as TensorView;
    const state = after(
      { type: "looking", tensor: "a", codes: "" },
      { type: "looked", view },
      { type: "looking", tensor: "a", codes: "" },
    );
    expect(state.look?.view).toBe(view);
    expect(reduce(state, { type: "looking", tensor: "b", codes: "" }).look?.view).toBeUndefined();
  });

  test("says why there are no pictures, and keeps the numbers", () => {
    const view = { name: "a" } as TensorView;
    const failed: PageEvent = { type: "picturesFailed", tensor: "a", problem };
    const state = after({ type: "looking", tensor: "a", codes: "" }, { type: "looked", view }, failed);
    expect(state.look).toMatchObject({ view, problem: undefined, picturesProblem: problem });
  });

  test("keeps the code that is pictured from tensor to tensor", () => {
    const state = after(
      { type: "looking", tensor: "a", codes: "" },
      { type: "lookedAt", precision: "int4" },
      { type: "looking", tensor: "b", codes: "" },
    );
    expect(state.look).toMatchObject({ tensor: "b", precision: "int4" });
  });
});

describe("a trial", () => {
  const token = { id: 5, text: " a", probability: 0.5 };

  test("collects what each side says", () => {
    const state = after(
      { type: "trying", trial: 1, run: 1, asked: initial.asked },
      { type: "said", trial: 1, side: 0, token },
      { type: "said", trial: 1, side: 1, token: { ...token, id: 6 } },
      { type: "tried", trial: 1, side: 1, tokensPerSecond: { prefill: 1, decode: 2 } },
      { type: "trialEnded", trial: 1, problem: undefined },
    );
    expect(state.trial?.sides.map((side) => side.tokens.map((it) => it.id))).toEqual([[5], [6]]);
    expect(state.trial?.sides[0].tokensPerSecond).toBeUndefined();
    expect(state.trial).toMatchObject({ busy: false });
  });

  test("hears nothing of the one before it", () => {
    const state = after(
      { type: "trying", trial: 1, run: 1, asked: initial.asked },
      { type: "trying", trial: 2, run: 1, asked: initial.asked },
    );
    expect(reduce(state, { type: "said", trial: 1, side: 0, token })).toBe(state);
    expect(reduce(state, { type: "trialEnded", trial: 1, problem }).trial?.busy).toBe(true);
  });
});
