"""Whether `predict` and the reference procedure gave the same frames the same labels."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from seqassay.errors import SeqassayError
from seqassay.evaluate.uncertainty import share_interval

LEAST_AGREEMENT = 0.99  # of labels; below, the two did not do the same work, and no speed-up is told


def compare_labels(ours: Path, reference: Path) -> dict[str, Any]:
    """Frames, agreement of labels and largest difference of a score.

    Raises:
        SeqassayError: the frames themselves are not the same.
    """
    mine, theirs = _read(ours), _read(reference)
    if mine.keys() != theirs.keys():
        alone = len(mine.keys() - theirs.keys()), len(theirs.keys() - mine.keys())
        raise SeqassayError(
            f"not the same frames: {alone[0]:,} of `predict` alone, {alone[1]:,} of the reference procedure alone"
        )
    n = len(mine)
    same = sum(mine[name][0] == theirs[name][0] for name in mine)
    largest = max(
        (abs(a - b) for name in mine for a, b in zip(mine[name][1:], theirs[name][1:], strict=True)), default=0
    )
    interval = list(share_interval(same, n)) if n else None
    return {
        "frames": n,
        "agreement": {"value": same / n if n else None, "n": n, "interval_95": interval}
        | ({} if n else {"why_undefined": "no sequence has a stop-free frame"}),
        "largest_score_difference": largest,
    }


def _read(path: Path) -> dict[str, tuple[str, float, float]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {row["Sequence_ID"]: (row["Prediction"], float(row["score1"]), float(row["score2"])) for row in rows}
