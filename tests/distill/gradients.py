"""The gradients that transformers computes, for gradients.rs.

gradients.py OUT FOLDER... - writes into OUT, for each, a folder of that name: `ids.safetensors`, and `model.safetensors` with the gradient
of every weight in its place. The loss is the mean over the positions of one window of the cross entropy of the next token.
"""

import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

TOKENS = 40

out, *folders = map(pathlib.Path, sys.argv[1:])
for folder in folders:
    # Fused kernels want shapes that small models have not.
    plain = {"attn_implementation": "eager", "experts_implementation": "eager"}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **plain).eval()
    at = torch.arange(TOKENS)
    # The first ids are for padding, whose row of the table transformers gives no gradient.
    ids = 3 + (at * at + 7 * at) % (model.config.vocab_size - 3)
    logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
    torch.nn.functional.cross_entropy(logits, ids[1:]).backward()
    # Saved as weights they have the names that weights have in files.
    for weight in model.parameters():
        weight.data = torch.zeros_like(weight) if weight.grad is None else weight.grad
    model.save_pretrained(out / folder.name)
    save_file({"ids": ids}, out / folder.name / "ids.safetensors")
