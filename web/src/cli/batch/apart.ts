// One command in a process of its own: what crashes or grows too large there ends there, and the batch goes on.

import { abortError, codes, type ErrorCode, StatepressError } from "../../api/errors.js";
import { isRecord } from "../../api/record.js";
import { startApart } from "../drivers.js";

/** What a command says with --json. */
export type Answer = Record<string, unknown>;

/** Milliseconds that a process has to stop by itself: engines give thirty seconds, and some steps take longer. */
const GRACE = 10_000;

/** Runs a command with --json, and answers with what it says. */
export async function answerOf(
  argv: readonly string[],
  how: { about: string; temporary: string },
  signal: AbortSignal,
): Promise<Answer> {
  if (signal.aborted) throw abortError(signal.reason);
  const { child, lastWords } = startApart(argv, "ignore", "pipe", how);
  // It stops between two tensors, and takes away what it has begun; what it cannot, the batch does.
  let last: NodeJS.Timeout | undefined;
  const stop = () => {
    child.kill("SIGTERM");
    last = setTimeout(() => child.kill("SIGKILL"), GRACE);
  };
  signal.addEventListener("abort", stop);
  try {
    let said = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      said += text;
    });
    const [code, killed] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (...how) => resolve(how));
    });
    if (signal.aborted) throw abortError(signal.reason);
    const answer = parsed(said);
    if (code === 0 && answer) return answer;
    const error = answer?.["error"];
    if (isRecord(error)) throw new Told(error);
    throw ended(killed, code, lastWords());
  } finally {
    clearTimeout(last);
    signal.removeEventListener("abort", stop);
  }
}

/** An error that the process has told of itself, on stderr. */
export class Told extends StatepressError {
  constructor({ code, message, ...facts }: Record<string, unknown>) {
    // Wrong usage in there is wrong usage of the batch, or of one of its lines.
    super(codes.includes(code as ErrorCode) ? (code as ErrorCode) : "bad-option", `${message}`, facts);
  }
}

function ended(signal: NodeJS.Signals | null, code: number | null, words: string): StatepressError {
  const last = words.trim().split("\n").at(-1) ?? "";
  const why = last === "" ? "" : `: ${last}`;
  if (signal === null)
    return new StatepressError("crashed", `its process ended with exit code ${code}${why}`, { exit: code });
  const memory =
    signal === "SIGKILL" ? ", as a system does that is out of memory (--max-memory BYTES refuses in time)" : "";
  return new StatepressError("crashed", `its process was ended by ${signal}${memory}${why}`, { signal });
}

function parsed(text: string): Answer | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
