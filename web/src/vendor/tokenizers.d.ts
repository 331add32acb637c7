// The tokenizer library, copied beside us by the build: browsers cannot resolve package names in workers.
// Only its translation of regular expressions is used: everything else differs from Python's library somewhere.
export { SplitPreTokenizer } from "@huggingface/tokenizers";
