// A folder as a zip archive: its directory says where the files are, and there they are. That Python unpacks it is held by the
// browser's test (tests/browser/playground-formats).

import { expect, test } from "vitest";
import { Crc, ZipFolder } from "./zip.js";

async function write(folder: ZipFolder, name: string, ...chunks: Uint8Array[]): Promise<void> {
  const writer = (await (await folder.getFileHandle(name)).createWritable()).getWriter();
  for (const chunk of chunks) await writer.write(chunk);
  await writer.close();
}

const text = (words: string) => new TextEncoder().encode(words);

/** What the directory at the end of an archive says, followed to the bytes of each file. */
async function unpacked(archive: Blob): Promise<Record<string, Uint8Array>> {
  const view = new DataView(await archive.arrayBuffer());
  const bytes = (at: number, length: number) => new Uint8Array(view.buffer, at, length);
  const end = view.byteLength - 22;
  expect(view.getUint32(end, true)).toBe(0x06054b50);
  const files: Record<string, Uint8Array> = {};
  let at = view.getUint32(end + 16, true);
  expect(at + view.getUint32(end + 12, true)).toBe(end);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    const u32 = (offset: number) => view.getUint32(at + offset, true);
    expect([u32(0), view.getUint16(at + 10, true)]).toEqual([0x02014b50, 0]);
    const length = view.getUint16(at + 28, true);
    const name = new TextDecoder().decode(bytes(at + 46, length));
    const local = u32(42);
    // The file's own header says the same.
    expect(view.getUint32(local, true)).toBe(0x04034b50);
    for (const [here, there] of [
      [14, 16],
      [18, 20],
      [22, 24],
    ] as const)
      expect(view.getUint32(local + here, true)).toBe(u32(there));
    expect(new TextDecoder().decode(bytes(local + 30, length))).toBe(name);
    const data = bytes(local + 30 + length, u32(20));
    const crc = new Crc();
    crc.add(data);
    expect(crc.value).toBe(u32(16));
    files[name] = data;
    at += 46 + length;
  }
  return files;
}

test("the checksum is that of the standard's example, whatever parts it comes in", () => {
  for (const parts of [["123456789"], ["1", "2345", "", "6789"]]) {
    const crc = new Crc();
    for (const part of parts) crc.add(text(part));
    expect(crc.value).toBe(0xcbf43926);
  }
});

test("what was written is in the archive, in a folder, also where it came in many parts that were lent", async () => {
  const folder = new ZipFolder("modèle-nf4");
  await write(folder, "config.json", text("{}"), text("\n"));
  await write(folder, "empty");
  const lent = new Uint8Array(1 << 20);
  const writer = (await (await folder.getFileHandle("model.safetensors")).createWritable()).getWriter();
  for (let at = 0; at < 9; at++) await writer.write(lent.fill(at));
  await writer.close();
  const files = await unpacked(folder.finish());
  expect(Object.keys(files)).toEqual(["modèle-nf4/config.json", "modèle-nf4/empty", "modèle-nf4/model.safetensors"]);
  expect(new TextDecoder().decode(files["modèle-nf4/config.json"])).toBe("{}\n");
  expect(files["modèle-nf4/empty"]?.length).toBe(0);
  const weights = files["modèle-nf4/model.safetensors"] ?? new Uint8Array();
  expect([weights.length, weights[0], weights[(1 << 20) * 3 + 5], weights.at(-1)]).toEqual([9 << 20, 0, 3, 8]);
});

test("what no such archive can hold is refused in words", async () => {
  const folder = new ZipFolder("large");
  const writer = (await (await folder.getFileHandle("weights")).createWritable()).getWriter();
  // Bytes that are told of and not there.
  const huge = { length: 2 ** 32, slice: () => new Uint8Array(1) };
  await expect(writer.write(huge)).rejects.toThrow(/4 GiB of a zip archive.*on the command line/);
});
