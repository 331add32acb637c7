// The rules of a recipe in their order: the first that matches decides, so what stands behind a wider one never does.

import type { Inspection, Rule } from "statepress";

/** Whether every name that `narrow` matches is matched by `wide`. Says no where it cannot tell. */
export function covers(wide: string, narrow: string): boolean {
  if (wide === narrow || wide === "*") return true;
  // A role is no glob, and is matched against something else than a name.
  return !wide.startsWith(ROLE) && !narrow.startsWith(ROLE) && coversFrom(wide, narrow);
}

const ROLE = "role:";

// `wide` is matched against `narrow` as if that were a name, whose wildcards only wildcards can take: an asterisk any
// symbols, a question mark one that stands for one character.
function coversFrom(wide: string, narrow: string): boolean {
  // reached[j]: the part of `wide` so far can take the first j symbols of `narrow`.
  let reached = Array.from({ length: narrow.length + 1 }, (_, j) => j === 0);
  for (const symbol of wide) {
    const next = new Array<boolean>(narrow.length + 1).fill(false);
    for (let j = 0; j <= narrow.length; j++) {
      if (symbol === "*") next[j] = (reached[j] ?? false) || (j > 0 && (next[j - 1] ?? false));
      else if (j > 0 && reached[j - 1]) {
        const taken = narrow[j - 1];
        next[j] = symbol === "?" ? taken !== "*" : taken === symbol;
      }
    }
    reached = next;
  }
  return reached[narrow.length] ?? false;
}

/** What the page can say of a rule that decides nothing. */
export interface Idle {
  /** The first rule that takes what this one would: it has to stand before that to decide anything. */
  before: number;
  /** Tensors of this model that it would decide; 0 when it is hidden whatever the model. */
  tensors: number;
}

type Tensor = Inspection["tensors"][number];

/** Whether a pattern is about a tensor: by its role, or by its name. */
export function isAbout(pattern: string, { name, role }: Pick<Tensor, "name" | "role">): boolean {
  return pattern.startsWith(ROLE) ? role === pattern.slice(ROLE.length) : covers(pattern, name);
}

/** For each rule why it decides nothing though it could: rules before it take all it would match. */
export function idleRules(rules: Rule[], tensors: Tensor[]): (Idle | undefined)[] {
  const decider = tensors.map((tensor) => rules.findIndex(({ match }) => isAbout(match, tensor)));
  return rules.map(({ match }, i) => {
    if (decider.includes(i)) return undefined;
    const taken = decider.filter((by, at) => isAbout(match, tensors[at] as Tensor) && by < i);
    const wider = rules.slice(0, i).findIndex((earlier) => covers(earlier.match, match));
    if (taken.length > 0) return { before: Math.min(...taken), tensors: taken.length };
    return wider < 0 ? undefined : { before: wider, tensors: 0 };
  });
}

/** The rules with a new one, before the first that would take what it is about; and where it stands. */
export function withRule(rules: Rule[], rule: Rule, tensors: Tensor[]): { rules: Rule[]; at: number } {
  const about = tensors.filter((tensor) => isAbout(rule.match, tensor));
  const taking = rules.findIndex(
    ({ match }) => covers(match, rule.match) || about.some((tensor) => isAbout(match, tensor)),
  );
  const at = taking < 0 ? rules.length : taking;
  return { rules: [...rules.slice(0, at), rule, ...rules.slice(at)], at };
}

/** What a new rule is about at first: the tensor that is looked at, or the largest one that no rule names. */
export function subjectOf({ tensors }: Pick<Inspection, "tensors">, rules: Rule[], looked: string | undefined): string {
  const named = (name: string) => rules.some(({ match }) => match === name);
  if (looked !== undefined && !named(looked)) return looked;
  const [largest] = tensors
    .filter(({ name, tiedTo }) => tiedTo === undefined && !named(name))
    .sort((a, b) => b.bytes - a.bytes);
  return largest?.name ?? "*.weight";
}
