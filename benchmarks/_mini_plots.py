"""Pictures of the card, drawn from the record alone: accuracy by length, curves, calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqassay.errors import MissingExtraError

try:
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingExtraError("matplotlib", extra="report", purpose="drawing the card's pictures") from error

# Okabe & Ito's colours, which the colour-blind tell apart too; and a marker each.
OURS, RAW = "#0072B2", "#999999"
OTHERS = (("#E69F00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#56B4E9", "v"))
CURVE_LENGTHS = ("150", "300", "1000")
CURVE_STYLES = ("#56B4E9", "#0072B2", "#000000")

mpl.rcParams.update(
    {
        "svg.hashsalt": "seqassay",  # the same record gives the same file
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "legend.frameon": False,
    }
)


def save(figure: Figure, path: Path) -> None:
    """Write an SVG without a date, or whatever else the path's suffix asks for."""
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def accuracy(record: dict[str, Any]) -> Figure:
    """ROC-AUC by length with intervals over taxa: all fragments, and those with a frame; every baseline beside them."""
    by_length = measured(record)
    figure = Figure(figsize=(6.8, 4.0), layout="constrained")
    axes = figure.subplots()
    for population, label, style in (
        ("all", "mini", {"color": OURS, "marker": "o"}),
        (
            "with_frame",
            "mini, with a stop-free frame",
            {"color": OURS, "marker": "o", "mfc": "white", "ls": ":"},
        ),
    ):
        shown = {k: v["populations"][population]["plain"] for k, v in by_length.items() if has_auc(v, population)}
        with_intervals(
            axes,
            [float(k) for k in shown],
            [v["roc_auc"] for v in shown.values()],
            [v["intervals"]["taxa"]["roc_auc"] for v in shown.values()],
            label=label,
            **style,
        )
    # Beside each other, so that their bars can be told apart.
    for i, (name, (colour, marker)) in enumerate(zip(record["baselines"]["names"], OTHERS, strict=False)):
        found = {
            float(k) * 1.03 ** (i + 1): v["populations"]["all"]["plain"]["baselines"][name]["roc_auc"]
            for k, v in by_length.items()
            if name in v["populations"]["all"]["plain"]["baselines"]
        }
        if found:
            values, intervals = [v["value"] for v in found.values()], [v["intervals"]["taxa"] for v in found.values()]
            with_intervals(axes, list(found), values, intervals, label=name, color=colour, marker=marker, ls="--")
    axes.set(xscale="log", xlabel="fragment length (bases)", ylabel="ROC-AUC")
    axes.set_xticks([int(k) for k in by_length], list(by_length))
    axes.minorticks_off()
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def curves(record: dict[str, Any]) -> Figure:
    """ROC and precision-recall curves of all fragments at some lengths."""
    figure = Figure(figsize=(6.8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for length, colour in zip(CURVE_LENGTHS, CURVE_STYLES, strict=True):
        if length not in measured(record):
            continue
        found = record["by_length"][length]["populations"]["all"]
        roc, recall = found["curves"]["roc"], found["curves"]["precision_recall"]
        left.plot(roc["false_positive_rate"], roc["recall"], color=colour, label=f"{length} bases")
        right.plot(recall["recall"], recall["precision"], color=colour, label=f"{length} bases")
    left.plot([0, 1], [0, 1], color=RAW, lw=0.8, ls="--")
    left.set(xlabel="others called viral", ylabel="viral called viral")
    right.set(xlabel="viral called viral (recall)", ylabel="calls that are right (precision)", ylim=(0, 1.02))
    left.legend(loc="lower right", fontsize=8)
    return figure


def calibration(record: dict[str, Any]) -> Figure:
    """Viral share of fragments by their probability, with intervals over records, both labels counted alike."""
    lengths = [length for length in CURVE_LENGTHS if length in measured(record)]
    figure = Figure(figsize=(2.3 * max(len(lengths), 1) + 0.4, 2.8), layout="constrained")
    panels = figure.subplots(1, max(len(lengths), 1), sharey=True, squeeze=False)[0]
    for axes, length in zip(panels, lengths, strict=False):
        found = record["by_length"][length]["calibration"]["class_balanced"]
        axes.plot([0, 1], [0, 1], color=RAW, lw=0.8, ls="--")
        raw, ours = found["raw"]["curve"], found["calibrated"]["curve"]
        axes.plot(raw["mean_probability"], raw["viral_share"], color=RAW, marker=".", ms=4, lw=1, label="before")
        intervals = [list(pair) for pair in zip(ours["viral_share_low"], ours["viral_share_high"], strict=True)]
        with_intervals(
            axes, ours["mean_probability"], ours["viral_share"], intervals, label="calibrated", color=OURS, marker="o"
        )
        axes.set(title=f"{length} bases", xlabel="probability", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    panels[0].set_ylabel("viral share")
    panels[0].legend(loc="upper left", fontsize=8)
    return figure


def measured(record: dict[str, Any]) -> dict[str, Any]:
    """Lengths with figures."""
    return {length: found for length, found in record["by_length"].items() if has_auc(found, "all")}


def has_auc(figures: dict[str, Any], population: str) -> bool:
    """Whether this population has fragments of both labels."""
    return figures["populations"][population].get("plain", {}).get("roc_auc") is not None


def with_intervals(
    axes: Axes, x: list[float], y: list[float], intervals: list[Any], *, label: str, **style: Any
) -> None:
    """A line with error bars where there is an interval."""
    bars = [pair if isinstance(pair, list) else [value, value] for pair, value in zip(intervals, y, strict=True)]
    below = [max(0.0, value - low) for value, (low, _) in zip(y, bars, strict=True)]
    above = [max(0.0, high - value) for value, (_, high) in zip(y, bars, strict=True)]
    axes.errorbar(x, y, yerr=[below, above], label=label, capsize=2, elinewidth=0.8, ms=4, lw=1.2, **style)
