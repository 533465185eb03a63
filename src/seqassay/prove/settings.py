"""What `seqassay evaluate` can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seqassay.config import check_at_least
from seqassay.errors import UsageError

Unit = Literal["record", "taxon"]

DEFAULT_THRESHOLD = 0.05


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """Everything ``seqassay evaluate`` can be told; the names are those of the command's options.

    Raises:
        UsageError: a value out of its range, or settings that exclude each other.
    """

    bundle: str  # the candidate: a bundle's name or folder, or the folder of a run of `predict`, or a table of scores
    test: Path  # a labelled FASTA file, a dataset folder, or a folder of features of a test set
    output_dir: Path
    baseline: str | None = None  # a bundle to compare with, sequence by sequence
    baseline_metrics: str | None = None  # or its figures alone: a JSON file, or JSON itself
    baseline_predictions: str | None = None  # or its scores, made before: the folder of a run, or a table
    threshold: float = DEFAULT_THRESHOLD  # accuracy may drop by less than this, as a fraction
    unit: Unit = "record"  # what bootstrap samples are drawn from
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    threads: int | None = None  # None: what the machine gives
    resume: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        baselines = {
            "--baseline": self.baseline,
            "--baseline-metrics": self.baseline_metrics,
            "--baseline-predictions": self.baseline_predictions,
        }
        given = [name for name, value in baselines.items() if value is not None]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} exclude each other", hint="give one baseline")
        if self.resume and self.force:
            raise UsageError("--resume and --force exclude each other", hint="--resume goes on, --force begins again")
        if not math.isfinite(self.threshold) or not 0 <= self.threshold < 1:
            percent = f"; for {self.threshold:g} percent give {self.threshold / 100:g}" if self.threshold >= 1 else ""
            raise UsageError(
                f"--threshold is {self.threshold:g}; it is a fraction from 0 to below 1{percent}",
                hint="--threshold 0.05 lets accuracy drop by less than 5 percentage points",
            )
        check_at_least(self, threads=1)
