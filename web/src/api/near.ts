// Did you mean: the name that was probably meant.

/** The nearest of some names, if one is near enough that it could have been meant; or the only one that begins so. */
export function nearest(word: string, names: Iterable<string>): string | undefined {
  const allowed = Math.max(1, Math.floor(word.length / 3));
  let best: { name: string; edits: number } | undefined;
  const longer: string[] = [];
  for (const name of names) {
    if (word.length > 1 && name.toLowerCase().startsWith(word.toLowerCase())) longer.push(name);
    const edits = distance(word.toLowerCase(), name.toLowerCase());
    if (edits <= allowed && edits < (best?.edits ?? Infinity)) best = { name, edits };
  }
  return best?.name ?? (longer.length === 1 ? longer[0] : undefined);
}

/** `; did you mean 'NAME'?`, or nothing. */
export function didYouMean(word: string, names: Iterable<string>, write = (name: string) => `'${name}'`): string {
  const name = nearest(word, names);
  return name === undefined ? "" : `; did you mean ${write(name)}?`;
}

/** Letters added, left out, changed or swapped with their neighbour (optimal string alignment). */
function distance(a: string, b: string): number {
  // Of the prefixes of `a`: rows for the last two and this one, over the prefixes of `b`.
  let [before, last]: number[][] = [[], Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const changed = (last?.[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      row.push(
        Math.min(changed, (last?.[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, swapped ? (before?.[j - 2] ?? 0) + 1 : Infinity),
      );
    }
    [before, last] = [last, row];
  }
  return last?.[b.length] ?? 0;
}
