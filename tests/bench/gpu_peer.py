"""PyTorch at FP16 beside tests/bench/gpu.rs, which starts it: decodes the same shapes on the same card.

    python3 tests/bench/gpu_peer.py BYTES_PER_SECOND NAME=WIDTH,LAYERS,STATES,FFN,VOCABULARY...

The first number is the bandwidth that `of bound` refers to. Weights are random, the embedding is the head,
and the likeliest token goes in again without leaving the card. `eager` launches op by op; `graph` replays the
launches of a token as one CUDA graph, the fastest that PyTorch has without other kernels.
"""

import sys
import time

TOKENS = 32  # of a submission, as in gpu.rs
POSITIONS = 1024
TAPS = 4


def refuse(reason):
    sys.exit(f"PyTorch beside it: not measured, {reason}")


try:
    import torch
    import torch.nn.functional as F
except ImportError as error:
    refuse(f"it cannot be imported ({error})")


def matrix(rows, cols):
    return (torch.rand(rows, cols, device="cuda") - 0.5).mul_(2 / cols**0.5).half()


def vector(size, centre):
    return torch.full((size,), centre, device="cuda", dtype=torch.half)


class Layer:
    """An SSM block and a feed-forward network, one token at a time."""

    def __init__(self, d, states, ffn):
        inner = 2 * d
        self.norms = [(vector(d, 1.0), vector(d, 0.0)) for _ in range(2)]
        self.in_proj, self.delta_proj = matrix(2 * inner, d), matrix(inner, inner)
        self.b, self.c, self.out_proj = matrix(states, inner), matrix(inner, states), matrix(d, inner)
        self.w1, self.w2 = matrix(ffn, d), matrix(d, ffn)
        self.taps, self.conv_bias = vector(TAPS * inner, 0.1).view(TAPS, inner), vector(inner, 0.0)
        self.a, self.skip, self.delta_bias = vector(states, -1.0).float(), vector(inner, 1.0), vector(inner, 0.0)
        # What is remembered: the last inputs of the convolution, and the state.
        self.window = vector(TAPS * inner, 0.0).view(TAPS, inner)
        self.h = vector(states, 0.0).float()

    def matrices(self):
        return [self.in_proj, self.delta_proj, self.b, self.c, self.out_proj, self.w1, self.w2]

    def __call__(self, x):
        v, gate = F.linear(F.layer_norm(x, x.shape, *self.norms[0]), self.in_proj).chunk(2)
        self.window.copy_(torch.cat((self.window[1:], v.unsqueeze(0))))
        a = F.silu((self.window * self.taps).sum(0) + self.conv_bias)
        dt = F.softplus(F.linear(a, self.delta_proj) + self.delta_bias).float().mean()
        self.h.copy_(torch.exp(dt * self.a) * self.h + dt * F.linear(a, self.b).float())
        y = (F.linear(self.h.half(), self.c) + self.skip * a) * F.silu(gate)
        x = x + F.linear(y, self.out_proj)
        return x + F.linear(F.gelu(F.linear(F.layer_norm(x, x.shape, *self.norms[1]), self.w1)), self.w2)


class Model:
    """Token in, likeliest token out, both in place."""

    def __init__(self, d, layers, states, ffn, vocab):
        self.table, self.positions = matrix(vocab, d), matrix(POSITIONS, d)
        self.layers = [Layer(d, states, ffn) for _ in range(layers)]
        self.norm = (vector(d, 1.0), vector(d, 0.0))
        self.token, self.position = (torch.ones(1, device="cuda", dtype=torch.long) for _ in range(2))

    def bytes(self):
        """Of the matrices that a token reads."""
        every = [self.table] + [matrix for layer in self.layers for matrix in layer.matrices()]
        return sum(2 * matrix.numel() for matrix in every)

    def step(self):
        x = (self.table[self.token] + self.positions[self.position]).squeeze(0)
        for layer in self.layers:
            x = layer(x)
        logits = F.linear(F.layer_norm(x, x.shape, *self.norm), self.table)
        self.token.copy_(logits.argmax(0, keepdim=True))
        self.position.add_(1).remainder_(POSITIONS)


def captured(model):
    """A step as a CUDA graph; warmed up on another stream, as capturing asks for."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            model.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model.step()
    return graph.replay


def seconds_per_token(step):
    """The best of several submissions, after one that warms up."""
    best = float("inf")
    for round in range(5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(TOKENS):
            step()
        torch.cuda.synchronize()
        if round > 0:
            best = min(best, (time.perf_counter() - start) / TOKENS)
    return best


def main(bandwidth, *shapes):
    if not torch.cuda.is_available():
        refuse(f"PyTorch {torch.__version__} sees no CUDA device")
    print(f"PyTorch {torch.__version__} on {torch.cuda.get_device_name()}")
    with torch.no_grad():
        for shape in shapes:
            name, sizes = shape.split("=")
            model = Model(*map(int, sizes.split(",")))
            for way, step in (("eager", model.step), ("graph", captured(model))):
                best = seconds_per_token(step)
                share = 100 * model.bytes() / float(bandwidth) / best
                size = model.bytes() / 1e6
                print(f"{name:<6} {'fp16':<6} {way:<10} {'':>10} {size:>12.2f} {1 / best:>10.1f} {share:>7.1f} %")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
