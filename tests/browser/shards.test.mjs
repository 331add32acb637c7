// Shards in Chromium: dropped as a folder and picked as several files, they are the one model that was cut.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch } from "../support/browser.mjs";
import { fixture } from "../support/node.mjs";
import { advised, openFiles } from "../support/playground.mjs";

const FOLDERS = ["safetensors", "bin"].map((name) => fixture(`cases/shards/${name}`));
const expected = JSON.parse(readFileSync(fixture("cases/shards/expected.json"), "utf8"));
let session;

before(async () => {
  session = await launch();
});
after(() => session.close());

/** Drops a path of this machine as a file manager would. */
async function dropPath(page, path) {
  const cdp = await page.context().newCDPSession(page);
  // What is dropped below the window's edge is dropped nowhere.
  const zone = page.locator(".part-dropzone").first();
  await zone.scrollIntoViewIfNeeded();
  const { x, y, width, height } = await zone.boundingBox();
  const data = { items: [], files: [path], dragOperationsMask: 1 };
  for (const type of ["dragEnter", "dragOver", "drop"]) {
    await cdp.send("Input.dispatchDragEvent", { type, x: x + width / 2, y: y + height / 2, data });
  }
}

test("the library opens shards by slices, and computes what the whole model did", async () => {
  const { page, problems } = await session.open();
  for (const folder of FOLDERS) {
    const files = readdirSync(folder).map((name) => ({ name, bytes: [...readFileSync(join(folder, name))] }));
    const run = ({ files, ids, part }) =>
      import("/statepress/dist/api/web.js").then(async (lib) => {
        const chosen = files.filter(({ name }) => !part || !name.includes(part));
        const checkpoint = await lib.open(chosen.map(({ name, bytes }) => new File([new Uint8Array(bytes)], name)));
        const model = await checkpoint.load({ backend: "cpu" });
        const { data } = await model.logits(ids);
        const { report } = await checkpoint.compress("int8");
        const { inspection, weightsName } = checkpoint;
        model.dispose();
        checkpoint.dispose();
        return { logits: [...data], files: inspection.files, from: report.fromFiles, weightsName };
      });
    const found = await page.evaluate(run, { files, ids: expected.ids });
    assert.equal(found.files.length, 3);
    assert.deepEqual(found.from, found.files);
    assert.match(found.weightsName, /\.index\.json$/);
    for (const [at, value] of expected.logits.flat().entries()) assert.ok(Math.abs(found.logits[at] - value) < 2e-5);

    const bare = await page.evaluate(run, { files, ids: expected.ids, part: "index.json" });
    assert.deepEqual(bare.logits, found.logits);
    await assert.rejects(
      page.evaluate(run, { files, ids: expected.ids, part: "00002-of" }),
      /1 of 3 shards is missing/,
    );
  }
  assert.deepEqual(problems, []);
  await page.close();
});

test("a dropped folder of shards opens, and so do its files picked together", async () => {
  for (const folder of FOLDERS) {
    const { page, problems } = await session.open();
    await dropPath(page, folder);
    await advised(page);
    const dropped = await page.textContent("#drop-title");
    await openFiles(
      page,
      readdirSync(folder).map((name) => join(folder, name)),
    );
    assert.match(dropped, /^Opened: /);
    assert.match(await page.textContent("#drop-title"), /^Opened: /);
    assert.deepEqual(problems, []);
    await page.close();
  }
});
