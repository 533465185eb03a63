"""What a person sees of a run: a live line on a terminal, plain lines elsewhere, and the summary at the end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from seqassay.measure.progress import RunProgress
from seqassay.report.layout import labelled

LIVE_INTERVAL_S = 0.25
PLAIN_INTERVAL_S = 30.0


class ProgressReporter:
    """Shows a ``RunProgress`` from a thread of its own, so that a long shard is no silence.

    On a terminal one line that is drawn again and again; elsewhere a line at once and one every 30 s.
    """

    def __init__(self, progress: RunProgress, console: Console, *, interval_s: float | None = None) -> None:
        self._progress, self._console = progress, console
        self._is_live = console.is_terminal
        self._interval_s = interval_s or (LIVE_INTERVAL_S if self._is_live else PLAIN_INTERVAL_S)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._live: Live | None = None

    def __enter__(self) -> ProgressReporter:
        if self._is_live:
            self._live = Live(Text(progress_line(self._progress)), console=self._console, auto_refresh=False)
            self._live.start()
        else:
            self._console.print(progress_line(self._progress))
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ended.set()
        self._thread.join(5)
        if self._live is not None:
            self._live.update(Text(progress_line(self._progress)), refresh=True)
            self._live.stop()

    def _run(self) -> None:
        while not self._ended.wait(self._interval_s):
            line = progress_line(self._progress)
            if self._live is not None:
                self._live.update(Text(line), refresh=True)
            else:
                self._console.print(line)


class ConsoleLogHandler(logging.Handler):
    """Log lines on the progress line's own console, so that they come above it instead of through it."""

    def __init__(self, console: Console, level: int) -> None:
        super().__init__(level)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record; warnings and worse carry their level's name."""
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        self._console.print(f"seqassay: {level}{record.getMessage()}", style="yellow" if level else "dim")


def error_console() -> Console:
    """Standard error as plain text: no markup, no highlighting, long lines left whole."""
    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def progress_line(progress: RunProgress) -> str:
    """Elapsed time, stage, sequences (in the progress's unit) done, rates and time to go, on one line."""
    done, total, unit = progress.sequences, progress.total_sequences, progress.unit
    counted = f"{done:,} {unit}"
    if total is not None:
        counted = f"{done:,} of {total:,} {unit} ({min(1.0, done / max(total, 1)):.1%})"
    parts = [f"[{clock(progress.elapsed_s)}] {progress.stage}: {counted}"]
    if progress.tokens():
        parts += [f"{_rate(progress.sequences_per_s)} {unit}/s", f"{_rate(progress.tokens_per_s)} tokens/s"]
    if progress.eta_s is not None:
        parts.append(f"ETA {clock(progress.eta_s)}")
    return ", ".join(parts)


def summary(record: Mapping[str, Any]) -> str:
    """The block at the end of a run, from its record (``run.json``) and nothing else."""
    rows = [*_result_rows(record), *_speed_rows(record)]
    rows += [(o["name"], f"{record['output_dir']}/{o['name']} ({_bytes(o['bytes'])})") for o in record["outputs"]]
    rows += [(name, f"{record['output_dir']}/{name}") for name in ("report.html", "run.json")]
    return "\n".join(labelled(rows))


def _result_rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    counts = record["counts"]
    return [
        ("sequences", _count_line(counts)),
        ("calls", f"{counts['virus']:,} virus, {counts['others']:,} others ({record['calls']['rule']})"),
        *_composition_rows(record["calls"]),
        ("frames", f"{counts['frames']:,} without a stop, in {counts['chunks']:,} chunks"),
        ("bundle", f"{record['bundle']['name']} {record['bundle']['digest'][:12]}"),
    ]


def _composition_rows(calls: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of the sample as a whole, and what cannot be told; nothing for bundles without a calibration."""
    if "composition" not in calls:
        return []
    share, (low, high) = calls["composition"]["viral_share"], calls["composition"]["interval_95"]
    rate = calls["false_discovery_rate"]
    if share is None:
        return [("viral share", "no sequence has a score")]
    rows = [("viral share", f"estimated {share:.1%} of the scored (95% {low:.1%} to {high:.1%})")]
    if rate["of_calls"] is not None:
        rows.append(("false calls", f"estimated {rate['of_calls']:.1%} of those called virus"))
    if not rate["can_tell"]:
        rows.append(("not vouched for", f"false discovery rate {rate['wanted']:g}: {rate['reason']}"))
    return rows


def _speed_rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    speed, efficiency, resumed = record["throughput"], record["packing"]["efficiency"], record["resumed_sequences"]
    after = f", after {resumed:,} resumed sequences" if resumed else ""
    rates = f"{_rate(speed['sequences_per_s'])} sequences/s, {_rate(speed['tokens_per_s'])} tokens/s"
    return [
        ("device", f"{record['device']}, {record['precision']}"),
        ("wall time", clock(record["wall_s"]) + after),
        *((f"  {stage['stage']}", f"{stage['seconds']:10.2f} s {stage['share']:7.1%}") for stage in record["stages"]),
        ("throughput", rates),
        ("packing efficiency", "no batches" if efficiency is None else f"{efficiency:.1%}"),
        ("peak memory", _memory_line(record["memory"])),
    ]


def clock(seconds: float) -> str:
    """``h:mm:ss``."""
    whole = int(seconds + 0.5)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _count_line(counts: Mapping[str, int]) -> str:
    n_by_nucleotides = counts["scored"] - counts["classified"]
    parts = [f"{counts['classified']:,} classified"]
    names = (("no_frame", "without a stop-free frame"), ("too_short", "too short"), ("no_bases", "without a base"))
    parts += [f"{counts[name]:,} {words}" for name, words in names if counts[name]]
    if n_by_nucleotides:
        parts[1] += f" ({n_by_nucleotides:,} of them scored by their nucleotides alone)"
    return f"{counts['sequences']:,}: " + ", ".join(parts)


def _memory_line(memory: Mapping[str, int | None]) -> str:
    device = memory["peak_device_bytes"]
    host = _bytes(memory["peak_host_bytes"] or 0)
    return host if device is None else f"{host} host, {_bytes(device)} device"


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.3g}"


def _bytes(n_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.2f} GiB"
