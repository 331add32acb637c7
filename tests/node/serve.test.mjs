// The server of the page: what it allows, how it saves bytes, and whom it lets read local files.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { basename, join } from "node:path";
import { after, before, test } from "node:test";
import { brotliDecompressSync, gunzipSync } from "node:zlib";
import { DEMO, HELDOUT, ROOT, scratch, start } from "../support/node.mjs";

const folder = scratch();
const MODULE = "/statepress/dist/api/web.js";
const WASM = "/statepress/wasm/base/statepress_wasm_bg.wasm";
let server;
let url;

before(async () => {
  // The folder it is started in is where relative paths begin.
  server = start(["serve", "--port", "0", "--json"], { cwd: folder });
  url = await new Promise((resolve, reject) => {
    server.child.stdout.once("data", (text) => resolve(JSON.parse(text).url));
    server.done.then(({ stderr }) => reject(new Error(stderr)));
  });
});
after(async () => {
  server.child.kill("SIGINT");
  await server.done;
});

/** A request as it is written: fetch() decodes, normalises paths and forbids some headers. */
function ask(path, { method = "GET", headers = {} } = {}) {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url);
    request({ hostname, port, path, method, headers, agent: false }, async (response) => {
      const chunks = [];
      for await (const chunk of response) chunks.push(chunk);
      resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) });
    })
      .on("error", reject)
      .end();
  });
}

/** The token in an announced address. */
const tokenOf = (address) => new URLSearchParams(new URL(address).hash.slice(1)).get("local");
const ours = (extra = {}) => ({ headers: { "x-statepress": tokenOf(url), ...extra } });
const local = (what, path, options = ours()) => ask(`/local/${what}?path=${encodeURIComponent(path)}`, options);
const json = ({ body }) => JSON.parse(body.toString());

test("every answer forbids what the page does not need", async () => {
  for (const path of ["/", MODULE, WASM, "/nothing", "/local", "/%"]) {
    const { headers } = await ask(path);
    const policy = headers["content-security-policy"];
    assert.match(policy, /default-src 'none'; script-src 'self' 'wasm-unsafe-eval'(;| )/, path);
    assert.doesNotMatch(policy, /unsafe-inline|'unsafe-eval'|\*|https?:/, path);
    assert.equal(headers["x-content-type-options"], "nosniff", path);
    assert.equal(headers["referrer-policy"], "no-referrer", path);
    assert.equal(headers["cross-origin-opener-policy"], "same-origin", path);
    assert.equal(headers["access-control-allow-origin"], undefined, path);
  }
});

test("the page forbids itself the same on any server, but for who may frame it", async () => {
  const { headers, body } = await ask("/");
  const [, said] = body.toString().match(/<meta http-equiv="Content-Security-Policy" content="([^"]*)">/);
  assert.equal(`${said}; frame-ancestors 'self'`, headers["content-security-policy"]);
});

test("only a page with an import map gets more: the hash of that map", async () => {
  const { status, headers } = await ask("/examples/page/");
  assert.equal(status, 200);
  assert.match(headers["content-security-policy"], /script-src 'self' 'wasm-unsafe-eval' 'sha256-[\w+/]{43}=';/);
  const plain = await ask("/");
  assert.equal(plain.status, 200);
  assert.doesNotMatch(plain.headers["content-security-policy"], /sha256/);
});

test("text and wasm are compressed as the browser can take them, and are the same after it", async () => {
  const decode = { br: brotliDecompressSync, gzip: gunzipSync };
  const cases = [
    ["gzip, deflate, br", "br"],
    ["gzip, deflate", "gzip"],
    ["br;q=0, gzip;q=0.5", "gzip"],
    ["*", "br"],
    ["identity", undefined],
    ["br;q=0", undefined],
    ["", undefined],
  ];
  for (const path of [MODULE, WASM, "/"]) {
    const file = join(ROOT, "web", path === "/" ? "dist/page/index.html" : path.slice("/statepress/".length));
    const plain = readFileSync(file);
    for (const [accepted, encoding] of cases) {
      const { headers, body } = await ask(path, { headers: { "accept-encoding": accepted } });
      assert.equal(headers["content-encoding"], encoding, `${path} for ${accepted}`);
      assert.equal(headers.vary, "accept-encoding");
      assert.equal(Number(headers["content-length"]), body.length);
      assert.ok(plain.equals(encoding ? decode[encoding](body) : body), `${path} for ${accepted}`);
      if (encoding && path === WASM) assert.ok(body.length < plain.length / 2, `${body.length} of ${plain.length}`);
    }
  }
  const weights = await ask("/demo/itera-tiny/model.safetensors", { headers: { "accept-encoding": "br" } });
  assert.equal(weights.headers["content-encoding"], undefined);
  assert.ok(weights.body.equals(readFileSync(join(DEMO, "model.safetensors"))));
});

