"""Continues a text with a model that statepress exported to ONNX, token by token: pip install onnxruntime tokenizers.

The graph takes one token and what the sequence remembers (`past.*`, zeros at first), and gives logits and what it remembers then
(`present.*`). Models that know positions take that of the token. Licensed under MIT or Apache-2.0, at your choice.
"""

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

MODEL, TOKENIZER, PROMPT = "model.onnx", "tokenizer.json", "The film was"

session = onnxruntime.InferenceSession(MODEL)
tokenizer = Tokenizer.from_file(TOKENIZER)
inputs, outputs = session.get_inputs(), [it.name for it in session.get_outputs()]
memory = {
    it.name: np.zeros([size if isinstance(size, int) else 0 for size in it.shape], np.float32)
    for it in inputs
    if it.name.startswith("past.")
}
ids = tokenizer.encode(PROMPT, add_special_tokens=False).ids or [0]
for position in range(len(ids) + 63):
    told = {"input_ids": ids[position], "position_ids": position}
    token = {it.name: np.array([told[it.name]], np.int64) for it in inputs if it.name in told}
    found = dict(zip(outputs, session.run(None, memory | token)))
    memory = {name.replace("present.", "past."): found[name] for name in outputs if name != "logits"}
    if position + 1 == len(ids):
        ids.append(int(found["logits"][0].argmax()))
print(tokenizer.decode(ids))
