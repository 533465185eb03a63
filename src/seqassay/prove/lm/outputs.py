"""The folder of a language model's evaluation: the report, and ``metrics.json`` last, so that it speaks for all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqassay.durable import disk_errors, write_durably
from seqassay.prove.lm.record import check_record
from seqassay.prove.outputs import METRICS, REPORTS
from seqassay.report.lm_evaluation import lm_evaluation_report

REPORT = "lm_evaluation.md"


def write_outputs(folder: Path, record: Mapping[str, Any]) -> None:
    """Write report and record; other files in the folder are left alone.

    Raises:
        SeqassayError: a figure that cannot be, or a record that is not as its schema has it; nothing is written.
        ResourceError: the disk is full.
        UsageError: nobody may write there.
    """
    check_record(record)
    report = lm_evaluation_report(record)
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    with disk_errors():
        (folder / REPORTS).mkdir(parents=True, exist_ok=True)
        (folder / METRICS).unlink(missing_ok=True)  # an earlier one's, which the report to come doesn't belong to
        write_durably(folder / REPORTS / REPORT, [report.encode("utf-8", "replace")])
        write_durably(folder / METRICS, [f"{text}\n".encode("utf-8", "backslashreplace")])
