// The tokenizer library, copied beside us by the build: browsers cannot resolve package names in workers.
export { Tokenizer } from "@huggingface/tokenizers";
