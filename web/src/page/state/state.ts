// Everything the page knows, as plain data. Files, models and running work live in ../session/; here is what they said.
//
// What the user has `asked` for and what is `shown` are kept apart: a run holds a copy of the settings it was made
// under, so that old numbers never stand under new settings.

import type {
  AdapterInfo,
  Advice,
  AdviseOptions,
  Bytes,
  Compared,
  ErrorCode,
  Evaluation,
  FieldValue,
  Found,
  Inspection,
  MeasuredRecipe,
  Plan,
  Precision,
  Progress,
  PruneKind,
  Recipe,
  Report,
  SearchCosts,
  SearchPoint,
  StepDraft,
  TensorView,
  TextComparison,
  TrainingLook,
} from "statepress";
import type { RunRecord } from "./record.js";

/** The whole page. */
export interface State {
  /** The built-in recipes; empty until the package has started. */
  recipes: Recipe[];
  /** The text that is measured on where the user has none; undefined until it is here. */
  heldout: string | undefined;
  /** The package could not be started at all. */
  broken: Problem | undefined;
  opening: boolean;
  /** What could not be opened, and why. */
  openProblem: (Problem & { what: string }) | undefined;
  /** Files that were dropped while a checkpoint is open: what they are for is being asked. */
  offer: { what: string } | undefined;
  /** A configuration field that could not be set. */
  fieldProblem: (Problem & { field: string }) | undefined;
  checkpoint: Opened | undefined;
  /** The worker has stopped: what it held of the checkpoint and of the produced files is gone. */
  lost: boolean;
  asked: Asked;
  /** What advice is to keep to: no matter of any run. */
  wishes: Wishes;
  /** Recipes that were asked for before, the latest last: what undoing goes back to. */
  past: Past[];
  /** What `asked.recipe` will do; of an earlier recipe while `planning`. */
  plan: Plan | undefined;
  planning: boolean;
  planProblem: Problem | undefined;
  work: Work | undefined;
  workProblem: Problem | undefined;
  /** The last search. */
  search: Search | undefined;
  searchProblem: Problem | undefined;
  /** The students that can be made of the checkpoint; undefined until somebody wants one. */
  students: Pruning | undefined;
  /** What a search can prune before it begins; undefined until somebody wants that. */
  first: Pruning | undefined;
  /** The last training. */
  training: Training | undefined;
  trainingProblem: Problem | undefined;
  /** One that was left, and can go on. */
  trainingLeft: LeftTraining | undefined;
  /** Why recipes could not be measured for advice. */
  measureProblem: Problem | undefined;
  runs: Run[];
  /** Measured runs of earlier visits, the oldest first. */
  remembered: RunRecord[];
  /** The run whose numbers are on the page. */
  shown: number | undefined;
  look: Look | undefined;
  trial: Trial | undefined;
  /** Step of the guided tour, from 0; undefined when it is not taken. */
  tour: number | undefined;
}

/** What went wrong, in words. */
export interface Problem {
  code: ErrorCode | "unknown";
  message: string;
}

/** A recipe that was asked for, and which field of its editor replaced it: one that is typed in is undone as a whole. */
export interface Past {
  recipe: Recipe;
  edit: string | undefined;
}

/** What is known of a checkpoint once its headers are read. */
export interface Source {
  name: string;
  /** The file that was taken for the weights. */
  weights: string;
  /** Where it came from, for a command line. */
  place: "demo" | "files" | "path";
  /** The path that was pasted. */
  path: string | undefined;
  inspection: Inspection;
  tokenizer: string | undefined;
  /** Whole tokenizers among its files, where there are several: one has to be chosen. */
  tokenizers: string[];
}

/** The checkpoint on the page. */
export interface Opened extends Source {
  /** Counts up: what is said about an earlier one is too late. */
  id: number;
  /** Configuration fields that the user has set. */
  given: Record<string, FieldValue>;
  /** Where in the file the weights are, where the user has chosen that. */
  weightsPath: string | undefined;
  advice: Advice | undefined;
  /** What measuring for advice has found; runs are measurements, too: see `measuredOf`. */
  measured: { run: number; recipes: MeasuredRecipe[] };
  /** Plans of the built-in recipes by name: what each would make of this file. */
  plans: Record<string, Plan>;
  /** Mean NLL at prediction offsets 0 to 3, as last measured. */
  offsets: { evaluation: Evaluation; textName: string } | undefined;
  offsetsProblem: Problem | undefined;
}

