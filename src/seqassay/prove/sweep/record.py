"""The record of a sweep, ``sweep.json``: written after the ranking and at the end, checked before that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqassay.errors import SeqassayError
from seqassay.measure.schema import check_schema
from seqassay.prove.sweep.results import Run
from seqassay.prove.sweep.tables import summarise

FORMAT, VERSION, KIND = "seqassay-lm-sweep", "1.0", "lm_sweep"
SWEEP_FILE = "sweep.json"


def check_record(record: Mapping[str, Any]) -> None:
    """Everything is as the schema has it, and its parts speak of the same experiments.

    Raises:
        SeqassayError: names the place (a bug here, or a record that was changed).
    """
    check_schema(record, KIND)
    names = [experiment["name"] for experiment in record["experiments"]]
    if len(set(names)) < len(names) or record["baseline"] not in names:
        raise SeqassayError("the record names an experiment twice, or a baseline that is none of them")
    seen: set[tuple[str, str, int]] = set()
    for run in record["runs"]:
        key = (run["experiment"], run["stage"], run["seed"])
        if run["experiment"] not in names or key in seen:
            raise SeqassayError(f"the record has a run of no experiment, or two of one: {key}")
        seen.add(key)
    for name in (record["selection"] or {"finalists": []})["finalists"]:
        if name not in names:
            raise SeqassayError(f"the record has a finalist that is no experiment: {name!r}")
    if record["summary"] != summarise([Run.from_json(run) for run in record["runs"]]):
        raise SeqassayError("the summary is not that of the runs")
