"""A pipeline benchmark's record (``metrics.json``) as a markdown report, and as the summary on the terminal.

Views only: every number here stands in the record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from seqassay.report.layout import escaped, labelled, provenance_rows, table

UNDEFINED = "undefined"
Show = Callable[[float], str]


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _share(value: float) -> str:
    return f"{value:.1%}" if value >= 0.001 or value == 0 else f"{value:.4%}"


def _bytes(value: float) -> str:
    return f"{value / 2**20:,.1f} MiB"


_VALUES: dict[str, tuple[str, Show]] = {
    "wall_s": ("wall time (s)", _plain),
    "sequences_per_s": ("sequences/s", _plain),
    "tokens_per_s": ("tokens/s", _plain),
    "bases_per_s": ("bases/s", _plain),
    "packing_efficiency": ("packing efficiency", _share),
    "loader_wait_mean_s": ("loader wait, mean (s)", _plain),
    "loader_wait_max_s": ("loader wait, longest (s)", _plain),
    "ready_queue_empty": ("ready queue found empty", _share),
    "ready_queue_full": ("ready queue found full", _share),
    "write_queue_full": ("write queue found full", _share),
    "cpu_utilisation": ("CPU utilisation, whole work", _share),
    "cpu_utilisation_embedding": ("CPU utilisation, embedding", _share),
    "gpu_utilisation": ("GPU utilisation, embedding", _share),
    "gpu_memory_bytes": ("GPU memory in use, most", _bytes),
    "peak_host_bytes": ("peak memory, host", _bytes),
    "peak_device_bytes": ("peak memory, device", _bytes),
    "model_flop_utilisation": ("model FLOP utilisation", _share),
    "energy_j": ("energy (J)", _plain),
    "energy_per_sequence_j": ("energy a sequence (J)", _plain),
    "telemetry_share": ("telemetry, of wall time", _share),
}


def pipeline_summary(record: Mapping[str, Any], folder: str) -> str:
    """What the terminal shows of a finished benchmark."""
    identity, values = record["identity"], record["values"]
    rows = [
        ("input", f"{identity['sequences']:,} sequences, {identity['bases']:,} bases"),
        ("bundle", f"{identity['bundle']['name']} {identity['bundle']['digest'][:12]}"),
        ("device", f"{identity['device']}, {identity['precision']}"),
        *((label, _spread(values[name], show)) for name, (label, show) in _VALUES.items()),
    ]
    rows += [
        (f"  {stage['stage']}", f"{_value(stage['seconds'], _plain)} s, {_value(stage['share'], _share)}")
        for stage in record["stages"]
    ]
    rows += [
        (f"{row['workers']} worker{'s' * (row['workers'] > 1)}", _scaling_line(row))
        for row in (record["scaling"] or {}).get("cases", ())
    ]
    if record["sweep"]:
        rows += [(_setting(row), _sweep_line(row)) for row in record["sweep"]["cases"]]
        rows.append(("recommended", f"{_setting(record['sweep']['recommended'])} ({record['sweep']['reason']})"))
    rows.append(("speed-up", _speed_up_line(values["speed_up"])))
    if record["reference"] and record["reference"]["labels"]:
        rows.append(("same labels", _labels_line(record["reference"]["labels"])))
    rows += [("mind that", note) for note in record["notes"]]
    rows += [("record", f"{folder}/metrics.json"), ("report", f"{folder}/reports/pipeline_benchmark.md")]
    return "\n".join(labelled(rows))


def failure_line(record: Mapping[str, Any]) -> str:
    """The cases that failed, with their causes; empty when none did."""
    failed = [case for case in record["cases"] if case["failure"]]
    return "; ".join(f"{case['name']}: {case['failure']['error']}" for case in failed)


def pipeline_report(record: Mapping[str, Any]) -> str:
    """The whole report."""
    identity, values = record["identity"], record["values"]
    inputs = ", ".join(f"`{escaped(entry['name'])}`" for entry in identity["inputs"])
    parts = ["# Pipeline benchmark"]
    if record["notes"]:
        parts.append("\n".join(f"- Mind that {escaped(note)}." for note in record["notes"]))
    parts += [
        "## What was run",
        table(
            ("", ""),
            [
                ("input", f"{inputs}: {identity['sequences']:,} sequences, {identity['bases']:,} bases"),
                ("input digest", f"`{identity['input_digest'][:16]}…`"),
                ("bundle", f"{escaped(identity['bundle']['name'])} `{identity['bundle']['digest'][:16]}…`"),
                ("device", f"{escaped(identity['device'])}, {identity['precision']}"),
                ("main case", next(case["name"] for case in record["cases"] if "main" in case["roles"])),
                ("load average", f"{record['load_average']['before']} before, {record['load_average']['after']} after"),
            ],
        ),
        "## Figures",
        table(
            ("", "median", "least", "most", "n"),
            [(label, *_columns(values[name], show)) for name, (label, show) in _VALUES.items()],
        ),
        *_reasons({label: values[name] for name, (label, _) in _VALUES.items()}),
        "## Stages",
        "Busy seconds; stages of neighbouring shards overlap in time.",
        table(
            ("stage", "seconds", "least", "most", "n", "share"),
            [
                (stage["stage"], *_columns(stage["seconds"], _plain), _value(stage["share"], _share))
                for stage in record["stages"]
            ],
        ),
        *_scaling(record["scaling"]),
        *_sweep(record["sweep"]),
        "## Speed-up",
        *_speed_up(record),
        "## How this was measured",
        "\n".join(f"- {name.replace('_', ' ')}: {escaped(text)}" for name, text in record["method"].items()),
        table(("", ""), provenance_rows(record)),
    ]
    return "\n\n".join(parts) + "\n"


def _scaling(scaling: Mapping[str, Any] | None) -> list[str]:
    if scaling is None:
        return []
    rows = [
        (
            f"{row['workers']}",
            _spread(row["wall_s"], _plain),
            _with_interval(row["speed_up"]),
            _with_interval(row["efficiency"]),
            row["flag"] or "–",
        )
        for row in scaling["cases"]
    ]
    return ["## Scaling", table(("workers", "wall time (s)", "speed-up (95%)", "efficiency (95%)", "flag"), rows)]


def _sweep(sweep: Mapping[str, Any] | None) -> list[str]:
    if sweep is None:
        return []
    rows = [
        (
            _setting(row),
            _spread(row["wall_s"], _plain),
            _value(row["peak_host_bytes"], _bytes),
            _with_interval(row["speed_up"]),
        )
        for row in sweep["cases"]
    ]
    said = [f"**Recommended: {_setting(sweep['recommended'])}** ({escaped(sweep['reason'])})."]
    if sweep["confirmation"]:
        confirmed = sweep["confirmation"]
        said.append(
            f"The fastest of the sweep, {_setting(sweep['fastest'])}, came out at {_with_interval(confirmed)} times "
            f"the current setting's speed in {confirmed['n']} fresh pairs of runs."
        )
    header = ("setting", "wall time (s)", "peak memory", "speed-up over the current (95%)")
    return ["## Sweep", table(header, rows), " ".join(said)]


def _speed_up(record: Mapping[str, Any]) -> list[str]:
    found = record["values"]["speed_up"]
    parts = [f"{_speed_up_line(found)}."]
    reference = record["reference"]
    if reference:
        parts.append(f"Reference procedure: {_spread(reference['wall_s'], _plain)} s.")
        if reference["labels"]:
            parts.append(f"The same labels on {_labels_line(reference['labels'])}.")
        elif reference["why_no_labels"]:
            parts.append(f"Labels were not compared: {escaped(reference['why_no_labels'])}.")
    return [" ".join(parts)]


def _speed_up_line(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return f"{UNDEFINED}: {found['why_undefined']}"
    return f"{_with_interval(found)} over {found['over']}, n {found['n']}"


def _scaling_line(row: Mapping[str, Any]) -> str:
    text = f"{_value(row['wall_s'], _plain)} s, speed-up {_with_interval(row['speed_up'])}"
    return f"{text}, efficiency {_with_interval(row['efficiency'])}" + (f" ({row['flag']})" if row["flag"] else "")


def _sweep_line(row: Mapping[str, Any]) -> str:
    return f"{_value(row['wall_s'], _plain)} s, {_with_interval(row['speed_up'])} times the current setting's speed"


def _setting(row: Mapping[str, Any]) -> str:
    return f"{'batch by device' if row['batch'] is None else 'batch ' + str(row['batch'])}, prefetch {row['prefetch']}"


def _labels_line(labels: Mapping[str, Any]) -> str:
    agreement = labels["agreement"]
    if agreement["value"] is None:
        return f"{UNDEFINED}: {agreement['why_undefined']}"
    low, high = agreement["interval_95"]
    return (
        f"{agreement['value']:.4%} of {labels['frames']:,} frames (95% {low:.2%} to {high:.2%}), "
        f"scores at most {labels['largest_score_difference']:.1e} apart"
    )


def _with_interval(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return UNDEFINED
    interval = found["interval_95"]
    ends = "no interval" if interval is None else f"{interval[0]:.3g} to {interval[1]:.3g}"
    return f"{found['value']:.3g} ({ends})"


def _value(found: Mapping[str, Any], show: Show) -> str:
    return UNDEFINED if found["value"] is None else show(found["value"])


def _spread(found: Mapping[str, Any], show: Show) -> str:
    if found["value"] is None:
        return f"{UNDEFINED}: {found['why_undefined']}"
    if found["n"] == 1:
        return f"{show(found['value'])} (one run)"
    return f"{show(found['value'])} ({show(found['min'])} to {show(found['max'])}, n {found['n']})"


def _columns(found: Mapping[str, Any], show: Show) -> tuple[str, str, str, str]:
    if found["value"] is None:
        return UNDEFINED, "–", "–", "0"
    return show(found["value"]), show(found["min"]), show(found["max"]), str(found["n"])


def _reasons(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [f"- {label}: {escaped(f['why_undefined'])}" for label, f in figures.items() if f["value"] is None]
    return ["Undefined:\n\n" + "\n".join(lines)] if lines else []
