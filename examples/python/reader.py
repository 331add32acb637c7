"""Reads the checkpoints that statepress compresses. Needs numpy and nothing else.

    python reader.py FILE                 lists the tensors
    reader.load(FILE)                     name -> numpy array; what was packed as float32, to the last bit what statepress reads
    reader.state_dict(FILE)               the same as tensors of PyTorch, for model.load_state_dict: with strict=False, and
                                          model.tie_weights() behind it, where the head is the table

Types that numpy does not have come as float32 (BF16) or as raw bytes (8-bit floats). The layout is documented in FORMAT.md of
statepress. Licensed under MIT or Apache-2.0, at your choice.
"""

import json
import sys
import zlib

import numpy as np

NF4 = np.float32([-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0])

def midpoints(i):  # of equally spaced points, each rounded to float32 once; the second half is counted from the end
    k, step = np.arange(2**i + 1), np.float64((np.float32(1) - np.float32(0.1)) / np.float32(2**i))
    points = np.where(k < (2**i + 2) // 2, step * k + np.float32(0.1), 1 - step * (2**i - k)).astype("f4")
    return np.float32(10.0 ** (i - 6)) * ((points[1:] + points[:-1]) / np.float32(2))

GRIDS = {"nf4": NF4, "lm2": np.float32([-1.0, -0.29977142810821533, 0.29977142810821533, 1.0]),
    "lm3": np.float32([-1.0, -0.6245089173316956, -0.35131242871284485, -0.11389422416687012])}
GRIDS["lm3"] = np.concatenate([GRIDS["lm3"], -GRIDS["lm3"][::-1]])
for bits in (8, 6, 5, 4, 3, 2):  # two's complement
    GRIDS[f"int{bits}"] = ((np.arange(2**bits) + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)).astype("f4")

half = np.concatenate([midpoints(i) for i in range(7)])
DYNAMIC = np.sort(np.concatenate([-half, half, np.float32([0, 1])]))
DYNAMIC[0] = -1
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "C64": "<c8", "BOOL": "?", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1"}

def scales(get, name, suffix, kind):
    stored = get(name + suffix).ravel()
    if kind == "log8":
        octaves, eighths = np.divmod(stored.astype("i4"), 8)
        powers = np.float32(2.0 ** (-eighths / 8)) * np.float32(2.0) ** -octaves.astype("f4")
        return np.where(stored == 255, np.float32(0), get(name + suffix + "_unit") * powers)
    if kind == "double":
        nested = np.repeat(get(name + ".nested_absmax"), 256)[: len(stored)]
        return DYNAMIC[stored] * nested + get(name + ".nested_offset")
    return stored.astype("f4")

def numbers(stream, shape, precision, half):  # codes in two's complement as numpy counts from the end, those of tables from 0
    assert np.prod(shape) // 1024 <= len(stream), "too many codes for so few bytes"
    codes = entropy_decode(stream, int(np.prod(shape[:-1])), shape[-1]).ravel().astype("i4")
    assert ((-half <= codes) & (codes < half)).all(), "codes outside of the grid"
    return codes if precision.startswith("int") else codes + half

def in_classes(get, name, shape, rows):
    bits = (len(rows) - 1).bit_length()
    stream = np.unpackbits(get(name))[: shape[0] * bits].reshape(shape[0], bits)
    of_rows, numbers = stream @ (1 << np.arange(bits)[::-1]), np.empty(shape, "f4")
    for k, fields in enumerate(rows):
        numbers[of_rows == k] = decode(get, f"{name}.{k}", [fields["count"], shape[1]], **fields)
    return numbers

def decode(get, name, shape, precision=None, granularity=None, group=None, scale=None, block=None, absmax=None, coded=False, rows=None,
        count=None):
    if rows:
        return in_classes(get, name, shape, rows)
    if precision not in GRIDS:
        return get(name)
    levels, n = GRIDS[precision], int(np.prod(shape))
    if coded:
        codes = numbers(get(name).tobytes(), shape, precision, len(levels) // 2)
    else:
        bits = int(np.log2(len(levels)))
        stream = np.unpackbits(get(name).ravel().view("u1"))[: n * bits].reshape(n, bits)
        codes = stream @ (1 << np.arange(bits)[::-1])
    size = block or group or (n if granularity == "tensor" else shape[-1])
    each = scales(get, name, ".absmax" if precision == "nf4" else ".scale", absmax or scale)
    if scale == "affine":
        minimums = np.repeat(get(name + ".minimum").ravel(), size)[:n]
        return ((levels[codes] - levels.min()) * np.repeat(each, size)[:n] + minimums).reshape(shape)
    return (levels[codes] * np.repeat(each, size)[:n]).reshape(shape)

def suffixes(precision=None, scale=None, absmax=None, rows=(), **_):
    if rows:
        return [""] + [f".{k}{suffix}" for k, fields in enumerate(rows) for suffix in suffixes(**fields)]
    if precision not in GRIDS:
        return [""]
    first = ".absmax" if precision == "nf4" else ".scale"
    more = {"double": [".nested_absmax", ".nested_offset"], "log8": [first + "_unit"], "affine": [".minimum"]}
    return ["", first, *more.get(absmax or scale, [])]

def load(path):
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        arrays = json.loads(file.read(size))
        data = file.read()
    metadata = arrays.pop("__metadata__", {})
    packed = json.loads(metadata.get("statepress", '{"tensors": {}}'))["tensors"]

    def get(name):
        (begin, end), dtype = arrays[name]["data_offsets"], arrays[name]["dtype"]
        array = np.frombuffer(data[begin:end], TYPES.get(dtype, "u1")).reshape(arrays[name]["shape"])
        return (array.astype("<u4") << 16).view("<f4") if dtype == "BF16" else array

    parts = {name + suffix for name, fields in packed.items() for suffix in suffixes(**fields)}
    plain = {name: get(name) for name in arrays if name not in parts}
    return plain | {name: decode(get, name, **fields) for name, fields in packed.items()}

def entropy_decode(stream, rows, columns):
    """The codes of a stream, int16 [rows, columns]."""
    at = 0

    def bits(width):
        nonlocal at
        value = int.from_bytes(stream[at >> 3 : at + width + 7 >> 3], "little") >> (at & 7) & (1 << width) - 1
        at += width
        return value

    def length():
        byte = bits(8)
        return byte if byte < 128 else byte - 128 + (length() << 7)

    def table():  # for each remainder: first number of its token, plain bits, frequency, and how far behind the token's first
        shift, first, core, below, above, kept = bits(4), bits(16), bits(8) + 1, bits(5), bits(5), bits(4)
        first -= first >> 15 << 16
        beside = [2 << shift + i for i in range(16)]
        tokens = [(first + (i << shift), shift) for i in range(core)]
        tokens += [(first - sum(beside[: i + 1]), shift + 1 + i) for i in range(below)]
        tokens += [(first + (core << shift) + sum(beside[:i]), shift + 1 + i) for i in range(above)]
        frequencies = []
        for _ in tokens:
            behind = bits(4) - 1
            told = min(behind, kept)
            frequencies.append(None if behind == 14 else 0 if behind < 0 else 1 << behind | bits(told) << behind - told)
        rest = 4096 - sum(f for f in frequencies if f is not None)
        assert frequencies.count(None) == 1 and rest > 0, "frequencies"
        frequencies = [rest if f is None else f for f in frequencies]
        return [(*token, f, behind) for token, f in zip(tokens, frequencies) for behind in range(f)]

    assert zlib.crc32(stream[:-4]) == int.from_bytes(stream[-4:], "little"), "checksum"
    assert bits(8) == 1, "version"
    assert (length(), length()) == (rows, columns), "rows and columns"
    count, width, least = bits(8), bits(3), bits(8)
    least -= least >> 7 << 8
    begins = [bits(1) for _ in range(bits(6))]
    of_rows = table() if bits(1) else None
    tables = [table() for _ in range(sum(begins))]
    of_class = [tables[sum(begins[: i + 1]) - 1] for i in range(len(begins))]
    offsets = [bits(width) for _ in range(columns)]
    begin = at + 7 >> 3
    states = np.frombuffer(stream, "<u4", count, begin).tolist()
    words = iter(np.frombuffer(stream[begin + 4 * count : -4], "<u2").tolist())

    def number(table, i):
        def filled(state):
            return state if state >= 65536 else state << 16 | next(words)

        first, plain, frequency, behind = table[states[i] % 4096]
        state = filled(frequency * (states[i] >> 12) + behind)
        states[i] = filled(state >> plain)
        return first + state % (1 << plain)

    codes = []
    for _ in range(rows if columns else 0):
        row = number(of_rows, 0) if of_rows else 0
        classes = (min(max(row + offset - least, 0), len(of_class) - 1) for offset in offsets)
        codes += [number(of_class[it], column % count) for column, it in enumerate(classes)]
    assert set(states) == {65536} and next(words, None) is None, "the end"
    return np.array(codes, "i8").astype("i2").reshape(rows, columns)

def state_dict(path):
    import torch

    return {name: torch.from_numpy(np.array(array)) for name, array in load(path).items()}

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python reader.py FILE")
    for name, array in load(sys.argv[1]).items():
        print(name, list(array.shape), array.dtype)
