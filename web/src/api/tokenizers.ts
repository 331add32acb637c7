// The tokenizer of a checkpoint: chosen at the start, read when text first appears.

import { readTokenizer, type Tokenizer } from "../tokenizer/tokenizer.js";
import type { Input, TokenizerFile } from "../worker/protocol.js";
import type { NamedFile } from "./environment.js";
import { StatepressError } from "./errors.js";
import { isRecord } from "./record.js";

/** The tokenizer of a checkpoint, or why there is none. */
export class TokenizerChoice {
  #tokenizer: Tokenizer | undefined;

  private constructor(
    readonly file: TokenizerFile | undefined,
    readonly reason: string,
    tokenizer?: Tokenizer,
  ) {
    this.#tokenizer = tokenizer;
  }

  /** A tokenizer the user made. */
  static given(tokenizer: Tokenizer): TokenizerChoice {
    return new TokenizerChoice(undefined, "", tokenizer);
  }

  /** The only one of some files; none or several leave the choice to the user. */
  static async among(files: NamedFile[]): Promise<TokenizerChoice> {
    const [file] = files;
    if (!file) return new TokenizerChoice(undefined, "there is no tokenizer beside the weights");
    if (files.length > 1) {
      const names = files.map((it) => it.name).join(", ");
      return new TokenizerChoice(undefined, `several tokenizers lie beside the weights (${names})`);
    }
    return new TokenizerChoice({ name: file.name, json: await file.text() }, "");
  }

  /** What it is called. */
  get name(): string | undefined {
    return this.#tokenizer?.name ?? this.file?.name;
  }

  /** Whether it makes the same tokens as another: whether what makes them is the same in both files. */
  same(other: TokenizerChoice): boolean {
    if (this.#tokenizer || other.#tokenizer) {
      // One that the user made is known by itself alone, unless it was read from the file.
      if (this.#tokenizer === other.#tokenizer) return true;
      if (!this.file || !other.file) return false;
    }
    if (this.file?.json === other.file?.json) return true;
    return makings(this.file?.json) === makings(other.file?.json);
  }

  /** Whether text can be used at all. */
  get known(): boolean {
    return this.#tokenizer !== undefined || this.file !== undefined;
  }

  /** The tokenizer, read from its file the first time. */
  get(): Tokenizer {
    if (!this.#tokenizer) {
      if (!this.file) {
        throw new StatepressError(
          "no-tokenizer",
          `text needs a tokenizer: ${this.reason}; give the one that the model was trained with`,
        );
      }
      this.#tokenizer = readTokenizer(this.file.name, this.file.json);
    }
    return this.#tokenizer;
  }

  /** Text or ids, ready for the host, which encodes texts itself where it has the file. */
  input(input: string | ArrayLike<number>): Input {
    if (typeof input !== "string") return { ids: asIds(input) };
    if (this.file) return { text: input, tokenizer: this.file };
    return { ids: this.get().encode(input) };
  }
}

/** Of a tokenizer.json what says how a text is cut; how batches are padded does not. */
const MAKINGS = ["normalizer", "pre_tokenizer", "model", "decoder", "added_tokens"];

// Files of one tokenizer differ by white space and padding. What is no JSON is itself.
function makings(json: string | undefined): string | undefined {
  try {
    const file: unknown = JSON.parse(json ?? "");
    if (!isRecord(file)) return json;
    return JSON.stringify("model" in file ? MAKINGS.map((name) => file[name] ?? null) : file);
  } catch {
    return json;
  }
}

/** Ids as the host wants them. */
export function asIds(ids: ArrayLike<number>): Uint32Array {
  if (ids instanceof Uint32Array) return ids;
  return Uint32Array.from(ids, (id, at) => {
    if (!Number.isInteger(id) || id < 0 || id > 0xffffffff) {
      throw new StatepressError("bad-ids", `token ${at} is ${id}: ids are whole numbers from 0`, { position: at, id });
    }
    return id;
  });
}
