// The page as a function of what happened. Pure; what is too late (of a checkpoint or a recipe that is gone) is ignored.

import { calibrationFor, settled } from "./calibration.js";
import type { PageEvent } from "./events.js";
import { searchFrom } from "./search.js";
import {
  type Asked,
  initial,
  type Look,
  NOTHING,
  type Opened,
  type OtherRun,
  type RecipeRun,
  type Run,
  type Search,
  type Side,
  type State,
  type Training,
  type Trial,
  type Work,
} from "./state.js";

/** The page after one more event. */
export function reduce(state: State, event: PageEvent): State {
  const next = after(state, event);
  // Whatever has changed the settings: nothing is judged by what it has read.
  const asked = settled(next.asked);
  return asked === next.asked ? next : { ...next, asked };
}

function after(state: State, event: PageEvent): State {
  switch (event.type) {
    case "started":
      return { ...state, recipes: event.recipes };
    case "broke":
      return { ...state, broken: event.problem };
    case "heldoutCame":
      return { ...state, heldout: event.text };

    case "opening":
      return { ...state, opening: true, openProblem: undefined, offer: undefined, fieldProblem: undefined };
    case "opened": {
      const checkpoint: Opened = {
        ...event.checkpoint,
        advice: undefined,
        measured: { run: 0, recipes: [] },
        plans: {},
        offsets: undefined,
        offsetsProblem: undefined,
      };
      // Settings outlive the checkpoint; what was measured on another one does not.
      const { recipes, heldout, wishes, past, remembered, tour } = state;
      const asked = calibrationFor(withOwn(state.asked, event.ownText), checkpoint.place);
      return { ...initial, recipes, heldout, wishes, tour, past, remembered, asked, checkpoint };
    }
    case "openFailed": {
      const { problem, what, field } = event;
      const place =
        field === undefined ? { openProblem: { ...problem, what } } : { fieldProblem: { ...problem, field } };
      return { ...state, opening: false, ...place };
    }
    case "textTaken": {
      return state.checkpoint ? { ...state, asked: withOwn(state.asked, event.text) } : state;
    }
    case "openingEnded":
      return { ...state, opening: false };
    case "offered":
      return state.checkpoint ? { ...state, offer: { what: event.what } } : state;
    case "offerEnded":
      return { ...state, offer: undefined };
    case "wished":
      return { ...state, wishes: { ...state.wishes, ...event.change } };
    case "advised":
      return ofCheckpoint(state, event.checkpoint, { advice: event.advice, plans: event.plans });
    case "offsetsMeasured": {
      const { evaluation, textName } = event;
      return ofCheckpoint(state, event.checkpoint, { offsets: { evaluation, textName }, offsetsProblem: undefined });
    }
    case "offsetsFailed":
      return ofCheckpoint(state, event.checkpoint, { offsetsProblem: event.problem });
    case "dropped": {
      const { recipes, heldout, wishes, asked, past, remembered } = state;
      return { ...initial, recipes, heldout, wishes, past, remembered, asked: withOwn(asked, undefined) };
    }

    case "lost":
      return state.checkpoint ? { ...state, lost: true } : state;

    case "asked":
      return { ...state, past: pastWith(state, event), asked: { ...state.asked, ...event.change } };
    case "undone": {
      const before = state.past.at(-1);
      if (!before) return state;
      return { ...state, past: state.past.slice(0, -1), asked: { ...state.asked, recipe: before.recipe } };
    }
    case "planning":
      return { ...state, planning: true };
    case "planned":
      if (event.recipe !== state.asked.recipe) return state;
      return { ...state, plan: event.plan, planning: false, planProblem: undefined };
    case "planFailed":
      if (event.recipe !== state.asked.recipe) return state;
      return { ...state, plan: undefined, planning: false, planProblem: event.problem };

    case "searching":
      return {
        ...state,
        work: begun("search", event),
        search: searchFrom(state.search, event),
        searchProblem: undefined,
      };
    case "costsMeasured":
      return ofSearch(state, event.run, { measured: event.measured });
    case "found":
      return ofSearch(state, event.run, { found: event.found });
    case "searchFailed":
      return { ...state, work: undefined, searchProblem: event.problem };
    case "pruningPlanned":
      return state.checkpoint?.id === event.checkpoint ? { ...state, [event.of]: event.pruning } : state;
    case "training": {
      const { run, wanted } = event;
      const training = { run, wanted, points: [], enough: false, kept: undefined };
      return { ...state, work: begun("train", event), training, trainingProblem: undefined };
    }
    case "trainedUntil":
      return ofTraining(state, event.run, ({ points }) => ({ points: [...points, event.point] }));
    case "trainedEnough":
      return ofTraining(state, event.run, () => ({ enough: true }));
    case "trainingKept":
      return ofTraining(state, event.run, () => ({ kept: event.kept }));
    case "trainingLeft":
      return { ...state, trainingLeft: event.left };
    case "trainingFailed":
      return { ...state, work: undefined, trainingProblem: event.problem };
    case "measuring":
      return { ...state, work: begun("measure", event), measureProblem: undefined };
    case "measured":
      return { ...ofCheckpoint(state, event.checkpoint, { measured: event.measured }), work: undefined };
    case "measureFailed":
      return { ...state, work: undefined, measureProblem: event.problem };
    case "compressing":
      return { ...state, work: begun("compress", event), workProblem: undefined };
    case "progressed": {
      const { work } = state;
      if (work?.run !== event.run) return state;
      // A new stage has a clock of its own, and so has the same one begun again for the second model.
      const { progress } = work;
      const same = progress?.stage === event.progress.stage && progress.done <= event.progress.done;
      const since = same ? work.since : event.now;
      return { ...state, work: { ...work, progress: event.progress, since, now: event.now } };
    }
    case "compressed": {
      const { run: id, asked, wanted, report, file } = event;
      const run: RecipeRun = { id, asked, wanted, ...UNMEASURED, report, file, other: undefined };
      return withRun(state, run);
    }
    case "brought": {
      const { run: id, asked, other, problem } = event;
      const run: OtherRun = { id, asked, ...UNMEASURED, problem, other, report: undefined, file: undefined };
      return { ...withRun(state, run), opening: false };
    }
    case "comparing":
      return { ...state, work: begun("compare", event), workProblem: undefined };
    case "compared": {
      const { comparison, textName, secondName } = event;
      return { ...ofRun(state, event.run, { comparison, textName, secondName }), work: undefined };
    }
    case "comparedByText": {
      const { byText, textName } = event;
      return { ...ofRun(state, event.run, { byText, textName }), work: undefined };
    }
    case "workEnded":
      return { ...state, work: undefined };
    case "workFailed": {
      const ended = { ...state, work: undefined, workProblem: event.problem };
      return ofRun(ended, event.run, { problem: event.problem });
    }
    case "shown":
      return state.runs.some((run) => run.id === event.run) ? { ...state, shown: event.run } : state;

    case "forgotten": {
      const runs = state.runs.filter((run) => run.id !== event.run);
      const shown = state.shown === event.run ? runs.at(-1)?.id : state.shown;
      return { ...state, runs, shown };
    }

    case "remembered":
      return { ...state, remembered: event.records };

    case "looking": {
      const { tensor, codes } = event;
      const { precision, view } = state.look ?? { precision: "nf4" as const, view: undefined };
      // A second look at the same tensor replaces the first when it is there.
      const kept = view?.name === tensor ? view : undefined;
      const look = { tensor, codes, precision, view: kept, problem: undefined, picturesProblem: undefined };
      return { ...state, look };
    }
    case "looked":
      return ofLook(state, event.view.name, { view: event.view });
    case "lookFailed":
      return ofLook(state, event.tensor, { problem: event.problem });
    case "picturesFailed":
      return ofLook(state, event.tensor, { picturesProblem: event.problem });
    case "lookedAt":
      return state.look ? { ...state, look: { ...state.look, precision: event.precision } } : state;

    case "trying": {
      const side: Side = { tokens: [], backend: undefined, tokensPerSecond: undefined };
      const { trial: id, run, asked } = event;
      return { ...state, trial: { id, run, asked, sides: [side, side], busy: true, problem: undefined } };
    }
    case "loaded":
      return ofSide(state, event.trial, event.side, () => ({ backend: event.backend }));
    case "said":
      return ofSide(state, event.trial, event.side, ({ tokens }) => ({ tokens: [...tokens, event.token] }));
    case "tried":
      return ofSide(state, event.trial, event.side, () => ({ tokensPerSecond: event.tokensPerSecond }));
    case "trialEnded":
      return ofTrial(state, event.trial, { busy: false, problem: event.problem });

    case "toured":
      return { ...state, tour: event.step };
  }
}