test("HEAD says what GET would and sends nothing", async () => {
  const options = { headers: { "accept-encoding": "br" } };
  const [head, get] = await Promise.all([ask(MODULE, { ...options, method: "HEAD" }), ask(MODULE, options)]);
  assert.equal(head.body.length, 0);
  for (const name of ["content-length", "content-encoding", "etag", "content-type"]) {
    assert.equal(head.headers[name], get.headers[name], name);
  }
  assert.equal((await ask("/", { method: "POST" })).status, 405);
});

test("what the browser has is not sent again, unless it is another version", async () => {
  const tags = new Set();
  for (const accepted of ["br", "gzip", "identity"]) {
    const encoding = { "accept-encoding": accepted };
    const { headers } = await ask(MODULE, { headers: encoding });
    assert.equal(headers["cache-control"], "no-cache");
    tags.add(headers.etag);
    for (const known of [headers.etag, `W/${headers.etag}`, `"other", ${headers.etag}`, "*"]) {
      const again = await ask(MODULE, { headers: { ...encoding, "if-none-match": known } });
      assert.equal(again.status, 304, known);
      assert.equal(again.body.length, 0);
      assert.equal(again.headers.etag, headers.etag);
    }
    const other = await ask(MODULE, { headers: { ...encoding, "if-none-match": '"other"' } });
    assert.equal(other.status, 200);
  }
  assert.equal(tags.size, 3, "an encoding is a version of its own");
});

test("nothing outside the served folders has an address", async () => {
  for (const path of [
    "/../package.json",
    "/%2e%2e/package.json",
    "/demo/..%2f..%2fREADME.md",
    "/examples/..%2f..%2fpackage.json",
    "/statepress/dist/..%2fpackage.json",
    "/statepress/package.json",
    "/etc%00/passwd",
    "/%",
    "//",
    "/demo/",
    "/examples/page",
  ]) {
    const { status, body } = await ask(path);
    if (path !== "//") assert.equal(status, 404, path);
    assert.ok(!body.includes('"name"'), path);
  }
});

test("the page learns that local paths can be opened, and where relative ones begin", async () => {
  const { status, headers, body } = await ask("/local", ours());
  assert.equal(status, 200);
  assert.equal(headers["cache-control"], "no-store");
  const { local, cwd } = JSON.parse(body);
  assert.equal(local, true);
  assert.equal(basename(cwd), basename(folder));
});

test("a folder is listed: its files, not what lies deeper; a file is listed alone", async () => {
  mkdirSync(join(folder, "some/deeper"), { recursive: true });
  writeFileSync(join(folder, "some/b.json"), "{}");
  writeFileSync(join(folder, "some/a.bin"), "12345");
  symlinkSync(join(folder, "nothing"), join(folder, "some/broken"));
  const files = (answer) => json(answer).files.map(({ name, size }) => `${name} ${size}`);
  assert.deepEqual(files(await local("list", join(folder, "some"))), ["a.bin 5", "b.json 2"]);
  assert.deepEqual(files(await local("list", "some")), ["a.bin 5", "b.json 2"]);
  assert.deepEqual(files(await local("list", "some/a.bin")), ["a.bin 5"]);
  const [first] = json(await local("list", "some")).files;
  assert.equal((await local("file", first.path)).body.toString(), "12345");
});

test("a file comes with its length, byte by byte; an empty one, too", async () => {
  const weights = join(DEMO, "model.safetensors");
  const { status, headers, body } = await local("file", weights);
  assert.equal(status, 200);
  assert.equal(headers["content-type"], "application/octet-stream");
  assert.equal(Number(headers["content-length"]), body.length);
  assert.ok(body.equals(readFileSync(weights)));
  writeFileSync(join(folder, "empty"), "");
  assert.equal((await local("file", "empty")).body.length, 0);
  const { origin, host } = new URL(url);
  const full = ours({ origin, host, "sec-fetch-site": "same-origin" });
  assert.equal((await local("file", HELDOUT, full)).status, 200);
  const named = ours({ host: host.replace("127.0.0.1", "localhost") });
  assert.equal((await local("file", HELDOUT, named)).status, 200);
});

