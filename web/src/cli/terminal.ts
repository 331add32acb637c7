// What may be shown where: colours and bars are for terminals, unless the environment says otherwise.

/** Where messages go: stderr, as a rule. */
export interface Messages {
  write(text: string): unknown;
  isTTY?: boolean;
  columns?: number;
}

type Variables = Record<string, string | undefined>;

/** Whether text may be coloured: NO_COLOR, FORCE_COLOR, CLICOLOR_FORCE and CLICOLOR, and then whether it is a terminal. */
export function coloured({ isTTY }: Messages, env: Variables = process.env): boolean {
  // https://no-color.org, https://force-color.org and https://bixense.com/clicolors: set and empty is not set.
  if (env["NO_COLOR"]) return false;
  for (const force of [env["FORCE_COLOR"], env["CLICOLOR_FORCE"]]) {
    if (force) return force !== "0" && force !== "false";
  }
  if (env["CLICOLOR"] === "0") return false;
  return movable({ isTTY: isTTY ?? false }, env);
}

/** Whether a line can be drawn over another. */
export function movable({ isTTY }: { isTTY?: boolean }, env: Variables = process.env): boolean {
  return isTTY === true && env["TERM"] !== "dumb";
}

const STYLES = { error: "31;1", warning: "33;1", info: "36" } as const;

/** A word in the colour of what it announces. */
export function styled(word: string, on: boolean): string {
  const style = STYLES[word as keyof typeof STYLES];
  return on && style !== undefined ? `\u001b[${style}m${word}\u001b[0m` : word;
}

/** 75 seconds as `1:15`. */
export function clock(seconds: number): string {
  const whole = Math.max(1, Math.ceil(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  const shown = parts[0] === 0 ? parts.slice(1) : parts;
  return shown.map((part, at) => (at === 0 ? `${part}` : `${part}`.padStart(2, "0"))).join(":");
}
