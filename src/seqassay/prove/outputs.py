"""The folders of the commands that judge: files whole or absent, and ``metrics.json`` last, so that it speaks for all.

What is in an evaluation's folder is written here too; a comparison's and a gate's modules write their own.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seqassay.durable import TEMPORARY_SUFFIX, disk_errors, publish, stage, unstage
from seqassay.errors import MissingExtraError, UsageError
from seqassay.measure.schema import check_schema
from seqassay.predict.consensus import SCORE_DECIMALS
from seqassay.prove.parts import FOLDER as PARTS
from seqassay.prove.scores import ALL_STATUSES, ScoredExamples
from seqassay.prove.test_set import Examples
from seqassay.report.markdown import validation_report
from seqassay.report.validation_plots import draw_validation
from seqassay.train.output_folder import only_writer

METRICS, PREDICTIONS = "metrics.json", "predictions.tsv"
REPORTS, REPORT, PLOTS = "reports", "validation_report.md", "validation_curves.png"
COLUMNS = ("id", "label", "group", "score", "call", "status")
BASELINE_COLUMNS = ("baseline_score", "baseline_call", "baseline_status")
_ROWS_AT_ONCE = 10_000

logger = logging.getLogger(__name__)


def check_place(
    folder: Path, *, force: bool, what: str = "evaluation", resume: bool = False, is_interrupted: bool = False
) -> None:
    """Find before the work what would be in its way afterwards; nothing is touched.

    Args:
        what: is written there.
        resume: what is there is gone on with.
        is_interrupted: what is there can be gone on with.

    Raises:
        UsageError: a file or another folder's content is in the way, or nobody may write there.
    """
    if folder.is_dir():
        content = sorted(path.name for path in folder.iterdir() if not path.name.endswith(TEMPORARY_SUFFIX))
        if content and not force and not resume:
            if is_interrupted or content == [PARTS]:
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


@contextlib.contextmanager
def only_outputs(folder: Path, *, force: bool, what: str) -> Iterator[None]:
    """Keep others out of a folder while its outputs are written, and find what came into it since ``check_place``.

    Raises:
        UsageError: as of ``check_place``; another command is writing there.
        ResourceError: the disk is full.
    """
    with disk_errors(), only_writer(folder):
        check_place(folder, force=force, what=what)
        yield


def write_report_and_record(
    folder: Path,
    name: str,
    report: str,
    record: Mapping[str, Any],
    more: Mapping[str, Iterable[bytes]] | None = None,
    *,
    staged: Iterable[str] = (),
) -> None:
    """Write a report and the record it shows, checked before; other files in the folder are left alone.

    Args:
        name: of the report's file.
        more: files that belong to them, by their place in the folder.
        staged: see ``write_together``.

    Raises:
        ResourceError: the disk is full; what was there stays as it was.
        UsageError: nobody may write there.
    """
    files = {**(more or {}), f"{REPORTS}/{name}": [report.encode("utf-8", "replace")]}
    with disk_errors():
        write_together(folder, files, record, staged=staged)


def write_together(
    folder: Path,
    files: Mapping[str, Iterable[bytes]],
    record: Mapping[str, Any],
    *,
    gone: Iterable[str] = (),
    staged: Iterable[str] = (),
) -> None:
    """Write files of the folder and of its reports and, last, the record that speaks for them; or nothing.

    All are written beside those that were there before, which they replace only when all are whole.

    Args:
        files: what is in them, by their place in the folder.
        gone: places of what an earlier record had and this one doesn't.
        staged: places of files that are whole already under their temporary names; a failure leaves them there.

    Raises:
        OSError: the disk is full, or nobody may write there.
    """
    contents = {folder / place: pieces for place, pieces in files.items()} | {folder / METRICS: [record_bytes(record)]}
    for path in contents:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        for path, pieces in contents.items():
            stage(path, pieces)
    except BaseException:  # a full disk, a stop: what was there stays as it was
        unstage(contents)
        with contextlib.suppress(OSError):
            (folder / REPORTS).rmdir()  # one that is empty would be in the next run's way
        raise
    (folder / METRICS).unlink(missing_ok=True)  # an earlier one, which the files to come don't belong to
    for place in gone:
        (folder / place).unlink(missing_ok=True)
    for path in (*(folder / place for place in staged), *contents):
        publish([path])


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
    plots = f"{REPORTS}/{PLOTS}"
    files: dict[str, Iterable[bytes]] = {
        PREDICTIONS: prediction_rows(examples, candidate, baseline),
        f"{REPORTS}/{REPORT}": [report.encode("utf-8", "replace")],
        **({} if picture is None else {plots: [picture]}),
    }
    write_together(folder, files, record, gone=[plots] if picture is None else [])


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
