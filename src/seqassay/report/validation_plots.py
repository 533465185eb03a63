"""The curves of an evaluation's record as one picture: ROC, precision-recall, calibration, spread of the scores."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from seqassay.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe & Ito's colours, which the colour-blind tell apart too; lines differ in their dashes as well.
_CANDIDATE, _BASELINE, _OTHERS, _GUIDE = "#0072B2", "#D55E00", "#E69F00", "#777777"
_DPI = 110
_NAME_CHARACTERS = 40


def draw_validation(record: Mapping[str, Any]) -> bytes:
    """The picture as PNG; where a curve is undefined, its panel says why.

    Raises:
        MissingExtraError: with the install command.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", extra="report", purpose="drawing the curves") from error

    figure = Figure(figsize=(10.0, 9.0), layout="constrained")
    (roc, precision_recall), (calibration, histogram) = figure.subplots(2, 2)
    beside = (record["comparison"] or {}).get("baseline_curves")
    names = [_short(record["identity"]["bundle"]["name"])]
    if beside:
        names.append(_short(record["comparison"]["baseline"]["name"]))
    sets = [record["curves"], *([beside] if beside else [])]
    said = record["test_set"]
    _roc(roc, sets, names)
    _precision_recall(precision_recall, sets, names, share=record["calibration"]["viral_share"])
    _calibration(calibration, record["curves"]["calibration"], calibrated=record["calibration"]["calibrated"])
    _histogram(histogram, record["curves"]["histogram"], record["method"].get("threshold", "argmax"))
    scored = f"{record['scored']['scored']:,} of {said['sequences']:,} sequences of {said['genomes']:,} genomes"
    figure.suptitle(f"{names[0]} on {scored}", fontsize=11, parse_math=False)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a name in another script: boxes do
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def _roc(axes: Axes, sets: list[Mapping[str, Any]], names: list[str]) -> None:
    axes.plot([0, 1], [0, 1], color=_GUIDE, lw=0.8, ls=":", label="chance")
    for curve, name, style in zip((one["roc"] for one in sets), names, _styles(), strict=False):
        if _says_why(axes, curve):
            break
        label = f"{name}, area {curve['area']:.3f}"
        axes.plot(curve["false_positive_rate"], curve["recall"], label=label, **style)
    _square(axes, "ROC", "false-positive rate", "recall", legend="lower right")


def _precision_recall(axes: Axes, sets: list[Mapping[str, Any]], names: list[str], *, share: float) -> None:
    axes.axhline(share, color=_GUIDE, lw=0.8, ls=":", label=f"viral share, {share:.3f}")
    for curve, name, style in zip((one["precision_recall"] for one in sets), names, _styles(), strict=False):
        if _says_why(axes, curve):
            break
        axes.plot(curve["recall"], curve["precision"], label=name, **style)
    _square(axes, "Precision and recall", "recall", "precision", legend="lower left")


def _calibration(axes: Axes, bins: list[Mapping[str, Any]], *, calibrated: bool) -> None:
    axes.plot([0, 1], [0, 1], color=_GUIDE, lw=0.8, ls=":", label="probabilities that hold")
    of_units = [row for row in bins if row["viral_share"]["interval_95"] is not None]
    of_sequences = [row for row in bins if row["viral_share"]["interval_95"] is None]
    for rows, label, marker in (
        (of_units, "95% over units", "o"),
        (of_sequences, "95% over sequences (Wilson)", "s"),
    ):
        if rows:
            y = [row["viral_share"]["value"] for row in rows]
            ends = [row["viral_share"]["interval_95"] or row["wilson_95"] for row in rows]
            below = [max(0.0, value - low) for value, (low, _) in zip(y, ends, strict=True)]
            above = [max(0.0, high - value) for value, (_, high) in zip(y, ends, strict=True)]
            axes.errorbar(
                [row["mean_score"] for row in rows], y, yerr=[below, above],
                color=_CANDIDATE, marker=marker, ms=4, lw=0, elinewidth=1, capsize=2, label=label,
            )  # fmt: skip
    axes.plot(
        [row["mean_score"] for row in bins], [row["viral_share"]["value"] for row in bins], color=_CANDIDATE, lw=1
    )
    title = "Calibration" if calibrated else "Calibration (scores claim no probability)"
    _square(axes, title, "mean score of the bin", "share that is viral", legend="upper left")


def _histogram(axes: Axes, spread: Mapping[str, Any], threshold: str | float | Mapping[str, Any]) -> None:
    edges = spread["edges"]
    for name, color, hatch in (("others", _OTHERS, None), ("viral", _CANDIDATE, "///")):
        axes.stairs(
            spread[name], edges, fill=True, facecolor=color, edgecolor=color, alpha=0.45, hatch=hatch,
            label=f"{name}, {sum(spread[name]):,}",
        )  # fmt: skip
    if isinstance(threshold, Mapping):
        both = [*threshold["framed"], *threshold["unframed"]]
        axes.axvspan(min(both), max(both), color="black", alpha=0.12, lw=0, label="called virus from here, by length")
    else:
        at = 0.5 if threshold == "argmax" else float(threshold)
        axes.axvline(at, color="black", lw=0.8, ls="--", label="called virus from here")
    axes.set(xlim=(0, 1), ylim=(0, None), title="Scores by label", xlabel="score", ylabel="sequences")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, framealpha=0.85, edgecolor="none", loc="upper center")


def _says_why(axes: Axes, curve: Mapping[str, Any]) -> bool:
    """Whether there is no curve; the panel then says why."""
    if "why_undefined" not in curve:
        return False
    axes.text(0.5, 0.5, f"undefined:\n{curve['why_undefined']}", ha="center", va="center", fontsize=9)
    return True


def _square(axes: Axes, title: str, x: str, y: str, *, legend: Any) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), title=title, xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    entries = axes.legend(fontsize=8, framealpha=0.85, edgecolor="none", loc=legend)
    for text in entries.get_texts():
        text.set_parse_math(False)  # a bundle's name is data


def _styles() -> list[dict[str, Any]]:
    return [{"color": _CANDIDATE, "lw": 1.4}, {"color": _BASELINE, "lw": 1.2, "ls": "--"}]


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else name[: _NAME_CHARACTERS - 1] + "…"
