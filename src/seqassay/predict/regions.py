"""Viral regions of a contig: change points of its score track, and the stretches between them that look viral.

The track's log-odds are cut where their mean changes, by penalised least squares solved exactly (kernel change-point
detection with a linear kernel, PELT; Killick, Fearnhead & Eckley 2012; `ruptures`, Truong, Oudre & Vayatis 2020). A
change has to lower the sum of squares by 3·log(n) times the noise's variance, the modified BIC's price of a change
point (Zhang & Siegmund 2007), and the noise is the contig's own: nothing here is fitted to a bundle. A stretch is
viral when its mean log-odds are above 0, as `predict` calls a sequence.

Measured on bacterial pieces of held-out taxa, alone and with held-out phages put in: see ``docs/scan.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.errors import MissingExtraError
from seqassay.predict.scan_settings import Windows

# A calibration fitted on some thousand sequences knows nothing of odds beyond these; unbounded, one window that a
# model is sure of would outweigh a hundred others in a sum of squares.
MOST_LOG_ODDS = math.log(999)
PRICE_OF_A_CHANGE = 3.0  # times log(n) and the variance of the noise
LEAST_DIFFERENCES = 10  # of windows side by side, to know the noise; a contig with fewer is one stretch
LEAST_NOISE = 0.05  # in log-odds; scores that are all alike have changes of no consequence
# The search takes n² steps in a track without a change: 10,000 windows are a second, and 15 Mb by default.
MOST_WINDOWS = 10_000
_NORMAL_SD_PER_MAD = 1.4826

FloatArray = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of a contig that looks viral.

    Attributes:
        start, end: 0-based half-open, in bases.
        score: mean score of its windows.
        n_windows: windows whose middle is in it.
    """

    start: int
    end: int
    score: float
    n_windows: int


@dataclass(frozen=True, slots=True)
class RegionCaller:
    """Calls the regions of a contig.

    Attributes:
        windows: length and step of the track's windows.
        min_region: bases that a stretch needs to be told from its neighbours, and a region to be written.
    """

    windows: Windows
    min_region: int

    @staticmethod
    def check_library() -> None:
        """Find out before the work whether regions can be called.

        Raises:
            MissingExtraError: with the install command.
        """
        try:
            import ruptures  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("ruptures", extra="scan", purpose="calling viral regions") from error

    def regions(self, start: Int64Array, end: Int64Array, score: FloatArray, contig_length: int) -> list[Region]:
        """All viral regions of a contig, in order, the short ones too; none where no window has a score.

        Args:
            start, end: of the windows, ascending.
            score: of the windows; NaN without one, and a region ends there.
            contig_length: bases.
        """
        is_scored = ~np.isnan(score)
        is_viral = np.zeros(len(score), np.bool_)
        is_viral[is_scored] = self._viral(log_odds(score[is_scored]))
        first, last = cells(start, end, contig_length)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], is_viral, [False]]).astype(np.int8)))
        return [
            Region(int(first[a]), int(last[b - 1]), float(score[a:b].mean()), int(b - a))
            for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
        ]

    def as_record(self) -> dict[str, Any]:
        """How regions are called, for a scan's record."""
        return {
            "method": "change points of the mean log-odds (ruptures.KernelCPD, linear kernel)",
            "penalty": f"{PRICE_OF_A_CHANGE:g} * log(n) * variance of the contig's noise",
            "viral": "mean log-odds above 0",
            "min_region": self.min_region,
        }

    def _viral(self, odds: FloatArray) -> npt.NDArray[np.bool_]:
        """Whether each window lies in a stretch whose mean log-odds are above 0."""
        is_viral = np.zeros(len(odds), np.bool_)
        variance = self._noise_variance(odds)
        for first in range(0, len(odds), MOST_WINDOWS):
            piece = odds[first : first + MOST_WINDOWS]
            begin = first
            for end in self._changes(piece, variance):
                is_viral[begin : first + end] = odds[begin : first + end].mean() > 0
                begin = first + end
        return is_viral

    def _changes(self, odds: FloatArray, variance: float | None) -> list[int]:
        """Ends of the stretches, as window numbers; the last is the number of windows."""
        least = max(round(self.min_region / self.windows.step), 1)
        if variance is None or len(odds) < 2 * least:
            return [len(odds)]
        import ruptures

        search = ruptures.KernelCPD(kernel="linear", min_size=least).fit(odds[:, None])
        ends: list[int] = search.predict(pen=PRICE_OF_A_CHANGE * math.log(len(odds)) * variance)
        return ends

    def _noise_variance(self, odds: FloatArray) -> float | None:
        """Variance of the noise in the sum over overlapping windows; None when there are too few to tell.

        From the median absolute difference of windows that lie side by side, which few changes leave as it is. A
        base is in ``overlap`` windows: that many neighbours vary as one, and so does their sum of squares.
        """
        overlap = max(round(self.windows.length / self.windows.step), 1)
        differences = odds[overlap:] - odds[:-overlap]
        if len(differences) < LEAST_DIFFERENCES:
            return None
        sd = max(_NORMAL_SD_PER_MAD * float(np.median(np.abs(differences))) / math.sqrt(2), LEAST_NOISE)
        return sd * sd * overlap


def log_odds(score: FloatArray) -> FloatArray:
    """Log-odds of probabilities, bounded."""
    least = 1 / (1 + math.exp(MOST_LOG_ODDS))
    bounded = np.clip(score, least, 1 - least)
    odds: FloatArray = np.log(bounded / (1 - bounded))
    return odds


def cells(start: Int64Array, end: Int64Array, contig_length: int) -> tuple[Int64Array, Int64Array]:
    """What each window speaks for: from half-way to the window before to half-way to the next; together the contig."""
    middle = (start + end) // 2
    between = (middle[:-1] + middle[1:]) // 2
    return np.concatenate([[0], between]), np.concatenate([between, [contig_length]])