test("~ is the home folder", { skip: process.platform === "win32" }, async (t) => {
  const { child, done } = start(["serve", "--port", "0", "--json"], { env: { ...process.env, HOME: folder } });
  t.after(() => child.kill());
  writeFileSync(join(folder, "at-home"), "here");
  const other = await new Promise((resolve, reject) => {
    child.stdout.once("data", (text) => resolve(JSON.parse(text).url));
    done.then(({ stderr }) => reject(new Error(stderr)));
  });
  const headers = { "x-statepress": tokenOf(other) };
  const response = await fetch(new URL("/local/file?path=~/at-home", other), { headers });
  assert.equal(await response.text(), "here");
});

test("what cannot be opened is said with its name", async () => {
  const missing = join(folder, "not-there.pt");
  for (const what of ["list", "file"]) {
    const answer = await local(what, missing);
    assert.equal(answer.status, 404);
    assert.deepEqual(json(answer).error, { code: "bad-input", message: `${missing} does not exist` });
  }
  assert.match(json(await local("file", folder)).error.message, /is not a file/);
  if (existsSync("/dev/null")) {
    assert.match(json(await local("list", "/dev/null")).error.message, /\/dev\/null is neither a file nor a folder/);
  }
  for (const path of ["/local/file", "/local/file?path=", "/local/list?path=%00"]) {
    const answer = await ask(path, ours());
    assert.equal(answer.status, 400, path);
    assert.equal(json(answer).error.code, "bad-option");
  }
  assert.equal((await ask("/local/other?path=x", ours())).status, 404);
});

test("the token is 128 random bits, new at every start, and in nothing that is served", async (t) => {
  assert.match(url, /^http:\/\/127\.0\.0\.1:\d+\/#local=[\w-]{22}$/);
  const { child, done } = start(["serve", "--port", "0"]);
  t.after(() => child.kill());
  const words = await new Promise((resolve, reject) => {
    child.stdout.once("data", resolve);
    done.then(({ stderr }) => reject(new Error(stderr)));
  });
  const [other] = words.match(/http:\S+/);
  assert.match(tokenOf(other), /^[\w-]{22}$/);
  assert.notEqual(tokenOf(other), tokenOf(url));
  const unknown = await fetch(new URL("/local", other), ours());
  assert.equal(unknown.status, 403);
  for (const path of ["/", MODULE, "/service-worker.js", "/local", "/nothing"]) {
    const { headers, body } = await ask(path);
    assert.ok(!(JSON.stringify(headers) + body).includes(tokenOf(url)), path);
  }
});

test("local files are for the page of this server alone", async () => {
  const { host, port } = new URL(url);
  const refused = {
    "no header": { headers: {} },
    "the header of earlier versions": ours({ "x-statepress": "local" }),
    "an empty token": ours({ "x-statepress": "" }),
    "part of the token": ours({ "x-statepress": tokenOf(url).slice(1) }),
    "more than the token": ours({ "x-statepress": `${tokenOf(url)}, ${tokenOf(url)}` }),
    "the token of another start": ours({ "x-statepress": tokenOf(url).split("").reverse().join("") }),
    "the token elsewhere": { headers: { authorization: tokenOf(url), cookie: `local=${tokenOf(url)}` } },
    "a foreign name (DNS rebinding)": ours({ host: `evil.example:${port}` }),
    "a foreign name without port": ours({ host: "evil.example" }),
    "another port": ours({ host: "127.0.0.1:1" }),
    "no port": ours({ host: "localhost" }),
    "a page elsewhere": ours({ origin: "https://evil.example" }),
    "a page on another port": ours({ origin: "http://127.0.0.1:1" }),
    "a page without origin": ours({ origin: "null" }),
    "a name with a foreign origin": ours({ host: `localhost:${port}`, origin: `http://${host}` }),
    "another site, says the browser": ours({ "sec-fetch-site": "cross-site" }),
    "another port, says the browser": ours({ "sec-fetch-site": "same-site" }),
    "an address typed by somebody": ours({ "sec-fetch-site": "none" }),
    "a preflight": {
      method: "OPTIONS",
      headers: { origin: "https://evil.example", "access-control-request-headers": "x-statepress" },
    },
  };
  for (const [who, options] of Object.entries(refused)) {
    for (const path of [
      "/local",
      "/local/list?path=.",
      `/local/file?path=${encodeURIComponent(HELDOUT)}`,
      "/local/x",
    ]) {
      const answer = await ask(path, options);
      assert.equal(answer.status, 403, `${who}: ${path}`);
      assert.ok(json(answer).error.message, who);
      assert.equal(answer.headers["access-control-allow-origin"], undefined, who);
      assert.equal(answer.headers["access-control-allow-headers"], undefined, who);
    }
  }
  for (const method of ["POST", "HEAD", "PUT", "DELETE"]) {
    assert.equal((await local("file", HELDOUT, { ...ours(), method })).status, 405, method);
  }
});
