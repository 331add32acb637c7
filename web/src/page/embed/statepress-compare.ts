// <statepress-compare>: a model and its compressed copy side by side, for lessons and blog posts.
//
//   <script type="module" src="statepress-compare.js"></script>
//   <statepress-compare src="models/tiny/" recipe="nf4" prompt="The history of" text="heldout.txt"></statepress-compare>
//
// Attributes; a change of one starts over:
//   src      the address of a checkpoint, with tokenizer.json (and config.json, if there is one) beside it; or of a folder,
//            ending in "/", that holds model.safetensors and these
//   recipe   the name of a recipe, or a recipe as JSON; int8 when left out
//   prompt   the text that both models continue, taking the likeliest token each time
//   text     the address of a text to measure on; without it nothing is measured
//   tokens   how many tokens they continue it by, 1 to 256; 32 when left out
//   backend  auto (when left out), cpu or webgpu
//   autostart  starts at once; otherwise nothing is loaded before the reader presses the button
//
// The event `statepress-done` bubbles and carries { comparison, report, backends }; `comparison` is undefined without a
// text.
//
// Colours follow the page's color-scheme. A page may set --statepress-accent, --statepress-accent-text (on the accent),
// --statepress-text, --statepress-faint, --statepress-surface, --statepress-line, --statepress-mark, --statepress-problem,
// --statepress-font and --statepress-radius, and style ::part(box).
//
// This file, the built files it imports and the folder statepress/ beside it (the package's dist and wasm) must come from
// the page's own origin, as browsers start workers from nowhere else. A strict policy needs script-src 'self' 'wasm-unsafe-eval' and worker-src 'self'.

import { ATTRIBUTES, EmbedError, readSettings, readTokens, recipeName } from "./attributes.js";
import { type Outcome, run } from "./run.js";
import css from "./statepress-compare.css?inline";
import { View } from "./view.js";

const styles = new CSSStyleSheet();
styles.replaceSync(css);

/** The element. */
export class StatepressCompare extends HTMLElement {
  static readonly observedAttributes = ATTRIBUTES;
  readonly #view: View;
  #running: AbortController | undefined;
  #restarts = false;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [styles];
    this.#view = new View(root);
    this.#view.start.addEventListener("click", () => void this.#run());
    this.#view.cancel.addEventListener("click", () => this.#running?.abort());
  }

  connectedCallback(): void {
    this.#restart();
  }

  disconnectedCallback(): void {
    this.#stop();
    this.#view.release();
  }

  attributeChangedCallback(): void {
    if (this.isConnected) this.#restart();
  }

  // Several attributes that change together are one change.
  #restart(): void {
    this.#stop();
    this.#reset();
    if (this.#restarts) return;
    this.#restarts = true;
    queueMicrotask(() => {
      this.#restarts = false;
      if (this.isConnected && this.hasAttribute("autostart")) void this.#run();
    });
  }

  #stop(): void {
    this.#running?.abort();
    this.#running = undefined;
  }

  #reset(): void {
    let tokens = 32;
    try {
      tokens = readTokens(this.getAttribute("tokens"));
    } catch {
      // What is wrong is said when it is started.
    }
    this.#view.reset({
      recipe: recipeName(this.getAttribute("recipe") ?? "int8"),
      prompt: this.getAttribute("prompt") ?? "",
      tokens,
      measures: this.hasAttribute("text"),
    });
  }

  async #run(): Promise<void> {
    this.#stop();
    this.#reset();
    const controller = new AbortController();
    this.#running = controller;
    // What an abandoned run still has to say is about something that is not shown any more.
    const current = () => this.#running === controller;
    const shows =
      <T extends unknown[]>(show: (...it: T) => void) =>
      (...it: T) => {
        if (current()) show(...it);
      };
    const view = this.#view;
    view.working(true);
    view.state("Starting");
    try {
      const settings = readSettings((name) => this.getAttribute(name), this.baseURI);
      const outcome = await run(settings, {
        signal: controller.signal,
        onProgress: shows((it) => view.progress(it)),
        opened: shows((it) => view.opened(it, recipeName(this.getAttribute("recipe") ?? "int8"))),
        compressed: shows((report, file) => view.compressed(report, file)),
        continues: shows((side, token) => view.continues(side, token)),
        continued: shows((original, compressed) => view.continued(original, compressed)),
        measured: shows((comparison) => view.measured(comparison)),
      });
      if (!current()) return;
      view.done(outcome);
      this.dispatchEvent(
        new CustomEvent<Outcome>("statepress-done", { detail: outcome, bubbles: true, composed: true }),
      );
    } catch (error) {
      if (!current()) return;
      if (controller.signal.aborted) view.state("Cancelled.");
      else view.state(inWords(error), true);
    } finally {
      if (current()) {
        view.working(false);
        this.#running = undefined;
      }
    }
  }
}

function inWords(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof EmbedError || (error instanceof Error && error.name === "StatepressError")) {
    return `This did not work: ${message}.`;
  }
  return `This did not work, and should have: ${message}.`;
}

// A page may load the script twice, under two addresses.
if (!customElements.get("statepress-compare")) customElements.define("statepress-compare", StatepressCompare);
