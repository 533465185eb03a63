"""`seqassay gate`: the steps from records and a gates file to a table of verdicts and a record."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

from seqassay.config import settings_as_json
from seqassay.measure.provenance import provenance, utc_now
from seqassay.prove.gates.file import GatesFile, read_gates
from seqassay.prove.gates.judge import judge_all, only, overall
from seqassay.prove.gates.record import FORMAT, VERDICTS, VERSION, check_output_folder, check_record, write_record
from seqassay.prove.gates.records import Record, read_records
from seqassay.prove.gates.settings import GateSettings


def gate(settings: GateSettings) -> dict[str, Any]:
    """Judge every gate on every record that holds its metric; write the record where there is a folder for it.

    Raises:
        UsageError: a gate that the file does not have, a record given twice, something in the output folder's way.
        InputError: a bad gates file (names the line) or a bad record.
    """
    began = time.monotonic()
    file = only(read_gates(settings.gates), settings.only)
    records = read_records([Path(path) for path in settings.records])
    if settings.output_dir is not None:
        check_output_folder(settings.output_dir, records, force=settings.force)
    judged = judge_all(file, records)

    counts = Counter(entry["verdict"] for entry in judged)
    record = _opening(settings, file, records)
    record["gates"] = judged
    record["counts"] = {verdict: counts[verdict] for verdict in VERDICTS}
    record["verdict"] = overall([entry["verdict"] for entry in judged])
    record["wall_s"] = round(time.monotonic() - began, 3)
    check_record(record)
    if settings.output_dir is not None:
        write_record(settings.output_dir, record, force=settings.force)
    return record


def _opening(settings: GateSettings, file: GatesFile, records: list[Record]) -> dict[str, Any]:
    """What was judged, by which gates."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": "gate",
        "written_at": utc_now(),
        "identity": {
            "gates": {"path": str(file.path), "sha256": file.sha256},
            "records": [record.identity() for record in records],
        },
        "settings": settings_as_json(settings),
        "method": {
            "verdict": "a figure and its whole 95% interval on one side of the limit; else UNDECIDED",
            "without_interval": "by the figure alone; a difference that keeps its limit is UNDECIDED",
            "missing": "a gate that no record holds the metric of is MISSING, which fails",
        },
        "provenance": provenance(),
    }
