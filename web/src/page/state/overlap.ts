// Whether a text that a model has read is in the text that it is judged by: it would look better than it is.

/** How what was read lies in what is judged by. */
export type Overlap =
  /** It is the same text, or all of what is judged by stands in it. */
  | "whole"
  /** A passage stands in both. */
  | "passage";

/** A passage of that many characters is always found in both texts; one of half as many or fewer is no sign. */
export const PASSAGE = 200;

/** What of one text stands in the other. Blanks and line ends do not count: they change when a text is pasted. */
export function overlapOf(read: string, judged: string): Overlap | undefined {
  const [mine, its] = [plain(read), plain(judged)];
  if (mine === "" || its === "") return undefined;
  if (mine.includes(its)) return "whole";
  const [short, long] = mine.length < its.length ? [mine, its] : [its, mine];
  return long.includes(short) || sharePassage(short, long) ? "passage" : undefined;
}

function plain(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}

/** Wherever a passage begins, one of these blocks lies whole in it. */
const BLOCK = PASSAGE / 2;
const FACTOR = 0x01000193;

// The blocks of the short text are looked for at every place of the long one, by a sum that moves along with it; what
// has the same sum is compared as it stands.
function sharePassage(short: string, long: string): boolean {
  const blocks = new Set<string>();
  for (let at = 0; at + BLOCK <= short.length; at += BLOCK) blocks.add(short.slice(at, at + BLOCK));
  const sums = new Set([...blocks].map((block) => sumOf(block)));
  let leaving = 1;
  for (let i = 1; i < BLOCK; i++) leaving = Math.imul(leaving, FACTOR);
  let sum = sumOf(long.slice(0, BLOCK));
  for (let end = BLOCK; end <= long.length; end++) {
    if (sums.has(sum) && blocks.has(long.slice(end - BLOCK, end))) return true;
    const rest = (sum - Math.imul(long.charCodeAt(end - BLOCK), leaving)) | 0;
    sum = (Math.imul(rest, FACTOR) + long.charCodeAt(end)) | 0;
  }
  return false;
}

function sumOf(block: string): number {
  let sum = 0;
  for (let i = 0; i < block.length; i++) sum = (Math.imul(sum, FACTOR) + block.charCodeAt(i)) | 0;
  return sum;
}