/** How many recipes undoing can go back. */
const PAST = 100;

function pastWith({ past, asked }: State, { change, edit }: Extract<PageEvent, { type: "asked" }>): State["past"] {
  const { recipe } = asked;
  if (change.recipe === undefined || change.recipe === recipe || recipe === NOTHING) return past;
  if (edit !== undefined && past.at(-1)?.edit === edit) return past;
  return [...past, { recipe, edit }].slice(-PAST);
}

function begun(doing: Work["doing"], { run, now }: { run: number; now: number }): Work {
  return { run, doing, progress: undefined, since: now, now };
}

function ofSearch(state: State, run: number, change: Partial<Search>): State {
  return state.search?.run === run ? { ...state, search: { ...state.search, ...change } } : state;
}

function ofTraining(state: State, run: number, change: (training: Training) => Partial<Training>): State {
  const { training } = state;
  return training?.run === run ? { ...state, training: { ...training, ...change(training) } } : state;
}

const UNMEASURED = {
  comparison: undefined,
  byText: undefined,
  textName: undefined,
  secondName: undefined,
  problem: undefined,
};

function withRun(state: State, run: Run): State {
  return { ...state, runs: [...state.runs, run], shown: run.id };
}

// A text that was dropped is meant to be measured on; where there is none, it cannot be.
function withOwn(asked: Asked, own: Asked["own"]): Asked {
  return { ...asked, own, text: own ? "own" : asked.text === "own" ? "demo" : asked.text };
}

function ofCheckpoint(state: State, id: number, change: Partial<Opened>): State {
  if (state.checkpoint?.id !== id) return state;
  return { ...state, checkpoint: { ...state.checkpoint, ...change } };
}

function ofRun(
  state: State,
  id: number,
  change: Partial<Pick<Run, "comparison" | "byText" | "textName" | "secondName" | "problem">>,
): State {
  return { ...state, runs: state.runs.map((run) => (run.id === id ? { ...run, ...change } : run)) };
}

function ofLook(state: State, tensor: string, change: Partial<Look>): State {
  if (state.look?.tensor !== tensor) return state;
  return { ...state, look: { ...state.look, ...change } };
}

function ofTrial(state: State, id: number, change: Partial<Trial>): State {
  if (state.trial?.id !== id) return state;
  return { ...state, trial: { ...state.trial, ...change } };
}

function ofSide(state: State, id: number, at: 0 | 1, change: (side: Side) => Partial<Side>): State {
  if (state.trial?.id !== id) return state;
  const [first, second] = state.trial.sides;
  const changed = (side: Side): Side => ({ ...side, ...change(side) });
  return ofTrial(state, id, { sides: at === 0 ? [changed(first), second] : [first, changed(second)] });
}
