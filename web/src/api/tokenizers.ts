// The tokenizer of a checkpoint: chosen at the start, read when text first appears.

import type { Beside } from "../tokenizer/pair.js";
import { strangerByName } from "../tokenizer/strangers.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { Input, TokenizerFile } from "../worker/protocol.js";
import { isListLike, shown } from "./check.js";
import type { NamedFile } from "./environment.js";
import { StatepressError } from "./errors.js";
import { isVocabName, isWholeTokenizerName, TOKENIZER_CONFIG } from "./names.js";
import { withoutMark } from "./text.js";
import type { Finding } from "./types/statepress.js";

/** What reads tokenizers. Nobody loads it who opens no checkpoint that has one. */
type Code = Pick<typeof import("../tokenizer/tokenizer.js"), "isSame" | "readTokenizer">;
export const tokenizerCode = (): Promise<Code> => import("../tokenizer/tokenizer.js");

/**
 * A tokenizer from the text of its JSON file; of a `vocab.json`, with the texts of the files beside it.
 *
 * @throws StatepressError `bad-tokenizer`, with what is wrong or what would not be done as in Python.
 */
export async function readTokenizer(name: string, json: string, beside: Beside = {}): Promise<Tokenizer> {
  return (await tokenizerCode()).readTokenizer(name, json, beside);
}

/** The tokenizer of a checkpoint, or why there is none. */
export class TokenizerChoice {
  #tokenizer: Tokenizer | undefined;
  /** What reads the file. */
  readonly #code: Code | undefined;
  /** Whether the weights hold it themselves. */
  readonly #isInside: boolean;

  private constructor(
    readonly file: TokenizerFile | undefined,
    readonly reason: string,
    { tokenizer, code, isInside = false }: { tokenizer?: Tokenizer; code?: Code; isInside?: boolean } = {},
    /** What had to be assumed of it. */
    readonly findings: Finding[] = [],
    /** The names of those among which the user has to choose. */
    readonly candidates: string[] = [],
  ) {
    this.#tokenizer = tokenizer;
    this.#code = code;
    this.#isInside = isInside;
  }

  /** A tokenizer the user made. */
  static given(tokenizer: Tokenizer): TokenizerChoice {
    return new TokenizerChoice(undefined, "", { tokenizer });
  }

  /** The one that the weights hold themselves. */
  static async inside(file: TokenizerFile, findings: Finding[]): Promise<TokenizerChoice> {
    return new TokenizerChoice(file, "", { code: await tokenizerCode(), isInside: true }, findings);
  }

  /** There is none, which a finding tells where that is asked for. */
  static none(reason: string, isTold: boolean, candidates: string[] = []): TokenizerChoice {
    const message = `no text without a tokenizer: ${reason}`;
    const findings: Finding[] = isTold ? [{ level: "info", code: "no-tokenizer", message }] : [];
    return new TokenizerChoice(undefined, reason, {}, findings, candidates);
  }

  /** The one that some files are; none or several leave the choice to the user. */
  static async among(files: NamedFile[]): Promise<TokenizerChoice> {
    // Where nothing lies there, nothing is to be said; a file that could be meant is.
    const isTold = files.length > 0;
    const none = (reason: string, candidates?: string[]) => TokenizerChoice.none(reason, isTold, candidates);
    const whole = files.filter(({ name }) => isWholeTokenizerName(name));
    const exact = whole.filter(({ name }) => name === "tokenizer.json");
    const [only, ...more] = exact.length === 1 ? exact : whole;
    if (more.length > 0) {
      const names = whole.map(({ name }) => name);
      return none(`several tokenizers lie beside the weights (${names.join(", ")})`, names);
    }
    // What else is said of it is for those who get it from us.
    if (only) return TokenizerChoice.#beside(only, readable(files.filter(({ name }) => name === TOKENIZER_CONFIG)));
    const pair = files.filter(({ name }) => isVocabName(name));
    const vocab = pair.find(({ name }) => name === "vocab.json");
    if (vocab && pair.length > 1) return TokenizerChoice.#beside(vocab, files);
    if (pair[0]) return none(`${pair[0].name} lies there without ${vocab ? "merges.txt" : "vocab.json"}, and needs it`);
    for (const { name } of files) {
      const stranger = strangerByName(name);
      if (stranger) return none(`there is only ${name}, and ${stranger}`);
    }
    return none("there is no tokenizer beside the weights");
  }

  /** The one that the user names: a file, whatever it is called, or files that are one together. */
  static async named(files: NamedFile[]): Promise<TokenizerChoice> {
    const [file, ...more] = files;
    return file && more.length === 0 ? TokenizerChoice.#of(await tokenizerCode(), file) : TokenizerChoice.among(files);
  }

