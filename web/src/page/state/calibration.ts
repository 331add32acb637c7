// The text that a model reads so that rounding errors can be made up for, and the one that it is judged by: never the
// same.

import type { Plan, StoredAs } from "statepress";
import { type Overlap, overlapOf } from "./overlap.js";
import { compensates, quantizeOf, readsText, roundsByText } from "./recipes.js";
import { refusalOf } from "./run.js";
import type { Asked, Opened, Source } from "./state.js";

/** A text and what it is called. */
export interface NamedText {
  name: string;
  text: string;
}

/** The text that is read while compressing; of the held-out text its first articles. */
export function readText({ calibration }: Asked, heldout: string): NamedText {
  if (calibration.from === "demo") return { name: "the first articles of heldout.txt", text: splitText(heldout)[0] };
  if (calibration.from === "own") return calibration.own ?? { name: "a text file", text: "" };
  return { name: "your own calibration text", text: calibration.typed };
}

/** The text that is measured on. */
export function judgedText(asked: Asked, heldout: string): NamedText {
  if (asked.text === "own" && asked.own) return asked.own;
  if (asked.text === "typed") return { name: "your text", text: asked.typed };
  if (asked.text === "last") return { name: "the last articles of heldout.txt", text: splitText(heldout)[1] };
  return { name: "heldout.txt", text: heldout };
}

const TITLE = /^ = [^=].* = $/gm;

/** Two parts of a text, as equal as can be where no article is in both; a text without articles is parted at a line. */
export function splitText(text: string): [string, string] {
  const titles = [...text.matchAll(TITLE)].map(({ index }) => index).filter((at) => at > 0);
  const middle = text.length / 2;
  const line = text.indexOf("\n", middle) + 1;
  const [first = line > 0 ? line : Math.floor(middle), ...others] = titles;
  const at = others.reduce((best, it) => (Math.abs(it - middle) < Math.abs(best - middle) ? it : best), first);
  return [text.slice(0, at), text.slice(at)];
}

/** Whether the held-out text is taken for both, so that it has to be parted. */
export function parted({ recipe, calibration }: Asked): boolean {
  return readsText(recipe) && calibration.from === "demo";
}

/** The settings with nothing judged by what was read, as far as this page can see to it. */
export function settled(asked: Asked): Asked {
  return readsText(asked.recipe) ? withTextsApart(asked) : asked;
}

/** The same settings, measured on the rest of the held-out text where its first articles are read. */
export function withTextsApart(asked: Asked): Asked {
  return asked.calibration.from === "demo" && asked.text === "demo" ? { ...asked, text: "last" } : asked;
}

/** The settings for another model: the held-out text is offered for the demo alone. */
export function calibrationFor(asked: Asked, place: Source["place"]): Asked {
  const { own, typed, from } = asked.calibration;
  const untouched = own === undefined && typed === "";
  const wanted = place === "demo" ? (untouched ? "demo" : from) : from === "demo" ? "typed" : from;
  return { ...asked, calibration: { ...asked.calibration, from: wanted } };
}

/** Why a checkpoint cannot read a text, in words that follow "because"; undefined where it can. */
export function unreadable(checkpoint: Pick<Opened, "inspection" | "tokenizer" | "tokenizers">): string | undefined {
  const refusal = refusalOf(checkpoint);
  if (refusal !== undefined) return `this model cannot be run: ${refusal}`;
  if (checkpoint.tokenizer !== undefined) return undefined;
  return checkpoint.tokenizers.length > 0
    ? "it is not known which tokenizer is the model's: choose one of them in step 2"
    : "the model has to read a text for it, which takes its tokenizer: drop the tokenizer.json that belongs to it";
}

/** Whether a plan rounds anything to codes, of which errors could be made up for. */
export function rounds({ precisions }: Pick<Plan, "precisions">): boolean {
  return precisions.some(({ precision }) => !isExact(precision));
}

/** Whether a tensor stored like that keeps its numbers, but for the last digits. */
export function isExact(stored: StoredAs): boolean {
  return ["fp32", "fp16", "bf16", "kept"].includes(stored);
}

/** Tokens of the calibration text that are read at the most; undefined where the recipe leaves that to the package. */
export function tokensRead({ recipe }: Asked): number | undefined {
  const tokens = Number(quantizeOf(recipe)?.gptq?.windows) * Number(quantizeOf(recipe)?.gptq?.window);
  return Number.isFinite(tokens) ? tokens : undefined;
}

