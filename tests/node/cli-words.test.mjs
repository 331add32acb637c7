// The words of the command line: version, help, mistakes that can be guessed, colours, completion in real shells.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { CLI, cli, fixture, HELDOUT, ROOT, scratch, start } from "../support/node.mjs";

const folder = scratch();
const SMALL = fixture("fixtures/il_ffn.tied.safetensors");

/** Wants a usage error of those words. */
async function misused(words, ...args) {
  const { code, json, stderr } = await cli([...args, "--json"]);
  assert.match(stderr, /^error: [^\n]+\n$/);
  assert.match(stderr, words);
  assert.deepEqual([code, json.error.code], [2, "usage"]);
}

test("the version is the package's", async () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, "web/package.json"), "utf8"));
  for (const args of [["--version"], ["-V"], ["version"]]) {
    assert.deepEqual(await cli(args).then(({ code, stdout, stderr }) => [code, stdout, stderr]), [
      0,
      `statepress ${version}\n`,
      "",
    ]);
  }
  assert.deepEqual((await cli(["--version", "--json"])).json, { version });
});

test("help of a command by any of its ways, and of none", async () => {
  const { stdout } = await cli(["compress", "--help"]);
  assert.match(stdout, /^usage: statepress compress FILE\.\.\. \[OPTIONS\]$/m);
  assert.match(stdout, /^ +-o, --output OUT +/m);
  for (const args of [
    ["help", "compress"],
    ["compress", "-h"],
    ["--help", "compress"],
  ]) {
    assert.deepEqual(await cli(args).then((it) => [it.code, it.stdout]), [0, stdout]);
  }
  const overview = await cli(["help"]);
  assert.equal(overview.stdout, (await cli(["-h"])).stdout);
  const none = await cli([]);
  assert.deepEqual([none.code, none.stdout, none.stderr], [2, "", overview.stdout]);
  await misused(/no command 'nothing'/, "help", "nothing");
});

test("what was probably meant is said", async () => {
  await misused(/no command 'compres'; .*did you mean 'compress'\?/, "compres");
  await misused(/did you mean 'evaluate'\?/, "evalaute", "x");
  await misused(/a command comes first, not '--recipe'/, "--recipe", "int8");
  await misused(/did you mean 'evaluate'\?/, "eval", "x");
  await misused(/help takes one command, 2 were given/, "help", "inspect", "plan");
  await misused(/unknown option '--recpie'; did you mean '--recipe'\?/, "plan", SMALL, "--recpie", "int8");
  await misused(/unknown option '--bakend'; did you mean '--backend'\?/, "evaluate", SMALL, "--bakend=cpu");
  await misused(/unknown option '-x' /, "inspect", SMALL, "-x");
  await misused(/the option '--text' is one of other commands/, "inspect", SMALL, "--text", "x");
  await misused(
    /--target is 'cpuu'; allowed: gpu, cpu, edge; did you mean 'cpu'\?/,
    "advise",
    SMALL,
    "--target",
    "cpuu",
  );
  await misused(/not 'itn8'; did you mean 'int8'\?/, "inspect", SMALL, "--tensor", "x", "--precision", "nf4,itn8");
  await misused(/completion takes bash, zsh, fish, not 'fihs'; did you mean 'fish'\?/, "completion", "fihs");
  const { code, json } = await cli(["plan", SMALL, "--recipe", "mixd-aggressive", "--json"]);
  assert.deepEqual([code, json.error.code], [1, "bad-recipe"]);
  assert.match(json.error.message, /there are: none, fp16,.*; did you mean 'mixed-aggressive'\?$/);
  // Nothing is guessed where nothing is near.
  for (const args of [["zip"], ["plan", SMALL, "--zip"]]) assert.doesNotMatch((await cli(args)).stderr, /did you mean/);
  const field = await cli(["inspect", SMALL, "--set", "hiden_size=3", "--json"]);
  assert.deepEqual([field.code, field.json.error.code], [1, "bad-option"]);
  assert.match(field.stderr, /hiden_size is 3; allowed: the fields [a-z]/);
});

test("an option is given once, with a value where it has one; what looks like an option may be a value or a file", async () => {
  await misused(/--recipe is given twice/, "plan", SMALL, "--recipe", "int8", "--recipe", "nf4");
  await misused(/--output is given twice/, "compress", SMALL, "-o", "a", "--output=b");
  await misused(
    /--set top_k_experts is given twice/,
    "inspect",
    SMALL,
    "--set",
    "top_k_experts=1",
    "--set",
    "top_k_experts=2",
  );
  await misused(/--json takes no value/, "inspect", SMALL, "--json=yes");
  await misused(/--recipe needs a value: R/, "plan", SMALL, "--recipe");
  await misused(/--recipe needs a value: R; write --recipe=--quiet if/, "plan", SMALL, "--recipe", "--quiet");
  await misused(
    /--window takes a whole number from 1 to 4294967295, not '-3'/,
    "evaluate",
    SMALL,
    "--text",
    "x",
    "--window",
    "-3",
  );
  assert.equal((await cli(["inspect", SMALL, "--quiet", "--quiet"])).code, 0, "a flag twice is that flag");
  writeFileSync(join(folder, "-model.safetensors"), readFileSync(SMALL));
  for (const operand of ["-model.safetensors", "--json"]) {
    const { code, stdout, stderr } = await cli(["inspect", "--quiet", "--", operand], { cwd: folder });
    if (operand === "--json") assert.match(stderr, /^error: --json does not exist/);
    else assert.deepEqual([code, stderr, /itera-lite/.test(stdout)], [0, "", true]);
  }
  await misused(/FILE has no name/, "inspect", "");
});

