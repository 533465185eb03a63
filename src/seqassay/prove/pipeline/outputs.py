"""The folder of a pipeline benchmark: every file whole or absent, ``metrics.json`` last, so that it speaks for all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqassay.durable import disk_errors, write_durably
from seqassay.prove.outputs import METRICS, REPORTS, check_place
from seqassay.prove.pipeline.record import check_record
from seqassay.report.pipeline import pipeline_report

REPORT = "pipeline_benchmark.md"


def check_output_folder(folder: Path, *, force: bool) -> None:
    """Find before the work what would be in its way afterwards; nothing is touched.

    Raises:
        UsageError: a file or another folder's content is in the way, or nobody may write there.
    """
    check_place(folder, force=force, what="benchmark")


def write_outputs(folder: Path, record: Mapping[str, Any]) -> None:
    """Write report and record; other files in the folder are left alone.

    Raises:
        SeqassayError: a figure that cannot be, or a record that is not as its schema has it; nothing is written.
        ResourceError: the disk is full.
        UsageError: nobody may write there.
    """
    check_record(record)
    report = pipeline_report(record)
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    with disk_errors():
        (folder / REPORTS).mkdir(parents=True, exist_ok=True)
        (folder / METRICS).unlink(missing_ok=True)  # an earlier benchmark's, which the report to come doesn't belong to
        write_durably(folder / REPORTS / REPORT, [report.encode("utf-8", "replace")])
        write_durably(folder / METRICS, [f"{text}\n".encode("utf-8", "backslashreplace")])