/** What speaks against compressing with a text. */
export interface Objection {
  /** Info is what is still missing. */
  level: "info" | "warning" | "error";
  message: string;
}

/** Whether nothing is compressed before that is put right: a warning is only said. */
export function stops(objection: Objection | undefined): boolean {
  return objection !== undefined && objection.level !== "warning";
}

/** What speaks against the text that is read; nothing where none is. The held-out text and the plan may not be here yet. */
export function objectionTo(
  asked: Asked,
  checkpoint: Pick<Opened, "inspection" | "tokenizer" | "tokenizers">,
  heldout: string | undefined,
  plan?: Plan | undefined,
): Objection | undefined {
  if (!readsText(asked.recipe)) return undefined;
  const why = unreadable(checkpoint);
  if (why !== undefined) {
    return error(`${impossible(asked)}, because ${why}. Without that it can be compressed: ${another(asked)}.`);
  }
  if (plan && roundsByText(asked.recipe) && !rounds(plan)) {
    return error(`This recipe rounds nothing to codes, so that there is nothing to read for: ${another(asked)}.`);
  }
  return objectionToTexts(asked, heldout);
}

function impossible({ recipe }: Asked): string {
  if (compensates(recipe)) return "Rounding errors cannot be made up for";
  return roundsByText(recipe) ? "Scales cannot clip by what the model computes" : "It cannot be trained";
}

function another({ recipe }: Asked): string {
  const isSwitched = compensates(recipe) || !roundsByText(recipe);
  return isSwitched ? "switch it off in step 3" : "choose other scales in step 3";
}

/** What speaks against searching for the best recipe, for which the model reads the same text. */
export function objectionToSearch(
  asked: Asked,
  checkpoint: Pick<Opened, "inspection" | "tokenizer" | "tokenizers">,
  heldout: string | undefined,
): Objection | undefined {
  const why = unreadable(checkpoint);
  if (why !== undefined) return error(`The best recipe cannot be searched for, because ${why}.`);
  return objectionToTexts(withTextsApart(asked), heldout);
}

/** What speaks against measuring what tensors cost, for which the model reads a text, and by which nothing is judged. */
export function objectionToMeasuring(
  asked: Asked,
  checkpoint: Pick<Opened, "inspection" | "tokenizer" | "tokenizers">,
): Objection | undefined {
  const why = unreadable(checkpoint);
  return why === undefined ? missing(asked) : error(`Which tensors matter cannot be measured, because ${why}.`);
}

/** What speaks against training a student, which reads the same text. */
export function objectionToTraining(
  asked: Asked,
  checkpoint: Pick<Opened, "inspection" | "tokenizer" | "tokenizers">,
  heldout: string | undefined,
): Objection | undefined {
  const why = unreadable(checkpoint);
  if (why !== undefined) return error(`A student cannot be trained, because ${why}.`);
  return objectionToTexts(withTextsApart(asked), heldout);
}

function objectionToTexts(asked: Asked, heldout: string | undefined): Objection | undefined {
  const objection = missing(asked);
  if (objection) return objection;
  const own = asked.text === "own" || asked.text === "typed";
  if (heldout === undefined && !(own && asked.calibration.from !== "demo")) return undefined;
  return overlapping(readText(asked, heldout ?? "").text, judgedText(asked, heldout ?? "").text);
}

function missing(asked: Asked): Objection | undefined {
  if (asked.calibration.from === "demo" || readText(asked, "").text.trim() !== "") return undefined;
  const message = "The model has to read a text while it is compressed: give it one in step 3.";
  return { level: "info", message };
}

// Kept, because what speaks against the texts is asked for whenever any setting changes.
let compared: { read: string; judged: string; overlap: Overlap | undefined } | undefined;

function overlapping(read: string, judged: string): Objection | undefined {
  if (compared?.read !== read || compared.judged !== judged)
    compared = { read, judged, overlap: overlapOf(read, judged) };
  const { overlap } = compared;
  if (overlap === "whole") {
    return error(
      "The model would be judged by the very text that it reads while it is compressed, and look better than it is: " +
        "let it read another text, or measure on another one.",
    );
  }
  if (overlap === undefined) return undefined;
  const message =
    "A passage of the text that the model reads while it is compressed is in the text that it is judged by: it may " +
    "look better than it is. Better take two texts that have nothing in common.";
  return { level: "warning", message };
}

function error(message: string): Objection {
  return { level: "error", message };
}
