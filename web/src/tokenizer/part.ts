// One part of a `tokenizer.json`: an object with a type and its settings, each asked for with what it may be.
//
// What is not understood is refused by name. A tokenizer that encodes otherwise than the model was trained with gives
// wrong numbers, and nobody would notice.

import { isRecord } from "../api/record.js";

/** A part: `{"type": "Split", ...}`. */
export class Part {
  readonly type: string;

  private constructor(
    /** Where it stands, for errors: `pre_tokenizer`. */
    readonly place: string,
    readonly settings: Record<string, unknown>,
    type?: string,
  ) {
    this.type = type ?? this.text("type");
  }

  /** A part that may be left out. */
  static maybe(place: string, value: unknown): Part | undefined {
    if (value === undefined || value === null) return undefined;
    if (!isRecord(value)) throw new Error(`${place} is not an object`);
    return new Part(place, value);
  }

  /** The model, whose type old files leave out. */
  static model(value: unknown): Part {
    if (!isRecord(value)) throw new Error("model is not an object");
    if (typeof value["type"] === "string") return new Part("model", value);
    const type = Array.isArray(value["vocab"]) ? "Unigram" : "merges" in value ? "BPE" : "WordPiece";
    return new Part("model", value, type);
  }

  /** The error of a type that nobody knows, or that cannot be done as Python does it. */
  refuse(why = "is not supported: it would not encode as in Python"): never {
    throw new Error(`${this.place} ${this.type} ${why}`);
  }

  /** Parts of the same kind that it is made of. */
  list(name: string): Part[] {
    const value = this.settings[name];
    if (!Array.isArray(value)) throw new Error(`${this.place} ${this.type}: ${name} is not a list`);
    return value.map((it) => Part.maybe(this.place, it) ?? this.refuse(`has null in ${name}`));
  }

  text(name: string, otherwise?: string): string {
    return this.#typed(name, otherwise, (value) => typeof value === "string", "a text");
  }

  flag(name: string, otherwise: boolean): boolean {
    return this.#typed(name, otherwise, (value) => typeof value === "boolean", "true or false");
  }

  count(name: string, otherwise?: number): number {
    return this.#typed(name, otherwise, (value) => Number.isInteger(value) && (value as number) >= 0, "a count");
  }

  one<T extends string>(name: string, allowed: readonly T[], otherwise?: T): T {
    const is = (value: unknown) => allowed.includes(value as T);
    return this.#typed(name, otherwise, is, `one of ${allowed.join(", ")}`);
  }

  #typed<T>(name: string, otherwise: T | undefined, is: (value: unknown) => boolean, what: string): T {
    const value = this.settings[name] ?? otherwise;
    if (is(value)) return value as T;
    throw new Error(`${this.place ?? ""} ${this.type ?? ""}: ${name} is ${JSON.stringify(value)}, not ${what}`);
  }
}
