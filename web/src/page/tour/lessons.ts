// The lessons in their order.

import type { Component } from "svelte";
import type { Opened } from "../state/state.js";
import Codes from "./lessons/Codes.svelte";
import Divergence from "./lessons/Divergence.svelte";
import Embedding from "./lessons/Embedding.svelte";
import Recurrence from "./lessons/Recurrence.svelte";
import Research from "./lessons/Research.svelte";
import State from "./lessons/State.svelte";

/** One step of the tour. */
export interface Lesson {
  title: string;
  body: Component<{ checkpoint: Opened }>;
}

/** All six. */
export const LESSONS: Lesson[] = [
  { title: "What a state is", body: State },
  { title: "Why recurrence makes precision matter", body: Recurrence },
  { title: "What INT8 and NF4 do", body: Codes },
  { title: "Why the embedding is the big one", body: Embedding },
  { title: "What KL sees that perplexity does not", body: Divergence },
  { title: "What failed in the research, and why", body: Research },
];
