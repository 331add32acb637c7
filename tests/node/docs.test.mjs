// The code in the documentation: it compiles under every strict setting that people have, and it runs.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { CLI, ROOT, scratch } from "../support/node.mjs";

const run = promisify(execFile);

/** A project that has installed the package, beside the examples of a checkout. */
function project() {
  const here = scratch();
  mkdirSync(join(here, "node_modules/@types"), { recursive: true });
  symlinkSync(join(ROOT, "web"), join(here, "node_modules/statepress"));
  symlinkSync(join(ROOT, "web/node_modules/@types/node"), join(here, "node_modules/@types/node"));
  symlinkSync(join(ROOT, "examples"), join(here, "examples"));
  writeFileSync(join(here, "package.json"), '{ "type": "module" }');
  return here;
}

/** The blocks of a page that use the package. */
function blocks(page) {
  const text = readFileSync(join(ROOT, page), "utf8");
  return [...text.matchAll(/^```(?:js|ts)\n(.*?)^```/gms)]
    .map(([, code]) => code)
    .filter((it) => it.includes("statepress"));
}

const CODE = ["README.md", "web/README.md"].flatMap((page) => blocks(page).map((code) => ({ page, code })));

// What a recipe, an error, an abort and `using` are to a compiler.
const USES = `
import { type ErrorCode, open, type Recipe, type RecipeDraft, type RecipeInput, StatepressError } from "statepress";

const loose = { version: 1, name: "a", steps: [{ quantize: { rules: [{ match: "*", precision: "int8" }], otherwise: "fp32" } }] };
const frozen = { version: 1, name: "b", steps: [{ quantize: { rules: [], otherwise: "int4", int4: { group: 64 } } }] } as const;
const typed: RecipeInput = { version: 1, name: "c", steps: [{ quantize: { rules: [], otherwise: "nf4" } }] };
const draft = { version: 1, name: "d", steps: [{ quantize: { rules: [], otherwise: "nf4" } }] } satisfies RecipeDraft;
export async function main(file: File, list: FileList | File[], signal: AbortSignal): Promise<ErrorCode | undefined> {
  for (const input of [file, list, new Uint8Array(1), "path"]) {
    using checkpoint = await open(input, { signal, set: { top_k_experts: 2, layers: [1, 2] } });
    for (const recipe of [loose, frozen, typed, draft, "int8"]) {
      const { recipe: whole } = await checkpoint.plan(recipe);
      const again: Recipe = whole;
      await checkpoint.plan(again);
    }
    try {
      await using model = await checkpoint.load({ backend: "auto", onProgress: ({ done, total }) => void (done / total) });
      for await (const { text } of model.generate("x", { maxTokens: 3, signal })) void text.length;
    } catch (error) {
      if (error instanceof StatepressError) return error.code;
    }
  }
  return undefined;
}
// @ts-expect-error: misspelt
void ((it: Awaited<ReturnType<typeof open>>) => it.load({ backand: "cpu" }));
`;

test("the code of the documentation type-checks, strictly, with and without a browser's types", async () => {
  const here = project();
  assert.deepEqual([...new Set(CODE.map(({ page }) => page))], ["README.md", "web/README.md"]);
  const files = CODE.map(({ code }, at) => {
    writeFileSync(join(here, `doc${at}.ts`), `${code}export {};\n`);
    return `doc${at}.ts`;
  });
  writeFileSync(join(here, "uses.ts"), USES);
  const tsc = join(ROOT, "web/node_modules/.bin/tsc");
  const strict = [
    "--noEmit",
    "--strict",
    "--skipLibCheck",
    "false",
    "--noUncheckedIndexedAccess",
    "--exactOptionalPropertyTypes",
  ];
  for (const [settings, ...checked] of [
    ["--module nodenext --target es2022 --types node", ...files, "uses.ts"],
    ["--module esnext --moduleResolution bundler --target es2022 --types node", ...files, "uses.ts"],
    // A server has no FileList.
    ["--module nodenext --target es2022 --lib es2023 --types node", ...files],
  ]) {
    const made = await run(tsc, [...strict, ...settings.split(" "), ...checked], { cwd: here }).catch((error) => error);
    assert.equal(made.stdout, "", settings);
    assert.equal(made.code, undefined);
  }
});

test("the code of the documentation runs", async () => {
  for (const { page, code } of CODE) {
    const here = project();
    // Of TypeScript nothing is used that is not JavaScript.
    writeFileSync(join(here, "doc.mjs"), code);
    const { stdout } = await run(process.execPath, ["doc.mjs"], { cwd: here });
    assert.match(stdout, page === "README.md" ? /^3\.\d+ -?\d/m : /^KL divergence, mean \(nats\) +\d/m);
    const [, saved] = /save\("([^"]+)"\)/.exec(code);
    assert.ok(existsSync(join(here, saved)), saved);
  }
});

/** Every command line in the pages and examples: of blocks for a shell, and of files that engines read. */
function commandLines() {
  const pages = ["README.md", "web/README.md", "examples/batch/README.md"];
  const shell = pages.flatMap((page) =>
    [...readFileSync(join(ROOT, page), "utf8").matchAll(/^```sh\n(.*?)^```/gms)].map(([, code]) => ({ page, code })),
  );
  const files = ["kubernetes.yaml", "slurm.sh", "Snakefile"].map((name) => {
    const page = `examples/batch/${name}`;
    return { page, code: readFileSync(join(ROOT, page), "utf8") };
  });
  return [...shell, ...files].flatMap(({ page, code }) =>
    // A command ends with its line, a pipe, a redirection or a quote.
    [...code.replace(/\\\n\s*|\n\s+(?=--)/g, " ").matchAll(/\bstatepress ([a-z]+ [^\n|>']+)/g)]
      .map(([, words]) => ({ page, words: words.replaceAll('"', "").trim().split(/\s+/) }))
      .filter(({ words: [name] }) => name !== "COMMAND"),
  );
}

test("the command lines of the documentation are understood", async () => {
  const lines = commandLines();
  for (const page of ["README.md", "web/README.md", "examples/batch/README.md", "examples/batch/slurm.sh"]) {
    assert.ok(
      lines.some((it) => it.page === page),
      page,
    );
  }
  const { stdout: overview } = await run(process.execPath, [CLI, "help"]);
  for (const { page, words } of lines) {
    const [name] = words;
    // Words about statepress are no command line.
    if (!new RegExp(`^ +${name} `, "m").test(overview) && !["help", "completion"].includes(name)) {
      assert.fail(`${page}: statepress ${words.join(" ")}`);
    }
    // Every option is known and has its value where --help is answered.
    const { stdout } = await run(process.execPath, [CLI, ...words, "--help"]).catch((error) => error);
    assert.match(stdout, new RegExp(`^usage: statepress ${name} `), `${page}: statepress ${words.join(" ")}`);
  }
});