/** What computes. */
export type BackendChoice = "auto" | "cpu" | "webgpu";

/** What text is measured on: `last` are the last articles of the held-out text. */
export type TextChoice = "demo" | "last" | "own" | "typed";

/** What text the model reads while it is compressed: the first articles of the held-out text, or one of the user's own. */
export interface Calibration {
  from: "demo" | "own" | "typed";
  /** A text file that was given for it. */
  own: { name: string; text: string } | undefined;
  typed: string;
  /** Whether gradients are taken over it as well. */
  gradients: boolean;
}

/** A second text that is measured on: none where nobody gives one. */
export interface Second {
  from: "none" | "own" | "typed";
  /** A text file that was given for it. */
  own: { name: string; text: string } | undefined;
  typed: string;
}

/** What the forms say now. */
export interface Asked {
  recipe: Recipe;
  backend: BackendChoice;
  /** What runs the compressed model. */
  backendB: BackendChoice | "same";
  text: TextChoice;
  /** A text that was dropped. */
  own: { name: string; text: string } | undefined;
  typed: string;
  /** Measured on as well. */
  second: Second;
  /** Read while compressing, where the recipe makes up for rounding errors. */
  calibration: Calibration;
  /** Use only that many tokens; undefined: all. */
  limit: number | undefined;
  /** Tokens of a window; undefined: as many as suit the model. */
  window: number | undefined;
  prompt: string;
  temperature: number;
  seed: number;
}

/** What runs the original, and what runs the compressed model. */
export function backendsOf({ backend, backendB }: Asked): [BackendChoice, BackendChoice] {
  return [backend, backendB === "same" ? backend : backendB];
}

/** Work that is going on. */
export interface Work {
  run: number;
  doing: "search" | "measure" | "train" | "compress" | "compare";
  progress: Progress | undefined;
  /** Milliseconds, as performance.now() says: of the start of this stage, and of the last progress. */
  since: number;
  now: number;
}

/** One of what a search can be for, as the package has it. */
export type WantedTarget = { ratio: number } | { bytes: number } | { maxLoss: number } | { maxKl: number };

/** What a search is for: a size, or a loss in percent. */
export interface Wanted {
  target: WantedTarget;
  /** A fraction of the passes over the text, and less exact. */
  fast: boolean;
  /** Codes are entropy-coded in the file. */
  coded: boolean;
  /** Steps before the search: it begins with what they leave. */
  first: StepDraft[];
}

/** A search for the best recipe. Where it was stopped, or missed its target, what it has measured stays. */
export interface Search {
  /** Whose work it is. */
  run: number;
  coded: boolean;
  /** What the model read, whether all was measured, and what came first: a search by the same goes on with it. */
  by: { calibration: Calibration; fast: boolean; first: StepDraft[] };
  measured: Measurements | undefined;
  /** What was found for the target. */
  found: SearchFound | undefined;
}

/** What every tensor costs, as far as it is measured, and by that every recipe from the smallest to the closest. */
export interface Measurements {
  costs: SearchCosts;
  front: SearchPoint[];
}

/** The recipe that was found, as it was carried out. */
export interface SearchFound extends Omit<Found, "compressed" | "costs" | "front"> {
  /** Of the file, and in memory. */
  bytes: Bytes;
}

/** What advice is to keep to, as the package's `advise` takes it. */
export type Wishes = Pick<AdviseOptions, "target" | "maxLoss" | "maxSize">;

/** What a pruned model can have less of than the checkpoint, and what it comes to. */
export interface Pruning {
  /** Kinds of structure that the checkpoint has. */
  kinds: PruneKind[];
  /** Of the pruned model that is asked for now; undefined while it is planned, and where nothing goes. */
  planned: { params: number; bytes: number } | undefined;
  /** Why there is no such model. */
  problem: Problem | undefined;
}

/** The share of each kind of structure that stays: all of what is not named. */
export type Keeps = Partial<Record<PruneKind, number>>;

