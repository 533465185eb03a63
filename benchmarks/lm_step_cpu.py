"""A training step on the CPU against plain PyTorch: 4 layers, 4 heads, 128 wide, context 64, batch 12, 65 characters.

    python benchmarks/lm_step_cpu.py [--threads 2] [--rounds 100] [--shape 1m]    # 1m: 1M parameters, 4,096 tokens

The plain model is what one writes from a textbook: `[batch, tokens, width]`, one product for query, key and value,
``scaled_dot_product_attention(is_causal=True)``, ``nn.RMSNorm``, rotary positions, SwiGLU with two products, and
``F.cross_entropy`` on all logits. Both begin with the same weights and read the same batches; the losses of the first
steps are compared before anything is timed. A step is forward, backward, clipping and fused AdamW, float32.
Beside the wall clock stands the process's processor time, by which a busy machine's other work counts less.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _timing import STEADY, Case, ratio, report
from seqassay.models.attention import PackedLayout
from seqassay.models.causal_lm import CausalLm, CausalLmConfig
from seqassay.models.lm_files import build_lm
from seqassay.models.lm_loss import cross_entropy

CONFIG = CausalLmConfig(vocab_size=65, d_model=128, n_layers=4, n_heads=4, d_ff=344, context=64)
BATCH = 12
ONE_MILLION = CausalLmConfig(vocab_size=4096, d_model=96, n_layers=6, n_heads=6, d_ff=256, context=128)
WARM_UP = 5  # rounds


def main() -> None:
    """Compare the losses of three steps, then time steps in turn."""
    global CONFIG, BATCH
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--shape", choices=["shakespeare", "1m"], default="shakespeare")
    args = parser.parse_args()
    if args.shape == "1m":
        CONFIG, BATCH = ONE_MILLION, 16
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    ours = build_lm(CONFIG, seed=1)
    plain = Plain(ours)
    batches = torch.randint(CONFIG.vocab_size, (64, BATCH, CONFIG.context + 1))
    layout = PackedLayout.from_lengths([CONFIG.context] * BATCH)

    def our_loss(batch: Tensor) -> Tensor:
        hidden_TD = ours(batch[:, :-1].flatten(), layout)
        return cross_entropy(ours, hidden_TD, batch[:, 1:].flatten(), n_targets=BATCH * CONFIG.context)

    def plain_loss(batch: Tensor) -> Tensor:
        return F.cross_entropy(plain(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())

    steps = [stepper(ours, our_loss, batches), stepper(plain, plain_loss, batches)]
    first = [[step() for _ in range(3)] for step in steps]
    difference = max(abs(a - b) for a, b in zip(*first, strict=True))
    if difference > 1e-4:
        sys.exit(f"the losses of the first three steps differ by {difference:.1e}: nothing to time")
    tokens = float(BATCH * CONFIG.context)
    cases, processor = ([Case(name, lambda: None, tokens) for name in ("seqassay", "plain PyTorch")] for _ in range(2))
    for number in range(WARM_UP + args.rounds):
        for step, wall, own in zip(steps, cases, processor, strict=True):
            began = time.perf_counter(), time.process_time()
            step()
            if number >= WARM_UP:
                wall.seconds.append(time.perf_counter() - began[0])
                own.seconds.append(time.process_time() - began[1])
    figures = {
        "threads": args.threads,
        "shape": asdict(CONFIG) | {"batch": BATCH},
        "ratio_to_plain": ratio(cases[1], cases[0]),
        "ratio_to_plain_processor_time": ratio(processor[1], processor[0]),
        "processor_seconds": {case.name: case.seconds for case in processor},
        "loss_difference": difference,
    }
    name = "lm_step_cpu" if args.shape == "shakespeare" else f"lm_step_cpu_{args.shape}"
    halves = [np.median(half) for half in np.array_split(cases[0].seconds, 2)]
    report(name, cases, "tokens", figures, steady=bool(abs(halves[0] / halves[1] - 1) < STEADY))


def stepper(model: nn.Module, loss_of: Callable[[Tensor], Tensor], batches: Tensor) -> Callable[[], float]:
    """A function that takes the next batch, makes one step and returns its loss."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), fused=True)
    numbers = iter(range(10**9))

    def step() -> float:
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(batches[next(numbers) % len(batches)])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        return float(loss.detach())

    return step


class PlainBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        d, f = CONFIG.d_model, CONFIG.d_ff
        self.norm_1, self.norm_2 = nn.RMSNorm(d, eps=CONFIG.eps), nn.RMSNorm(d, eps=CONFIG.eps)
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.gate, self.up = nn.Linear(d, f, bias=False), nn.Linear(d, f, bias=False)
        self.down = nn.Linear(f, d, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, d = x.shape
        q, k, v = (
            part.view(batch, length, CONFIG.n_heads, -1).transpose(1, 2)
            for part in self.qkv(self.norm_1(x)).split(d, 2)
        )
        mixed = F.scaled_dot_product_attention(rotated(q, cos, sin), rotated(k, cos, sin), v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, d))
        normed = self.norm_2(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Plain(nn.Module):
    """The same model with the same first weights."""

    def __init__(self, like: CausalLm) -> None:
        super().__init__()
        self.embed = nn.Embedding(CONFIG.vocab_size, CONFIG.d_model)
        self.blocks = nn.ModuleList(PlainBlock() for _ in range(CONFIG.n_layers))
        self.norm = nn.RMSNorm(CONFIG.d_model, eps=CONFIG.eps)
        powers = torch.arange(0, CONFIG.head_width, 2).float() / CONFIG.head_width
        angles = torch.arange(CONFIG.context)[:, None] / CONFIG.rotary_base**powers
        self.cos, self.sin = torch.cat((angles, angles), -1).cos(), torch.cat((angles, angles), -1).sin()
        with torch.no_grad():
            self.embed.weight.copy_(like.embed_tokens.weight)
            for mine, theirs in zip(self.blocks, like.layers, strict=True):
                for name in ("qkv", "out", "down"):
                    getattr(mine, name).weight.copy_(getattr(theirs, name).weight)
                mine.gate.weight.copy_(theirs.gate_up.weight[: CONFIG.d_ff])
                mine.up.weight.copy_(theirs.gate_up.weight[CONFIG.d_ff :])

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return F.linear(self.norm(x), self.embed.weight)


if __name__ == "__main__":
    main()
