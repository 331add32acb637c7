"""llama.cpp through its C interface, as xllamacpp's library has it: models without a vocabulary run, which its server refuses.

Parameters are opaque here: llama.cpp fills them with its defaults, and three of them are set by where their defaults are.
"""

import ctypes as C
import os

import numpy as np
import xllamacpp

P, I32 = C.c_void_p, C.c_int32


class Params(C.Structure):
    """More bytes than any of llama.cpp's parameters has: it reads and writes those that it knows."""

    _fields_ = [("bytes", C.c_uint8 * 1024)]


class Batch(C.Structure):
    _fields_ = [("n_tokens", I32)] + [(name, P) for name in "token embd pos n_seq_id seq_id logits".split()]


library = C.CDLL(os.path.join(os.path.dirname(xllamacpp.__file__), "xllamacpp.abi3.so"))
for name, result, arguments in [
    ("llama_backend_init", None, []),
    ("llama_log_set", None, [P, P]),
    ("llama_model_default_params", Params, []),
    ("llama_context_default_params", Params, []),
    ("llama_model_load_from_file", P, [C.c_char_p, Params]),
    ("llama_model_free", None, [P]),
    ("llama_init_from_model", P, [P, Params]),
    ("llama_free", None, [P]),
    ("llama_batch_get_one", Batch, [P, I32]),
    ("llama_decode", I32, [P, Batch]),
    ("llama_get_logits_ith", C.POINTER(C.c_float), [P, I32]),
    ("llama_model_get_vocab", P, [P]),
    ("llama_vocab_n_tokens", I32, [P]),
    ("llama_tokenize", I32, [P, C.c_char_p, I32, P, I32, C.c_bool, C.c_bool]),
]:
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments

said = []
listener = C.CFUNCTYPE(None, C.c_int, C.c_char_p, P)(lambda _, text, __: said.append(text.decode(errors="replace")))
library.llama_log_set(C.cast(listener, P), None)
library.llama_backend_init()


def exact_params():
    """Keys and values in F32 and plain attention: the defaults round both to F16."""
    params = library.llama_context_default_params()
    words = np.ctypeslib.as_array(params.bytes).view(np.int32)
    # type_k and type_v are F16 (1, 1) behind a callback that is not set; flash_attn_type is the last of four that are AUTO (-1).
    types = [i for i in range(4, 60) if words[i] == words[i + 1] == 1 and not words[i - 4 : i].any()]
    autos = [i for i in range(4, 60) if (words[i - 3 : i + 1] == -1).all()]
    assert len(types) == 1 and len(autos) == 1, "llama.cpp's parameters lie otherwise in this version"
    words[types[0]] = words[types[0] + 1] = words[autos[0]] = 0
    return params


class Model:
    def __init__(self, path):
        said.clear()
        self.model = library.llama_model_load_from_file(str(path).encode(), library.llama_model_default_params())
        if not self.model:
            raise RuntimeError("llama.cpp cannot load it: " + "".join(said[-4:]).strip())
        self.vocab = library.llama_model_get_vocab(self.model)

    def logits(self, ids, at_once):
        """Logits behind the first `at_once` tokens, which go in together, and behind each of the others."""
        context = library.llama_init_from_model(self.model, exact_params())
        if not context:
            raise RuntimeError("llama.cpp has no context for it: " + "".join(said[-4:]).strip())
        rows, at = [], 0
        for count in [at_once] + [1] * (len(ids) - at_once):
            part = (I32 * count)(*[int(i) for i in ids[at : at + count]])
            at += count
            failed = library.llama_decode(context, library.llama_batch_get_one(C.cast(part, P), count))
            assert not failed, f"llama_decode answers {failed}"
            row = library.llama_get_logits_ith(context, -1)
            rows.append(np.ctypeslib.as_array(row, (library.llama_vocab_n_tokens(self.vocab),)).copy())
        library.llama_free(context)
        return np.array(rows)

    def tokenize(self, text):
        data = text.encode()
        room = (I32 * (len(data) + 8))()
        count = library.llama_tokenize(self.vocab, data, len(data), C.cast(room, P), len(room), False, True)
        return list(room[:count])
