"""Our exports in the programs they are for, what those save opened here, and our batches in the engines that start them. usage: check.py STATEPRESS
[WORD ...], where only checks with a WORD in their name run.

Every check has a process of its own, as what llama.cpp cannot hold ends it, and several run at a time. Ends with `# pass N` and `# fail N`.
"""

import ctypes, json, os, pathlib, shutil, subprocess, sys, tempfile, time, traceback

os.environ.update(TRANSFORMERS_VERBOSITY="error", HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", OMP_NUM_THREADS="1")
# Compiling what runs once takes longer than running it.
os.environ["TORCHDYNAMO_DISABLE"] = "1"
ROOT = pathlib.Path(__file__).resolve().parents[2]
FAMILIES = ROOT / "tests/fixtures/families"
STATEPRESS, WORDS = sys.argv[1], sys.argv[2:]
JOBS = int(os.environ.get("JOBS") or os.cpu_count() or 1)
SHARED = pathlib.Path(tempfile.mkdtemp(prefix="statepress-interop-"))
# A check has a folder of its own in there.
WORK = SHARED

# |a - b| / (1 + |b|)
FLOATS = 1e-3
# llama.cpp looks GELU up in a table of F16.
GELU = 4e-3
# Beside weights of sixteen bits it rounds activations to them, which our engine does not.
HALF = {"fp16": 5e-3, "bf16": 2e-2}

PLAIN = """mamba-default mamba-default.bare mamba-odd mamba-odd.sharded mamba-odd.prefix-model mamba-original mamba-original-odd
    falcon-mamba falcon-mamba-odd mamba2-one-group mamba2-one-group.prefix-module mamba2-groups mamba2-dt-limit mamba2-original
    llama-gqa llama-odd llama-rope3 llama-rope3.config-v4 qwen2 qwen3 gpt2 gpt2-odd gpt2.hub granite-dense bamba falcon-h1
    falcon-h1-norm jamba-dense""".split()
GGUF = """mamba-default mamba-default.bare mamba-original mamba2-one-group mamba2-original llama-gqa llama-odd llama-rope3 qwen2 qwen3
    gpt2 gpt2.hub granite-dense falcon-h1""".split()
# Checkpoints of families that are not run, or without their head.
NOT_RUN = "rwkv4 rwkv7-small llama-gqa.bare".split()
CODED = {
    "nf4": {},
    "nf4-double": {"nf4": {"block": 64, "doubleQuant": True}},
    "int8": {"int8": {"granularity": "row", "clip": "minmax"}},
}
# Whole numbers: layers alike, and each in its own width.
EIGHT = {"int8": ([("*", "int8")], {"int8": {"granularity": "row", "clip": "minmax"}})}
WHOLE = EIGHT | {
    "int4": ([("*", "int4")], {"int4": {"group": 16}}),
    # Beside a table of BF16, which would have most models loaded as that, and scales of F16 rounded.
    "int3": ([("*embed*", "bf16"), ("*", "int3")], {"groups": {"group": 16}}),
    "mixed": (
        [("*.0.*", "int8"), ("*in_proj*", "int5"), ("*o_proj*", "int6"), ("*_proj*", "int4"), ("*_linear*", "int4")],
        {"int4": {"group": 16}, "groups": {"group": 16, "scale": "log8"}},
    ),
}
# Families of which a fixture has rows of whole groups, and sizes that have such for the others.
GROUPED = "mamba-default mamba-original falcon-mamba llama-gqa granite-dense bamba jamba-dense".split()
LAYERS = {"vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 2, "initializer_range": 0.2}
HEADS = {"intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
MADE = {
    "mamba2.made": {"num_heads": 8, "head_dim": 16, "n_groups": 2, "state_size": 16},
    "qwen2.made": HEADS,
    "qwen3.made": HEADS | {"head_dim": 16},
    "falcon_h1.made": HEADS | {"mamba_d_ssm": 128, "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "head_dim": 16},
}
TYPES = "F16 BF16 Q8_0 Q6_K Q5_K Q5_1 Q5_0 Q4_K Q4_1 Q4_0 IQ4_NL".split()


def statepress(*args):
    done = subprocess.run([STATEPRESS, *map(str, args), "--json", "--quiet"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def export(name, folder, form, recipe="none", *more):
    out = WORK / f"{name}.{pathlib.Path(recipe).stem}.{'.'.join(more)}.{form}"
    return out, statepress("compress", folder, "-o", out, "--recipe", recipe, "--format", form, *more)


def golden(name):
    from safetensors.numpy import load_file

    manifest = json.loads((FAMILIES / "manifest.json").read_text())["entries"]
    tensors = load_file(FAMILIES / manifest[name]["golden"])
    return tensors["len40/ids"], tensors["len40/logits"]


def distance(a, b):
    return float((abs(a - b) / (1 + abs(b))).max())


def transformers(folder, ids, dtype="float32", **loading):
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    # None would be the type of the first weight; what `config.json` says is what is loaded where nothing is said.
    kind = getattr(torch, dtype) if dtype else "auto"
    model, told = AutoModelForCausalLM.from_pretrained(
        folder, dtype=kind, attn_implementation="eager", output_loading_info=True, **loading
    )
    odd = {what: keys for what, keys in told.items() if keys}
    assert not odd, f"transformers says {odd}"
    with torch.no_grad():
        return model(torch.tensor([[int(i) for i in ids]])).logits[0].float().numpy()


def plain(name):
    out, _ = export(name, FAMILIES / name, "plain")
    ids, expected = golden(name)
    error = distance(transformers(out, ids), expected)
    assert error < FLOATS, error
    return f"{error:.1e}"


def plain_half(recipe, dtype):
    out, report = export("mamba-default", FAMILIES / "mamba-default", "plain", recipe)
    assert {tensor["dtype"] for tensor in report["exported"]["tensors"]} == {dtype}
    ids, _ = golden("mamba-default")
    ours = ours_logits(out, ids)
    error = distance(transformers(out, ids), ours)
    assert error < FLOATS, error
    # As it is loaded where nothing is said: in sixteen bits.
    transformers(out, ids, None)
    return f"{error:.1e}"


def by_reader(name, *how):
    """A file of our own layout as the state of a model of transformers, by the reader that is published with it."""
    sys.path.insert(0, str(ROOT / "examples/python"))
    # What Python keeps beside a source is none of the repository's.
    sys.dont_write_bytecode = True
    import reader
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    out = WORK / f"{name}.{'.'.join(how)}.safetensors"
    statepress("compress", FAMILIES / name, "-o", out, "--recipe", *how)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(FAMILIES / name), attn_implementation="eager").eval()
    left = model.load_state_dict(reader.state_dict(out), strict=False)
    # A head that is the table is none of its own.
    assert not left.unexpected_keys and set(left.missing_keys) <= {"lm_head.weight"}, left
    model.tie_weights()
    ids, _ = golden(name)
    with torch.no_grad():
        found = model(torch.tensor([[int(i) for i in ids]])).logits[0].numpy()
    error = distance(found, ours_logits(out, ids))
    assert error < FLOATS, error
    return f"{error:.1e}"


def likeness(found, expected):
    """The cosine of all logits."""
    return float((found * expected).sum() / ((found**2).sum() * (expected**2).sum()) ** 0.5)


def packed(name, recipe, dtype):
    """Codes as bitsandbytes loads them, against our own run of the same codes."""
    file = WORK / f"{recipe}.json"
    rules = [{"match": "*", "precision": recipe.split("-")[0]}]
    quantize = {"rules": rules, "otherwise": "fp32", **CODED[recipe]}
    file.write_text(json.dumps({"version": 1, "name": recipe, "steps": [{"quantize": quantize}]}))
    out, report = export(name, FAMILIES / name, "bitsandbytes", file)
    codes = [tensor for tensor in report["exported"]["tensors"] if tensor["dtype"] == dtype]
    assert codes, "nothing is packed"
    float32_whatever_the_cpu_has()
    ids, _ = golden(name)
    ours = ours_logits(out, ids)
    found = transformers(out, ids)[:, : ours.shape[1]]
    error, like = distance(found, ours), likeness(found, ours)
    # LLM.int8 rounds what enters a product to eight bits as well.
    assert like > 0.98 if dtype == "LLM.int8" else error < FLOATS, (error, like)
    return f"{len(codes)} weights, {error:.1e}, cosine of logits {like:.5f}"


def whole(name, recipes):
    """Codes as compressed-tensors loads them, against our own run of the same codes. They become floats in the first forward pass (what
    `run_compressed=True` is, too); `dequantize=True` is only right where all layers are packed alike."""
    from transformers import CompressedTensorsConfig

    folder, ids = (made(name), range(3, 43)) if name in MADE else (FAMILIES / name, golden(name)[0])
    told = []
    for recipe in recipes:
        file = WORK / f"whole-{recipe}.json"
        rules, more = WHOLE[recipe]
        quantize = {"rules": [{"match": match, "precision": precision} for match, precision in rules], "otherwise": "fp32", **more}
        file.write_text(json.dumps({"version": 1, "name": recipe, "steps": [{"quantize": quantize}]}))
        out, report = export(name, folder, "compressed-tensors", file)
        codes = [tensor["dtype"] for tensor in report["exported"]["tensors"] if tensor["dtype"].startswith("int")]
        assert recipe in codes or recipe == "mixed", codes
        ways = len(json.loads((out / "config.json").read_text())["quantization_config"]["config_groups"])
        assert ways > 1 or recipe != "mixed", ways
        ours = ours_logits(out, ids)
        error = distance(transformers(out, ids)[:, : ours.shape[1]], ours)
        assert error < FLOATS, (recipe, error)
        # As it is loaded where nothing is said, scales are not rounded.
        unsaid = distance(transformers(out, ids, None)[:, : ours.shape[1]], ours)
        assert unsaid < FLOATS, (recipe, unsaid)
        told.append(f"{recipe} {len(codes)} weights {error:.1e}, unsaid {unsaid:.1e}")
        if ways == 1:
            dequantized = transformers(out, ids, quantization_config=CompressedTensorsConfig(dequantize=True))
            # In the type of the scales, which may be of sixteen bits.
            like = likeness(dequantized[:, : ours.shape[1]], ours)
            assert like > 0.999, (recipe, like)
            told.append(f"dequantized cosine {like:.6f}")
    return ", ".join(told)


def made(name):
    """A model that nobody trained, with rows of whole groups."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(6)
    folder = WORK / name
    AutoModelForCausalLM.from_config(AutoConfig.for_model(name.removesuffix(".made"), **LAYERS, **MADE[name])).save_pretrained(folder)
    return folder


def by_who_chose():
    """The table of perplexities on a model that nobody trained: rounded plainly, codes are bitsandbytes' own."""
    import numpy as np
    from perplexity import table

    float32_whatever_the_cpu_has()
    ids = np.random.default_rng(3).integers(0, 8000, 5120).astype("<u2")
    read, test = WORK / "read.bin", WORK / "test.bin"
    ids[:4096].tofile(read)
    ids[4096:].tofile(test)
    whole, own, plain, compensated = table(STATEPRESS, wide(), read, test, WORK).values()
    assert abs(plain / own - 1) < 1e-5 and compensated != plain, (whole, own, plain, compensated)
    return f"{whole:.2f}, bitsandbytes {own:.2f}, plain {plain:.2f}, compensated {compensated:.2f}"


def float32_whatever_the_cpu_has():
    """With AVX512-BF16 bitsandbytes multiplies in sixteen bits, and takes no layer whose rows are no multiple of 32. With AVX-512 it was seen to
    decode rows that end within a block wrong, which exports tell of: all rows as one are decoded right."""
    import bitsandbytes.backends.cpu.ops as ops
    import bitsandbytes.nn.modules

    for module in (ops, bitsandbytes.nn.modules):
        module.has_avx512bf16 = lambda: False

    class OneRow:
        def __getattr__(self, name, library=ops.lib):
            function = getattr(library, name)
            if not name.startswith(("cdequantize_blockwise_cpu_nf4", "cdequantize_blockwise_cpu_fp4")):
                return function
            whole = ctypes.c_longlong
            return lambda codes, absmax, out, block, rows, columns: function(
                codes, absmax, out, block, whole(1), whole(rows.value * columns.value)
            )

    ops.lib = OneRow()


def ours_logits(folder, ids, *more):
    from safetensors.numpy import load_file

    out = WORK / "logits.safetensors"
    statepress("logits", folder, "--ids", ",".join(str(int(i)) for i in ids), "-o", out, "--force", *more)
    return load_file(out)["logits"]


def gguf_floats(name, tolerance, *more):
    from llama import Model

    out, _ = export(name, FAMILIES / name, "gguf", "none", *more)
    ids, expected = golden(name)
    if more:
        expected = ours_logits(FAMILIES / name, ids, *more)
    model = Model(out)
    one_by_one = distance(model.logits(ids, 1)[:, : expected.shape[1]], expected)
    at_once = distance(model.logits(ids, 33)[:, : expected.shape[1]], expected[32:])
    assert max(one_by_one, at_once) < tolerance, (one_by_one, at_once)
    opened = distance(ours_logits(out, ids)[:, : expected.shape[1]], expected)
    assert opened < FLOATS, opened
    return f"one by one {one_by_one:.1e}, 33 at once {at_once:.1e}; opened here {opened:.1e}"


def gguf_half(recipe):
    """Sixteen bits against our own engine on the same numbers."""
    from llama import Model

    folder = wide()
    out, report = export("wide", folder, "gguf", recipe)
    kinds = {tensor["dtype"] for tensor in report["exported"]["tensors"]}
    assert kinds == {"F32", {"fp16": "F16", "bf16": "BF16"}[recipe]}, kinds
    compressed = WORK / f"{recipe}.safetensors"
    statepress("compress", folder, "-o", compressed, "--recipe", recipe)
    ids = list(range(3, 43))
    error = distance(Model(out).logits(ids, 1), ours_logits(compressed, ids))
    assert error < HALF[recipe], error
    return f"{error:.1e}"


def wide():
    """A Mamba with rows of whole blocks of every type, and the demo's tokenizer."""
    import torch
    from transformers import MambaConfig, MambaForCausalLM

    folder = SHARED / "wide"
    if not folder.exists():
        torch.manual_seed(5)
        config = MambaConfig(
            vocab_size=8000, hidden_size=256, num_hidden_layers=2, state_size=16, time_step_rank=32, initializer_range=0.05
        )
        MambaForCausalLM(config).save_pretrained(folder)
        shutil.copy(ROOT / "examples/demo/itera-tiny/tokenizer.json", folder)
    return folder


def gguf_type(kind):
    """Decoded by the gguf package, and run by llama.cpp."""
    import gguf
    import numpy as np
    from llama import Model
    from safetensors.numpy import load_file

    folder = wide()
    out, report = export("wide", folder, "gguf", "none", "--gguf-type", kind)
    weights = load_file(folder / "model.safetensors")
    reader = gguf.GGUFReader(out)
    file = {tensor.name: tensor for tensor in reader.tensors}
    worst = 0.0
    for tensor in report["exported"]["tensors"]:
        stored = file[tensor["name"]]
        assert stored.tensor_type.name == tensor["dtype"]
        assert [int(dim) for dim in reversed(stored.shape)] == tensor["shape"]
        values = gguf.quants.dequantize(stored.data, stored.tensor_type).reshape(-1)
        original = weights[tensor["from"]].reshape(-1)
        if tensor["name"].endswith("ssm_a"):
            original = -np.exp(original)
        error = float(np.sqrt(((values - original) ** 2).sum() / max((original**2).sum(), 1e-30)))
        assert error < (1e-6 if tensor["dtype"] == "F32" else 0.2), (tensor["name"], error)
        if tensor["name"].endswith("ssm_in.weight"):
            assert tensor["dtype"] == kind
            worst = max(worst, error)
    ids = list(range(3, 43))
    expected = ours_logits(folder, ids)
    found = Model(out).logits(ids, 1)
    like = likeness(found, expected)
    assert like > (0.95 if kind[:2] in ("Q4", "IQ") else 0.99), like
    # The same codes opened here; llama.cpp rounds what enters products with them to eight bits.
    opened = likeness(ours_logits(out, ids), found)
    assert opened > 0.999, opened
    return f"matrices off by {100 * worst:.2f} %, cosine of logits {like:.5f}; opened here {opened:.5f}"


def vocabulary():
    from llama import Model
    from tokenizers import Tokenizer

    folder = wide()
    out, report = export("wide", folder, "gguf")
    assert not [it for it in report["exported"]["findings"] if it["code"] == "no-vocabulary"]
    ours, theirs = Tokenizer.from_file(str(folder / "tokenizer.json")), Model(out)
    text = (ROOT / "examples/demo/heldout.txt").read_text()[:20000]
    texts = [text, "  two  spaces\n\nlines\tand 12345 digits", "Ünïcödé, 日本語, emoji 🙂", "<|endoftext|>"]
    for text in texts:
        expected = ours.encode(text, add_special_tokens=False).ids
        assert theirs.tokenize(text) == expected, (text[:60], theirs.tokenize(text)[:20], expected[:20])
    return f"{len(texts)} texts"


def onnx(name):
    """The graph of every token, against what the reference implementation computes."""
    import numpy as np
    import onnxruntime

    out, _ = export(name, FAMILIES / name, "onnx")
    ids, expected = golden(name)
    session = onnxruntime.InferenceSession(out)
    inputs, outputs = session.get_inputs(), [it.name for it in session.get_outputs()]
    shapes = {it.name: [size if isinstance(size, int) else 0 for size in it.shape] for it in inputs}
    memory = {it: np.zeros(shape, np.float32) for it, shape in shapes.items() if it.startswith("past.")}
    rows = []
    for position, token in enumerate(ids):
        told = {"input_ids": np.array([token], np.int64), "position_ids": np.array([position], np.int64)}
        found = dict(zip(outputs, session.run(None, memory | {it: told[it] for it in shapes if it in told})))
        rows.append(found.pop("logits")[0])
        memory = {it.replace("present.", "past."): values for it, values in found.items()}
    off = distance(np.stack(rows), expected[:, : len(rows[0])])
    assert off < FLOATS, off
    return f"{off:.1e}"


def onnx_text():
    """The example continues a text as our own command line does."""
    demo = ROOT / "examples/demo/itera-tiny"
    out, _ = export("demo", demo, "onnx", "int4")
    ours = WORK / "demo.int4.safetensors"
    statepress("compress", demo, "-o", ours, "--recipe", "int4")
    prompt = "The film was"
    asked = "MODEL, TOKENIZER, PROMPT = "
    example = (ROOT / "examples/python/onnx_text.py").read_text().splitlines()
    at = next(at for at, line in enumerate(example) if line.startswith(asked))
    example[at] = asked + repr((str(out), str(demo / "tokenizer.json"), prompt))
    text = subprocess.run([sys.executable, "-c", "\n".join(example)], capture_output=True, text=True, check=True).stdout
    tokenizer = ["--tokenizer", demo / "tokenizer.json"]
    said = statepress("generate", ours, "--prompt", prompt, "--temperature", "0", "--max-tokens", "64", *tokenizer)
    assert text.strip() == (prompt + said["text"]).strip(), (text, said)
    return text.strip()


# What other programs save, opened here.


def reference(name):
    """A model in transformers, as it loads what it knows."""
    from transformers import AutoModelForCausalLM

    folder = made(name) if name in MADE else FAMILIES / name
    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32", attn_implementation="eager")


def coded(folder):
    """How many weights are opened as codes."""
    kinds = [tensor["dtype"] for tensor in statepress("inspect", folder)["tensors"]]
    count = sum(kind not in ("F32", "F16", "BF16") for kind in kinds)
    assert count, f"nothing is packed: {set(kinds)}"
    return count


def saved(name, way):
    """Floats in every container that frameworks write, against what the reference computes."""
    import numpy as np
    import torch

    model, folder = reference(name), WORK / f"{name}.{way}"
    folder.mkdir()
    weights = model.state_dict()
    if way == "safetensors":
        model.save_pretrained(folder)
    elif way == "shards":
        model.save_pretrained(folder, max_shard_size="20KB")
        assert len(list(folder.glob("*.safetensors"))) > 1, "nothing is in shards"
    elif way == "pt":
        torch.save({"epoch": 3, "model_state_dict": weights}, folder / "checkpoint.pt")
    elif way == "legacy":
        torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    else:
        np.savez(folder / "weights.npz", **{key: value.numpy() for key, value in weights.items()})
    model.config.save_pretrained(folder)
    ids, expected = golden(name)
    error = distance(ours_logits(folder, ids)[:, : expected.shape[1]], expected)
    assert error < FLOATS, error
    return f"{error:.1e}"


def saved_by_bitsandbytes(name, way):
    """What transformers saves of a model that it loaded with bitsandbytes, against what both compute of it."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    float32_whatever_the_cpu_has()
    four = {"load_in_4bit": True, "bnb_4bit_quant_type": way[:3], "bnb_4bit_compute_dtype": torch.float32}
    # What bitsandbytes computes of the layers that Mamba reads without calling them is none of its own.
    skipped = {"llm_int8_skip_modules": ["lm_head", "dt_proj"]}
    how = four | {"bnb_4bit_use_double_quant": "twice" in way} if way != "int8" else {"load_in_8bit": True}
    model = AutoModelForCausalLM.from_pretrained(
        FAMILIES / name, dtype=torch.float32, attn_implementation="eager", quantization_config=BitsAndBytesConfig(**how, **skipped)
    )
    folder = WORK / f"{name}.{way}"
    model.save_pretrained(folder)
    weights = coded(folder)
    ids, _ = golden(name)
    with torch.no_grad():
        theirs = model(torch.tensor([[int(i) for i in ids]])).logits[0].float().numpy()
    ours = ours_logits(folder, ids)[:, : theirs.shape[1]]
    error, like = distance(ours, theirs), likeness(ours, theirs)
    # LLM.int8 rounds what enters a product to eight bits as well.
    assert like > 0.98 if way == "int8" else error < FLOATS, (error, like)
    return f"{weights} weights, {error:.1e}, cosine of logits {like:.5f}"


PACKED = {
    "int4": ("pack-quantized", {"num_bits": 4, "strategy": "group", "group_size": 8}),
    "int4 with zero points": ("pack-quantized", {"num_bits": 4, "strategy": "group", "group_size": 8, "symmetric": False}),
    "int8": ("pack-quantized", {"num_bits": 8, "strategy": "group", "group_size": 8}),
    "int8 of rows": ("pack-quantized", {"num_bits": 8, "strategy": "channel"}),
    "float8": ("naive-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}),
}


def saved_by_compressed_tensors(name, way):
    """What compressed-tensors packs, against what transformers computes of it. Scales are those of the largest of each group, in its own words."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme, QuantizationStatus
    from compressed_tensors.quantization import apply_quantization_config
    from compressed_tensors.quantization.utils import calculate_qparams
    from transformers import CompressedTensorsConfig

    form, how = PACKED[way]
    model, weights = reference(name), QuantizationArgs(**{"type": "int", "symmetric": True} | how)
    groups = {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}
    config = {"config_groups": groups, "ignore": ["lm_head"], "format": form, "quantization_status": "initialized"}
    apply_quantization_config(model, QuantizationConfig(**config))
    for module in model.modules():
        if hasattr(module, "weight_scale"):
            rows = module.weight.data.reshape(*module.weight_scale.shape, -1)
            scale, zero = calculate_qparams(rows.amin(-1), rows.amax(-1), weights)
            module.weight_scale.data = scale.to(module.weight_scale.dtype)
            if hasattr(module, "weight_zero_point"):
                module.weight_zero_point.data = zero.to(module.weight_zero_point.dtype)
            module.quantization_status = QuantizationStatus.FROZEN
    folder = WORK / f"{name}.{way.replace(' ', '-')}"
    compressor = ModelCompressor.from_pretrained_model(model, quantization_format=form)
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(folder)
    count, ids = coded(folder), range(3, 43)
    # Packed zero points it loads no other way.
    loading = {} if weights.symmetric else {"quantization_config": CompressedTensorsConfig(dequantize=True)}
    theirs = transformers(folder, ids, **loading)
    error = distance(ours_logits(folder, ids)[:, : theirs.shape[1]], theirs)
    assert error < FLOATS, error
    return f"{count} weights, {error:.1e}"


def saved_by_gguf(kind):
    """A file of the gguf package's own writer and quantizer, against llama.cpp's run of it and the package's numbers run here."""
    import gguf
    import numpy as np
    from llama import Model

    source, _ = export("wide", wide(), "gguf")
    reader = gguf.GGUFReader(source)
    files = {form: WORK / f"{form}.gguf" for form in (kind, "F32")}
    for form, file in files.items():
        arch = str(bytes(reader.fields["general.architecture"].parts[-1]), "utf8")
        writer = gguf.GGUFWriter(file, arch)
        for key, field in reader.fields.items():
            if not key.startswith("GGUF.") and key != "general.architecture":
                writer.add_key_value(key, field.contents(), field.types[0], field.types[1] if len(field.types) > 1 else None)
        to = gguf.GGMLQuantizationType[kind]
        for tensor in reader.tensors:
            if not tensor.name.endswith(("ssm_in.weight", "ssm_out.weight", "token_embd.weight")):
                writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
                continue
            coded = gguf.quants.quantize(tensor.data, to)
            if form == kind:
                writer.add_tensor(tensor.name, coded, raw_dtype=to)
            else:
                writer.add_tensor(tensor.name, gguf.quants.dequantize(coded, to))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    ids = list(range(3, 43))
    ours, plain = (ours_logits(files[form], ids) for form in (kind, "F32"))
    error = distance(ours, plain)
    assert error < FLOATS, error
    # llama.cpp rounds what enters products with codes to eight bits.
    like = likeness(Model(files[kind]).logits(ids, 1), ours)
    assert like > 0.999, like
    return f"{error:.1e} from the package's numbers, cosine with llama.cpp {like:.5f}"


def batch_by(engine):
    import engines

    return engines.check(engine, STATEPRESS, WORK / engine)


CHECKS = {}
for name in PLAIN:
    CHECKS[f"plain {name} in transformers"] = (plain, name)
for recipe, dtype in [("fp16", "F16"), ("bf16", "BF16"), ("nf4", "F32")]:
    CHECKS[f"plain of {recipe} in transformers"] = (plain_half, recipe, dtype)
for name in PLAIN:
    # The layers of GPT-2 lie the other way round; the same weights under other names are the same.
    if not name.startswith("gpt2") and "." not in name:
        CHECKS[f"bitsandbytes nf4 {name} in transformers"] = (packed, name, "nf4", "nf4")
for name in ("mamba-default", "mamba2-groups", "llama-gqa", "falcon-h1"):
    CHECKS[f"bitsandbytes nf4 twice {name} in transformers"] = (packed, name, "nf4-double", "nf4")
    CHECKS[f"bitsandbytes int8 {name} in transformers"] = (packed, name, "int8", "LLM.int8")
for name, *how in (("mamba-default", "nf4"), ("mamba-default", "int8", "--coded"), ("mamba2-groups", "int8"), ("llama-gqa", "nf4")):
    CHECKS[f"our own layout {' '.join(how)} {name} by reader.py in transformers"] = (by_reader, name, *how)
for name in [name for name in PLAIN if not name.startswith("gpt2") and "." not in name] + list(MADE):
    CHECKS[f"compressed-tensors {name} in transformers"] = (whole, name, WHOLE if name in [*GROUPED, *MADE] else EIGHT)
CHECKS["bitsandbytes by who chose the codes"] = (by_who_chose,)
for name in GGUF:
    CHECKS[f"gguf {name} in llama.cpp"] = (gguf_floats, name, GELU if name.startswith("gpt2") else FLOATS)
CHECKS["gguf falcon-mamba with one eps in llama.cpp"] = (gguf_floats, "falcon-mamba", FLOATS, "--set", "mixer_rms_eps=0.00001")
for recipe in ("fp16", "bf16"):
    CHECKS[f"gguf of {recipe} in llama.cpp"] = (gguf_half, recipe)
for kind in TYPES:
    CHECKS[f"gguf {kind} in gguf and llama.cpp"] = (gguf_type, kind)
CHECKS["gguf vocabulary in llama.cpp"] = (vocabulary,)
for name in [name for name in json.loads((FAMILIES / "manifest.json").read_text())["entries"] if name not in NOT_RUN]:
    CHECKS[f"onnx {name} in onnxruntime"] = (onnx, name)
CHECKS["onnx text by the example in onnxruntime"] = (onnx_text,)
for name in ("mamba-default", "mamba2-one-group", "llama-gqa", "falcon-h1", "gpt2"):
    for way in ("safetensors", "shards", "pt", "legacy", "npz"):
        CHECKS[f"{way} {name} opened here"] = (saved, name, way)
for name in ("mamba-default", "mamba2-groups", "llama-gqa", "falcon-h1"):
    for way in ("nf4", "nf4 twice", "fp4", "int8"):
        CHECKS[f"bitsandbytes {way} {name} opened here"] = (saved_by_bitsandbytes, name, way)
for name in ("llama-gqa", "qwen2.made", "falcon_h1.made"):
    for way in PACKED:
        CHECKS[f"compressed-tensors {way} {name} opened here"] = (saved_by_compressed_tensors, name, way)
for kind in "BF16 F16 Q8_0 Q5_1 Q5_0 Q4_1 Q4_0".split():
    CHECKS[f"gguf {kind} opened here"] = (saved_by_gguf, kind)

# The README's table: a format, how the names of its checks begin and end, whose programs they are, and tests of pages that run others.
OPENED = "opened here"
PROOFS = [
    ("`plain` written", "plain ", "in transformers", ["transformers", "torch"], {}),
    ("`bitsandbytes` written", "bitsandbytes ", "in transformers", ["bitsandbytes", "transformers"], {}),
    ("`compressed-tensors` written", "compressed-tensors ", "in transformers", ["compressed-tensors", "transformers"], {}),
    ("`gguf` written", "gguf ", "llama.cpp", ["gguf", "xllamacpp"], {"@wllama/wllama": "tests/browser/llama.test.mjs"}),
    ("`onnx` written", "onnx ", "in onnxruntime", ["onnxruntime"], {"onnxruntime-web": "tests/node/onnx.test.mjs"}),
    ("`safetensors` written", "our own layout ", "in transformers", ["numpy", "torch", "transformers"], {}),
    ("safetensors read, in shards too", ("safetensors ", "shards "), OPENED, ["transformers", "safetensors"], {}),
    ("PyTorch's zip archives read", "pt ", OPENED, ["torch"], {}),
    ("PyTorch's older files read", "legacy ", OPENED, ["torch"], {}),
    ("NumPy's `.npz` read", "npz ", OPENED, ["numpy"], {}),
    ("bitsandbytes' NF4, FP4 and LLM.int8 read", "bitsandbytes ", OPENED, ["bitsandbytes", "transformers"], {}),
    ("compressed-tensors read", "compressed-tensors ", OPENED, ["compressed-tensors", "transformers"], {}),
    ("GGUF read", "gguf ", OPENED, ["gguf", "xllamacpp"], {}),
]


def proofs():
    """The README has the table that these checks make: `UPDATE_README=1` writes it."""
    from importlib.metadata import version

    pages = json.loads((ROOT / "tests/package.json").read_text())["devDependencies"]
    lines = ["| format | held to | checks |", "| --- | --- | --- |"]
    for form, begin, end, tools, tests in PROOFS:
        count = sum(name.startswith(begin) and name.endswith(end) for name in CHECKS)
        assert count and all((ROOT / test).exists() for test in tests.values()), form
        held = [f"{tool} {version(tool)}" for tool in tools]
        held += [f"{tool} {pages[tool]} in [{pathlib.Path(test).name}]({test})" for tool, test in tests.items()]
        lines.append(f"| {form} | {', '.join(held)} | {count} |")
    readme = ROOT / "README.md"
    before, begin, rest = readme.read_text().partition("<!-- proofs -->\n\n")
    table, end, after = rest.partition("\n\n<!-- /proofs -->")
    assert begin and end, "README.md has no place for the table"
    made = "\n".join(lines)
    if os.environ.get("UPDATE_README"):
        readme.write_text(before + begin + made + end + after)
    else:
        assert table == made, "the README has another table: run this check with UPDATE_README=1"
    return f"{len(PROOFS)} rows"


CHECKS["README names what each format is held to"] = (proofs,)
for name in ("snakemake", "ray"):
    CHECKS[f"batch by {name}"] = (batch_by, name)


def run(name, check, arguments):
    """The process of a check, and the file of what it says."""
    global WORK

    said = tempfile.TemporaryFile()
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child, said
    os.dup2(said.fileno(), 1)
    os.dup2(said.fileno(), 2)
    WORK = SHARED / str(os.getpid())
    WORK.mkdir()
    began = time.time()
    try:
        print(f"ok {name}: {check(*arguments)}, {time.time() - began:.1f} s", flush=True)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def main():
    # Imported once, as checks are forks of this process.
    import bitsandbytes, compressed_tensors, transformers

    if any(word in name for name in CHECKS if "gguf" in name for word in WORDS or [""]):
        wide()
    left = [(name, *how) for name, how in CHECKS.items() if not WORDS or any(word in name for word in WORDS)]
    running, passed, failed = {}, 0, 0
    while left or running:
        # What kills workers in the middle of their work has the machine for itself: it is last.
        most = 1 if left and left[0][0].startswith("batch") else JOBS
        if left and len(running) < most:
            name, check, *arguments = left.pop(0)
            child, said = run(name, check, arguments)
            running[child] = name, said
            continue
        child, status = os.wait()
        name, said = running.pop(child)
        passed, failed = passed + (status == 0), failed + (status != 0)
        said.seek(0)
        sys.stdout.write(said.read().decode(errors="replace"))
        if status:
            print(f"not ok {name}: {'see above' if os.WIFEXITED(status) else f'ended by signal {os.WTERMSIG(status)}'}")
        sys.stdout.flush()
        shutil.rmtree(SHARED / str(child), ignore_errors=True)
    shutil.rmtree(SHARED, ignore_errors=True)
    print(f"# pass {passed}\n# fail {failed}")
    return failed > 0 or passed == 0


if __name__ == "__main__":
    sys.exit(main())
