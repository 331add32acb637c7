// A folder as a zip archive: what unpacks archives finds the files that were written.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Crc, ZipFolder } from "./zip.js";

async function write(folder: ZipFolder, name: string, ...chunks: Uint8Array[]): Promise<void> {
  const writer = (await (await folder.getFileHandle(name)).createWritable()).getWriter();
  for (const chunk of chunks) await writer.write(chunk);
  await writer.close();
}

const text = (words: string) => new TextEncoder().encode(words);

test("the checksum is that of the standard's example, whatever parts it comes in", () => {
  for (const parts of [["123456789"], ["1", "2345", "", "6789"]]) {
    const crc = new Crc();
    for (const part of parts) crc.add(text(part));
    expect(crc.value).toBe(0xcbf43926);
  }
});

test("the same files are the same archive, and Python unpacks it", async () => {
  const archive = async () => {
    const folder = new ZipFolder("modèle-nf4");
    await write(folder, "config.json", text("{}"), text("\n"));
    await write(folder, "empty");
    const lent = new Uint8Array(1 << 20);
    const writer = (await (await folder.getFileHandle("model.safetensors")).createWritable()).getWriter();
    for (let at = 0; at < 9; at++) {
      await writer.write(lent.fill(at));
    }
    await writer.close();
    return new Uint8Array(await folder.finish().arrayBuffer());
  };
  const bytes = await archive();
  expect(Buffer.from(await archive()).equals(bytes)).toBe(true);
  const here = mkdtempSync(join(tmpdir(), "statepress-zip-"));
  try {
    writeFileSync(join(here, "it.zip"), bytes);
    const script = `
import sys, zipfile
it = zipfile.ZipFile(sys.argv[1])
assert it.testzip() is None
for info in it.infolist(): print(info.filename, info.file_size, sorted(set(it.read(info)))[-1:])`;
    const said = execFileSync("python3", ["-X", "utf8", "-c", script, join(here, "it.zip")], { encoding: "utf8" });
    expect(said.trim().split("\n")).toEqual([
      "modèle-nf4/config.json 3 [125]",
      "modèle-nf4/empty 0 []",
      "modèle-nf4/model.safetensors 9437184 [8]",
    ]);
  } finally {
    rmSync(here, { recursive: true });
  }
});

test("what no such archive can hold is refused in words", async () => {
  const folder = new ZipFolder("large");
  const writer = (await (await folder.getFileHandle("weights")).createWritable()).getWriter();
  // Nobody reads these bytes: the size alone is told.
  const huge = { length: 2 ** 32, slice: () => new Uint8Array(1), [Symbol.iterator]: () => [][Symbol.iterator]() };
  await expect(writer.write(huge)).rejects.toThrow(/4 GiB of a zip archive.*on the command line/);
});
