"""Tiny Shakespeare by character: `lm train` beside a plain PyTorch loop of the same model, timed in turns.

    python benchmarks/lm_shakespeare.py [--data TEXT_FOLDER] [--threads 2]          # the CPU setting: loss ≤ 1.88
    python benchmarks/lm_shakespeare.py --setting accelerator --device cuda         # 6 layers: loss ≤ 1.47

TEXT_FOLDER holds train.txt and valid.txt. CPU setting: 4 layers, 4 heads, 128 wide, context 64, batch 12, 2000
iterations, no dropout. Every hundred steps of `lm train` the plain loop (`lm_step_cpu.Plain`: textbook model, windows
drawn as nanoGPT draws them, ``clip_grad_norm_``, fused AdamW) makes its hundred; pairs of such segments are compared.
Evaluation and checkpoints are in neither time. Beside the wall clock stands the process's processor time, by which
a busy machine's other work counts less. The first segment of each warms up. The loss is over the whole
validation text, computed anew from the folder that was written; the plain loop's is beside it, of the same windows.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lm_step_cpu
from _timing import STEADY, Case, ratio, report
from seqassay.models.causal_lm import CausalLmConfig
from seqassay.models.lm_files import build_lm, load_lm
from seqassay.models.lm_plan import LmPlan
from seqassay.text.build import BuildSettings, build_token_files
from seqassay.text.token_files import TokenFiles, open_token_files
from seqassay.train.lm import train_lm
from seqassay.train.lm_dev import DevSet
from seqassay.train.lm_settings import LmTrainSettings, Schedule, schedule_of

SEGMENT = 100  # steps
SETTINGS: dict[str, dict[str, Any]] = {
    "cpu": {
        "shape": {"d_model": 128, "n_layers": 4, "n_heads": 4, "d_ff": 344, "context": 64},
        "train": {"steps": 2000, "batch": 12, "learning_rate": 1e-3, "dropout": 0.0, "device": "cpu"},
        "bar": 1.88,
    },
    "accelerator": {
        "shape": {"d_model": 384, "n_layers": 6, "n_heads": 6, "d_ff": 1024, "context": 256},
        "train": {"steps": 5000, "batch": 64, "learning_rate": 1e-3, "dropout": 0.2, "device": "cuda"},
        "bar": 1.47,
    },
}


def main() -> None:
    """Train, compare, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    place = Path(os.environ.get("SEQASSAY_DATA", Path(__file__).parents[2] / "shared/data")) / "text/tinyshakespeare"
    parser.add_argument("--data", type=Path, default=place)
    parser.add_argument("--setting", choices=list(SETTINGS), default="cpu")
    parser.add_argument("--device", default=None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=None, help="fewer, for a look")
    args = parser.parse_args()
    if not (args.data / "train.txt").is_file():
        sys.exit(f"{args.data}: no train.txt there; give --data")
    chosen = SETTINGS[args.setting]
    given = {**chosen["train"], **({"device": args.device} if args.device else {})}
    given |= {"steps": args.steps} if args.steps else {}
    with tempfile.TemporaryDirectory() as scratch:
        tokens = Path(scratch) / "tokens"
        build_token_files(BuildSettings(inputs=(str(args.data),), output_dir=tokens, characters=True))
        files = open_token_files(tokens)
        config = CausalLmConfig(vocab_size=files.vocab_size, **chosen["shape"])
        settings = LmTrainSettings(
            tokens=tokens, output_dir=Path(scratch) / "run", order="random", beta2=0.99,
            warmup_steps=min(100, given["steps"]), seed=args.seed, threads=args.threads, evaluate_every=500, **given,
        )  # fmt: skip
        lm_step_cpu.CONFIG = config
        torch.set_num_threads(args.threads)
        on_cpu = given["device"] == "cpu"
        plain = PlainLoop(files, config, settings) if on_cpu else None
        turns = Turns(plain)
        record = train_lm(settings, LmPlan(config), callbacks=[turns] if on_cpu else []).record
        dev = DevSet.of(files.split("valid").tokens, config.context, None)
        losses = {
            name: dev.loss_sum(load_lm(Path(scratch) / "run" / name).model, batch_tokens=8192) / dev.n_scored_tokens
            for name in ("last", "best")
        }
    training = {**record["training"]}
    if on_cpu:  # these clocks ran during the plain loop's turns too
        for name in ("wall_s", "aside_s", "tokens_per_s"):
            del training[name]
    figures: dict[str, Any] = {
        "setting": args.setting, "threads": args.threads, "seed": args.seed, "bar": chosen["bar"],
        "validation_loss": losses, "scored_tokens": dev.n_scored_tokens, "training": training,
        "settings": record["settings"], "device": record["device"],
    }  # fmt: skip
    work = float(SEGMENT * settings.batch * config.context)
    cases, processor = turns.cases(work, clock=0), turns.cases(work, clock=1)
    if plain is not None:
        figures |= {
            "plain_validation_loss": plain.loss(dev),
            "ratio_to_plain": ratio(cases[1], cases[0]),
            "ratio_to_plain_processor_time": ratio(processor[1], processor[0]),
            "processor_seconds": {case.name: case.seconds for case in processor},
        }  # fmt: skip
    name = "lm_shakespeare" if args.setting == "cpu" else f"lm_shakespeare_{args.setting}"
    report(name, cases if on_cpu else [], "tokens", figures, steady=all(steady(case.seconds) for case in cases))
    print(f"validation loss {losses['last']:.4f} over {dev.n_scored_tokens:,} tokens; bar {chosen['bar']}")
    if losses["last"] > chosen["bar"]:
        sys.exit("the bar is missed")


