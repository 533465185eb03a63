"""A speed benchmark's record (``metrics.json``) as a markdown report, and as the summary on the terminal.

Views only: every number here stands in the record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from seqassay.report.layout import aligned, escaped, labelled, provenance_rows, sentence, table, verdict

UNDEFINED = "undefined"
NOTHING = "–"
_PROTOCOLS = {"classic": "mean of the runs", "paired": "median of the pairs' runs"}
_UNITS = (("T", 1e12), ("G", 1e9), ("M", 1e6))


def speed_summary(record: Mapping[str, Any], folder: str) -> str:
    """What the terminal shows of a finished benchmark."""
    models = _measured(record)
    rows: list[tuple[str, str]] = [(role, _model_line(model)) for role, model in models.items()]
    if record["baseline_status"]["status"] == "skipped":
        rows.append(("baseline", f"skipped: {record['baseline_status']['reason']}"))
    rows += [("sequences", _sequences_line(record)), ("device", record["device"])]
    rows += [("mind that", note) for note in record["notes"]]
    rows += [
        ("speed-up", _speed_up_line(record)),
        ("gate", f"{record['gate']['verdict']}: {record['gate']['reason']}"),
        ("record", f"{folder}/metrics.json"),
        ("report", f"{folder}/reports/speed_benchmark.md"),
    ]
    lines = labelled(rows)
    n_head = len(models) + (record["baseline_status"]["status"] == "skipped") + 2
    shown = aligned([("", *models), *_table_of_models(record)])
    return "\n".join([*lines[:n_head], "", *shown, "", *lines[n_head:]])


def gate_line(gate: Mapping[str, Any]) -> str:
    """The speed-up with its interval, beside the limit."""
    return f"{_against_limit(gate)} ({gate['reason']})"


def speed_report(record: Mapping[str, Any]) -> str:
    """The whole report."""
    models = _measured(record)
    return (
        "\n\n".join(
            [
                "# Speed benchmark",
                verdict(record["gate"], _against_limit, record["notes"]),
                "## What was measured",
                table(("", *models), _identity_rows(models)),
                _sequences(record),
                "## Start",
                table(("seconds", *models), _start_rows(models)),
                f"Load: {record['method']['load']}. First call: {record['method']['first_call']}. "
                f"Compile: {record['method']['compile']}.",
                "## Classic protocol",
                f"{record['settings']['warm_ups']} warm-ups, then {record['settings']['runs']} timed runs of each "
                "encoder alone; mean ± standard deviation of the runs.",
                table(("", *models), _rate_rows(models, "classic")),
                *_paired(record, models),
                "## The device's measured peak",
                *_peaks(record),
                "## How this was measured",
                _method(record),
            ]
        )
        + "\n"
    )


def _against_limit(gate: Mapping[str, Any]) -> str:
    return f"speed-up {_with_interval(gate)}; it has to be at least {gate['limit']:g}"


def _identity_rows(models: Mapping[str, Any]) -> list[tuple[str, ...]]:
    fields: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "name": lambda m: f"{escaped(m['name'])}{' (random weights)' if m['weights'] == 'random' else ''}",
        "digest": lambda m: f"`{m['digest'][:16]}…`",
        "layers × width, heads": lambda m: f"{m['n_layers']} × {m['d_model']}, {m['n_heads']}",
        "parameters": lambda m: f"{m['n_parameters']:,}",
        "weights": lambda m: f"{_scaled(m['weight_bytes'])}B",
        "number format": lambda m: m["precision"],
        "token budget of a batch": lambda m: f"{m['token_budget']:,}",
        "packing efficiency": lambda m: _share(m["packing_efficiency"]["value"]),
        "tokens a run": lambda m: f"{m['work']['tokens']:,}",
        "operations a run": lambda m: f"{_scaled(m['work']['flop'])}FLOP",
        "embeddings": lambda m: (
            f"{m['embeddings']['finite']['n']:,} × {m['embeddings']['d_model']}, "
            f"{_share(m['embeddings']['finite']['value'])} of them finite"
        ),
    }
    return [(label, *(show(model) for model in models.values())) for label, show in fields.items()]


def _start_rows(models: Mapping[str, Any]) -> list[tuple[str, ...]]:
    labels = {"load_s": "load", "place_s": "place on the device", "compile_s": "compile", "first_call_s": "first call"}
    return [
        (label, *(NOTHING if model[key] is None else f"{model[key]:.3g}" for model in models.values()))
        for key, label in labels.items()
    ]


def _rate_rows(models: Mapping[str, Any], protocol: str) -> list[tuple[str, ...]]:
    shown: dict[str, Callable[[float], str]] = {
        "run_s": lambda v: f"{v:.4g} s",
        "per_sequence_s": lambda v: f"{v * 1e3:.4g} ms",
        "sequences_per_s": _rate,
        "tokens_per_s": _rate,
        "flop_per_s": _scaled,
        "share_of_peak": _share,
    }
    labels = {"run_s": "a run", "per_sequence_s": "a sequence", "sequences_per_s": "sequences/s"}
    labels |= {"tokens_per_s": "tokens/s", "flop_per_s": "FLOP/s", "share_of_peak": "share of the measured peak"}
    return [
        (labels[key], *(_with_spread(model[protocol][key], form) for model in models.values()))
        for key, form in shown.items()
    ]


def _table_of_models(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The terminal's table: start, then both protocols."""
    models = _measured(record)
    rows: list[tuple[str, ...]] = [
        (label, *(f"{model[key]:.3g} s" for model in models.values()))
        for key, label in (("load_s", "load"), ("first_call_s", "first call"))
    ]
    for protocol, centre in _PROTOCOLS.items():
        if all(model[protocol] is not None for model in models.values()):
            n = record["settings"]["runs" if protocol == "classic" else "pairs"]
            rows.append((f"{protocol}, n = {n} ({centre} ± sd)", *([""] * len(models))))
            rows += [(f"  {label}", *cells) for label, *cells in _rate_rows(models, protocol)]
    return rows


