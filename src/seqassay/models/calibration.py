"""From the evidence of a sequence's frames to a probability of virus: logistic regression with weights by length.

Evidence are mean log-odds: of the joint head over the stop-free frames, of the nucleotide head (in bundles that have
one) over all six frames, and of the joint head over the best frame of every chunk, which in a sequence of many chunks
is mostly the one that codes. More bases carry more evidence than their mean says, so the weights are fitted at some
lengths and interpolated between them in the logarithm of the length; outside, the nearest length's hold. Platt 1999,
with more features than one; fitted on held-out sequences by `seqassay.train.calibrate`.

Along a contig the best frames of a host's own genes move up and down more than the mean over all frames, and short
prophages drown in that: windows of a track are scored by weights of their own, without the best frames' (`for_tracks`).

The probability is that in a sample with the stated share of viral sequences (``prior``); `seqassay.evaluate.fdr`
carries it over to a sample of another composition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_METHOD = "logistic by length"
_KEYS = {"method", "prior", "n_others", "lengths", "framed", "unframed", "held_out"}
_TRACK = "framed_of_tracks"  # in calibrations with best frames
RATES = (0.01, 0.02, 0.05, 0.1, 0.2)  # false discovery rates that are tried on held-out taxa
_MOST_LOG_ODDS = 30.0  # beyond it float64 has no other probability than 0 and 1 to show


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a model says of sequences, before calibration; one entry for every sequence.

    Attributes:
        length: in bases, ``int64``.
        joint: mean log-odds over the stop-free frames; NaN where there is none.
        nucleotide: mean log-odds of the nucleotide head over all frames; NaN where there is no frame or no such head.
        best: mean over the chunks with a stop-free frame of their frames' largest log-odds; NaN where ``joint`` is.
    """

    length: npt.NDArray[np.int64]
    joint: FloatArray
    nucleotide: FloatArray
    best: FloatArray


