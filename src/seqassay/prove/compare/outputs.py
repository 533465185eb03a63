"""The folder of a comparison: every file whole or absent, and ``metrics.json`` last, so that it speaks for all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.errors import UsageError
from seqassay.measure.schema import check_schema
from seqassay.predict.outputs import CALL_NAMES
from seqassay.prove.compare.embeddings import LEVEL, Embeddings
from seqassay.prove.compare.figures import Mismatches
from seqassay.prove.compare.pairing import Ids, Pairing
from seqassay.prove.compare.tables import Table
from seqassay.prove.outputs import check_place, only_outputs, write_report_and_record
from seqassay.report.comparison import comparison_report

MISMATCHES, REPORT = "mismatches.tsv", "comparison_report.md"
COLUMNS = (
    "level", "kind", "id", "occurrence", "label_a", "label_b", "score_a", "score_b", "difference", "boundary_distance",
)  # fmt: skip
_SCORE_DIGITS = 9  # significant ones: what tells two float32 apart


@dataclass(frozen=True, slots=True)
class Listed:
    """Rows for ``mismatches.tsv``, and how many of each kind there are and were listed."""

    rows: list[tuple[str, ...]]
    counts: list[dict[str, Any]]


def check_output_folder(folder: Path, inputs: Sequence[Path], *, force: bool) -> None:
    """Find before the work what would be in its way afterwards; nothing is touched.

    Raises:
        UsageError: a file or another folder's content is in the way, or nobody may write there.
    """
    if any(folder.resolve() == path.resolve() for path in inputs):
        raise UsageError(f"{folder}: is one of the two sides", hint="choose another --output-dir")
    check_place(folder, force=force, what="comparison")


def list_table(a: Table, b: Table, pairing: Pairing, mismatches: Mismatches, limit: int) -> Listed:
    """Up to ``limit`` rows of each kind: flips, the farthest from the boundary first; missing rows in file order."""

    def paired(kind: str, pairs: Iterable[int], distances: Iterable[float]) -> Iterator[tuple[str, ...]]:
        for i, distance in zip(pairs, distances, strict=False):
            in_a, in_b = int(pairing.in_a[i]), int(pairing.in_b[i])
            scores = float(a.virus_score[in_a]), float(b.virus_score[in_b])
            yield (
                a.level, kind, a.ids.text(in_a), str(pairing.occurrence_a[in_a]),
                _label(a, in_a), _label(b, in_b), *map(_number, (*scores, scores[1] - scores[0], distance)),
            )  # fmt: skip

    def alone(
        kind: str, side: Table, rows: Iterable[int], occurrences: npt.NDArray[np.int32]
    ) -> Iterator[tuple[str, ...]]:
        for row in map(int, rows):
            label, score = _label(side, row), _number(float(side.virus_score[row]))
            labels, scores = ((label, ""), (score, "")) if side is a else (("", label), ("", score))
            yield (side.level, kind, side.ids.text(row), str(occurrences[row]), *labels, *scores, "", "")

    no_distance = [math.nan] * limit
    kinds = {
        "flip": (len(mismatches.flips), paired("flip", mismatches.flips[:limit], mismatches.distance[:limit])),
        **{
            kind: (len(pairs), paired(kind, pairs[:limit], no_distance))
            for kind, pairs in (
                ("called_in_a_alone", mismatches.called_a_alone),
                ("called_in_b_alone", mismatches.called_b_alone),
            )
        },
        "only_in_a": (len(pairing.only_a), alone("only_in_a", a, pairing.only_a[:limit], pairing.occurrence_a)),
        "only_in_b": (len(pairing.only_b), alone("only_in_b", b, pairing.only_b[:limit], pairing.occurrence_b)),
    }
    return Listed(list(chain.from_iterable(rows for _, rows in kinds.values())), _counts(a.level, kinds, limit))


def list_embeddings(a: Embeddings, b: Embeddings, pairing: Pairing, limit: int) -> Listed:
    """Up to ``limit`` sequences that one side lacks, of each side."""

    def alone(kind: str, ids: Ids, rows: Iterable[int], occurrences: npt.NDArray[np.int32]) -> list[tuple[str, ...]]:
        return [(LEVEL, kind, ids.text(int(row)), str(occurrences[row]), *[""] * 6) for row in rows]

    kinds = {
        "only_in_a": (len(pairing.only_a), alone("only_in_a", a.ids, pairing.only_a[:limit], pairing.occurrence_a)),
        "only_in_b": (len(pairing.only_b), alone("only_in_b", b.ids, pairing.only_b[:limit], pairing.occurrence_b)),
    }
    return Listed(list(chain.from_iterable(rows for _, rows in kinds.values())), _counts(LEVEL, kinds, limit))


def write_outputs(folder: Path, record: Mapping[str, Any], rows: Iterable[tuple[str, ...]], *, force: bool) -> None:
    """Write mismatches, report and record, or none of them; other files in the folder are left alone.

    Raises:
        SeqassayError: the record is not as its schema has it (a bug; nothing is written).
        ResourceError: the disk is full; what was there stays as it was.
        UsageError: nobody may write there; another comparison came first.
    """
    check_schema(record, "comparison")
    report = comparison_report(record)
    # an id that was not UTF-8 in its file comes out as the bytes it came in
    lines = (("\t".join(line) + "\n").encode("utf-8", "surrogateescape") for line in chain([COLUMNS], rows))
    with only_outputs(folder, force=force, what="comparison"):
        write_report_and_record(folder, REPORT, report, record, {MISMATCHES: lines})


def _counts(level: str, kinds: Mapping[str, tuple[int, Any]], limit: int) -> list[dict[str, Any]]:
    return [{"level": level, "kind": kind, "n": n, "listed": min(n, limit)} for kind, (n, _) in kinds.items()]


def _label(table: Table, row: int) -> str:
    label = int(table.labels[row])
    return CALL_NAMES[label] if label >= 0 else ""


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.{_SCORE_DIGITS}g}"
