"""What `seqassay benchmark pipeline` can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from seqassay.config import DEFAULT_SHARD_SIZE_SEQUENCES, Pairing, PrecisionName, check_at_least, option_name
from seqassay.errors import UsageError
from seqassay.measure.clock import FEWEST_PAIRS


@dataclass(frozen=True, kw_only=True)
class PipelineSettings:
    """Everything ``seqassay benchmark pipeline`` can be told; the names are those of the command's options.

    Raises:
        UsageError: a value out of its range, or two settings that exclude each other.
    """

    inputs: tuple[str, ...]  # FASTA or FASTQ files
    output_dir: Path
    model: str = "mini"  # a bundle's name, or the path of a bundle folder
    pairing: Pairing = "none"
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    precision: PrecisionName | None = None  # None: the one that the bundle names
    threads: int | None = None  # None: as many as workers
    batch: int | None = None  # token budget of a batch, in tokens; None: what suits the device
    prefetch: int = 1  # shards that are prepared ahead of the device
    shard_size: int = DEFAULT_SHARD_SIZE_SEQUENCES
    repeats: int = FEWEST_PAIRS  # runs of every case; with fewer, ratios have no interval
    workers: tuple[int, ...] = ()  # on the CPU cores given to the engine, one case each; none: all cores
    sweep_batch: tuple[int, ...] = ()  # token budgets to try
    sweep_prefetch: tuple[int, ...] = ()  # depths of reading ahead to try
    reference: bool = False  # run the published procedure on the same input
    baseline_s: float | None = None  # a wall time to compare with, which somebody else measured
    seed: int = 42  # of the order of runs and of resampling
    force: bool = False

    def __post_init__(self) -> None:
        if not self.inputs:
            raise UsageError("no input file", hint="name FASTA or FASTQ files")
        if "-" in self.inputs:
            raise UsageError("standard input can be read once, and a benchmark reads it often", hint="name a file")
        check_at_least(self, threads=1, batch=1, prefetch=1, shard_size=1, repeats=1)
        for name in ("workers", "sweep_batch", "sweep_prefetch"):
            values: tuple[int, ...] = getattr(self, name)
            if any(value < 1 for value in values) or len(set(values)) < len(values):
                shown = ",".join(map(str, values))
                raise UsageError(f"{option_name(name)} is {shown}; it takes whole numbers from 1 on, each once")
        if self.workers and self.threads is not None:
            raise UsageError("--workers and --threads exclude each other: a worker is a thread on a core of its own")
        if self.reference and self.baseline_s is not None:
            raise UsageError("--reference and --baseline-s exclude each other: a speed-up is over one baseline")
        if self.baseline_s is not None and not (math.isfinite(self.baseline_s) and self.baseline_s > 0):
            raise UsageError(f"--baseline-s is {self.baseline_s:g}; it is a wall time in seconds, above 0")
