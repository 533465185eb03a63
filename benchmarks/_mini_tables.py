"""Tables and figures as the card shows them."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
NONE = "–"


def with_figures(record: Json) -> Json:
    """Lengths whose fragments have both labels."""
    return {k: v for k, v in record["by_length"].items() if "plain" in v["populations"]["all"]}


def best_baselines(record: Json) -> list[tuple[str, str, Json]]:
    """Of every length that has one: the baseline of the highest ROC-AUC, with that figure and ours against it."""
    found = []
    for length, figures in with_figures(record).items():
        of = figures["populations"]["all"]["plain"]["baselines"]
        if of:
            name = max(of, key=lambda name: of[name]["roc_auc"]["value"])
            found.append((length, name, of[name]["roc_auc"]))
    return found


def estimate(found: Json, figure: str, unit: str) -> str:
    """A figure with its interval."""
    if found.get(figure) is None:
        return NONE
    return f"{found[figure]:.3f} ({span(found['intervals'][unit][figure])})"


def span(interval: Any, *, percents: bool = False, signed: bool = False) -> str:
    """An interval; a dash where the record says why there is none."""
    if not isinstance(interval, list) or None in interval:
        return "no interval"
    low, high = interval
    if percents:
        return f"{100 * low:.1f}–{100 * high:.1f}"
    return f"{low:+.3f} to {high:+.3f}" if signed else f"{low:.3f}–{high:.3f}"


def threshold_in_words(record: Json) -> str:
    """Scores that are called viral by default."""
    said = record["threshold"]
    if not isinstance(said, dict):
        return f"score ≥ {0.5 if said == 'argmax' else said:g}"
    steps = ", ".join(
        f"≥ {framed:g} at {length:g} bases ({unframed:g} without a stop-free frame)"
        for length, framed, unframed in zip(said["lengths"], said["framed"], said["unframed"], strict=True)
    )
    return f"score {steps}, interpolated between; outside, the nearest length's"


def percent(share: float | None) -> str:
    """A share in percent."""
    return NONE if share is None else f"{100 * share:.1f}%"


def rate_of(calls: Json) -> str:
    """True false discovery rate of some calls."""
    if not calls["n_called"]:
        return "no call"
    return f"{percent(calls['false_discovery_rate'])} ({span(calls['false_discovery_rate_interval'], percents=True)})"


def error_of(found: Json, composition: str) -> str:
    """Calibration error in one composition."""
    if "calibrated" not in found[composition]:
        return NONE
    return f"{found[composition]['calibrated']['expected_calibration_error']:.3f}"


def speed_in_words(found: Json) -> str:
    """Fragments a second."""
    threads = f"{found['threads']} thread" + ("s" if found["threads"] > 1 else "")
    return f"{found['fragments_per_s']:,.0f} fragments of {found['length']} bases a second on {threads}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
