// The page: events in, calls of the library, elements out. All work happens in the library's worker.

import { compare, open, qualityCard, recipes, StatepressError } from "statepress";

const $ = (id) => document.getElementById(id);
const bytes = (count) => `${count.toLocaleString("en")} bytes`;

let checkpoint;
let compressed;
let text;
let job;
let address;

const picker = $("files");
picker.addEventListener("change", () => openFiles([...picker.files]));
$("drop").addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
$("drop").addEventListener("dragleave", () => $("drop").classList.remove("over"));
$("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  openFiles([...event.dataTransfer.files]);
});
$("demo").addEventListener("click", () =>
  attempt($("open-problem"), async () => {
    $("facts").textContent = "fetching the demo";
    const names = ["model.safetensors", "config.json", "tokenizer.json"];
    await openFiles(await Promise.all(names.map((name) => fetchFile(`/demo/itera-tiny/${name}`, name))));
  }),
);
$("recipe").addEventListener("change", () => attempt($("compress-problem"), showPlan));
$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  compressAndCompare();
});
$("cancel").addEventListener("click", () => job.abort());
$("try").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt($("try-problem"), continueWithBoth);
});

async function fetchFile(url, name) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} is not served here (${response.status})`);
  return new File([await response.blob()], name);
}

// Errors are shown in words, at the place they belong to.
async function attempt(place, work) {
  place.textContent = "";
  try {
    await work();
  } catch (error) {
    if (error instanceof StatepressError && error.code === "aborted") place.textContent = "Cancelled.";
    else place.textContent = `${error.message}.`;
  }
}

async function openFiles(files) {
  await attempt($("open-problem"), async () => {
    $("compressing").hidden = $("result").hidden = true;
    $("facts").textContent = "";
    const texts = files.filter((file) => file.name.endsWith(".txt"));
    const opened = await open(files.filter((file) => !texts.includes(file)));
    job?.abort();
    checkpoint?.dispose();
    compressed?.dispose();
    compressed = undefined;
    checkpoint = opened;
    text = texts[0];
    const { family, format, params, fileBytes, spec, findings } = checkpoint.inspection;
    const assumed = Object.keys(spec).filter((field) => spec[field].origin === "assumed");
    $("facts").replaceChildren(
      ...fact("family", `${family}, ${params.toLocaleString("en")} parameters`),
      ...fact("file", `${format}, ${bytes(fileBytes)}`),
      ...fact("assumed", assumed.map((field) => `${field} = ${spec[field].value}`).join(", ") || "nothing"),
      ...fact("findings", findings.map((it) => it.message).join("; ") || "none"),
    );
    const options = (await recipes()).map(({ name, description }) => new Option(`${name}: ${description ?? ""}`, name));
    $("recipe").replaceChildren(...options);
    $("recipe").value = (await checkpoint.advise()).recommended[0]?.recipe ?? "int8";
    $("compressing").hidden = false;
    await showPlan();
  });
}

function fact(name, value) {
  const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
  [dt.textContent, dd.textContent] = [name, value];
  return [dt, dd];
}

async function showPlan() {
  const { bytes: size } = await checkpoint.plan($("recipe").value);
  $("planned").textContent = `Planned: ${bytes(size.before)} to ${bytes(size.after)}, ${size.ratio.toFixed(2)}x.`;
}

async function compressAndCompare() {
  job = new AbortController();
  const { signal } = job;
  const onProgress = ({ stage, done, total, unit }) => {
    Object.assign($("progress"), { hidden: false, max: total, value: done });
    $("stage").textContent = `${stage}: ${done} of ${total} ${unit}`;
  };
  $("result").hidden = true;
  $("computes").textContent = "";
  $("compress").disabled = true;
  $("cancel").disabled = false;
  compressed?.dispose();
  compressed = undefined;
  await attempt($("compress-problem"), async () => {
    compressed = await checkpoint.compress($("recipe").value, { signal, onProgress });
    await offer(compressed);
    const own = text ?? (await fetchFile("/demo/heldout.txt", "heldout.txt"));
    // How far ahead a model predicts is hardly ever in its file, and everything measured depends on it.
    const assumed = checkpoint.inspection.spec.prediction_offset?.origin === "assumed";
    const backend = $("backend").value;
    const options = { offset: assumed ? "detect" : undefined, backend, signal, onProgress };
    const original = await checkpoint.load(options);
    try {
      showBackend(original.backend);
      const comparison = await compare(original, compressed, { text: await own.text(), ...options });
      showCard(comparison, own.name);
      showFindings([...compressed.report.findings, ...comparison.b.findings]);
    } finally {
      original.dispose();
    }
  });
  $("progress").hidden = true;
  $("stage").textContent = "";
  $("compress").disabled = false;
  $("cancel").disabled = true;
}

function showBackend({ name, adapter, reason }) {
  const features = adapter?.features.length ? ` with ${adapter.features.join(", ")}` : "";
  $("computes").textContent = `Computing on ${adapter ? `${name}: ${adapter.name}${features}` : name}; ${reason}.`;
}

// The file is worth having even when it cannot be measured.
async function offer(compressed) {
  const file = await compressed.save("blob");
  if (address) URL.revokeObjectURL(address);
  address = URL.createObjectURL(file);
  const name = `${compressed.report.recipe.name}.safetensors`;
  Object.assign($("download"), { href: address, download: name, textContent: `Download ${name}, ${bytes(file.size)}` });
  $("protocol").textContent = "";
  $("card").hidden = true;
  showFindings(compressed.report.findings);
  $("result").hidden = false;
}

function showCard(comparison, textName) {
  const { window, windows, offset, backend, adapter } = comparison.a;
  const computes = adapter ? `${backend}: ${adapter}` : backend;
  const protocol = `${windows} windows of ${window} tokens, predicting ${offset} ahead, ${computes}`;
  $("protocol").textContent = `Measured on ${textName}: ${protocol}.`;
  const rows = qualityCard(comparison).map(({ id, label, base, compressed }) => {
    const row = document.createElement("tr");
    row.id = `card-${id}`;
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = label;
    row.append(head);
    for (const cell of [base, compressed]) row.insertCell().textContent = cell;
    return row;
  });
  $("card").tBodies[0].replaceChildren(...rows);
  $("card").hidden = false;
}

async function continueWithBoth() {
  $("texts").replaceChildren();
  for (const [name, which] of [
    ["original", checkpoint],
    ["compressed", compressed],
  ]) {
    const model = await which.load({ backend: $("backend").value });
    try {
      const { name: backend, adapter } = model.backend;
      const [term, said] = fact(`${name}, ${adapter ? `${backend}: ${adapter.name}` : backend}`, $("prompt").value);
      $("texts").append(term, said);
      for await (const token of model.generate($("prompt").value, { maxTokens: 24 })) said.append(token.text);
    } finally {
      model.dispose();
    }
  }
}

function showFindings(findings) {
  const items = findings.map(({ level, message, tensor }) => {
    const item = document.createElement("li");
    item.textContent = `${level}: ${message}${tensor ? ` (${tensor})` : ""}`;
    return item;
  });
  $("findings").replaceChildren(...(items.length > 0 ? items : ["none"]));
}
