// Numbers as people read them: bytes, counts, shares, ratios and times. English, SI prefixes, no locale surprises.

/** What stands for a number that is not one. */
export const MISSING = "n/a";

const INFINITE = "∞";
const MINUS = "−";
const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** Infinities and NaN in words; undefined for numbers that have digits. */
function special(x: number, unit = ""): string | undefined {
  if (Number.isNaN(x)) return MISSING;
  if (x === Number.POSITIVE_INFINITY) return INFINITE + unit;
  if (x === Number.NEGATIVE_INFINITY) return MINUS + INFINITE + unit;
  return undefined;
}

/** The digits of `text` with a real minus sign, and none before a zero. */
function signed(text: string): string {
  if (!text.startsWith("-")) return text;
  return /[1-9]/.test(text) ? MINUS + text.slice(1) : text.slice(1);
}

/** Thousands separated, no fraction: `1,902,880`. */
export function count(n: number): string {
  return special(n) ?? signed(grouped(Math.round(n).toFixed(0)));
}

function grouped(digits: string): string {
  return digits.replace(/\B(?=(\d{3})+$)/g, ",");
}

/** A count with what is counted, in the plural where it belongs: `1 tensor`, `84 tensors`. */
export function counted(n: number, thing: string): string {
  return special(n, ` ${thing}s`) ?? `${count(n)} ${thing}${Math.round(Math.abs(n)) === 1 ? "" : "s"}`;
}

/** `7,619,624 bytes`. */
export function exactBytes(n: number): string {
  return counted(n, "byte");
}

/** SI bytes with three significant digits: `7.62 MB`, `512 bytes`. */
export function bytes(n: number): string {
  const text = special(n, " bytes");
  if (text !== undefined) return text;
  if (Math.round(Math.abs(n)) < 1000) return exactBytes(n);
  const [digits, prefix] = prefixed(n, 3, ["", "k", "M", "G", "T", "P"]);
  return `${digits} ${prefix}B`;
}

/** A count with two significant digits and more when it has them before the point: `1.9 M`, `950`, `120 k`. */
export function compact(n: number): string {
  const text = special(n);
  if (text !== undefined) return text;
  if (Math.round(Math.abs(n)) < 1000) return count(n);
  return prefixed(n, 2, ["", "k", "M", "G", "T", "P"]).join(" ");
}

/** `n` scaled to the prefix that leaves 1 to 999 before the point, after rounding. */
function prefixed(n: number, digits: number, prefixes: string[]): [string, string] {
  let power = Math.min(Math.floor(Math.log10(Math.abs(n)) / 3), prefixes.length - 1);
  if (power < prefixes.length - 1 && Math.abs(Number(fixedDigits(n / 1000 ** power, digits))) >= 1000) power += 1;
  return [signed(fixedDigits(n / 1000 ** power, digits)), prefixes[power] ?? ""];
}

/** At least `digits` significant digits, never an exponent, never zeros in place of digits before the point. */
function fixedDigits(x: number, digits: number): string {
  if (x === 0) return "0";
  const first = Math.floor(Math.log10(Math.abs(x)));
  const text = x.toFixed(Math.min(100, Math.max(0, digits - 1 - first)));
  // 9.996 to three digits is 10.0, not 10.00.
  const moved = Math.floor(Math.log10(Math.abs(Number(text)))) > first;
  return moved ? x.toFixed(Math.min(100, Math.max(0, digits - 2 - first))) : text;
}

/** A fraction as a share: `percent(0.123, 1)` is `12.3 %`. */
export function percent(fraction: number, digits = 1): string {
  return special(fraction, " %") ?? `${signed((fraction * 100).toFixed(digits))} %`;
}

