"""The kill rule: a training ends that has been worse than a baseline for a number of tokens."""

from __future__ import annotations

import csv
import hashlib
import math
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqassay.errors import UsageError
from seqassay.train.lm_metrics import METRICS_FILE


@dataclass(frozen=True, slots=True)
class Baseline:
    """Dev perplexity to compare with: at numbers of training tokens, or one value for all of them."""

    tokens: tuple[int, ...]
    perplexities: tuple[float, ...]

    @property
    def sha256(self) -> str:
        """Of the points: the same curve has the same one, wherever it lies."""
        return hashlib.sha256(repr((self.tokens, self.perplexities)).encode()).hexdigest()

    def at(self, n_tokens: int) -> float | None:
        """Linear between two evaluations, the last one after them; None before the first: nothing to compare with."""
        place = bisect_right(self.tokens, n_tokens)
        if place == 0:
            return None
        if place == len(self.tokens):
            return self.perplexities[-1]
        (t0, t1), (p0, p1) = self.tokens[place - 1 : place + 1], self.perplexities[place - 1 : place + 1]
        return p0 + (p1 - p0) * (n_tokens - t0) / (t1 - t0)


def read_baseline(given: str) -> Baseline:
    """A perplexity, or the curve of another training: its folder, or its metrics.csv.

    Raises:
        UsageError: neither.
    """
    path = Path(given) / METRICS_FILE if Path(given).is_dir() else Path(given)
    if path.is_file():
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = [row for row in csv.DictReader(file) if row["dev_perplexity"]]
            curve = sorted((int(row["tokens"]), float(row["dev_perplexity"])) for row in rows)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path}: is not the metrics.csv of a training ({error})") from None
        if not curve:
            raise UsageError(f"{path}: has no evaluation yet", hint="give a finished training, or a perplexity")
        return Baseline(tuple(t for t, _ in curve), tuple(p for _, p in curve))
    try:
        value = float(given)
    except ValueError:
        raise UsageError(
            f"--baseline is {given!r}; it is a perplexity, a training's folder or its metrics.csv"
        ) from None
    if not (math.isfinite(value) and value >= 1):
        raise UsageError(f"--baseline is {value:g}; a perplexity is at least 1")
    return Baseline((0,), (value,))


@dataclass(slots=True)
class KillRule:
    """Told of every evaluation; what it remembers goes into checkpoints.

    Attributes:
        margin: of dev perplexity: how much worse counts.
        n_tokens: for how many training tokens without a break.
        worse_since_tokens: tokens seen at the first of the bad evaluations in a row; None when the last was good.
        verdict: what ended the training; None as long as nothing did.
    """

    baseline: Baseline
    margin: float
    n_tokens: int
    worse_since_tokens: int | None = None
    verdict: dict[str, Any] | None = field(default=None)

    def see(self, tokens_seen: int, dev_perplexity: float) -> bool:
        """Whether the training has to end, after an evaluation."""
        wanted = self.baseline.at(tokens_seen)
        if wanted is None or dev_perplexity - wanted < self.margin:
            self.worse_since_tokens = None
            return False
        if self.worse_since_tokens is None:
            self.worse_since_tokens = tokens_seen
        if tokens_seen - self.worse_since_tokens < self.n_tokens:
            return False
        self.verdict = {
            "dev_perplexity": dev_perplexity,
            "baseline_perplexity": wanted,
            "margin": self.margin,
            "worse_since_tokens": self.worse_since_tokens,
            "tokens_seen": tokens_seen,
        }
        return True