def _paired(record: Mapping[str, Any], models: Mapping[str, Any]) -> list[str]:
    if record["pairs"] is None:
        return []
    same = record["same_work"]
    work = (
        "Both embed the same sequences, as the same tokens"
        if same["same_sequences"] and same["same_tokens"]
        else "The two do not embed the same tokens"
    )
    steady = ", ".join(
        f"{role} {'steady' if model['paired']['steady'] else 'never steady'}" for role, model in models.items()
    )
    speed_up, classic = record["values"]["speed_up"], record["values"]["classic_speed_up"]
    return [
        "## Paired protocol",
        f"{record['settings']['pairs']} pairs, each encoder first in half of them, in random order; median ± standard "
        f"deviation of the runs. Before the pairs: {steady}.",
        table(("", *models), _rate_rows(models, "paired")),
        table(
            ("speed-up", "", "95% interval", "n", "lowest to highest"),
            [
                ("by pairs (the verdict)", *_ratio_cells(speed_up)),
                ("by the classic protocol", *_ratio_cells(classic)),
            ],
        ),
        f"{work}. The baseline computes {same['flop_ratio']:.2f} times the candidate's operations.",
        "Ratios of the pairs, in order: " + ", ".join(f"{ratio:.2f}" for ratio in record["pairs"]["ratios"]) + ".",
    ]


def _peaks(record: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            peak["number_format"],
            f"{_scaled(peak['flop_per_s']['value'])}FLOP/s",
            peak["flop_per_s"]["of"],
            f"{peak['flop_per_s']['n']}",
            f"{_scaled(peak['flop_per_s']['min'])}FLOP/s",
        )
        for peak in record["peaks"]
    ]
    best = table(("number format", "best rate", "reached by", "products timed", "lowest rate"), rows)
    return [best, f"{sentence(record['method']['peak'])}."]


