"""What a sweep writes beside its record: tables, pictures, REPORT.md and the page; all of it made from the record."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqassay.durable import write_durably
from seqassay.errors import MissingExtraError
from seqassay.prove.sweep.results import Run
from seqassay.prove.sweep.tables import results_csv, summary_csv
from seqassay.report.html.page import record_page
from seqassay.report.html.records import Record
from seqassay.report.sweep import sweep_report
from seqassay.report.sweep_plots import BY_AXIS, CURVES, FRONT, draw_sweep

RESULTS, SUMMARY, REPORT, PAGE = "results.csv", "summary.csv", "REPORT.md", "report.html"
PICTURES = (BY_AXIS, FRONT, CURVES)
OUTPUTS = frozenset({RESULTS, SUMMARY, REPORT, PAGE, *PICTURES})

logger = logging.getLogger(__name__)


def write_outputs(record: Mapping[str, Any], folder: Path) -> None:
    """Write `OUTPUTS` into the sweep's folder, each whole; those of an earlier record are replaced.

    Raises:
        OSError: the disk is full, or nobody may write there.
    """
    runs = [Run.from_json(said) for said in record["runs"]]
    pictures, why_none = _pictures(record)
    page = record_page([Record("lm_sweep", dict(record), folder / "sweep.json")])
    texts = {
        RESULTS: results_csv(runs),
        SUMMARY: summary_csv(record["summary"]),
        REPORT: sweep_report(record, list(pictures), why_none),
        PAGE: page,
    }
    for name in PICTURES:
        if name not in pictures:
            (folder / name).unlink(missing_ok=True)
    for name, content in {**pictures, **{n: text.encode("utf-8", "replace") for n, text in texts.items()}}.items():
        write_durably(folder / name, [content])


def _pictures(record: Mapping[str, Any]) -> tuple[dict[str, bytes], str]:
    """Where matplotlib is not installed, what to say instead: the page draws its own."""
    try:
        return draw_sweep(record), ""
    except MissingExtraError as error:
        logger.warning("the pictures were not drawn: %s (%s)", error.message, error.hint)
        return {}, f"{error.message}; {error.hint}"
