"""The log of metrics: figures by hand, history and summary from the same rows."""

from __future__ import annotations

import json
import math

import pytest

from seqassay.errors import SeqassayError
from seqassay.measure.metrics_log import MetricsLog


@pytest.fixture
def log() -> MetricsLog:
    found = MetricsLog()
    for i, seconds in enumerate((2.0, 4.0, 9.0)):
        found.add({"seconds": seconds}, part="latency", phase="timed" if i else "warm-up")
    found.add({"bytes": 7}, part="memory")
    return found


def test_figures_are_of_the_rows_with_these_labels(log: MetricsLog) -> None:
    assert log.values("seconds", part="latency") == [2, 4, 9]
    timed = log.figure("seconds", part="latency", phase="timed")
    assert timed == {"value": 6.5, "n": 2, "sd": pytest.approx(math.sqrt(12.5)), "min": 4, "max": 9}
    assert log.figure("bytes")["sd"] is None
    with pytest.raises(SeqassayError, match="no value of seconds was kept for"):
        log.figure("seconds", part="memory")


def test_history_and_summary_say_the_same(log: MetricsLog) -> None:
    lines = [json.loads(line) for line in log.history().decode().splitlines()]
    assert lines[1] == {"part": "latency", "phase": "timed", "seconds": 4.0} and len(lines) == len(log) == 4
    summary = json.loads(log.summary_json(by=("part", "phase")))
    assert [(group["part"], group.get("phase")) for group in summary] == [
        ("latency", "warm-up"), ("latency", "timed"), ("memory", None)
    ]  # fmt: skip
    assert summary[1]["seconds"]["value"] == 6.5 and "bytes" not in summary[1]
    again = MetricsLog(log.rows())
    again.extend(MetricsLog())
    assert again.history() == log.history()


@pytest.mark.parametrize("value", [math.nan, math.inf, True, None, "1"])
def test_what_is_no_figure_is_not_kept(log: MetricsLog, value: object) -> None:
    with pytest.raises(SeqassayError, match=r"seconds came out as .* [(]part latency[)]"):
        log.add({"seconds": value}, part="latency")  # type: ignore[dict-item]
    assert len(log) == 4
