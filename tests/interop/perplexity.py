"""What transformers makes of a Mamba whose linear layers are in NF4, by who chose the codes. usage: perplexity.py STATEPRESS MODEL READ TEST

MODEL is a folder, READ and TEST are token ids, little-endian and 16 bits wide: what calibration reads, and the text that is judged,
in windows of 256.
"""

import json, os, pathlib, subprocess, sys, tempfile

os.environ.update(TRANSFORMERS_VERBOSITY="error", HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")

# What bitsandbytes packs when it quantizes a Mamba by itself.
KEPT = ["table", "head", "dt-proj", "conv", "dynamics", "norm"]
RULES = [{"match": f"role:{role}", "precision": "fp32"} for role in KEPT] + [{"match": "*", "precision": "nf4"}]
QUANTIZE = {"rules": RULES, "otherwise": "fp32", "nf4": {"block": 64, "doubleQuant": True}}
RECIPE = {"version": 1, "name": "nf4-linear", "steps": [{"quantize": QUANTIZE}]}


def table(statepress, model, read, test, work):
    """Perplexity by who chose the codes."""
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    ids = torch.tensor(np.fromfile(test, dtype="<u2").astype("int64"))
    ids = ids[: len(ids) // 256 * 256].reshape(-1, 256)

    def judged(folder, **options):
        loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
        total = 0.0
        with torch.no_grad():
            for window in ids.split(8):
                likely = loaded(window).logits.log_softmax(-1)[:, :-1]
                total -= float(likely.gather(-1, window[:, 1:, None]).double().sum())
        return float(np.exp(total / ids[:, 1:].numel()))

    recipe = work / "nf4-linear.json"
    recipe.write_text(json.dumps(RECIPE))
    ours = {"this, plainly rounded": [], "this, with --compensate": ["--compensate", "--calibrate-ids", str(read)]}
    own = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=["dt_proj", "lm_head"],
    )
    found = {"FP32": judged(model), "bitsandbytes, while loading": judged(model, quantization_config=own)}
    for at, (name, more) in enumerate(ours.items()):
        out = work / f"nf4-linear-{at}"
        line = [statepress, "compress", str(model), "-o", str(out), "--recipe", str(recipe), "--format", "bitsandbytes", "--quiet"]
        subprocess.run([*line, *more], check=True, stdout=subprocess.DEVNULL)
        found[name] = judged(out)
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="statepress-perplexity-") as work:
        found = table(*sys.argv[1:5], pathlib.Path(work))
    for name, perplexity in found.items():
        print(f"{name:32} {perplexity:9.3f} {100 * (perplexity / found['FP32'] - 1):+.2f} %")
