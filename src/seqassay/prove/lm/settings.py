"""What `seqassay lm evaluate` can be told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seqassay.config import check_at_least, option_name
from seqassay.errors import UsageError

Windows = Literal["documents", "stream"]
Shape = tuple[int, int]  # sequences of a batch, tokens of each
PROFILING_PARTS = ("latency", "throughput", "scaling", "memory")


@dataclass(frozen=True, kw_only=True)
class LmEvaluateSettings:
    """Everything ``seqassay lm evaluate`` can be told; the names are those of the command's options.

    Raises:
        UsageError: a value out of its range.
    """

    checkpoint: Path
    inputs: tuple[str, ...] = ()  # a folder of token files, or texts: FILE, SPLIT=PLACE, a folder of splits
    output_dir: Path
    splits: tuple[str, ...] = ()  # none: all but train (train alone where there is no other)
    documents: str = "file"  # where a document ends in texts; token files have their own
    windows: Windows = "documents"  # what is scored on its own: every document, or the whole split as one stream
    prefix: bool = True  # the tokenizer's token for it goes before every document
    context: int | None = None  # tokens of a window, the prefix included; None: the model's
    stride: int | None = None  # None: the context
    top_k: tuple[int, ...] = (1, 5)
    max_batches: int | None = None  # of every split; None: all
    batch: int = 16_384  # token budget of a batch
    probes: tuple[str, ...] = ()  # files of the four tasks, or folders of them; none: no SmallBench
    shots: int = 0  # answered rows of the training set before every prompt
    shots_from: Path | None = None  # folder of the training sets, or a file; None: train/ beside each task's file
    shots_seed: int = 0
    max_samples: int | None = None  # the first rows of every task; None: all
    skip_perplexity: bool = False
    skip_smallbench: bool = False
    skip_profiling: bool = False  # latency, throughput, scaling and memory
    skip_latency: bool = False
    skip_throughput: bool = False
    skip_scaling: bool = False
    skip_memory: bool = False
    latency_shapes: tuple[Shape, ...] | None = None  # None: 1 x 128 and 1 x 512, as far as the context allows
    latency_warm_ups: int = 10
    latency_runs: int = 100
    throughput_shape: Shape | None = None  # None: 32 x 512, or 32 x the context
    throughput_s: float = 10.0
    scaling_batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    scaling_length: int | None = None  # tokens of each sequence; None: 128, or the context
    scaling_runs: int = 10
    memory_shape: Shape | None = None  # None: the throughput's
    memory_runs: int = 3  # fresh processes on the CPU
    run_id: str | None = None  # None: made of time and content
    device: str = "auto"
    threads: int | None = None
    force: bool = False
    resume: bool = False  # go on with what a stopped evaluation has finished

    @property
    def scores_text(self) -> bool:
        """Whether perplexity is asked for."""
        return bool(self.inputs) and not self.skip_perplexity

    @property
    def asks_probes(self) -> bool:
        """Whether SmallBench is asked for."""
        return bool(self.probes) and not self.skip_smallbench

    @property
    def profiled_parts(self) -> tuple[str, ...]:
        """Parts of the profiling that are asked for."""
        return tuple(part for part in PROFILING_PARTS if not (self.skip_profiling or getattr(self, f"skip_{part}")))

    def __post_init__(self) -> None:
        if not (self.scores_text or self.asks_probes or self.profiled_parts):
            raise UsageError(
                "every part is skipped: nothing to evaluate",
                hint="leave out a --skip option, or name text or --probes",
            )
        check_at_least(self, context=1, stride=1, max_batches=1, batch=1, threads=1)
        check_at_least(self, shots=0, shots_seed=0, max_samples=1)
        check_at_least(self, latency_warm_ups=0, latency_runs=2, scaling_length=1, scaling_runs=2, memory_runs=1)
        if not self.probes and (self.shots or self.max_samples or self.shots_from):
            raise UsageError("--shots, --shots-from and --max-samples are about --probes, and there are none")
        if self.force and self.resume:
            raise UsageError("--force and --resume exclude each other")
        if any(k < 1 for k in self.top_k) or len(set(self.top_k)) != len(self.top_k):
            raise UsageError(f"--top-k is {', '.join(map(str, self.top_k))}; it is different numbers from 1 on")
        self._check_profiling()

    def _check_profiling(self) -> None:
        if not (math.isfinite(self.throughput_s) and self.throughput_s > 0):
            raise UsageError(f"--throughput-s is {self.throughput_s:g}; it is seconds above 0, such as 10")
        for name in ("latency_shapes", "throughput_shape", "memory_shape"):
            shapes = getattr(self, name)
            for shape in shapes if name == "latency_shapes" and shapes is not None else [shapes] if shapes else []:
                if min(shape) < 1:
                    raise UsageError(
                        f"{option_name(name)} is {shape_name(shape)}; it is sequences x tokens, both from 1 on"
                    )
        if self.latency_shapes is not None and len(set(self.latency_shapes)) != len(self.latency_shapes):
            raise UsageError("--latency-shapes names one twice")
        if self.latency_shapes == () or not self.scaling_batches:
            raise UsageError("nothing is named to measure", hint="leave the part out: --skip-latency, --skip-scaling")
        if min(self.scaling_batches) < 1 or len(set(self.scaling_batches)) != len(self.scaling_batches):
            given = ", ".join(map(str, self.scaling_batches))
            raise UsageError(f"--scaling-batches is {given}; it is different numbers from 1 on")
        if self.run_id is not None and not (self.run_id.strip() and self.run_id.isprintable()):
            raise UsageError(f"--run-id is {self.run_id!r}; it is a name in printable characters")


def shape_name(shape: Sequence[int]) -> str:
    """``1x128``: sequences x tokens."""
    return "x".join(map(str, shape))