test("colours are for terminals, and the environment has the last word", async () => {
  // No terminal here: only what forces colours brings them.
  const plain = { ...process.env, NO_COLOR: "", FORCE_COLOR: "", CLICOLOR: "", CLICOLOR_FORCE: "", TERM: "xterm" };
  const red = async (env) =>
    (await cli(["inspect", "none.pt"], { env: { ...plain, ...env } })).stderr.startsWith("\u001b[31;1m");
  assert.equal(await red({}), false);
  assert.equal(await red({ FORCE_COLOR: "1" }), true);
  assert.equal(await red({ CLICOLOR_FORCE: "1" }), true);
  assert.equal(await red({ FORCE_COLOR: "0", CLICOLOR_FORCE: "" }), false);
  assert.equal(await red({ FORCE_COLOR: "1", NO_COLOR: "1" }), false);
  // A terminal by `script`, where that is at hand.
  const onTerminal = (env) => {
    const command = `${process.execPath} ${CLI} inspect none.pt`;
    const made = spawnSync("script", ["-qec", command, "/dev/null"], { env: { ...plain, ...env }, input: "" });
    return made.error ? undefined : `${made.stdout}`.includes("\u001b[");
  };
  if (onTerminal({}) === undefined) return;
  assert.equal(onTerminal({}), true);
  assert.equal(onTerminal({ CLICOLOR: "0" }), false);
  assert.equal(onTerminal({ NO_COLOR: "1" }), false);
  assert.equal(onTerminal({ TERM: "dumb" }), false);
});

test("serve: ports that cannot be had, in words", async () => {
  await misused(/--port takes a whole number from 0 to 65535, not '70000'/, "serve", "--port", "70000");
  await misused(/--port takes a whole number from 0 to 65535, not 'http'/, "serve", "--port", "http");
  const taken = createServer();
  const port = await new Promise((resolve) => taken.listen(0, "127.0.0.1", () => resolve(taken.address().port)));
  const { code, stderr } = await cli(["serve", "--port", `${port}`]);
  taken.close();
  assert.equal(code, 1);
  assert.equal(stderr, `error: port ${port} is in use; --port N takes another, --port 0 any free one\n`);
});

test("a signal that comes twice at once ends a command as one does, to a shell", async () => {
  const { child, done } = start(["serve", "--port", "0"]);
  await new Promise((resolve) => child.stdout.once("data", resolve));
  child.kill("SIGINT");
  child.kill("SIGINT");
  const { code, signal } = await done;
  // One that comes while the process is ending ends it: to a shell that is 130 as well.
  assert.ok(code === 130 || signal === "SIGINT", `${code} ${signal}`);
});

/** Lines that are begun, and what a shell must offer for them: exactly these, or at least these. */
const BEGUN = [
  ["statepress comp", ["compare", "completion", "compress"]],
  ["statepress compress --rec", ["--recipe", "--recover", "--recover-ids", "--recover-weights"]],
  ["statepress plan x --recipe mix", ["mixed", "mixed-aggressive"]],
  ["statepress evaluate --backend ", ["auto", "cpu", "webgpu"]],
  ["statepress completion ", ["bash", "fish", "zsh"]],
  ["statepress help ins", ["inspect"]],
  ["statepress inspect sub/mo", ["sub/model.pt"]],
  ["statepress compress sub/model.pt --report sub/mo", ["sub/model.pt"]],
];

async function script(shell) {
  const { code, stdout, stderr } = await cli(["completion", shell]);
  assert.equal(code, 0, stderr);
  const path = join(folder, `completion.${shell}`);
  writeFileSync(path, stdout);
  return path;
}

const there = (shell) => spawnSync(shell, ["-c", "true"]).status === 0;

mkdirSync(join(folder, "sub"));
writeFileSync(join(folder, "sub/model.pt"), "");

/** What completes `nf4,i`: every precision of integers after the one that is there. */
const WHOLE = [2, 3, 4, 5, 6, 8].map((bits) => `nf4,int${bits}`);

