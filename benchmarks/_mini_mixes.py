"""Samples of known composition: does the false discovery rate that was asked for come out?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from _mini_figures import Resampling, none_or_all_interval, number, share
from seqassay.evaluate.fdr import assurance, estimate_composition, histogram, q_values, ticks_of
from seqassay.evaluate.uncertainty import bootstrap
from seqassay.models.calibration import Calibration
from seqassay.sequences.ragged import Ragged
from seqassay.train.dataset import LabelledChunks, LabelledRecords, reverse_complement

LENGTHS = (300, 1000)
VIRAL_SHARES = (0.01, 0.1, 0.5)
WANTED = (0.01, 0.05, 0.1)

Scores = npt.NDArray[np.float64]


def fdr_mixes(
    records: LabelledRecords,
    score: Callable[[str, Ragged], Scores],
    calibration: Calibration | None,
    resampling: Resampling,
    *,
    size: int,
) -> dict[str, Any]:
    """Estimated composition and true false discovery rates of mixes, by length and viral share.

    A pool is scored once for each length: viral and other fragments, each from a record drawn at random. A mix takes
    as many of both, at random, as its viral share asks for.

    Args:
        score: scores of sequences, given a name for them.
        size: fragments of a mix.
    """
    if calibration is None:
        return {"reason": "the bundle has no calibration, so there is no false discovery rate to ask for"}
    out: dict[str, Any] = {"size": size, "seed": resampling.seed, "by_length": {}}
    for length in LENGTHS:
        rng = np.random.default_rng([resampling.seed, length, 2])
        n_viral, n_other = round(size * max(VIRAL_SHARES)), size - round(size * min(VIRAL_SHARES))
        pool = draw_by_record(records, length, n_viral, n_other, rng)
        scores = score(f"mix_{length}", pool.bases)
        out["by_length"][str(length)] = {
            "records": {
                name: len(np.unique(pool.record[pool.labels == label])) for name, label in (("viral", 1), ("other", 0))
            },
            "others_by_group": count_by(records.groups[pool.record[pool.labels == 0]]),
            "by_viral_share": {
                str(viral_share): mix_figures(
                    pool, scores, drawn(pool.labels, viral_share, size, rng), calibration, resampling
                )
                for viral_share in VIRAL_SHARES
            },
        }
    return out


def mix_figures(
    pool: LabelledChunks,
    scores: Scores,
    rows: npt.NDArray[np.int64],
    calibration: Calibration,
    resampling: Resampling,
) -> dict[str, Any]:
    """One mix: what is estimated of it, and what is true of it."""
    labels, record, ticks = pool.labels[rows], pool.record[rows], ticks_of(scores[rows])
    counts = histogram(ticks)
    composition = estimate_composition(counts, calibration.prior)
    q = q_values(counts, composition)
    scored = ticks >= 0
    q_of = np.where(scored, q[ticks], np.inf)
    out: dict[str, Any] = {
        "n": len(rows),
        "n_scored": int(scored.sum()),
        "viral_share": share(labels == 1),
        "viral_share_of_scored": share(labels[scored] == 1),
        "estimated_viral_share": number(composition.viral_share),
        "estimated_interval": [number(value) for value in composition.interval_95],
        "called_at_0.5": called_figures(labels, record, scores[rows] >= 0.5, resampling),
        "by_wanted_rate": {},
    }
    for wanted in WANTED:
        vouched = assurance(
            counts,
            composition,
            wanted,
            n_calibration_others=calibration.n_others,
            held_out_rate=calibration.held_out_rate(wanted, float(pool.bases.lengths[rows].mean())),
        )
        out["by_wanted_rate"][str(wanted)] = {
            **called_figures(labels, record, q_of <= wanted, resampling),
            **asdict(vouched),
        }
    return out


def called_figures(
    labels: npt.NDArray[np.int64],
    record: npt.NDArray[np.int64],
    called: npt.NDArray[np.bool_],
    resampling: Resampling,
) -> dict[str, Any]:
    """Number of calls, their true false discovery rate with its interval over records, and the recall."""
    out: dict[str, Any] = {"n_called": int(called.sum()), "recall": share(called[labels == 1])}
    out["false_discovery_rate"] = share(labels[called] == 0)
    false = labels[called] == 0
    if called.any() and (false.all() or not false.any()):
        out["false_discovery_rate_interval"] = none_or_all_interval(bool(false.any()), record[called])
    elif called.any():
        found = bootstrap(
            labels, {"calls": called}, record, n_samples=resampling.n_samples, seed=resampling.seed
        ).interval("precision", "calls")
        interval = {"reason": found.reason} if found.reason else [number(1 - found.high), number(1 - found.low)]
        out["false_discovery_rate_interval"] = interval
    return out


def draw_by_record(
    records: LabelledRecords, length: int, n_viral: int, n_other: int, rng: np.random.Generator
) -> LabelledChunks:
    """Fragments at random places and strands of records drawn at random, each record of a label as likely."""
    lengths, offsets = records.bases.lengths, records.bases.offsets
    chosen = [
        rng.choice(np.flatnonzero((records.labels == label) & (lengths >= length)), n)
        for label, n in ((1, n_viral), (0, n_other))
    ]
    record = np.concatenate(chosen)
    start = offsets[record] + np.floor(rng.random(len(record)) * (lengths[record] - length + 1)).astype(np.int64)
    table = records.bases.slices(start, np.full(len(record), length, np.int64)).values.reshape(-1, length).copy()
    flip = rng.random(len(record)) < 0.5
    table[flip] = reverse_complement(table[flip])
    bases = Ragged.from_lengths(table.reshape(-1), np.full(len(record), length, np.int64))
    return LabelledChunks(record, records.labels[record], bases)


def drawn(
    labels: npt.NDArray[np.int64], viral_share: float, size: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Members of a mix: ``size`` of the pool, without replacement, the given share of them viral."""
    n_viral = round(size * viral_share)
    viral, other = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    return np.concatenate([rng.permutation(viral)[:n_viral], rng.permutation(other)[: size - n_viral]])


def count_by(names: npt.NDArray[np.str_]) -> dict[str, int]:
    """How often every name occurs."""
    found, n = np.unique(names, return_counts=True)
    return dict(zip(found.tolist(), n.tolist(), strict=True))
