// The one error that leaves the library: a code from a closed list, and the facts as fields.

/** Every code a StatepressError can have. */
export const codes = [
  // Of the file: see FormatError in crate/formats.
  "unsupported-format",
  "missing-shard",
  "truncated",
  "malformed",
  "malformed-tensor",
  "refused-global",
  "whole-module",
  "too-large",
  "write-mismatch",
  // Of the model, the recipe, the options and the tokens: see EngineError in crate/engine.
  "bad-tensor",
  "unknown-tensor",
  "bad-recipe",
  "unsupported-step",
  "unknown-model",
  "bad-keys",
  "bad-shape",
  "bad-option",
  "bad-ids",
  "evaluation-failed",
  // Of the GPU: see BackendError in crate/kernels.
  "no-gpu",
  "gpu-self-check",
  "gpu-limit",
  "gpu-no-kernel",
  "gpu-out-of-memory",
  "gpu-lost",
  "gpu-validation",
  // Of what only the library around them can see.
  "bad-input",
  "bad-config",
  "disposed",
  "bad-tokenizer",
  "no-tokenizer",
  "unsupported",
  "exists",
  "io",
  "aborted",
  "crashed",
  "internal",
] as const;

/** What went wrong, for programs. */
export type ErrorCode = (typeof codes)[number];

/** What went wrong, with the offending names and values as fields. */
export class StatepressError extends Error {
  /** `AbortError` where the work was stopped by a signal, as everywhere on the web; else `StatepressError`. */
  override readonly name: "StatepressError" | "AbortError";
  /** What went wrong, for programs. */
  readonly code: ErrorCode;
  /** The offending names, values and limits: `tensor`, `option`, `allowed`, `offset`, ... */
  readonly facts: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, facts: Record<string, unknown> = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = code === "aborted" ? "AbortError" : "StatepressError";
    this.code = code;
    this.facts = facts;
    // The facts are fields of the error as well: `error.tensor` reads better than `error.facts.tensor`.
    for (const [key, value] of Object.entries(facts)) {
      if (!(key in this)) Object.defineProperty(this, key, { value, enumerable: true });
    }
  }

  /** As `{"error": ...}` of the command line holds it. */
  toJSON(): { code: ErrorCode; message: string } & Record<string, unknown> {
    return { ...this.facts, code: this.code, message: this.message };
  }
}

/** Any thrown value as a StatepressError; what was thrown because `signal` has fired is `aborted`. */
export function asStatepressError(thrown: unknown, signal?: AbortSignal): StatepressError {
  if (thrown instanceof StatepressError) return thrown;
  if (signal?.aborted && thrown === signal.reason) return abortError(signal.reason);
  const overflow = thrown instanceof RangeError && thrown.message.includes("call stack");
  if (thrown instanceof WebAssembly.RuntimeError || overflow) {
    // A trap leaves the wasm memory in an unknown state: nothing may be asked of it any more.
    return new StatepressError("crashed", `the wasm module stopped: ${thrown.message}`, {}, thrown);
  }
  if (thrown instanceof Error) {
    const { code, message: _, stack: __, name: ___, ...facts } = thrown as Error & Record<string, unknown>;
    if (codes.includes(code as ErrorCode)) return new StatepressError(code as ErrorCode, thrown.message, facts);
    if (thrown.name === "AbortError") return abortError(thrown);
    if (typeof code === "string" && "syscall" in thrown) {
      return new StatepressError("io", thrown.message, { system: code }, thrown);
    }
    return new StatepressError("internal", `${thrown.name}: ${thrown.message}`, {}, thrown);
  }
  return new StatepressError("internal", String(thrown));
}

/** That an option is not what it may be. */
export function badOption(option: string, value: unknown, allowed: string): StatepressError {
  const facts = { option, value, allowed };
  return new StatepressError("bad-option", `option ${option} is ${value}; allowed: ${allowed}`, facts);
}

/** That the work was stopped; `reason` is the signal's, and becomes the cause. */
export function abortError(reason: unknown): StatepressError {
  return new StatepressError("aborted", "stopped on request", {}, reason);
}

/** Throws `aborted` when the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortError(signal.reason);
}
