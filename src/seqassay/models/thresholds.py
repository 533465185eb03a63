"""The score from which a sequence is called virus: by default a property of the bundle.

A short random sequence looks like a viral one more often than a long one does, and one without a stop-free frame is
judged on less. So a bundle may hold a threshold for every length, one for sequences with a stop-free frame and one for
those without, under which made-up sequences are rarely called (`seqassay.train.thresholds` fits them). Between the
lengths they are interpolated in the logarithm of the length, as the calibration's weights are; outside, the nearest
length's holds. Bundles that say ``argmax`` call at 0.5, as VirNucPro does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

ARGMAX = "argmax"  # the class of the higher probability
_ARGMAX_SCORE = 0.5
_METHOD = "made-up sequences by length"
_KEYS = {"method", "made_up_limit", "lengths", "framed", "unframed"}


@dataclass(frozen=True, slots=True)
class CallThresholds:
    """Lowest scores that are called virus.

    Attributes:
        lengths: ascending, in bases; empty where one threshold holds for all.
        framed, unframed: thresholds of sequences with and without a stop-free frame; one of each without lengths.
        made_up_limit: share of made-up sequences that may be called; None for a threshold that wasn't fitted to any.
    """

    lengths: tuple[float, ...]
    framed: tuple[float, ...]
    unframed: tuple[float, ...]
    made_up_limit: float | None = None

    @classmethod
    def at(cls, score: float) -> CallThresholds:
        """One threshold for all sequences."""
        return cls((), (score,), (score,))

    def of(self, lengths: npt.NDArray[np.int64], has_frame: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """The threshold of every sequence.

        Args:
            lengths: in bases.
            has_frame: whether it has a stop-free frame.
        """
        if not self.lengths:
            return np.full(len(lengths), self.framed[0])
        x, knots = np.log(np.maximum(lengths, 1)), np.log(self.lengths)
        return np.where(has_frame, np.interp(x, knots, self.framed), np.interp(x, knots, self.unframed))

    @property
    def rule(self) -> str:
        """How calls are made, in words."""
        lowest, highest = min(self.framed + self.unframed), max(self.framed + self.unframed)
        return f"score >= {lowest:g}" if lowest == highest else f"score >= {lowest:g} to {highest:g}, by length"

    def as_json(self) -> dict[str, Any] | float | str:
        """As `bundle.json` and ``run.json`` hold it."""
        if not self.lengths:
            return ARGMAX if self.framed[0] == _ARGMAX_SCORE else self.framed[0]
        return {
            "method": _METHOD,
            "made_up_limit": self.made_up_limit,
            "lengths": list(self.lengths),
            "framed": list(self.framed),
            "unframed": list(self.unframed),
        }

    @classmethod
    def from_json(cls, said: object) -> CallThresholds:
        """Read back.

        Raises:
            ValueError: says what is wrong.
        """
        if said == ARGMAX:
            return cls.at(_ARGMAX_SCORE)
        if isinstance(said, float) and 0 < said <= 1:
            return cls.at(said)
        if not isinstance(said, Mapping):
            raise ValueError(f"is {said!r}; this version knows {ARGMAX!r}, a score up to 1, and thresholds by length")
        if set(said) != _KEYS:
            raise ValueError(f"has the keys {sorted(said)}, expected {sorted(_KEYS)}")
        if said["method"] != _METHOD:
            raise ValueError(f"method is {said['method']!r}; this version knows {_METHOD!r}")
        limit = said["made_up_limit"]
        if not isinstance(limit, float) or not 0 < limit < 1:
            raise ValueError(f"made_up_limit is {limit!r}, not a share between 0 and 1")
        lengths = _numbers("lengths", said["lengths"])
        if not lengths or lengths[0] < 1 or any(shorter >= longer for shorter, longer in pairwise(lengths)):
            raise ValueError("lengths are not ascending numbers of bases")
        framed, unframed = _numbers("framed", said["framed"]), _numbers("unframed", said["unframed"])
        if not len(framed) == len(unframed) == len(lengths) or not all(0 < score <= 1 for score in framed + unframed):
            raise ValueError(f"has no score above 0 and up to 1 for each of {len(lengths)} lengths")
        return cls(lengths, framed, unframed, limit)


def _numbers(name: str, value: object) -> tuple[float, ...]:
    if not isinstance(value, list) or not all(isinstance(number, float) for number in value):
        raise ValueError(f"{name} is not a list of numbers with a decimal point")
    return tuple(value)
