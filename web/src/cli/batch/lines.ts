// Lines of a text, read as they are asked for: a file of a million is never held whole.

import { createReadStream } from "node:fs";
import { StatepressError } from "../../api/errors.js";
import { ioError } from "../../api/io.js";
import { byteStream, isStream, nameOf } from "../streams.js";

/** A line, and its number from 1. */
export interface NumberedLine {
  line: number;
  text: string;
}

/** Bytes of the longest line. */
const LONGEST = 1 << 20;

/** The lines of a file, or of standard input, many at a time. What is no text is an error that names the line. */
export async function* lines(path: string, signal: AbortSignal): AsyncGenerator<NumberedLine[]> {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });
  let line = 0;
  const decoded = (bytes: Buffer): NumberedLine => {
    line += 1;
    const refuse = (what: string) => {
      const message = `${nameOf(path)} line ${line} ${what}: lines are read, of UTF-8 text, each of at most ${LONGEST} bytes`;
      return new StatepressError("bad-input", message, { path: nameOf(path), line, limit: LONGEST });
    };
    if (bytes.length > LONGEST) throw refuse("is too long");
    if (bytes.includes(0)) throw refuse("holds a NUL, which no text does");
    try {
      return { line, text: decoder.decode(bytes).replace(/\r$/, "") };
    } catch {
      throw refuse("is not UTF-8");
    }
  };
  let rest: Buffer[] = [];
  for await (const part of bytesOf(path, signal)) {
    const whole: NumberedLine[] = [];
    let from = 0;
    for (let end = part.indexOf(10); end >= 0; end = part.indexOf(10, from)) {
      whole.push(decoded(Buffer.concat([...rest, part.subarray(from, end)])));
      rest = [];
      from = end + 1;
    }
    rest.push(part.subarray(from));
    if (rest.reduce((sum, { length }) => sum + length, 0) > LONGEST) decoded(Buffer.concat(rest));
    yield whole;
  }
  const last = Buffer.concat(rest);
  if (last.length > 0) yield [decoded(last)];
}

async function* bytesOf(path: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  try {
    yield* (await isStream(path)) ? byteStream(path, signal) : createReadStream(path, { signal });
  } catch (error) {
    if (signal.aborted) throw error;
    throw ioError(nameOf(path), "read", error);
  }
}
