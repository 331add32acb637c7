// What <statepress-compare> looks like. Every part is there from the start, with a dash where a number will be: nothing
// around it moves while it works.

import type { Comparison, CompressReport, Inspection, Progress, Token } from "statepress";
import { bytes, compact, count, percent, perplexity, ratio, scientific } from "../parts/format.js";
import { firstDifference } from "../state/difference.js";
import { findingsOf } from "../state/findings.js";
import { difference, likelihood } from "./difference.js";
import type { Outcome, Side } from "./run.js";

const NONE = "–";
const STAGES: Record<string, string> = {
  fetch: "Loading",
  load: "Reading",
  compress: "Compressing",
  generate: "Continuing",
  evaluate: "Measuring",
  compare: "Measuring both",
  prepare: "Starting the GPU",
  check: "Checking the GPU",
};
/** What takes about the room of a token; and of what is yet to be said of a difference. */
const TOKEN = "word ";
const DIFFERENCE =
  "The same for 10 tokens: then the original says “words” (10.0 % likely), the compressed one says “words” (10.0 % likely).";

interface Pane {
  figure: HTMLElement;
  size: HTMLElement;
  room: HTMLElement;
  said: HTMLElement;
  tokens: HTMLElement[];
}

/** The parts of the element, and what can be said with them. */
export class View {
  readonly start = element("button", { className: "start", type: "button" }, "Compress it");
  readonly cancel = element("button", { className: "cancel", type: "button", disabled: true }, "Cancel");
  readonly #box = element("div", { className: "box", role: "group" });
  readonly #about = element("p", { className: "about" });
  readonly #progress = element("progress", { max: 1, value: 0 });
  readonly #state = element("p", { className: "state" });
  readonly #stage = element("span", {});
  // Read out at most once per stage; what counts up beside it is for the eye.
  readonly #count = element("span", { ariaHidden: "true" });
  readonly #panes: Record<Side, Pane> = {
    original: pane("original", "Original"),
    compressed: pane("compressed", "Compressed"),
  };
  readonly #difference = element("span", {});
  readonly #values: Record<"kl" | "top1" | "original" | "compressed", HTMLElement> = {
    kl: element("dd", { className: "value" }),
    top1: element("dd", { className: "value" }),
    original: element("dd", { className: "value" }),
    compressed: element("dd", { className: "value" }),
  };
  readonly #numbers = element(
    "dl",
    {},
    number("KL divergence", this.#values.kl, "how far the predictions moved, in nats; 0 is not at all"),
    number("Same next word", this.#values.top1, "how often both find the same token likeliest"),
    number("Perplexity before", this.#values.original, "how many tokens it wavers between; lower is better"),
    number("Perplexity after", this.#values.compressed, "the same, on the same text"),
  );
  readonly #take = element("p", { className: "take" });
  readonly #warnings = element("ul", { className: "warnings", hidden: true });
  #file: string | undefined;

  constructor(root: ShadowRoot) {
    this.#state.setAttribute("role", "status");
    this.#state.append(this.#stage, this.#count);
    this.#progress.setAttribute("aria-label", "Progress");
    const sentence = element("p", { className: "difference" }, this.#difference);
    sentence.dataset["room"] = DIFFERENCE;
    // A group, not a landmark: a lesson may have many.
    this.#box.append(
      element("header", {}, this.#about, element("div", { className: "buttons" }, this.start, this.cancel)),
      element("div", { className: "working" }, this.#progress, this.#state),
      element("div", { className: "sides" }, this.#panes.original.figure, this.#panes.compressed.figure),
      sentence,
      this.#numbers,
      this.#take,
      this.#warnings,
    );
    this.#box.part.add("box");
    root.append(this.#box);
  }

  /** As before anything was loaded. */
  reset(asked: { recipe: string; prompt: string; tokens: number; measures: boolean }): void {
    this.release();
    this.#box.ariaLabel = `A model and its ${asked.recipe} copy`;
    const first = element("strong", {}, this.#box.ariaLabel);
    this.#about.replaceChildren(first, "Both continue the same prompt. Nothing is loaded before you ask.");
    this.state("");
    this.working(false);
    for (const { size, room, said, tokens } of Object.values(this.#panes)) {
      size.textContent = NONE;
      said.replaceChildren(element("span", { className: "prompt" }, asked.prompt));
      // Texts have paragraphs, too.
      room.dataset["room"] = `${asked.prompt} ${TOKEN.repeat(asked.tokens)}\n\n`;
      tokens.length = 0;
    }
    this.#difference.textContent = "";
    for (const value of Object.values(this.#values)) value.textContent = NONE;
    this.#numbers.hidden = !asked.measures;
    this.#take.replaceChildren();
    this.#warnings.hidden = true;
  }

  /** Whether it works: then it can be cancelled, and not started. */
  working(works: boolean): void {
    // The focus goes along: a disabled button has none.
    const [from, to] = works ? [this.start, this.cancel] : [this.cancel, this.start];
    const root = this.start.getRootNode() as ShadowRoot;
    to.disabled = false;
    if (root.activeElement === from) to.focus({ preventScroll: true });
    from.disabled = true;
    this.#progress.classList.toggle("idle", !works);
    this.#progress.value = 0;
  }

  /** A sentence about how it stands; or about what went wrong. */
  state(text: string, problem = false): void {
    this.#state.classList.toggle("problem", problem);
    if (this.#stage.textContent !== text) this.#stage.textContent = text;
    this.#count.textContent = "";
  }

  progress({ stage, done, total, unit, item }: Progress): void {
    this.#progress.max = total || 1;
    this.#progress.value = done;
    const what = STAGES[stage] ?? stage;
    this.state(stage === "fetch" || stage === "generate" ? `${what}: ${item ?? ""}` : what);
    const amount = unit === "bytes" ? `${bytes(done)} of ${bytes(total)}` : `${count(done)} of ${count(total)} ${unit}`;
    this.#count.textContent = `, ${amount}`;
  }

  /** The end of it: on what it was computed, and what the reader of the numbers should know. */
  done({ backends, report, comparison }: Outcome): void {
    const where = backends.map(({ name, adapter }) => (name === "cpu" ? "the CPU" : (adapter?.name ?? "the GPU")));
    this.state(`Done, on ${[...new Set(where)].join(" and ")}.`);
    const warnings = findingsOf({ report, comparison }).filter(({ level }) => level !== "info");
    this.#warnings.replaceChildren(...warnings.map(({ message }) => element("li", {}, message)));
    this.#warnings.hidden = warnings.length === 0;
  }

  opened(inspection: Inspection, recipe: string): void {
    const { family, params, bytes: size, format } = inspection;
    const first = element("strong", {}, `${family}, ${compact(params)} parameters`);
    this.#about.replaceChildren(
      first,
      `${bytes(size)} of weights from a ${format} file; compressed with the recipe ${recipe}.`,
    );
    this.#panes.original.size.textContent = bytes(size);
  }

  compressed(report: CompressReport, file: Blob): void {
    this.#panes.original.size.textContent = bytes(report.bytes.before);
    this.#panes.compressed.size.textContent = `${bytes(report.bytes.after)}, ${ratio(report.bytes.ratio)} smaller`;
    this.release();
    this.#file = URL.createObjectURL(file);
    const name = `${report.recipe.name}.safetensors`;
    this.#take.replaceChildren(
      element("a", { href: this.#file, download: name }, `Download ${name} (${bytes(file.size)})`),
    );
  }

  continues(side: Side, token: Token): void {
    const { said, tokens } = this.#panes[side];
    const span = element("span", { className: "token", title: likelihood(token) }, token.text);
    tokens.push(span);
    said.append(span);
  }

  continued(original: Token[], compressed: Token[]): void {
    const at = firstDifference(original, compressed);
    this.#difference.textContent = difference(original, compressed);
    if (at === undefined) return;
    for (const { tokens } of Object.values(this.#panes)) {
      const token = tokens[at];
      if (token) mark(token);
    }
  }

  measured({ a, b, kl, top1Agreement }: Comparison): void {
    this.#values.kl.textContent = scientific(kl.mean);
    this.#values.top1.textContent = percent(top1Agreement, 1);
    this.#values.original.textContent = perplexity(a.perplexity);
    this.#values.compressed.textContent = perplexity(b.perplexity);
  }

  /** Gives the produced file back. */
  release(): void {
    if (this.#file) URL.revokeObjectURL(this.#file);
    this.#file = undefined;
  }
}

// The space before a word is no part of what differs, unless there is nothing else.
function mark(token: HTMLElement): void {
  const text = token.textContent ?? "";
  const word = text.trim() === "" ? text : text.trimStart();
  token.replaceChildren(text.slice(0, text.length - word.length), element("mark", {}, word));
}

function pane(side: Side, name: string): Pane {
  const size = element("span", { className: "size" });
  const said = element("span", {});
  const room = element("p", { className: "said" }, said);
  const caption = element("figcaption", {}, element("strong", {}, name), size);
  return { figure: element("figure", { className: side }, caption, room), size, room, said, tokens: [] };
}

function number(term: string, value: HTMLElement, means: string): HTMLElement {
  return element("div", {}, element("dt", {}, term), value, element("dd", { className: "means" }, means));
}

function element<K extends keyof HTMLElementTagNameMap>(
  name: K,
  properties: Partial<HTMLElementTagNameMap[K]>,
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const it = document.createElement(name);
  Object.assign(it, properties);
  it.append(...children);
  return it;
}