test("completion in bash", { skip: !there("bash") }, async () => {
  const path = await script("bash");
  const offers = (words) => {
    const run = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _statepress; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { status, stdout, stderr } = spawnSync("bash", ["-c", run, "bash", path, ...words], { cwd: folder });
    assert.deepEqual([status, `${stderr}`], [0, ""]);
    return `${stdout}`.split("\n").filter(Boolean).sort();
  };
  for (const [line, expected] of BEGUN) assert.deepEqual(offers(line.split(" ")), expected, line);
  assert.deepEqual(offers(["statepress", "plan", "--recipe", "=", "mixed-"]), ["mixed-aggressive"]);
  assert.deepEqual(offers(["statepress", "plan", "--recipe", "="]).includes("nf4"), true);
  assert.deepEqual(offers(["statepress", "inspect", "--precision", "nf4,i"]), WHOLE);
  assert.deepEqual(offers(["statepress", "serve", ""]), []);
});

test("completion in fish", { skip: !there("fish") }, async () => {
  const path = await script("fish");
  const offers = (line) => {
    const { status, stdout, stderr } = spawnSync("fish", ["-c", `source ${path}; complete -C '${line}'`], {
      cwd: folder,
    });
    assert.deepEqual([status, `${stderr}`], [0, ""]);
    return `${stdout}`
      .split("\n")
      .filter(Boolean)
      .map((it) => it.split("\t")[0])
      .sort();
  };
  for (const [line, expected] of BEGUN) assert.deepEqual(offers(line), expected, line);
  assert.deepEqual(offers("statepress inspect --precision nf4,i"), WHOLE);
});

test("completion in zsh", { skip: !there("zsh") }, async () => {
  const path = await script("zsh");
  // A shell on a terminal of its own, in which the tab key is pressed: what it then shows.
  const drive = `
    zmodload zsh/zpty
    zpty shell zsh -f -i
    zpty -w shell "PS1=; unset zle_bracketed_paste; autoload -Uz compinit; compinit -u -D; source $1; bindkey '^I' list-choices"
    zpty -w shell "stty cols 200; echo REA''DY"
    zpty -r -m shell line '*READY*'
    zpty -n -w shell "$2"$'\\t'
    zpty -r -m shell line "*$3*"
    print -r -- $line
  `;
  for (const [line, expected] of BEGUN) {
    const last = expected.at(-1).split("/").at(-1);
    const args = ["-f", "-c", drive, "zsh", path, line, last];
    const { stdout } = spawnSync("zsh", args, { cwd: folder, timeout: 20_000 });
    for (const word of expected)
      assert.ok(`${stdout}`.includes(word.split("/").at(-1)), `${line}: ${word} of ${stdout}`);
  }
});

// Of every option with numbers: values it cannot have, and how it says so. Refused before any file is looked at.
const NUMBERS = [
  [["inspect", "--tensor", "x", "--bins"], ["0", "1025", "1.5", "many", ""], /a whole number from 1 to 1024/],
  [["advise", "--max-loss"], ["-1", "nan", "Infinity", "5%"], /a number from 0/],
  [["advise", "--max-size"], ["0", "-5", "1.5", "1GB", "1e99"], /a whole number from 1 to 9007199254740991/],
  [["evaluate", "--window"], ["0", "-1", "2.5", "all", "1e10"], /a whole number from 1 to 4294967295/],
  [["evaluate", "--limit"], ["0", "-1", "2.5", "all", "1e10"], /a whole number from 1 to 4294967295/],
  [["evaluate", "--offset"], ["-1", "0.5", "detects", "1e10"], /a whole number from 0 to 4294967295, or detect/],
  [["compare", "b", "--ratio-target"], ["-1", "0", "NaN", "2x", ""], /a number above 0/],
  [["compare", "b", "--loss-target"], ["-1", "NaN", "5%", ""], /a number from 0/],
  [["generate", "--max-tokens"], ["-1", "1.5", "1e10"], /a whole number from 0 to 4294967295/],
  [["generate", "--temperature"], ["-0.5", "hot", "1e308"], /a number from 0 to 1000000/],
  [["generate", "--top-k"], ["0", "-1", "1.5"], /a whole number from 1 to 4294967295/],
  [["generate", "--seed"], ["-1", "1.5", "1e20"], /a whole number from 0 to 9007199254740991/],
  [["bench", "--repeats"], ["0", "-1", "1e9"], /a whole number from 1 to 1048576/],
  [["serve", "--port"], ["-1", "65536", "http"], /a whole number from 0 to 65535/],
];

test("numbers that an option cannot have are usage errors that say which it can have", async () => {
  const given = { evaluate: ["--text", HELDOUT], compare: ["--text", HELDOUT], generate: ["--prompt", "a"] };
  for (const [[command, ...rest], values, allowed] of NUMBERS) {
    const option = rest.pop();
    const operands = command === "serve" ? [] : ["none.pt", ...rest];
    for (const value of values) {
      const { code, stderr } = await cli([command, ...operands, ...(given[command] ?? []), `${option}=${value}`]);
      assert.equal(code, 2, `${option} ${value}: ${stderr}`);
      assert.match(stderr, new RegExp(`^error: ${option} takes ${allowed.source}, not '${value}' `));
    }
  }
  for (const option of ["weights", "tokenizer"]) {
    const { code, stderr } = await cli(["inspect", "none.pt", `--${option}=`]);
    assert.deepEqual([code, /^error: --\w+ needs a value that is not empty/.test(stderr)], [2, true], stderr);
  }
});