def _sequences(record: Mapping[str, Any]) -> str:
    return f"Sequences: {_sequences_line(record)}. SHA-256 of the residues: `{record['sequences']['digest'][:16]}…`."


def _sequences_line(record: Mapping[str, Any]) -> str:
    s = record["sequences"]
    text = f"{s['n']:,} distinct, {s['residues']:,} residues, {s['length_min']:,} to {s['length_max']:,} each (median "
    text += f"{s['length_median']:,.0f}), {s['kind']}"
    if "files" in s:
        text += f" {', '.join(escaped(path) for path in s['files'])}"
        left = {"repeats": s["repeats_left_out"], "without a residue": s["without_residue"]}
        text += "".join(f", {n:,} {what} left out" for what, n in left.items() if n)
    return text


def _method(record: Mapping[str, Any]) -> str:
    method, machine = record["method"], record["machine"]
    load, memory = machine["load_average_1_min"], machine["memory"]
    device_memory = memory["peak_device_bytes"]
    rows = [
        ("a run", method["run"]),
        ("clock", method["clock"]),
        ("classic protocol", method["classic"]),
        ("paired protocol", method["paired"]),
        ("speed-up", method["speed_up"]),
        ("gate", record["gate"]["rule"]),
        ("operations", method["flop"]),
        ("share of the peak", method["share_of_peak"]),
        ("device", record["device"]),
        ("load average (1 minute)", f"{load['before']:.2f} before, {load['after']:.2f} after"),
        ("peak memory", f"{memory['peak_host_bytes'] / 2**30:.2f} GiB host")
        if device_memory is None
        else (
            "peak memory",
            f"{memory['peak_host_bytes'] / 2**30:.2f} GiB host, {device_memory / 2**30:.2f} GiB device",
        ),
        *provenance_rows(record),
    ]
    return table(("", ""), rows)


def _measured(record: Mapping[str, Any]) -> dict[str, Any]:
    return {role: model for role, model in record["models"].items() if model is not None}


def _model_line(model: Mapping[str, Any]) -> str:
    random = "random weights, " if model["weights"] == "random" else ""
    return (
        f"{model['name']} ({random}{model['n_layers']} × {model['d_model']}, {model['n_parameters']:,} parameters, "
        f"{model['precision']})"
    )


def _speed_up_line(record: Mapping[str, Any]) -> str:
    speed_up, classic = record["values"]["speed_up"], record["values"]["classic_speed_up"]
    if speed_up["value"] is None:
        return f"{UNDEFINED}: {speed_up['why_undefined']}"
    return f"{_with_interval(speed_up)}, {speed_up['n']} pairs; by the classic protocol {classic['value']:.2f}"


def _ratio_cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    if entry["value"] is None:
        return UNDEFINED, NOTHING, NOTHING, NOTHING
    interval = entry["interval_95"]
    shown = entry["why_no_interval"] if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"
    return f"{entry['value']:.2f}", f"{shown}", f"{entry['n']}", f"{entry['min']:.2f} to {entry['max']:.2f}"


def _with_interval(entry: Mapping[str, Any]) -> str:
    if entry["value"] is None:
        return UNDEFINED
    interval = entry["interval_95"]
    shown = "no interval" if interval is None else f"95% {interval[0]:.2f} to {interval[1]:.2f}"
    return f"{entry['value']:.2f} ({shown})"


def _with_spread(entry: Mapping[str, Any], form: Callable[[float], str]) -> str:
    spread = "" if entry["sd"] is None else f" ± {form(entry['sd'])}"
    return f"{form(entry['value'])}{spread}"


def _rate(value: float) -> str:
    return f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def _scaled(value: float) -> str:
    for unit, size in _UNITS:
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:,.0f} "


def _share(value: float) -> str:
    """Three digits, more where it would read as all and is not."""
    text = f"{100 * value:.3g}%"
    return text if value >= 1 or text != "100%" else f"{100 * value:.6f}%"