/** A change that is already in percent, with its sign: `+1.20 %`, `−0.35 %`, `0.00 %`. */
export function signedPercent(pct: number, digits = 2): string {
  if (pct === Number.POSITIVE_INFINITY) return `+${INFINITE} %`;
  const text = special(pct, " %");
  if (text !== undefined) return text;
  const digitsText = signed(pct.toFixed(digits));
  const plus = pct > 0 && /[1-9]/.test(digitsText) ? "+" : "";
  return `${plus}${digitsText} %`;
}

/** How many times smaller: `3.94x`. */
export function ratio(x: number): string {
  return special(x, "x") ?? `${signed(x.toFixed(2))}x`;
}

/** The same in words: `3.94x smaller`, `2.00x larger`. */
export function smaller(x: number): string {
  return x < 1 && x > 0 ? `${ratio(1 / x)} larger` : `${ratio(x)} smaller`;
}

/** A time one waits for: `under 1 s`, `about 3 s`, `2 min 10 s`, `1 h 5 min`. */
export function duration(seconds: number): string {
  const text = special(seconds);
  if (text !== undefined) return text;
  if (seconds <= 0) return "0 s";
  if (seconds < 1) return "under 1 s";
  const whole = Math.round(seconds);
  if (whole < 60) return `about ${whole} s`;
  if (whole < 3600) return joined(Math.floor(whole / 60), "min", whole % 60, "s");
  const minutes = Math.round(seconds / 60);
  return joined(Math.floor(minutes / 60), "h", minutes % 60, "min");
}

function joined(large: number, largeUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large} ${largeUnit}` : `${large} ${largeUnit} ${small} ${smallUnit}`;
}

/** `digits` significant digits; very small and very large numbers as powers of ten. */
export function significant(x: number, digits = 3): string {
  const text = special(x);
  if (text !== undefined) return text;
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size < 1e-4 || size >= 1e7) return scientific(x, digits);
  const [whole = "", fraction] = fixedDigits(x, digits).split(".");
  const sized = whole.replace("-", "");
  return signed((whole.startsWith("-") ? "-" : "") + grouped(sized) + (fraction === undefined ? "" : `.${fraction}`));
}

/** A perplexity, with the digits that the quality card has. */
export function perplexity(x: number): string {
  const text = special(x);
  if (text !== undefined) return text;
  const [whole = "", fraction = ""] = x.toFixed(3).split(".");
  return `${grouped(whole)}.${fraction}`;
}

/** A value of the quality card as numbers are written here: `7.83e-5` as `7.83 × 10⁻⁵`, with a real minus sign. */
export function asWritten(text: string): string {
  return text
    .replace(
      /(?<![\w-])(\d+(?:\.\d+)?)e([+-]?\d+)(?!\w)/g,
      (_, digit: string, exponent: string) => `${digit} × ${powerOfTen(Number(exponent))}`,
    )
    .replace(/(^|[\s(])-(?=\d)/g, `$1${MINUS}`);
}

/** Words as a list: `recipe`, `recipe and text`, `recipe, text and window`. */
export function listed(words: string[]): string {
  const last = words.at(-1) ?? "";
  return words.length < 2 ? last : `${words.slice(0, -1).join(", ")} and ${last}`;
}

/** A day and time as this computer writes them: `26 Nov 2026, 16:40`. */
export function day(milliseconds: number): string {
  return new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" }).format(milliseconds);
}

/** A power of ten: `1.25 × 10⁻⁵`. */
export function scientific(x: number, digits = 3): string {
  const text = special(x);
  if (text !== undefined) return text;
  if (x === 0) return "0";
  const [mantissa = "", exponent = "0"] = x.toExponential(Math.max(0, digits - 1)).split("e");
  return `${signed(mantissa)} × ${powerOfTen(Number(exponent))}`;
}

/** `10⁻⁵`. */
export function powerOfTen(exponent: number): string {
  const digits = [...Math.abs(exponent).toFixed(0)].map((digit) => SUPERSCRIPTS[Number(digit)]).join("");
  return `10${exponent < 0 ? "⁻" : ""}${digits}`;
}
