"""Figures of a sweep in words: mean ± sd with n, ratios as changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from seqassay.report.layout import escaped
from seqassay.report.sweep_points import perplexity_of

MISSING = "–"
# name → header, what a value is divided by, decimals where there is no standard deviation to go by (None: as many as
# three digits need)
COLUMNS: Mapping[str, tuple[str, float, int | None]] = {
    "test_token_perplexity": ("test perplexity", 1.0, 2),
    "valid_token_perplexity": ("valid perplexity", 1.0, 2),
    "test_bits_per_byte": ("test bits/byte", 1.0, 4),
    "valid_bits_per_byte": ("valid bits/byte", 1.0, 4),
    "smallbench_by_average": ("SmallBench", 1.0, 4),
    "parameters": ("parameters", 1.0, 0),
    "embedding_ratio_achieved": ("embedding ratio achieved", 1.0, 4),
    "glu_expansion_achieved": ("GLU expansion achieved", 1.0, 3),
    "training_flop": ("training TFLOP", 1e12, None),
    "training_wall_s": ("training (s)", 1.0, 0),
    "training_tokens_per_s": ("training tokens/s", 1.0, 0),
    "latency_ms": ("latency (ms)", 1.0, None),
    "throughput_tokens_per_s": ("throughput (tokens/s)", 1.0, 0),
    "peak_memory_bytes": ("peak memory (MB)", 1e6, 1),
}
OF_RANKING = (
    "valid_token_perplexity", "test_token_perplexity", "valid_bits_per_byte", "test_bits_per_byte", "parameters",
    "embedding_ratio_achieved", "glu_expansion_achieved", "training_flop", "training_tokens_per_s",
)  # fmt: skip
OF_FINAL = (
    "test_token_perplexity", "valid_token_perplexity", "test_bits_per_byte", "valid_bits_per_byte",
    "smallbench_by_average", "latency_ms", "throughput_tokens_per_s", "peak_memory_bytes", "training_flop",
    "training_tokens_per_s",
)  # fmt: skip


def change(ratio: float) -> str:
    """``8.0% lower``, ``1.2% higher``, ``the same``: a ratio as the change that it is."""
    difference = ratio - 1
    if abs(difference) < 5e-5:
        return "the same"
    digits = 2 if abs(difference) < 0.01 else 1
    return f"{abs(difference):.{digits}%} {'lower' if difference < 0 else 'higher'}"


def ratio_in_words(ratio: Mapping[str, Any] | None, *, together: bool) -> str:
    """``8.0% lower (6.1% lower to 9.9% lower)``."""
    if ratio is None:
        return "not measured"
    ends = ratio["interval_95_together" if together else "interval_95"]
    return change(ratio["value"]) + (f" ({change(ends[0])} to {change(ends[1])})" if ends else " (no interval)")


def spread(figure: Mapping[str, Any] | None, name: str) -> str:
    """``41.23 ± 0.32``; as many decimals as two digits of the standard deviation need."""
    if figure is None:
        return MISSING
    _, unit, decimals = COLUMNS[name]
    value, sd = figure["value"] / unit, (figure["sd"] or 0.0) / unit
    if sd:
        decimals = 1 - math.floor(math.log10(sd))
    elif decimals is None:
        decimals = 2 - math.floor(math.log10(value)) if value else 0
    decimals = max(0, min(6, decimals))
    return f"{value:,.{decimals}f}" + (f" ± {sd:,.{decimals}f}" if sd else "")


def shown_columns(rows: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> list[str]:
    """Figures that at least one row has."""
    return [name for name in wanted if any(row["figures"][name] is not None for row in rows)]


def ranked(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The ranking's experiments, the lowest perplexity first; those without one last."""
    perplexity = perplexity_of(record, "ranking")
    rows = [row for row in record["summary"] if row["stage"] == "ranking"]
    return sorted(rows, key=lambda row: _value(row["figures"][perplexity]))


def finals(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The finalists, in the order of the selection."""
    return [row for row in record["summary"] if row["stage"] == "final"]


def _value(figure: Mapping[str, Any] | None) -> float:
    return math.inf if figure is None else float(figure["value"])


def state(row: Mapping[str, Any]) -> str:
    """What became of an experiment's runs: ``done``, ``killed``, ``2 done, 1 failed``."""
    counts = {status: row[status] for status in ("done", "killed", "failed", "stopped") if row[status]}
    if len(counts) == 1 and sum(counts.values()) == 1:
        return next(iter(counts))
    return ", ".join(f"{n} {status}" for status, n in counts.items())


def unfinished(record: Mapping[str, Any]) -> list[str]:
    """A line for every run that was killed, failed or stopped, with its reason."""
    return [
        f"{run['experiment']} ({run['stage']}, seed {run['seed']}): {run['status']}, {run['why'] or 'not finished'}"
        for run in record["runs"]
        if run["status"] != "done"
    ]


def asked(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a sweep was asked to do."""
    protocol = record["config"]["protocol"]
    seeds = ", ".join(map(str, protocol["final_seeds"]))
    rows = [(f"axis {name}", ", ".join(map(str, values))) for name, values in record["axes"].items()]
    return [
        *rows,
        ("experiments", f"{len(record['experiments'])}, baseline {record['baseline']}"),
        ("ranking", f"{protocol['ranking_tokens']:,} training tokens each, seed {protocol['ranking_seed']}"),
        (
            "kill rule",
            f"dev perplexity at least {protocol['kill_margin']:g} worse than the baseline's over "
            f"{protocol['kill_tokens']:,} tokens",
        ),
        ("final", f"{protocol['final_tokens']:,} training tokens each, seeds {seeds}"),
        (
            "decision",
            f"perplexity at least {protocol['margin']:.0%} lower, which the seeds show, at no worse latency or memory; "
            "where perplexities tie, the faster",
        ),
    ]


def wall_of(record: Mapping[str, Any]) -> str:
    """Which starts the sweep's wall time is of, and what of them it lacks."""
    starts = record.get("starts")
    if starts is None:
        return "of the last start alone"
    n, cut = starts["n"], starts["without_end"]
    said = "in one start" if n == 1 else f"over {n} starts"
    if cut:
        each = "it counts" if cut == 1 else "they count"
        said += (
            f", {cut} of which noted no end (killed, or the disk was full): {each} up to the last mark, made every "
            f"{starts['mark_every_s']:g} s"
        )
    return said + (", without earlier ones that were not noted" if starts["misses_earlier"] else "")


def progress(record: Mapping[str, Any]) -> str:
    """How many runs there are, by stage and status."""
    parts = []
    for stage in ("ranking", "final"):
        rows = [row for row in record["summary"] if row["stage"] == stage]
        if rows:
            counts = {status: sum(row[status] for row in rows) for status in ("done", "killed", "failed", "stopped")}
            said = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
            parts.append(f"{stage}: {sum(counts.values())} runs ({said})")
    return "; ".join(parts)


def decided(record: Mapping[str, Any]) -> str:
    """The decision in a sentence, or how far the sweep is."""
    decision = record["decision"]
    if decision is not None:
        return str(decision["reason"])
    if record["selection"] is None:
        return "Not decided yet: the ranking is not finished."
    return f"Not decided yet: the final of {', '.join(record['selection']['finalists'])} is to come."


def notes(record: Mapping[str, Any]) -> list[str]:
    """What to mind, of the sweep and of its decision."""
    of_decision = record["decision"]["notes"] if record["decision"] else []
    return [escaped(note) for note in [*record["notes"], *of_decision]]
