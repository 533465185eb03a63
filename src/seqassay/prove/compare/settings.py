"""What `seqassay compare` can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from seqassay.errors import UsageError

THINGS = ("bundle", "encoder", "chunk-length", "inputs")  # what two sides may differ in, and --allow-different names
DEFAULT_TOLERANCE = 1e-4
DEFAULT_MISMATCH_LIMIT = 1000


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """Everything ``seqassay compare`` can be told; the names are those of the command's options.

    Raises:
        UsageError: a value out of its range.
    """

    a: Path  # the folder of a run, a result file, or a file of embeddings
    b: Path
    output_dir: Path
    tolerance: float = DEFAULT_TOLERANCE  # scores, or values of an embedding, that differ by no more are alike
    mismatch_limit: int = DEFAULT_MISMATCH_LIMIT  # rows listed of each kind and level
    min_agreement: float | None = None  # the gate: share of rows with the same label; None: no gate
    allow_different: tuple[str, ...] = ()  # of THINGS
    force: bool = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.tolerance) or not 0 <= self.tolerance < 1:
            raise UsageError(f"--tolerance is {self.tolerance:g}; it is a difference of scores, from 0 to below 1")
        if self.mismatch_limit < 0:
            raise UsageError(f"--mismatch-limit is {self.mismatch_limit}; it is a number of rows, from 0 on")
        share = self.min_agreement
        if share is not None and not 0 < share < 1:
            percent = f"; for {share:g} percent give {share / 100:g}" if 1 < share < 100 else ""
            hint = "--min-agreement 0.99 asks for the same label on at least 99% of the rows"
            if share == 1:
                hint = "no number of rows proves an agreement of 1; whether any label differs stands in metrics.json"
            raise UsageError(f"--min-agreement is {share:g}; it is a fraction between 0 and 1{percent}", hint=hint)
        for name in self.allow_different:
            if name not in THINGS:
                raise UsageError(f"--allow-different names {name!r}; it takes any of: {', '.join(THINGS)}")
