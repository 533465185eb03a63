"""The record of gates, ``metrics.json``: checked here before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqassay.durable import write_durably
from seqassay.errors import SeqassayError, UsageError
from seqassay.measure.schema import check_schema
from seqassay.prove.gate import PASSED, UNDECIDED
from seqassay.prove.gates.judge import FAILED, MISSING, overall
from seqassay.prove.gates.records import Record
from seqassay.prove.outputs import METRICS, check_place, only_outputs, record_bytes

FORMAT, VERSION, WHAT = "seqassay-gate", "1.0", "gate record"
VERDICTS = (PASSED, FAILED, UNDECIDED, MISSING)


def check_output_folder(folder: Path, records: list[Record], *, force: bool) -> None:
    """Find before the work what would be in its way afterwards; nothing is touched.

    Raises:
        UsageError: a record that is judged, or another folder's content, is in the way, or nobody may write there.
    """
    for record in records:
        if record.path.resolve() == (folder / METRICS).resolve():
            raise UsageError(f"{folder}: holds a record that is judged", hint="choose another --output-dir")
    check_place(folder, force=force, what=WHAT)


def check_record(record: Mapping[str, Any]) -> None:
    """Everything is as the schema has it, verdicts follow from their results, and counts add up.

    Raises:
        SeqassayError: names the gate (a bug here; nothing is written).
    """
    check_schema(record, "gate")
    gates = record["gates"]
    for gate in gates:
        verdicts = [result["verdict"] for result in gate["results"]]
        if gate["verdict"] != (overall(verdicts) if verdicts else MISSING):
            raise SeqassayError(f"gate {gate['name']!r} came out as {gate['verdict']}, with the results {verdicts}")
    if sum(record["counts"].values()) != len(gates):
        raise SeqassayError(f"verdicts are {sum(record['counts'].values())}, but there are {len(gates)} gates")
    if record["verdict"] != overall([gate["verdict"] for gate in gates]):
        raise SeqassayError(f"all gates came out as {record['verdict']}, with the counts {record['counts']}")


def write_record(folder: Path, record: Mapping[str, Any], *, force: bool) -> None:
    """Write the record; other files in the folder are left alone.

    Raises:
        ResourceError: the disk is full.
        UsageError: nobody may write there; another record came first.
    """
    with only_outputs(folder, force=force, what=WHAT):
        write_durably(folder / METRICS, [record_bytes(record)])
