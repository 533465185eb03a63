"""The folders of the commands that judge: files whole or absent, and ``metrics.json`` last, so that it speaks for all.

What is in an evaluation's folder is written here too; a comparison's and a gate's modules write their own.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seqassay.durable import TEMPORARY_SUFFIX, disk_errors, publish, stage, unstage, write_durably
from seqassay.errors import MissingExtraError, UsageError
from seqassay.measure.schema import check_schema
from seqassay.predict.consensus import SCORE_DECIMALS
from seqassay.prove.parts import FOLDER as PARTS
from seqassay.prove.scores import ALL_STATUSES, ScoredExamples
from seqassay.prove.test_set import Examples
from seqassay.report.markdown import validation_report
from seqassay.report.validation_plots import draw_validation

METRICS, PREDICTIONS = "metrics.json", "predictions.tsv"
REPORTS, REPORT, PLOTS = "reports", "validation_report.md", "validation_curves.png"
COLUMNS = ("id", "label", "group", "score", "call", "status")
BASELINE_COLUMNS = ("baseline_score", "baseline_call", "baseline_status")
_ROWS_AT_ONCE = 10_000

logger = logging.getLogger(__name__)


def check_place(folder: Path, *, force: bool, what: str = "evaluation", resume: bool = False) -> None:
    """Find before the work what would be in its way afterwards; nothing is touched.

    Args:
        what: is written there.
        resume: what is there is gone on with.

    Raises:
        UsageError: a file or another folder's content is in the way, or nobody may write there.
    """
    if folder.is_dir():
        content = sorted(path.name for path in folder.iterdir() if not path.name.endswith(TEMPORARY_SUFFIX))
        if content and not force and not resume:
            if content == [PARTS]:
                raise UsageError(
                    f"{folder}: holds an interrupted {what}",
                    hint="go on with it (--resume), begin again (--force), or choose another --output-dir",
                )
            raise UsageError(
                f"{folder}: the output folder is not empty (it holds {content[0]})",
                hint=f"replace the {what} in it (--force), or choose another --output-dir",
            )
    nearest = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not nearest.is_dir():
        raise UsageError(f"{nearest}: a file is in the way of the output folder", hint="choose another --output-dir")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(f"{folder}: cannot write in {nearest}", hint="choose another --output-dir")


def record_bytes(record: Mapping[str, Any]) -> bytes:
    """A record as its file holds it; a path that was not UTF-8 comes out as escapes."""
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode("utf-8", "backslashreplace")


def write_report_and_record(folder: Path, name: str, report: str, record: Mapping[str, Any]) -> None:
    """Write a report and the record it shows, checked before; other files in the folder are left alone.

    Args:
        name: of the report's file.

    Raises:
        ResourceError: the disk is full.
        UsageError: nobody may write there.
    """
    with disk_errors():
        (folder / REPORTS).mkdir(parents=True, exist_ok=True)
        (folder / METRICS).unlink(missing_ok=True)  # an earlier one, which the report to come doesn't belong to
        write_durably(folder / REPORTS / name, [report.encode("utf-8", "replace")])
        write_durably(folder / METRICS, [record_bytes(record)])


def write_outputs(
    folder: Path,
    record: Mapping[str, Any],
    examples: Examples,
    candidate: ScoredExamples,
    baseline: ScoredExamples | None,
) -> None:
    """Write predictions, report and record, or none of them; other files in the folder are left alone.

    Raises:
        SeqassayError: the record is not as its schema has it (a bug; nothing is written).
        OSError: the disk is full, or nobody may write there.
    """
    check_schema(record, "evaluation")
    picture, why_no_picture = _picture(record)
    report = validation_report(record, None if picture is None else PLOTS, why_no_picture)
    files: dict[Path, Iterable[bytes]] = {
        folder / PREDICTIONS: prediction_rows(examples, candidate, baseline),
        folder / REPORTS / REPORT: [report.encode("utf-8", "replace")],
        **({} if picture is None else {folder / REPORTS / PLOTS: [picture]}),
        folder / METRICS: [record_bytes(record)],
    }
    (folder / REPORTS).mkdir(parents=True, exist_ok=True)
    try:
        for path, pieces in files.items():
            stage(path, pieces)
    except BaseException:  # a full disk, a stop: what was there stays as it was
        unstage(files)
        raise
    (folder / METRICS).unlink(missing_ok=True)  # an earlier evaluation's, which the files to come don't belong to
    if picture is None:
        (folder / REPORTS / PLOTS).unlink(missing_ok=True)
    for path in files:
        publish([path])


def _picture(record: Mapping[str, Any]) -> tuple[bytes | None, str]:
    """The curves drawn; where matplotlib is not installed, what to say instead: the figures do not need it."""
    try:
        return draw_validation(record), ""
    except MissingExtraError as error:
        logger.warning("the curves are in %s, but were not drawn: %s (%s)", METRICS, error.message, error.hint)
        return None, f"Not drawn: {error.message}; {error.hint}"


def prediction_rows(
    examples: Examples, candidate: ScoredExamples, baseline: ScoredExamples | None = None
) -> Iterator[bytes]:
    """One line for every sequence, in the test set's order, with a header line."""
    columns = COLUMNS if baseline is None else (*COLUMNS, *BASELINE_COLUMNS)
    yield ("\t".join(columns) + "\n").encode()
    for first in range(0, len(examples), _ROWS_AT_ONCE):
        rows = range(first, min(first + _ROWS_AT_ONCE, len(examples)))
        lines = []
        for i in rows:
            fields = [examples.ids[i], ("other", "viral")[examples.labels[i]], " ".join(examples.groups[i].split())]
            fields += _called(candidate, i)
            if baseline is not None:
                fields += _called(baseline, i)
            lines.append("\t".join(fields) + "\n")
        yield "".join(lines).encode()


def _called(scores: ScoredExamples, i: int) -> list[str]:
    status = ALL_STATUSES[scores.status[i]]
    if np.isnan(scores.score[i]):
        return ["", "", status]
    return [f"{scores.score[i]:.{SCORE_DECIMALS}f}", "virus" if scores.is_virus[i] else "others", status]