@dataclass(frozen=True, slots=True)
class Calibration:
    """Weights at some lengths.

    Attributes:
        prior: share of viral sequences that probabilities refer to.
        n_others: sequences of others that it was fitted on, at the length where they are fewest.
        lengths_K: ascending, in bases.
        framed_KC: constant, weights of the joint evidence, of the nucleotide evidence and, where C is 4, of the best
            frames': with a stop-free frame.
        unframed_K2: constant and weight of the nucleotide evidence: without one; None in bundles without that head.
        held_out_RK: of taxa that a fit did not see, the share of others among what would have been called at each of
            `RATES` and lengths, in a sample of the prior's composition; NaN where nothing would have been. None where
            the sequences were too few to leave some out.
        track_K3: as ``framed_KC`` without the best frames, for windows of a track; None where those have no weight.
    """

    prior: float
    n_others: int
    lengths_K: FloatArray
    framed_KC: FloatArray
    unframed_K2: FloatArray | None
    held_out_RK: FloatArray | None = None
    track_K3: FloatArray | None = None

    def for_tracks(self) -> Calibration:
        """The calibration of windows along a contig."""
        return self if self.track_K3 is None else replace(self, framed_KC=self.track_K3, track_K3=None)

    def probability(self, evidence: Evidence) -> FloatArray:
        """Probability of virus of every sequence; NaN where the evidence is."""
        weights_NC = self._at(evidence.length, self.framed_KC)
        has_nucleotide = self.unframed_K2 is not None
        nucleotide = evidence.nucleotide if has_nucleotide else np.zeros(len(evidence.joint))
        log_odds = weights_NC[:, 0]
        for column, values in enumerate(
            (evidence.joint, nucleotide, evidence.best)[: weights_NC.shape[1] - 1], start=1
        ):
            log_odds = log_odds + weights_NC[:, column] * values
        if self.unframed_K2 is not None:
            weights_N2 = self._at(evidence.length, self.unframed_K2)
            unframed = weights_N2[:, 0] + weights_N2[:, 1] * evidence.nucleotide
            log_odds = np.where(np.isnan(evidence.joint), unframed, log_odds)
        return 1 / (1 + np.exp(-np.clip(log_odds, -_MOST_LOG_ODDS, _MOST_LOG_ODDS)))

    def held_out_rate(self, fdr: float, length: float) -> float | None:
        """What a wanted false discovery rate came to on held-out taxa, at a length in bases.

        By the nearest of `RATES`, in proportion; interpolated between lengths as the weights are. NaN where nothing
        would have been called; None where it was not measured.
        """
        if self.held_out_RK is None or math.isnan(length):
            return None
        nearest = int(np.abs(np.log(np.array(RATES) / fdr)).argmin())
        found = np.interp(math.log(max(length, 1.0)), np.log(self.lengths_K), self.held_out_RK[nearest])
        return float(found) / RATES[nearest] * fdr

    def _at(self, length: npt.NDArray[np.int64], values_KC: FloatArray) -> FloatArray:
        x, knots = np.log(np.maximum(length, 1)), np.log(self.lengths_K)
        return np.stack([np.interp(x, knots, column) for column in values_KC.T], axis=1)

    def as_json(self) -> dict[str, Any]:
        """As `bundle.json` holds it."""
        of_tracks = {} if self.track_K3 is None else {_TRACK: self.track_K3.tolist()}
        return {
            "method": _METHOD,
            "prior": self.prior,
            "n_others": self.n_others,
            "lengths": self.lengths_K.tolist(),
            "framed": self.framed_KC.tolist(),
            "unframed": None if self.unframed_K2 is None else self.unframed_K2.tolist(),
            "held_out": None if self.held_out_RK is None else _held_out_json(self.held_out_RK),
            **of_tracks,
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Calibration:
        """Read back.

        Raises:
            ValueError: says what is wrong.
        """
        if set(said) - {_TRACK} != _KEYS:
            raise ValueError(f"has the keys {sorted(said)}, expected {sorted(_KEYS)}")
        if said["method"] != _METHOD:
            raise ValueError(f"method is {said['method']!r}; this version knows {_METHOD!r}")
        prior = said["prior"]
        if not isinstance(prior, float) or not 0 < prior < 1:
            raise ValueError(f"prior is {prior!r}, not a share between 0 and 1")
        n_others = said["n_others"]
        if not isinstance(n_others, int) or n_others < 1:
            raise ValueError(f"n_others is {n_others!r}, not a number of sequences")
        lengths_K = _finite("lengths", said["lengths"], (-1,))
        if len(lengths_K) == 0 or lengths_K[0] < 1 or (np.diff(lengths_K) <= 0).any():
            raise ValueError("lengths are not ascending numbers of bases")
        framed_KC = _finite("framed", said["framed"], (len(lengths_K), _columns(said["framed"])))
        unframed = said["unframed"]
        unframed_K2 = None if unframed is None else _finite("unframed", unframed, (len(lengths_K), 2))
        held_out_RK = None if said["held_out"] is None else _held_out(said["held_out"], len(lengths_K))
        of_tracks = said.get(_TRACK)
        track_K3 = None if of_tracks is None else _finite(_TRACK, of_tracks, (len(lengths_K), 3))
        return cls(prior, n_others, lengths_K, framed_KC, unframed_K2, held_out_RK, track_K3)


def _columns(framed: object) -> int:
    """Numbers in a row of ``framed``: four, or three in bundles from before the best frames' weight."""
    first = framed[0] if isinstance(framed, list) and framed else None
    return 3 if isinstance(first, list) and len(first) == 3 else 4


def _held_out_json(held_out_RK: FloatArray) -> dict[str, list[float | None]]:
    return {
        f"{rate:g}": [None if math.isnan(share) else share for share in row]
        for rate, row in zip(RATES, held_out_RK.tolist(), strict=True)
    }


def _held_out(said: object, n_lengths: int) -> FloatArray:
    if not isinstance(said, Mapping) or list(said) != [f"{rate:g}" for rate in RATES]:
        raise ValueError(f"held_out does not have the rates {', '.join(f'{rate:g}' for rate in RATES)}")
    rows = [[math.nan if share is None else share for share in said[rate]] for rate in said]
    held_out_RK = np.array(rows, np.float64)
    known = held_out_RK[~np.isnan(held_out_RK)]
    if held_out_RK.shape != (len(RATES), n_lengths) or ((known < 0) | (known > 1)).any():
        raise ValueError(f"held_out is not a share for each of {n_lengths} lengths")
    return held_out_RK


def log_odds_of(scores_F2: npt.NDArray[np.float32]) -> FloatArray:
    """Log-odds of virus from P(others), P(virus), bounded where float32 shows one of them as zero."""
    smallest = math.exp(-_MOST_LOG_ODDS)
    logs_F2 = np.log(np.maximum(scores_F2.astype(np.float64), smallest))
    difference: FloatArray = logs_F2[:, 1] - logs_F2[:, 0]
    return difference


def _finite(name: str, value: object, shape: tuple[int, ...]) -> FloatArray:
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is not a table of numbers") from None
    if array.ndim != len(shape) or (-1 not in shape and array.shape != shape) or not np.isfinite(array).all():
        raise ValueError(f"{name} has the shape {array.shape} or a value that is not finite; expected {shape}")
    return array
