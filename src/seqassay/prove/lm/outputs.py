"""The files of an evaluation: the record, views of its parts, a summary to read, the history of every timed run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqassay.durable import disk_errors
from seqassay.measure.metrics_log import MetricsLog
from seqassay.prove.lm.pieces import AGAIN
from seqassay.prove.outputs import record_bytes, write_together
from seqassay.report.lm_summary import lm_evaluation_markdown

SUMMARY, SMALLBENCH, LATENCY, THROUGHPUT = (
    "summary.md", "smallbench_results.json", "latency_results.json", "throughput_results.json",
)  # fmt: skip
HISTORY, HISTORY_SUMMARY = "profiling_history.jsonl", "profiling_summary.json"
_OF_PARTS = {SMALLBENCH, LATENCY, THROUGHPUT, HISTORY, HISTORY_SUMMARY}


def write_outputs(folder: Path, record: Mapping[str, Any], log: MetricsLog | None) -> None:
    """Write every file or none, ``metrics.json`` last; files of parts that were left out are removed.

    Raises:
        ResourceError: the disk is full.
        UsageError: nobody may write there.
    """
    contents = {SUMMARY: lm_evaluation_markdown(record).encode("utf-8", "replace")}
    contents |= {name: record_bytes(part) for name, part in result_parts(record).items()}
    if log is not None:
        contents[HISTORY] = log.history()
        contents[HISTORY_SUMMARY] = log.summary_json(by=("part", "shape", "phase"))
    files = {name: [content] for name, content in contents.items()}
    with disk_errors(AGAIN):
        write_together(folder, files, record, gone=_OF_PARTS - files.keys())


def result_parts(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Parts of the record as files of their own, each with what it is of."""
    about = {
        "run_id": record["run"]["id"],
        "written_at": record["written_at"],
        "checkpoint": record["identity"]["checkpoint"],
        "device": record["device"],
    }
    found: dict[str, dict[str, Any]] = {}
    if record["smallbench"] is not None:
        found[SMALLBENCH] = {**about, **record["smallbench"]}
    profiling = record["profiling"] or {}
    for name, parts in ((LATENCY, ("latency", "memory")), (THROUGHPUT, ("throughput", "scaling"))):
        measured = {part: profiling[part] for part in parts if profiling.get(part) is not None}
        if measured:
            found[name] = {**about, "method": profiling["method"], **measured}
    return found
