import { describe, expect, it } from "vitest";
import { type Entry, filesUnder } from "./entries.js";

function file(name: string): Entry {
  return { name, isFile: true, isDirectory: false, file: (found) => found(new File(["x"], name)) };
}

/** A folder that gives its entries in batches, as browsers do. */
function folder(name: string, inner: Entry[], batch = 100): Entry {
  return {
    name,
    isFile: false,
    isDirectory: true,
    createReader: () => {
      let at = 0;
      return {
        readEntries: (found) => {
          found(inner.slice(at, at + batch));
          at += batch;
        },
      };
    },
  };
}

const broken: Entry = {
  name: "locked",
  isFile: true,
  isDirectory: false,
  file: (_, failed) => failed(new DOMException("no", "NotReadableError")),
};

const names = (files: File[]) => files.map(({ name }) => name);

describe("files of what was dropped", () => {
  it("come in order, out of folders too", async () => {
    const walk = await filesUnder([
      file("a"),
      folder("f", [file("b"), folder("g", [file("c")]), file("d")]),
      file("e"),
    ]);
    expect(names(walk.files)).toEqual(["a", "b", "c", "d", "e"]);
    expect(walk.problems).toEqual([]);
  });

  it("are read in all batches", async () => {
    const many = Array.from({ length: 250 }, (_, i) => file(`${i}`));
    expect((await filesUnder([folder("f", many)])).files.length).toBe(250);
  });

  it("stop at the limit of entries, and say so", async () => {
    const many = Array.from({ length: 20 }, (_, i) => file(`${i}`));
    const walk = await filesUnder([folder("f", many)], { entries: 11, depth: 8 });
    expect(walk.files.length).toBe(10);
    expect(walk.problems).toEqual(["Only the first 11 files and folders were read."]);
    expect((await filesUnder(many, { entries: 20, depth: 8 })).problems).toEqual([]);
  });

  it("do not go deeper than the limit, nor around in a ring", async () => {
    const ring: Entry = folder("ring", []);
    ring.createReader = () => {
      let given = false;
      return {
        readEntries: (found) => {
          found(given ? [] : [file("in"), ring]);
          given = true;
        },
      };
    };
    const walk = await filesUnder([ring], { entries: 10_000, depth: 8 });
    expect(walk.files.length).toBe(8);
    expect(walk.problems).toEqual(["Folders more than 8 deep were left out."]);
  });

  it("go on past what cannot be read", async () => {
    const walk = await filesUnder([broken, folder("f", [file("a")]), { ...folder("h", []), createReader: failing }]);
    expect(names(walk.files)).toEqual(["a"]);
    expect(walk.problems).toEqual(["“locked” could not be read.", "“h” could not be read."]);
  });
});

function failing() {
  return { readEntries: (_: unknown, failed: (error: unknown) => void) => failed(new Error("gone")) };
}
