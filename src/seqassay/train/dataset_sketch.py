"""How much of a record is found in another split: shares of sampled canonical 31-mers.

A k-mer and its reverse complement are one, named by the smaller of their two codes. Of every ``scale`` different k-mers
one is sampled, always the same ones (FracMinHash: those whose hash is below 2⁶⁴ / scale; Irber et al. 2022,
doi:10.1101/2022.01.11.475838), so that the share of a record's sampled k-mers that the training records hold estimates
the share of all of them. At the default scale a 300-bp contig has about 13 sampled k-mers, a 10-kb piece 500.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqassay.compiled import compiled
from seqassay.errors import UsageError

K = 31
DEFAULT_SCALE = 20
ByteArray = npt.NDArray[np.uint8]
HashArray = npt.NDArray[np.uint64]
IndexArray = npt.NDArray[np.int64]

_BINS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # upper ends; the first is exactly 0
_CODE = np.full(256, 4, np.uint8)
for _i, _letter in enumerate(b"ACGT"):
    _CODE[_letter] = _i


@dataclass(frozen=True, slots=True)
class Sketches:
    """Sampled k-mers of some records, distinct within each.

    Attributes:
        hashes: ``uint64[n]``, all records' end to end, ascending within a record.
        record: ``int64[n]``, which record each is of.
        n_records: records, those without a sampled k-mer included.
    """

    hashes: HashArray
    record: IndexArray
    n_records: int

    @property
    def counts(self) -> IndexArray:
        """Sampled k-mers of every record, ``int64[n_records]``."""
        return np.bincount(self.record, minlength=self.n_records)

    def shared_with(self, hashes: HashArray) -> IndexArray:
        """How many of every record's k-mers are among ``hashes`` (ascending), ``int64[n_records]``."""
        return np.bincount(self.record[self.is_in(hashes)], minlength=self.n_records)

    def is_in(self, hashes: HashArray) -> npt.NDArray[np.bool_]:
        """Which k-mers are among ``hashes`` (ascending), ``bool[n]``."""
        if not len(hashes):
            return np.zeros(len(self.hashes), np.bool_)
        place = np.minimum(np.searchsorted(hashes, self.hashes), len(hashes) - 1)
        return np.asarray(hashes[place] == self.hashes)


def check_scale(scale: int) -> None:
    """Raise a UsageError for a scale below 1."""
    if scale < 1:
        raise UsageError(f"the sketch scale is {scale}", hint="1 samples every k-mer, 20 one in twenty")


def sketch(sequences: Iterable[ByteArray], *, scale: int = DEFAULT_SCALE) -> Sketches:
    """Sample the k-mers of every sequence (upper-case ASCII); those with an ambiguous base are none.

    Raises:
        UsageError: a scale below 1.
    """
    check_scale(scale)
    limit = np.uint64(2**64 // scale - 1)
    parts = [np.unique(_sampled(_CODE[bases], limit)) for bases in sequences]
    record = np.repeat(np.arange(len(parts), dtype=np.int64), [len(part) for part in parts])
    return Sketches(np.concatenate([*parts, np.zeros(0, np.uint64)]), record, len(parts))


@dataclass(frozen=True, slots=True)
class Overlap:
    """Records of one split, looked for in another.

    Attributes:
        of, within: the two splits, e.g. ``test`` within ``train``.
        share: ``float64[n]``, part of each record's sampled k-mers found there; NaN for a record without any.
    """

    of: str
    within: str
    share: npt.NDArray[np.float64]

    def above(self, limit: float) -> IndexArray:
        """Records that share more than ``limit``, the worst first."""
        over = np.flatnonzero(self.share > limit)  # NaN is above nothing
        return over[np.argsort(-self.share[over], kind="stable")]

    def facts(self, limit: float) -> dict[str, object]:
        """The distribution, for the manifest: counts by share add up to the records measured."""
        measured = self.share[~np.isnan(self.share)]
        bins = np.searchsorted(_BINS, measured, side="left")
        counts = np.bincount(bins, minlength=len(_BINS)).tolist()
        names = ["0", *(f"<={end:g}" for end in _BINS[1:])]
        at = (0.5, 0.95, 0.99)
        quantiles = np.quantile(measured, at).tolist() if len(measured) else [None] * len(at)
        return {
            "of": self.of,
            "within": self.within,
            "records": len(self.share),
            "without_sampled_kmers": int(np.isnan(self.share).sum()),
            "above_limit": int((measured > limit).sum()),
            "mean": _rounded(measured.mean()) if len(measured) else None,
            **{f"p{int(100 * q)}": None if v is None else _rounded(v) for q, v in zip(at, quantiles, strict=True)},
            "max": _rounded(measured.max()) if len(measured) else None,
            "records_by_share": dict(zip(names, counts, strict=True)),
        }


def overlap(of: tuple[str, Sketches], within: tuple[str, Sketches]) -> Overlap:
    """Share of every record's sampled k-mers that any record of the other split holds."""
    (name, sketches), (other_name, other) = of, within
    shared, counts = sketches.shared_with(np.unique(other.hashes)), sketches.counts
    share = np.where(counts > 0, shared / np.maximum(counts, 1), np.nan)
    return Overlap(name, other_name, share)


def sharing_records(sketches: Sketches, offenders: Sketches, which: Sequence[int] | IndexArray) -> IndexArray:
    """Records that hold a sampled k-mer of one of the offenders ``which``: without them these share nothing."""
    is_offender = np.zeros(offenders.n_records, np.bool_)
    is_offender[np.asarray(which, np.int64)] = True
    theirs = np.unique(offenders.hashes[is_offender[offenders.record]])
    return np.unique(sketches.record[sketches.is_in(theirs)])


@compiled
def _sampled(codes: ByteArray, limit: np.uint64) -> HashArray:
    """Hashes up to ``limit`` of a sequence's canonical k-mers, in their order along it."""
    # every number is uint64: with a signed one among them numba would compute in floating point
    two, last = np.uint64(2), np.uint64(2 * (K - 1))
    mask, three, one = np.uint64(2 ** (2 * K) - 1), np.uint64(3), np.uint64(1)
    hashes = np.empty(int(len(codes) * (limit / 2.0**64)) + 64, np.uint64)
    forward, backward = np.uint64(0), np.uint64(0)
    n_plain, n_hashes = 0, 0
    for code in codes:
        if code > 3:
            n_plain = 0
            continue
        base = np.uint64(code)
        forward = ((forward << two) | base) & mask
        backward = (backward >> two) | ((three - base) << last)
        n_plain += 1
        if n_plain < K:
            continue
        x = min(forward, backward) + one
        # the finaliser of SplitMix64: every input bit moves every output bit
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
        if x <= limit:
            if n_hashes == len(hashes):
                grown = np.empty(2 * n_hashes, np.uint64)
                grown[:n_hashes] = hashes
                hashes = grown
            hashes[n_hashes] = x
            n_hashes += 1
    return hashes[:n_hashes].copy()


def _rounded(value: float) -> float:
    return round(float(value), 6)
