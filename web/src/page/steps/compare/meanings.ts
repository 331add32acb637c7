// What the lines of the quality card mean, for whoever has not met these words.

/** A sentence or two for each line, by its id. */
export const MEANINGS: Record<string, string> = {
  bytes: "Weights, scales and tables, tied ones once.",
  "file-bytes": "The file as it is downloaded: the weights and a header that says what they are.",
  ratio: "How many times smaller the weights are.",
  "bits-per-byte":
    "How much of the text the model could not foresee, for each of its bytes: lower is better, whatever the tokens. Its negative log-likelihoods over the text, summed, in bits, over the text's UTF-8 bytes.",
  "bits-change": "Above 0: the second model foresees less of the text.",
  "text-speed": "How fast a text is read: tokens that hold more text make up for slower ones.",
  "text-bytes": "Both have read the same.",
  "kl-mean":
    "How far the second model's predictions are from the first's, over all tokens of the vocabulary. 0: identical.",
  "kl-median": "Half of all positions are below this.",
  "kl-p99": "One position in a hundred is above this: where the damage shows first.",
  "kl-max": "The single worst position.",
  "noise-floor": "The original against itself, computed in another order. Differences of this size mean nothing.",
  top1: "How often both put the same token first: what greedy generation sees.",
  perplexity:
    "As if the model chose among that many equally likely tokens at each position: lower is better. The ± is the standard error over tokens.",
  change:
    "Can be small, or even negative, while predictions change: gains and losses cancel out. That is why KL comes first.",
  "second-kl-mean":
    "The same on the second text. Where it is far above the first, the text is a harder one for any recipe, or this one leans on texts like the one that it was calibrated with: another recipe on both texts tells which.",
  "second-kl-p99": "One position in a hundred of the second text is above this.",
  "second-top1": "How often both put the same token first there.",
  "second-change": "What the second text's perplexity rises by.",
  "second-tokens": "More tokens make smaller errors.",
  backend:
    "The CPU of this machine, or a GPU by name. A GPU is used only if it agrees with the CPU on a small case of the model.",
  speed: "Evaluation on this machine, in this tab. Generation is timed below.",
  tokens: "More tokens make smaller errors.",
  verdict: "Success: small enough and good enough. Partial: small enough only. Failure: not small enough.",
};
