"""PyTorch eager on the CPU beside tests/bench/train.mjs, which starts it: the same distillation, one thread.

    python3 tests/bench/train_peer.py TEACHER.safetensors --student STUDENT.safetensors --ids IDS.u16.bin
                                      [--steps N] [--warm N] [--batch N] [--window N] [--alpha A] [--rate R]
                                      [--offset N] [--top-k K] [--textbook]
    python3 tests/bench/train_peer.py MODEL.safetensors --check GOLDEN.safetensors [--top-k K]

The first prints one line of JSON: the median seconds of the updates after the first `--warm` ones, and the mean loss of
all. The second compares logits with golden ones (`NAME/ids` beside `NAME/logits`), and fails where they differ.

Where PyTorch leaves a choice it is what was fastest of what was tried: a scan without a loop over tokens, a convolution
that is a sum of shifted products, experts that take only their tokens, both halves of the loss as one product with one
target, and the fused AdamW. `--textbook` writes the loss as its two halves instead, as most would.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

try:
    import torch
    import torch.nn.functional as F
    from safetensors.torch import load_file
    from torch import Tensor
except ImportError as error:
    sys.exit(f"not measured: {error}")

TOLERANCE = 1e-4
SCAN = 16  # tokens of a part of the scan


class IteraLite:
    """The model, of the shapes that a file has: parts may have been pruned away."""

    def __init__(self, path: Path, top_k: int, trains: bool) -> None:
        weights = {key: value.float() for key, value in load_file(path).items() if value.is_floating_point()}
        if not any(key.endswith(".ssm.ssm.A_log") for key in weights):
            sys.exit(f"not measured: {path.name} holds no Itera-Lite model in floats")
        head = weights.get("lm_head.weight")
        if head is not None and torch.equal(head, weights["embedding.weight"]):
            del weights["lm_head.weight"]  # tied
        weights = {key: value for key, value in weights.items() if not key.endswith(".expert_counts")}
        self.weights = {key: value.requires_grad_(trains) for key, value in weights.items()}
        self.layers = 1 + max(int(key.split(".")[1]) for key in weights if key.startswith("layers."))
        self.top_k = top_k

    def __call__(self, ids: Tensor) -> Tensor:
        """Logits `[windows, tokens, vocabulary]`; every window begins with an empty state."""
        table = self.weights["embedding.weight"]
        x = F.embedding(ids, table) + self.weights["position_embedding.weight"][: ids.shape[1]]
        for layer in range(self.layers):
            x = self.ssm(x, f"layers.{layer}.ssm.")
            x = self.feed_forward(x, f"layers.{layer}.moe.")
        return F.linear(self.norm(x, "norm."), self.weights.get("lm_head.weight", table))

    def ssm(self, x: Tensor, at: str) -> Tensor:
        if f"{at}in_proj.weight" not in self.weights:
            return x
        w = {key.removeprefix(at): value for key, value in self.weights.items() if key.startswith(at)}
        taps = w["conv1d.weight"]
        v, gate = F.linear(self.norm(x, f"{at}norm."), w["in_proj.weight"]).chunk(2, -1)
        padded = F.pad(v, (0, 0, taps.shape[2] - 1, 0))
        shifted = (padded[:, j : j + v.shape[1]] * taps[:, 0, j] for j in range(taps.shape[2]))
        a = F.silu(sum(shifted, w["conv1d.bias"]))
        dt = F.softplus(F.linear(a, w["ssm.delta_proj.weight"], w["ssm.delta_proj.bias"])).mean(-1)
        h = scan(dt, -w["ssm.A_log"].exp(), dt.unsqueeze(-1) * F.linear(a, w["ssm.B"]))
        y = F.linear(h, w["ssm.C"]) + w["ssm.D"] * a
        return x + F.linear(y * F.silu(gate), w["out_proj.weight"])

    def feed_forward(self, x: Tensor, at: str) -> Tensor:
        w = self.weights
        if f"{at}ffn.w1.weight" in w:
            wide = F.gelu(F.linear(self.norm(x, f"{at}norm."), w[f"{at}ffn.w1.weight"]))
            return x + F.linear(wide, w[f"{at}ffn.w2.weight"])
        if f"{at}layer.router.gate.weight" in w:
            return x + self.experts(self.norm(x, f"{at}layer.norm."), f"{at}layer.")
        return x

    def experts(self, u: Tensor, at: str) -> Tensor:
        """Each expert takes the tokens that chose it."""
        tokens = u.flatten(0, 1)
        best, chosen = F.linear(tokens, self.weights[f"{at}router.gate.weight"]).topk(self.top_k)
        shares = best.softmax(-1)
        y = torch.zeros_like(tokens)
        for m in range(self.weights[f"{at}router.gate.weight"].shape[0]):
            up, down = (self.weights[f"{at}experts.{m}.{name}.weight"] for name in ("w1", "w2"))
            rows, rank = (chosen == m).nonzero(as_tuple=True)
            y = y.index_add(0, rows, shares[rows, rank, None] * F.linear(F.gelu(F.linear(tokens[rows], up)), down))
        return y.view_as(u)

    def norm(self, x: Tensor, at: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{at}weight"], self.weights[f"{at}bias"])


def scan(dt: Tensor, a: Tensor, q: Tensor) -> Tensor:
    """`h[t] = exp(dt[t] a) h[t-1] + q[t]` of `dt` `[windows, tokens]` and `q` `[windows, tokens, states]`.

    Each part of a window is a product with the matrix of decays between its tokens; what parts leave behind, another.
    """
    windows, tokens, states = q.shape
    missing = -tokens % SCAN
    dt, q = F.pad(dt, (0, missing)), F.pad(q, (0, 0, 0, missing))
    passed = dt.view(-1, SCAN).cumsum(1)
    within = decayed(passed, a, q.view(-1, SCAN, states))
    if tokens > SCAN:
        ends = passed[:, -1].view(windows, -1)
        left = decayed(ends.cumsum(1), a, within[:, -1].view(windows, -1, states))
        before = F.pad(left, (0, 0, 1, -1)).reshape(-1, 1, states)
        within = within + (passed.unsqueeze(-1) * a).exp() * before
    return within.reshape(windows, -1, states)[:, :tokens]


def decayed(passed: Tensor, a: Tensor, q: Tensor) -> Tensor:
    """The sum over earlier tokens and this one of what they add, decayed for what has passed since."""
    since = passed.unsqueeze(2) - passed.unsqueeze(1)
    later = torch.ones(since.shape[1:], dtype=torch.bool).triu(1)
    # Masked before exp: the exponent of a later token is positive, and may be too large.
    decays = (since.unsqueeze(1) * a.view(-1, 1, 1)).masked_fill(later, -math.inf).exp()
    return (decays @ q.transpose(1, 2).unsqueeze(-1)).squeeze(-1).transpose(1, 2)


def fast_loss(teacher: IteraLite, student: IteraLite, ids: Tensor, labels: Tensor, alpha: float) -> Tensor:
    """`alpha KL(teacher || student) + (1 - alpha) CE`, the mean over tokens: what is multiplied with the student's
    logarithms is put together first, and has no gradient."""
    labels = labels.flatten()
    with torch.no_grad():
        taught = teacher(ids).flatten(0, 1).log_softmax(-1)
        target = taught.exp()
        negentropy = torch.linalg.vecdot(target, taught)
        target.mul_(alpha).scatter_add_(1, labels.unsqueeze(1), torch.full((len(labels), 1), 1 - alpha))
    learnt = student(ids).flatten(0, 1).log_softmax(-1)
    return (alpha * negentropy - torch.linalg.vecdot(target, learnt)).mean()


def textbook_loss(teacher: IteraLite, student: IteraLite, ids: Tensor, labels: Tensor, alpha: float) -> Tensor:
    """The same as it is usually written."""
    with torch.no_grad():
        taught = teacher(ids).flatten(0, 1).softmax(-1)
    logits = student(ids).flatten(0, 1)
    divergence = F.kl_div(logits.log_softmax(-1), taught, reduction="batchmean")
    return alpha * divergence + (1 - alpha) * F.cross_entropy(logits, labels.flatten())


def train(args: argparse.Namespace) -> dict[str, float | int | str]:
    teacher = IteraLite(args.model, args.top_k, trains=False)
    student = IteraLite(args.student, args.top_k, trains=True)
    loss_of = textbook_loss if args.textbook else fast_loss
    weights = list(student.weights.values())
    optimizer = torch.optim.AdamW(weights, lr=args.rate, betas=(0.9, 0.98), eps=1e-10, weight_decay=0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(share_of_rate, args.steps))
    seconds, losses = [], []
    for ids, labels in batches(args):
        began, used = time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        loss = loss_of(teacher, student, ids, labels, args.alpha)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        # As `clock` in variants.mjs: without what others took of the core meanwhile.
        seconds.append(min(time.perf_counter() - began, time.process_time() - used))
    return {
        "torch": torch.__version__,
        "parameters": sum(weight.numel() for weight in weights),
        "secondsPerStep": statistics.median(seconds[args.warm :]),
        "loss": statistics.fmean(losses),
    }


def share_of_rate(steps: int, step: int) -> float:
    """What is left of the learning rate at a step: a line up, then a cosine down to a fiftieth, as ours."""
    rise = min(50, steps // 10)
    if step < rise:
        return (step + 1) / rise
    return 0.02 + 0.49 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def batches(args: argparse.Namespace) -> Iterator[tuple[Tensor, Tensor]]:
    """Windows in a random order, and what is to be predicted at each of their tokens, for every step."""
    ids = torch.frombuffer(bytearray(args.ids.read_bytes()), dtype=torch.uint16).long()
    windows = (len(ids) - args.offset) // args.window
    if windows < 1:
        sys.exit(f"not measured: the ids do not fill a window of {args.window}")
    random = torch.Generator().manual_seed(0)
    needed = args.steps * args.batch
    order = torch.cat([torch.randperm(windows, generator=random) for _ in range(-(-needed // windows))])
    inputs, labels = (part[: windows * args.window].view(windows, -1) for part in (ids, ids[args.offset :]))
    for some in order[:needed].view(args.steps, args.batch):
        yield inputs[some], labels[some]


def check(args: argparse.Namespace) -> None:
    model, golden = IteraLite(args.model, args.top_k, trains=False), load_file(args.check)
    names = [key.removesuffix("/logits") for key in golden if key.endswith("/logits")]
    differences = []
    for name in names:
        ids, logits = golden[f"{name}/ids"].long(), golden[f"{name}/logits"]
        found = model(ids.view(-1, ids.shape[-1])).view_as(logits)
        differences.append((found - logits).abs().max().item())
    if not differences or not max(differences) < TOLERANCE:
        sys.exit(f"{len(names)} sequences: logits differ by {max(differences, default=0):.1e}")
    print(f"{len(names)} sequences: logits differ by {max(differences):.1e} at most")


def main() -> None:
    parser = argparse.ArgumentParser(description="PyTorch beside tests/bench/train.mjs")
    parser.add_argument("model", type=Path)
    parser.add_argument("--check", type=Path)
    parser.add_argument("--student", type=Path)
    parser.add_argument("--ids", type=Path)
    usual = {"steps": 40, "warm": 10, "batch": 2, "window": 256, "offset": 1, "top-k": 2, "alpha": 0.5, "rate": 1e-3}
    for name, value in usual.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--textbook", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    if args.check:
        check(args)
    elif args.student and args.ids:
        print(json.dumps(train(args)))
    else:
        parser.error("give --student and --ids, or --check")


if __name__ == "__main__":
    main()
