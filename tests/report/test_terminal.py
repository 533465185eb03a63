from __future__ import annotations

import io
import logging
import time
from typing import Any

import pytest
from rich.console import Console

from seqassay.measure.progress import RunProgress
from seqassay.report.terminal import ConsoleLogHandler, ProgressReporter, clock, progress_line, summary


def text_console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, force_terminal=terminal, width=200, highlight=False, markup=False), stream


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (3661, "1:01:01"), (90000, "25:00:00")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_line_says_stage_done_rates_and_time_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("seqassay.measure.progress.time.monotonic", lambda: now[0])
    progress = RunProgress(stage="protein embedding", total_sequences=2_000, tokens=lambda: 50_000)
    progress.begin_work()
    progress.end_shard(1_000)
    now[0] = 10.0
    assert progress_line(progress) == (
        "[0:00:10] protein embedding: 1,000 of 2,000 sequences (50.0%), 100 sequences/s, 5,000 tokens/s, ETA 0:00:10"
    )


def test_a_line_counts_in_the_progress_s_own_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("seqassay.measure.progress.time.monotonic", lambda: now[0])
    progress = RunProgress(stage="protein embedding", unit="windows", tokens=lambda: 50_000)
    progress.begin_work()
    progress.end_shard(1_000)
    now[0] = 10.0
    rates = "100 windows/s, 5,000 tokens/s"
    assert progress_line(progress) == f"[0:00:10] protein embedding: 1,000 windows, {rates}"
    progress.total_sequences = 2_000
    assert "1,000 of 2,000 windows (50.0%)" in progress_line(progress)


def test_an_unknown_total_makes_no_percentage() -> None:
    line = progress_line(RunProgress(stage="loading models"))
    assert "loading models: 0 sequences" in line
    assert "%" not in line
    assert "ETA" not in line


def test_without_a_terminal_a_line_comes_at_once_and_then_at_every_interval() -> None:
    console, stream = text_console(terminal=False)
    progress = RunProgress(stage="reading")
    with ProgressReporter(progress, console, interval_s=0.02):
        assert stream.getvalue().count("\n") == 1
        deadline = time.monotonic() + 10
        while stream.getvalue().count("\n") < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
    lines = stream.getvalue().splitlines()
    assert len(lines) >= 4
    assert all("reading" in line for line in lines)
    assert "\x1b" not in stream.getvalue()


def test_on_a_terminal_the_line_is_drawn_in_place() -> None:
    console, stream = text_console(terminal=True)
    with ProgressReporter(RunProgress(stage="reading"), console, interval_s=0.02):
        time.sleep(0.1)
    assert "\x1b" in stream.getvalue()
    assert stream.getvalue().count("\n") <= 2


def test_warnings_show_their_level_and_text_is_never_markup() -> None:
    console, stream = text_console(terminal=False)
    handler = ConsoleLogHandler(console, logging.WARNING)
    handler.handle(logging.LogRecord("seqassay.x", logging.WARNING, "", 0, "shard [bold]%d[/] is damaged", (3,), None))
    assert stream.getvalue() == "seqassay: warning: shard [bold]3[/] is damaged\n"


@pytest.fixture
def record() -> dict[str, Any]:
    return {
        "output_dir": "out",
        "bundle": {"name": "tiny", "digest": "0123456789abcdef"},
        "device": "cpu (a processor)",
        "precision": "float32",
        "resumed_sequences": 0,
        "wall_s": 61.2,
        "counts": {
            "sequences": 1200, "classified": 1000, "no_frame": 199, "too_short": 1, "no_bases": 0,
            "scored": 1000, "virus": 10, "others": 990, "frames": 1500, "chunks": 1200,
        },
        "calls": {"rule": "score >= 0.5"},
        "stages": [{"stage": "protein embedding", "seconds": 50.0, "share": 0.81}],
        "throughput": {"sequences_per_s": 20.0, "tokens_per_s": 2000.0},
        "packing": {"efficiency": 0.987},
        "memory": {"peak_host_bytes": 3 << 30, "peak_device_bytes": None},
        "outputs": [{"name": "sequences.tsv", "bytes": 2048}],
    }  # fmt: skip


def test_the_summary_shows_what_the_record_says(record: dict[str, Any]) -> None:
    text = summary(record)
    for expected in (
        "1,200: 1,000 classified, 199 without a stop-free frame, 1 too short",
        "10 virus, 990 others (score >= 0.5)",
        "0:01:01",
        "50.00 s   81.0%",
        "20 sequences/s, 2,000 tokens/s",
        "98.7%",
        "3.00 GiB",
        "out/sequences.tsv (2.0 KiB)",
        "tiny 0123456789ab",
    ):
        assert expected in text
    assert "without a base" not in text


def test_the_summary_of_a_run_without_a_batch(record: dict[str, Any]) -> None:
    record["packing"]["efficiency"] = None
    record["resumed_sequences"] = 1200
    assert "no batches" in summary(record)
    assert "after 1,200 resumed sequences" in summary(record)


def test_the_summary_says_what_cannot_be_told(record: dict[str, Any]) -> None:
    record["counts"]["scored"] = 1100
    record["calls"] = {
        "rule": "q_value <= 0.05",
        "composition": {"n_scored": 1100, "viral_share": 0.013, "interval_95": [0.004, 0.02]},
        "false_discovery_rate": {"of_calls": 0.048, "wanted": 0.05, "can_tell": False, "reason": "too rare"},
    }
    text = summary(record)
    for expected in (
        "199 without a stop-free frame (100 of them scored by their nucleotides alone)",
        "(q_value <= 0.05)",
        "estimated 1.3% of the scored (95% 0.4% to 2.0%)",
        "estimated 4.8% of those called virus",
        "false discovery rate 0.05: too rare",
    ):
        assert expected in text
