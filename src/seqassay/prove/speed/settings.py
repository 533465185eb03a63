"""What `seqassay benchmark speed` can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from seqassay.config import PrecisionName, check_at_least
from seqassay.errors import UsageError

DEFAULT_CANDIDATE, DEFAULT_BASELINE = "FastESM2_650", "esm2_t36_3B_UR50D"
SYNTHETIC_LENGTHS = (100, 300, 500)  # residues, in equal parts


@dataclass(frozen=True, kw_only=True)
class SpeedSettings:
    """Everything ``seqassay benchmark speed`` can be told; the names are those of the command's options.

    Raises:
        UsageError: a value out of its range, or two settings that exclude each other.
    """

    candidate: str = DEFAULT_CANDIDATE  # a name, a folder, a weight file, or BUNDLE:protein
    output_dir: Path
    baseline: str = DEFAULT_BASELINE
    candidate_only: bool = False
    sequences: tuple[str, ...] = ()  # FASTA or FASTQ files; none: synthetic proteins
    translate: int | None = None  # the files hold nucleotides: chunk length in bases; None: they hold proteins
    n_sequences: int = 100  # the first so many distinct ones, or so many synthetic ones
    random_weights: bool = False  # names mean the published shape with random weights
    warm_ups: int = 10  # of the classic protocol
    runs: int = 3
    pairs: int = 20  # of the paired protocol, which the gate judges
    min_speedup: float = 2.0
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    precision: PrecisionName = "float32"
    baseline_precision: PrecisionName | None = None  # None: the candidate's
    batch: int | None = None  # token budget of a batch, in tokens; None: what suits the device
    threads: int | None = None  # None: what the machine gives
    seed: int = 42  # of synthetic sequences, random weights, the order within pairs and the resampling
    force: bool = False

    def __post_init__(self) -> None:
        check_at_least(self, n_sequences=1, runs=1, pairs=1, translate=1, batch=1, threads=1, warm_ups=0, seed=0)
        if not math.isfinite(self.min_speedup) or self.min_speedup <= 0:
            raise UsageError(f"--min-speedup is {self.min_speedup:g}; it is a ratio above 0, such as 2")
        if self.translate is not None and not self.sequences:
            raise UsageError(
                "--translate is about nucleotides in files, and no file was given",
                hint="name the file: --sequences reads.fastq.gz --translate 300",
            )
        if self.candidate_only and self.baseline_precision is not None:
            raise UsageError("--candidate-only and --baseline-precision exclude each other")