/** A student that is wanted, and how it is trained. */
export interface WantedStudent {
  keeps: Keeps;
  init: "slice" | "fresh";
  minutes: number;
  /** How much the teacher's predictions count. */
  alpha: number;
  /** What trains. */
  backend: BackendChoice;
}

/** The training of a student. */
export interface Training {
  /** Whose work it is. */
  run: number;
  wanted: WantedStudent;
  /** Every look at the held-out text so far. */
  points: TrainingLook[];
  /** It was told that this is enough: what was best is being written. */
  enough: boolean;
  /** Whether the browser keeps where it is, so that it can go on another time; undefined before the first look. */
  kept: boolean | undefined;
}

/** A training that was left before its end. */
export interface LeftTraining {
  /** The checkpoint. */
  of: { name: string; bytes: number };
  wanted: WantedStudent;
  /** Updates until its last look, and how good it was then. */
  step: number;
  perplexity: number;
}

/** Another model that was brought to be compared with the checkpoint on the page. */
export interface Other extends Source {
  /** Why its tokens are not the checkpoint's, in words; undefined where they are. */
  apart: string | undefined;
}

/** What is compared with the checkpoint, under the settings of its time. */
export type Run = RecipeRun | OtherRun;

/** A recipe that was carried out. */
export interface RecipeRun extends Measured {
  report: Report;
  /** The produced file. */
  file: { name: string; size: number };
  /** What its recipe was searched for, where it was produced by the search itself. */
  wanted: Wanted | undefined;
  other: undefined;
}

/** Another model beside the checkpoint. */
export interface OtherRun extends Measured {
  other: Other;
  report: undefined;
  file: undefined;
}

interface Measured {
  id: number;
  asked: Asked;
  /** The measurement: absent while it goes on, or when it failed. */
  comparison: Compared | undefined;
  /** The measurement in the place of that, where the tokens of the two are not the same. */
  byText: TextComparison | undefined;
  textName: string | undefined;
  /** The second text of the measurement, where it has one. */
  secondName: string | undefined;
  problem: Problem | undefined;
}

/** A tensor looked at closely. */
export interface Look {
  tensor: string;
  /** How the codes are done in its pictures: see `codesOf`. */
  codes: string;
  /** Which code's picture is shown. */
  precision: Precision;
  view: TensorView | undefined;
  problem: Problem | undefined;
  /** Why there are no pictures of the codes. */
  picturesProblem: Problem | undefined;
}

/** The checkpoint and what a run compares with it, continuing the same prompt. */
export interface Trial {
  id: number;
  run: number;
  /** The settings it was made under: prompt, temperature, seed. */
  asked: Asked;
  sides: [Side, Side];
  busy: boolean;
  problem: Problem | undefined;
}

/** One of the two. */
export interface Side {
  tokens: { id: number; text: string; probability: number }[];
  backend: { name: string; adapter: AdapterInfo | undefined; reason: string } | undefined;
  tokensPerSecond: { prefill: number; decode: number } | undefined;
}

/** The recipe that changes nothing: what is asked for until something is chosen. */
export const NOTHING: Recipe = { version: 1, name: "none", steps: [] };

/** A page nobody has touched. */
export const initial: State = {
  recipes: [],
  heldout: undefined,
  broken: undefined,
  opening: false,
  openProblem: undefined,
  offer: undefined,
  fieldProblem: undefined,
  checkpoint: undefined,
  lost: false,
  asked: {
    recipe: NOTHING,
    backend: "auto",
    backendB: "same",
    text: "demo",
    own: undefined,
    typed: "",
    second: { from: "none", own: undefined, typed: "" },
    calibration: { from: "typed", own: undefined, typed: "", gradients: false },
    limit: undefined,
    window: undefined,
    prompt: "The film was",
    temperature: 0.7,
    seed: 1,
  },
  wishes: {},
  past: [],
  plan: undefined,
  planning: false,
  planProblem: undefined,
  work: undefined,
  workProblem: undefined,
  search: undefined,
  searchProblem: undefined,
  students: undefined,
  first: undefined,
  training: undefined,
  trainingProblem: undefined,
  trainingLeft: undefined,
  measureProblem: undefined,
  runs: [],
  remembered: [],
  shown: undefined,
  look: undefined,
  trial: undefined,
  tour: undefined,
};
