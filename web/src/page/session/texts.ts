// The text among dropped files that is measured on. Read as the command line reads it, so that numbers agree.

import { decodeText, type Finding } from "statepress";
import type { NamedText } from "../state/calibration.js";

/** Texts that lie beside weights for other reasons. */
const NOT_FOR_READING = /^(vocab|merges|requirements|readme|licen[cs]e|notice|copying)\b/i;

/** Whether a file is a text that one would measure on. */
export function isText({ name }: File): boolean {
  return /\.txt$/i.test(name) && !NOT_FOR_READING.test(name);
}

/** What was found among files. */
interface Taken {
  text: NamedText | undefined;
  /** What is to be said of the choice. */
  findings: Finding[];
  /** The files that are no texts to measure on. */
  others: File[];
}

/** The text to measure on. */
export async function takeText(files: File[]): Promise<Taken> {
  const texts = files.filter(isText);
  const others = files.filter((file) => !isText(file));
  const [first, ...more] = texts;
  if (!first) return { text: undefined, findings: [], others };
  const findings: Finding[] = [];
  if (more.length > 0) {
    const left = more.map((file) => file.name).join(", ");
    findings.push(info("several-texts", `${first.name} was taken for the text to measure on, not ${left}`));
  }
  try {
    return { text: await readFile(first), findings, others };
  } catch (error) {
    const message = `${(error as Error).message}. It was left out: another text is measured on`;
    findings.push({ ...info("text-left-out", message), level: "warning" });
    return { text: undefined, findings, others };
  }
}

/** The text of a file. */
export async function readFile(file: File): Promise<NamedText> {
  return { name: file.name, text: decodeText(new Uint8Array(await file.arrayBuffer()), file.name) };
}

function info(code: string, message: string): Finding {
  return { level: "info", code, message };
}