def steady(seconds: list[float]) -> bool:
    """Whether the medians of the two halves are within 2% of each other."""
    half = len(seconds) // 2
    return not seconds or bool(abs(np.median(seconds[:half]) / np.median(seconds[half:]) - 1) < STEADY)


class PlainLoop:
    """A loop as one writes it: windows drawn anywhere, the textbook model, the same rates."""

    def __init__(self, files: TokenFiles, config: CausalLmConfig, settings: LmTrainSettings) -> None:
        self.data = files.split("train").tokens
        self.config, self.batch = config, settings.batch
        self.model = lm_step_cpu.Plain(build_lm(config, settings.seed))
        self.schedule: Schedule = schedule_of(settings, config.context)
        self.step, self.clip = 0, settings.clip
        self.random = torch.Generator().manual_seed(settings.seed)
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        norms = [p for p in self.model.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": norms, "weight_decay": 0.0}],
            lr=settings.learning_rate, betas=(settings.beta1, settings.beta2), fused=True,
        )  # fmt: skip

    def run(self, n_steps: int) -> None:
        """That many steps."""
        length = self.config.context
        for _ in range(n_steps):
            starts = torch.randint(len(self.data) - length, (self.batch,), generator=self.random).tolist()
            x = torch.stack([torch.from_numpy(self.data[i : i + length].astype(np.int64)) for i in starts])
            y = torch.stack([torch.from_numpy(self.data[i + 1 : i + 1 + length].astype(np.int64)) for i in starts])
            for group in self.optimizer.param_groups:
                group["lr"] = self.schedule.at(self.step)
            loss = F.cross_entropy(self.model(x).flatten(0, 1), y.flatten())
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimizer.step()
            self.step += 1

    @torch.no_grad()
    def loss(self, dev: DevSet) -> float:
        """Of the same windows."""
        total = 0.0
        for window in dev.windows:
            piece = torch.from_numpy(dev.tokens[window.start : window.stop].astype(np.int64))
            if len(piece) - 1 < self.config.context:
                sys.exit("the validation text is shorter than a context")
            losses = F.cross_entropy(self.model(piece[None, :-1])[0], piece[1:], reduction="none")
            total += float(losses[-window.n_scored :].double().sum())
        return total / dev.n_scored_tokens


class Turns(pl.Callback):
    """Lets the plain loop have its hundred steps after every hundred of ours, and keeps both times."""

    def __init__(self, plain: PlainLoop | None) -> None:
        self.plain = plain
        self.ours_s: list[tuple[float, float]] = []  # wall and processor seconds
        self.plain_s: list[tuple[float, float]] = []
        self.began = (0.0, 0.0)

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step % SEGMENT == 0:
            self.began = _clocks()

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step % SEGMENT:
            return
        assert self.plain is not None
        self.ours_s.append(_since(self.began))
        began = _clocks()
        self.plain.run(SEGMENT)
        self.plain_s.append(_since(began))

    def cases(self, work: float, *, clock: int) -> list[Case]:
        """Ours and the plain loop's by one of the clocks, without the first segment of each."""
        names = (("seqassay lm train", self.ours_s), ("plain PyTorch loop", self.plain_s))
        return [Case(name, lambda: None, work, [s[clock] for s in seconds[1:]]) for name, seconds in names]


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(began: tuple[float, float]) -> tuple[float, float]:
    wall, processor = _clocks()
    return wall - began[0], processor - began[1]


if __name__ == "__main__":
    main()
