"""The measuring itself: first calls, the classic protocol, pairs; every pass goes through the engine's own runner."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.measure.clock import DeviceClock, PairedTimes, WarmUp, time_pairs, warm_until_steady
from seqassay.measure.progress import RunProgress
from seqassay.prove.speed.encoders import Opened
from seqassay.prove.speed.work import Work, work_of
from seqassay.sequences.ragged import Ragged

WARM_LIMIT_S = 60.0  # of runs for one encoder to become steady, beyond those of the classic protocol


@dataclass(slots=True)
class Measured:
    """One encoder's times, in seconds; a run embeds all sequences, from letters to embeddings on the host.

    Attributes:
        first_call_s: what libraries make for a model's shapes at their first use is in it.
        finite_rows: embeddings without a NaN or an infinity, of the first call and of the last.
    """

    opened: Opened
    work: Work
    first_call_s: float
    finite_rows: int
    d_model: int
    warm_up_s: list[float] = field(default_factory=list)
    classic_s: list[float] = field(default_factory=list)
    paired_s: npt.NDArray[np.float64] | None = None
    steady: WarmUp | None = None

    @property
    def all_finite(self) -> bool:
        """Whether every value that it gave is a number."""
        return self.finite_rows == self.work.sequences


class Bench:
    """Passes over one set of sequences, timed by one clock and counted by one progress."""

    def __init__(self, residues: Ragged, clock: DeviceClock, progress: RunProgress) -> None:
        self.residues, self.clock, self.progress = residues, clock, progress

    def first_call(self, opened: Opened) -> Measured:
        """Embed everything once, and look at what came out.

        Raises:
            ResourceError: a sequence does not fit into the device's memory.
        """
        self.progress.stage = f"first call of {opened.wanted.name}"
        embeddings, first_call_s = self.clock.timed(lambda: opened.embedder.embed(self.residues))
        self.progress.end_shard(1)
        exact = opened.embedder.precision.exact
        work = work_of(opened.model, self.residues.lengths.tolist(), exact=exact)
        return Measured(opened, work, first_call_s, _finite_rows(embeddings), embeddings.shape[1])

    def classic(self, measured: Measured, *, warm_ups: int, runs: int) -> None:
        """Warm-ups, then timed runs, of one encoder alone."""
        name, time_once = measured.opened.wanted.name, self._timer(measured)
        self.progress.stage = f"warm-ups of {name}"
        measured.warm_up_s = [time_once() for _ in range(warm_ups)]
        self.progress.stage = f"timed runs of {name}"
        measured.classic_s = [time_once() for _ in range(runs)]

    def pairs(self, candidate: Measured, baseline: Measured, *, n_pairs: int, seed: int) -> PairedTimes:
        """Both encoders side by side, after each has become steady."""
        for measured in (candidate, baseline):
            self.progress.stage = f"waiting for {measured.opened.wanted.name} to be steady"
            before = [*measured.warm_up_s, *measured.classic_s]
            time_once = self._timer(measured, counted=False)
            measured.steady = warm_until_steady(time_once, limit_s=WARM_LIMIT_S, before=before)
        self.progress.stage = "pairs"
        times = time_pairs(self._timer(candidate), self._timer(baseline), n_pairs=n_pairs, seed=seed)
        candidate.paired_s, baseline.paired_s = times.a_s, times.b_s
        return times

    def check_last(self, measured: Measured) -> None:
        """The embeddings are still numbers after all runs."""
        again = measured.opened.embedder.embed(self.residues)
        measured.finite_rows = min(measured.finite_rows, _finite_rows(again))

    def _timer(self, measured: Measured, *, counted: bool = True) -> Callable[[], float]:
        embedder = measured.opened.embedder

        def time_once() -> float:
            seconds = self.clock.time_s(lambda: embedder.embed(self.residues))
            self.progress.end_shard(int(counted))
            return seconds

        return time_once


def passes(*, warm_ups: int, runs: int, pairs: int, with_baseline: bool) -> int:
    """How many times sequences are embedded, without what it takes to become steady."""
    of_one = 1 + warm_ups + runs
    return 2 * (of_one + pairs) if with_baseline else of_one


def token_digest(opened: Opened, residues: Ragged) -> str:
    """SHA-256 over the token ids that the encoder is given, sequence by sequence."""
    tokens = opened.embedder.encoder.tokenizer.encode(residues)
    digest = hashlib.sha256(tokens.lengths.astype("<i8").tobytes())
    digest.update(tokens.values.astype("<i4").tobytes())
    return digest.hexdigest()


def _finite_rows(embeddings: npt.NDArray[Any]) -> int:
    return int(np.isfinite(embeddings).all(axis=1).sum())