  /** One that lies beside the weights: where it cannot be read, as a link to nothing, there is none. */
  static async #beside(file: NamedFile, files: NamedFile[] = []): Promise<TokenizerChoice> {
    // What keeps the code from being fetched is no fault of the file.
    const code = await tokenizerCode();
    try {
      return await TokenizerChoice.#of(code, file, files);
    } catch (error) {
      const { message } = error as Error;
      const finding: Finding = {
        level: "warning",
        code: "tokenizer-ignored",
        message: `${file.name} is ignored: ${message}`,
      };
      return new TokenizerChoice(undefined, `${file.name} cannot be used (${message})`, {}, [finding]);
    }
  }

  static async #of(code: Code, file: NamedFile, beside: NamedFile[] = []): Promise<TokenizerChoice> {
    const { name } = file;
    // A SentencePiece model is no text; what is to be done with it is said by whoever reads it.
    if (/\.model(\.v\d+)?$/i.test(name)) return new TokenizerChoice({ name, json: "" }, "", { code });
    const text = (wanted: string) => beside.find((it) => it.name === wanted)?.text();
    const [json, merges, config] = await Promise.all([file.text(), text("merges.txt"), text(TOKENIZER_CONFIG)]);
    const read = { name, json, ...(merges !== undefined && { merges }), ...(config !== undefined && { config }) };
    const assumed: Finding[] = [];
    if (merges !== undefined && config === undefined) {
      const message = `${name} and merges.txt do not say how texts are split: GPT-2's way is taken; ${TOKENIZER_CONFIG} would say`;
      assumed.push({ level: "warning", code: "tokenizer-assumed", message });
    }
    return new TokenizerChoice(read, "", { code }, assumed);
  }

  /** The tokenizer, where the user has made it. */
  get made(): Tokenizer | undefined {
    return this.file ? undefined : this.#tokenizer;
  }

  /** What it is called. */
  get name(): string | undefined {
    return this.#tokenizer?.name ?? this.file?.name;
  }

  /** Whether it makes the same tokens as another: whether what makes them is the same in both files. */
  same(other: TokenizerChoice): boolean {
    if (this.#tokenizer !== undefined && this.#tokenizer === other.#tokenizer) return true;
    // One that the user made is known by itself alone.
    if (!this.file || !other.file || !this.#code) return false;
    return this.#code.isSame(this.file, other.file, this.#isInside || other.#isInside);
  }

  /** Whether text can be used at all. */
  get known(): boolean {
    return this.#tokenizer !== undefined || this.file !== undefined;
  }

  /** The tokenizer, read from its file the first time. */
  get(): Tokenizer {
    if (!this.#tokenizer) {
      if (!this.file || !this.#code) {
        throw new StatepressError(
          "no-tokenizer",
          `text needs a tokenizer: ${this.reason}; give the one that the model was trained with`,
        );
      }
      this.#tokenizer = this.#code.readTokenizer(this.file.name, this.file.json, this.file);
    }
    return this.#tokenizer;
  }

  /** The tokenizer, or why there is no text: ids alone do without. */
  maybe(): { tokenizer?: Tokenizer; findings: Finding[] } {
    if (!this.known) return { findings: [] };
    try {
      return { tokenizer: this.get(), findings: [] };
    } catch (error) {
      const message = `tokens are shown without their text: ${(error as Error).message}`;
      return { findings: [{ level: "warning", code: "no-text", message }] };
    }
  }

  /** Text or ids, ready for the host, which encodes texts itself where it has the file. */
  input(input: string | ArrayLike<number>): Input {
    if (typeof input !== "string") return { ids: asIds(input) };
    // A text as a program has read it from a file is the same as that file.
    const text = withoutMark(input);
    if (this.file) return { text, tokenizer: this.file };
    return { ids: this.get().encode(text) };
  }
}

/** The same files, of which one that cannot be read is empty. */
function readable(files: NamedFile[]): NamedFile[] {
  return files.map((file) => ({ ...file, text: () => file.text().catch(() => "") }));
}

/** Ids as the host wants them. */
export function asIds(ids: ArrayLike<number>): Uint32Array {
  if (ids instanceof Uint32Array) return ids;
  if (!isListLike(ids)) throw new StatepressError("bad-ids", `token ids are a list of numbers, not ${shown(ids)}`);
  return Uint32Array.from(ids, (id, at) => {
    if (!Number.isInteger(id) || id < 0 || id > 0xffffffff) {
      throw new StatepressError("bad-ids", `token ${at} is ${shown(id)}: ids are whole numbers from 0`, {
        position: at,
        id,
      });
    }
    return id;
  });
}
