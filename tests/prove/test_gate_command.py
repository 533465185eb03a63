"""Gates on records: verdicts by interval, where figures stand, and gates files and records that are refused."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from seqassay.errors import InputError, UsageError
from seqassay.predict.record import RECORD_FORMAT, RECORD_VERSION
from seqassay.prove.compare.record import VERSION as COMPARISON_VERSION
from seqassay.prove.gates.command import gate
from seqassay.prove.gates.criteria import CRITERIA, KINDS
from seqassay.prove.gates.judge import decide
from seqassay.prove.gates.records import Figure, find, read_record
from seqassay.prove.gates.settings import GateSettings
from seqassay.prove.lm.record import VERSION as LM_EVALUATION_VERSION
from seqassay.prove.record import VERSION as EVALUATION_VERSION
from seqassay.report.gates import gate_table


def run_record(**changes: Any) -> dict[str, Any]:
    """A whole record of a run, with made-up figures."""
    digest, tokens = "0" * 64, {"real_tokens": 95, "capacity_tokens": 100}
    names = ("sequences", "classified", "no_frame", "too_short", "no_bases", "scored", "virus", "others", "chunks")
    names += ("chunks_classified", "chunks_virus", "frames", "frames_virus")
    hardware = {"platform": "p", "processor": "p", "cores": 1, "memory_bytes": 1, "cuda_devices": []}
    record = {
        "format": RECORD_FORMAT,
        "version": "1.2",
        "status": "done",
        "error": None,
        "identity": {"seqassay": "0", "bundle": digest, "inputs": ["a"], "shard_size": 1, "device": "cpu"}
        | {"precision": "float32"},
        "settings": {},
        "output_dir": "out",
        "inputs": [{"name": "a", "bytes": 5}],
        "input_digest": digest,
        "bundle": {"name": "b", "digest": digest, "chunk_length": 300},
        "device": "cpu",
        "precision": "float32",
        "counts": dict.fromkeys(names, 9) | dict.fromkeys(("no_frame", "too_short", "no_bases", "others"), 0),
        "calls": {"composition": {"n_scored": 9, "viral_share": 0.67, "interval_95": [0.61, 0.73]}},
        "shards": 1,
        "resumed_sequences": 0,
        "started_at": "2026-01-01T00:00:00+00:00",
        "written_at": "2026-01-01T00:00:00+00:00",
        "wall_s": 12.5,
        "stages": [{"stage": "merging", "seconds": 0.5, "share": 0.1}],
        "loader_wait": {"count": 1, "total_s": 0.1, "mean_s": 0.1, "max_s": 0.1},
        "throughput": {"work_s": 1, "sequences_per_s": 9.0, "tokens_per_s": 95},
        "packing": {**tokens, "efficiency": 0.95}
        | {side: {**tokens, "batches": 1} for side in ("nucleotide", "protein")},
        "memory": {"peak_host_bytes": 1, "peak_device_bytes": None},
        "outputs": [],
        "provenance": {"seqassay": "0", "git_commit": None, "command": "seqassay predict", "python": "3"}
        | {"libraries": {}, "hardware": hardware},
    }
    return record | changes


def packed(efficiency: float) -> dict[str, Any]:
    return run_record()["packing"] | {"efficiency": efficiency}


def judge(tmp_path: Path, gates: str, *records: dict[str, Any], only: tuple[str, ...] = ()) -> dict[str, Any]:
    """Write gates and records, and judge them."""
    (tmp_path / "gates.yaml").write_text(gates)
    paths = []
    for i, record in enumerate(records):
        paths.append(tmp_path / f"{i}.json")
        paths[-1].write_text(json.dumps(record))
    return gate(GateSettings(records=tuple(map(str, paths)), gates=tmp_path / "gates.yaml", only=only))


def figure(value: float | None, *interval: float, is_difference: bool = False, exact: str | None = None) -> Figure:
    ends = (interval[0], interval[1]) if interval else None
    return Figure(value, ends, 10, exact, is_difference, (0.0, 1.0), "")


@pytest.mark.parametrize(
    ("seen", "bound", "limit", "verdict"),
    [
        (figure(0.95, 0.92, 0.97), "at_least", "0.9", "PASSED"),
        (figure(0.95, 0.9, 0.97), "at_least", "0.9", "PASSED"),
        (figure(0.95, 0.9, 0.97), "above", "0.9", "UNDECIDED"),
        (figure(0.95, 0.89, 0.97), "at_least", "0.9", "UNDECIDED"),
        (figure(0.88, 0.85, 0.91), "at_least", "0.9", "UNDECIDED"),
        (figure(0.88, 0.85, 0.89), "at_least", "0.9", "FAILED"),
        (figure(0.88, 0.85, 0.9), "above", "0.9", "FAILED"),
        (figure(0.03, 0.01, 0.05), "at_most", "0.05", "PASSED"),
        (figure(0.03, 0.01, 0.05), "below", "0.05", "UNDECIDED"),
        (figure(0.06, 0.05, 0.07), "below", "0.05", "FAILED"),
        (figure(0.06, 0.05, 0.07), "at_most", "0.05", "UNDECIDED"),
        (figure(0.9), "at_least", "0.9", "PASSED"),
        (figure(0.9), "above", "0.9", "FAILED"),
        (figure(0.01, is_difference=True), "below", "0.05", "UNDECIDED"),
        (figure(0.06, is_difference=True), "below", "0.05", "FAILED"),
        (figure(None), "below", "0.05", "UNDECIDED"),
        # 0.95 - 0.90 is below 0.05 in floating point
        (figure(0.95 - 0.90, 0.04, 0.06, exact="1/20", is_difference=True), "below", "0.05", "UNDECIDED"),
    ],
)
def test_the_verdict_is_of_figure_and_interval(seen: Figure, bound: str, limit: str, verdict: str) -> None:
    assert decide(seen, bound, Fraction(limit))[0] == verdict


def test_every_record_that_holds_the_metric_is_judged(tmp_path: Path) -> None:
    slow = run_record(packing=packed(0.8), wall_s=99)
    text = "gates:\n  packing: {metric: packing_efficiency, above: 0.9}\n  time: {metric: wall_s, below: 100}\n"
    found = judge(tmp_path, text, run_record(), slow)
    assert [[result["verdict"] for result in entry["results"]] for entry in found["gates"]] == [
        ["PASSED", "FAILED"],
        ["PASSED", "PASSED"],
    ]
    assert found["verdict"] == "FAILED"
    assert found["counts"] == {"PASSED": 1, "FAILED": 1, "UNDECIDED": 0, "MISSING": 0}
    assert "time: judged by its value: it has no interval" in gate_table(found)
    assert judge(tmp_path, text, run_record(), slow, only=("time",))["verdict"] == "PASSED"
    with pytest.raises(UsageError, match="has no gate 'tme'"):
        judge(tmp_path, text, run_record(), only=("tme",))


@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_that_no_record_holds_is_missing_and_fails(tmp_path: Path, name: str) -> None:
    held = name in ("wall_time", "packing_efficiency")  # in a run's record of version 1.2
    limit = 1.5 if name.endswith("perplexity") else 0.5
    found = judge(tmp_path, f"gates: {{g: {{metric: {name}, above: {limit}}}}}", run_record())
    assert found["gates"][0]["verdict"] == ("PASSED" if held else "MISSING")
    assert found["verdict"] == ("PASSED" if held else "FAILED")
    assert held or found["gates"][0]["reason"]


def test_the_wall_time_of_a_resumed_run_is_missing(tmp_path: Path) -> None:
    found = judge(tmp_path, "gates: {g: {metric: wall_time, below: 50}}", run_record(resumed_sequences=5))
    assert found["gates"][0]["verdict"] == "MISSING"
    assert "the run was resumed" in gate_table(found)


def test_figures_are_found_with_the_interval_beside_them(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(run_record()))
    record = read_record(tmp_path)
    share = find(record, "calls.composition.viral_share")
    assert share is not None
    assert (share.value, share.interval, share.range) == (0.67, (0.61, 0.73), (0.0, 1.0))
    for place in ("stages.merging.seconds", "stages.0.seconds"):
        seconds = find(record, place)
        assert seconds is not None
        assert (seconds.value, seconds.interval) == (0.5, None)
    assert find(record, "stages.melting.seconds") is None
    with pytest.raises(InputError, match="packing is no figure; there is: real_tokens, capacity_tokens, eff"):
        find(record, "packing")


@pytest.mark.parametrize(
    ("gates", "line", "words"),
    [
        ("", None, "holds no gates"),
        ("gates: {}", None, "holds no gates"),
        pytest.param(f"gates: {'[' * 5000}", None, "is nested too deeply", id="nested"),
        ("gates:\n  a: [", 2, "not YAML"),
        ("gats:\n  a: 1", 2, "'gats' is not known"),
        ("gates:\n  a:\n    metric: wall_time\n    belw: 3", 4, "'belw' is not known"),
        ("gates:\n  a:\n    metric: wall_time", 3, "it has none"),
        ("gates:\n  a: {metric: wall_time, below: 3, above: 1}", 2, "it has below and above"),
        ("gates:\n  a: {below: 3}", 2, "names no metric"),
        ("gates:\n  a: {metric: wall_time, below: 3}\n  a: {metric: scaling, above: 1}", 3, "stands there twice"),
        ("gates:\n  a:\n    metric: wall_time\n    below: '3'", 4, "not a number"),
        ("gates:\n  a:\n    metric: wall_time\n    below: true", 4, "not a number"),
        ("gates:\n  a:\n    metric: wall_time\n    below: .inf", 4, "not a number"),
        ("gates:\n  a:\n    metric: wall_time\n    below: 1e400", 4, "not a number"),
        ("gates:\n  a:\n    metric: packing_efficiency\n    above: 90", 3, "can never be kept"),
        ("gates:\n  a:\n    metric: packing_efficiency\n    at_most: 1", 3, "is kept by every figure"),
        ("gates:\n  a:\n    metric: packing.efficiency\n    below: 0", 3, "can never be kept"),
        ("gates:\n  a:\n    metric: wall_time\n    below: -3", 3, "can never be kept"),
        ("gates:\n  a:\n    metric: packing_eficiency\n    above: 0.9", 3, "no record given holds the metric"),
        ("gates:\n  a:\n    metric: settings.threads\n    above: 0.9", 3, "holds no figure"),
        ("gates:\n  a:\n    metric: wall_s\n    record: rum\n    above: 0.9", 4, "'rum' is not known"),
        ("gates:\n  a:\n    metric: wall_time\n    record: comparison\n    above: 9", 4, "is held by a run"),
        ("gates:\n  a:\n    metric: status\n    above: 0.9", 3, "status is no figure"),
    ],
)
def test_a_wrong_gates_file_is_refused_with_its_line(tmp_path: Path, gates: str, line: int | None, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        judge(tmp_path, gates, run_record())
    assert str(tmp_path / "gates.yaml") in error.value.message
    if line is not None:
        assert f"line {line}" in error.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (json.dumps(run_record())[:90], "is no whole record"),
        ('{"format": NaN}', "NaN is no number"),
        ("[]", "its format is None"),
        (json.dumps(run_record(format="seqassay-scan")), "its format is 'seqassay-scan'"),
        (json.dumps(run_record(version="9.0")), "is of version '9.0'"),
        (json.dumps(run_record(status="stopped")), "the run is stopped"),
        (json.dumps(run_record(packing=packed(3.58))), "packing.efficiency is 3.58, above 1"),
        (json.dumps({k: v for k, v in run_record().items() if k != "counts"}), "the record lacks counts"),
        (json.dumps(run_record(counts=run_record()["counts"] | {"virus": 8})), "the counts don't add up"),
    ],
)
def test_a_record_that_cannot_be_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "run.json").write_text(text)
    (tmp_path / "gates.yaml").write_text("gates: {g: {metric: packing_efficiency, above: 0.9}}")
    with pytest.raises(InputError, match=words):
        gate(GateSettings(records=(str(tmp_path),), gates=tmp_path / "gates.yaml"))


def test_a_record_counts_once_and_is_not_overwritten(tmp_path: Path) -> None:
    text = "gates: {g: {metric: wall_time, below: 50}}"
    with pytest.raises(UsageError, match="is the same record as"):
        judge(tmp_path, text, run_record(), run_record())
    (tmp_path / "metrics.json").write_text(json.dumps(run_record()))
    settings = GateSettings(
        records=(str(tmp_path / "metrics.json"),), gates=tmp_path / "gates.yaml", output_dir=tmp_path, force=True
    )
    with pytest.raises(UsageError, match="holds a record that is judged"):
        gate(settings)


def test_the_versions_written_today_are_read() -> None:
    written = {"evaluation": EVALUATION_VERSION, "comparison": COMPARISON_VERSION, "run": RECORD_VERSION}
    written["lm_evaluation"] = LM_EVALUATION_VERSION
    assert all(version in KINDS[kind][1] for kind, version in written.items())
