// The arrows of web/src: the page is a client of the package, its parts know nothing of models, and its state does nothing.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import { ROOT } from "../support/node.mjs";

const SOURCES = join(ROOT, "web/src");

/** What each source file imports: own files as paths from web/src, packages as they are named. */
function imports() {
  const found = [];
  for (const entry of readdirSync(SOURCES, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !/\.(ts|svelte)$/.test(entry.name)) continue;
    const path = join(entry.parentPath, entry.name);
    // Scripts for the user to copy are text, not imports.
    const text = readFileSync(path, "utf8").replace(/`[^`]*`/g, "");
    const statements = /^\s*(?:import|export)\s+(type\s)?(?:([^"'();]*?)\sfrom\s+)?"([^"]+)"/gm;
    for (const [, type, names = "", named] of text.matchAll(statements)) {
      const target = named.startsWith(".") ? relative(SOURCES, join(dirname(path), named)) : named;
      // A statement without names runs what it imports.
      const listed = /\w/.test(names) ? names : "everything";
      const values = type ? [] : (listed.replace(/\btype\s+\w+/g, "").match(/[\w$*]+/g) ?? []);
      found.push({ from: relative(SOURCES, path), to: target, values });
    }
  }
  return found;
}

const all = imports();
const under = (folder) => all.filter(({ from }) => from.startsWith(`${folder}/`));

test("the page reaches the package by its name alone, and the package does not know the page", () => {
  assert.ok(under("page").some(({ to }) => to === "statepress"));
  for (const { from, to } of under("page")) {
    // A service worker is one file that must be there when nothing else is: it has the choice of the build built in.
    if (from === "page/offline/service-worker.ts" && to === "worker/builds.js") continue;
    // The package that the session's tests play is made of the real one's constants.
    if (from === "page/session/fake.ts" && to.startsWith("api/")) continue;
    // Tests try what parts texts on the demo's own.
    if (from.endsWith(".test.ts") && to.startsWith("../../examples/demo/")) continue;
    assert.match(to, /^(page\/|statepress$|svelte|d3-|vitest$)/, `${from} imports ${to}`);
  }
  for (const folder of ["api", "worker", "cli", "tokenizer"]) {
    for (const { from, to } of under(folder)) assert.doesNotMatch(to, /^page\//, `${from} imports ${to}`);
  }
});

test("parts know nothing of models", () => {
  assert.ok(under("page/parts").length > 10);
  for (const { from, to } of under("page/parts")) {
    assert.match(to, /^(page\/parts\/|svelte|d3-|vitest$)/, `${from} imports ${to}`);
  }
});

test("the page's state is data: of the package it takes types and constants, and of the session nothing", () => {
  const code = under("page/state").filter(({ from }) => !from.endsWith(".test.ts"));
  assert.ok(code.length > 5);
  for (const { from, to, values } of code) {
    assert.match(to, /^(page\/state\/|statepress$)/, `${from} imports ${to}`);
    if (to !== "statepress") continue;
    for (const name of values) assert.match(name, /^[A-Z0-9_]+$/, `${from} imports ${name} of ${to}`);
  }
});

test("workers and the command line know nothing of each other", () => {
  for (const { from, to } of under("worker")) assert.doesNotMatch(to, /^cli\//, `${from} imports ${to}`);
  for (const { from, to } of under("api")) assert.doesNotMatch(to, /^cli\//, `${from} imports ${to}`);
});

test("what reads tokenizers is loaded when there is one, by the page as by its worker", () => {
  for (const start of ["api/web.ts", "worker/worker.ts"]) {
    const loaded = new Set([start]);
    for (const path of loaded) {
      for (const { from, to, values } of all) {
        if (from === path && values.length > 0) loaded.add(to.replace(/\.js$/, ".ts"));
      }
    }
    assert.ok(loaded.size > 10, "what is loaded is followed");
    const early = [...loaded].filter((path) => /^(tokenizer|vendor)\//.test(path));
    assert.deepEqual(early, start.startsWith("api/") ? ["tokenizer/strangers.ts"] : [], start);
  }
});
