// The order of table rows: numbers by size, words as people sort them, what is missing last in both directions.

const words = new Intl.Collator("en", { numeric: true });

/** A sorted copy; rows that are equal keep their order. */
export function sorted<Row>(rows: Row[], value: (row: Row) => string | number, descending: boolean): Row[] {
  return rows
    .map((row) => ({ row, key: value(row) }))
    .sort((a, b) => {
      const missing = Number(isMissing(a.key)) - Number(isMissing(b.key));
      if (missing !== 0 || isMissing(a.key)) return missing;
      return descending ? compare(b.key, a.key) : compare(a.key, b.key);
    })
    .map(({ row }) => row);
}

function isMissing(key: string | number): boolean {
  return key === "" || Number.isNaN(key);
}

function compare(a: string | number, b: string | number): number {
  if (typeof a === "number" && typeof b === "number") return a < b ? -1 : a > b ? 1 : 0;
  return words.compare(String(a), String(b));
}
