// What can happen to the page. Past tense: the reducer writes down, the session acts.

import type {
  Advice,
  Compared,
  Evaluation,
  Plan,
  Precision,
  Progress,
  Recipe,
  TensorView,
  TextComparison,
  TrainingLook,
} from "statepress";
import type { RunRecord } from "./record.js";
import type {
  Asked,
  Calibration,
  LeftTraining,
  Measurements,
  Opened,
  Other,
  Problem,
  Pruning,
  RecipeRun,
  SearchFound,
  Side,
  Wanted,
  WantedStudent,
  Wishes,
} from "./state.js";

/** One thing that happened. */
export type PageEvent =
  | { type: "started"; recipes: Recipe[] }
  | { type: "broke"; problem: Problem }
  | { type: "heldoutCame"; text: string }
  // The checkpoint.
  | { type: "opening" }
  | {
      type: "opened";
      checkpoint: Omit<Opened, "advice" | "measured" | "plans" | "offsets" | "offsetsProblem">;
      ownText: Asked["own"];
    }
  | { type: "openFailed"; problem: Problem; what: string; field: string | undefined }
  | { type: "openingEnded" }
  | { type: "offered"; what: string }
  | { type: "offerEnded" }
  | { type: "textTaken"; text: NonNullable<Asked["own"]> }
  | { type: "wished"; change: Wishes }
  | { type: "advised"; checkpoint: number; advice: Advice; plans: Record<string, Plan> }
  | { type: "offsetsMeasured"; checkpoint: number; evaluation: Evaluation; textName: string }
  | { type: "offsetsFailed"; checkpoint: number; problem: Problem }
  | { type: "dropped" }
  | { type: "lost" }
  // The settings.
  // `edit` is the field that is typed in: what one field changes in a row is one step to undo.
  | { type: "asked"; change: Partial<Asked>; edit?: string | undefined }
  | { type: "undone" }
  | { type: "planning" }
  | { type: "planned"; recipe: Recipe; plan: Plan }
  | { type: "planFailed"; recipe: Recipe; problem: Problem }
  // The work.
  | { type: "searching"; run: number; now: number; calibration: Calibration; how: Omit<Wanted, "target"> }
  | { type: "costsMeasured"; run: number; measured: Measurements }
  | { type: "found"; run: number; found: SearchFound }
  | { type: "searchFailed"; problem: Problem }
  | { type: "pruningPlanned"; checkpoint: number; of: "students" | "first"; pruning: Pruning }
  | { type: "training"; run: number; now: number; wanted: WantedStudent }
  | { type: "trainedUntil"; run: number; point: TrainingLook }
  | { type: "trainedEnough"; run: number }
  | { type: "trainingKept"; run: number; kept: boolean }
  | { type: "trainingLeft"; left: LeftTraining | undefined }
  | { type: "trainingFailed"; problem: Problem }
  | { type: "measuring"; run: number; now: number }
  | { type: "measured"; checkpoint: number; measured: Opened["measured"] }
  | { type: "measureFailed"; problem: Problem }
  | { type: "compressing"; run: number; now: number }
  | { type: "progressed"; run: number; progress: Progress; now: number }
  | ({ type: "compressed"; run: number } & Pick<RecipeRun, "asked" | "wanted" | "report" | "file">)
  | { type: "brought"; run: number; asked: Asked; other: Other; problem: Problem | undefined }
  | { type: "comparing"; run: number; now: number }
  | { type: "compared"; run: number; comparison: Compared; textName: string; secondName: string | undefined }
  | { type: "comparedByText"; run: number; byText: TextComparison; textName: string }
  | { type: "workEnded" }
  | { type: "workFailed"; run: number; problem: Problem }
  | { type: "shown"; run: number }
  | { type: "forgotten"; run: number }
  | { type: "remembered"; records: RunRecord[] }
  // A closer look, and a trial.
  | { type: "looking"; tensor: string; codes: string }
  | { type: "looked"; view: TensorView }
  | { type: "lookFailed"; tensor: string; problem: Problem }
  | { type: "picturesFailed"; tensor: string; problem: Problem }
  | { type: "lookedAt"; precision: Precision }
  | { type: "trying"; trial: number; run: number; asked: Asked }
  | { type: "loaded"; trial: number; side: 0 | 1; backend: NonNullable<Side["backend"]> }
  | { type: "said"; trial: number; side: 0 | 1; token: Side["tokens"][number] }
  | { type: "tried"; trial: number; side: 0 | 1; tokensPerSecond: NonNullable<Side["tokensPerSecond"]> }
  | { type: "trialEnded"; trial: number; problem: Problem | undefined }
  // The tour.
  | { type: "toured"; step: number | undefined };
