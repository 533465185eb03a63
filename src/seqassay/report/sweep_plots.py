"""The pictures of a sweep as PNG: perplexity along every axis, cost against perplexity, training curves."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from seqassay.errors import require_package
from seqassay.report.sweep_points import (
    COSTS,
    STAGES,
    curves,
    groups_along,
    highlighted,
    labels,
    perplexity_label,
    places,
    positions,
    short,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

BY_AXIS, FRONT, CURVES = "perplexity_by_axis.png", "pareto_front.png", "training_curves.png"
# Okabe & Ito's colours, which the colour-blind tell apart too; markers differ as well.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"
_OTHERS = "#A0A0A0"
_DPI = 110
_LABEL_SIZE = 8


def draw_sweep(record: Mapping[str, Any]) -> dict[str, bytes]:
    """The pictures by the names of their files; one that has nothing to show is left out.

    Raises:
        MissingExtraError: with the install command.
    """
    require_package("matplotlib", extra="report", purpose="drawing a sweep")
    figures = {BY_AXIS: _by_axis(record), FRONT: _fronts(record), CURVES: _curves(record)}
    return {name: _png(figure) for name, figure in figures.items() if figure is not None}


def _by_axis(record: Mapping[str, Any]) -> Figure | None:
    axes, stages = list(record["axes"]), _stages(record)
    if not axes or not stages:
        return None
    figure = _figure(5.2 * len(axes), 3.9 * len(stages))
    panels = figure.subplots(len(stages), len(axes), squeeze=False)
    for row, stage in enumerate(stages):
        for column, axis in enumerate(axes):
            _along(panels[row][column], record, axis, stage)
    return figure


def _along(panel: Axes, record: Mapping[str, Any], axis: str, stage: str) -> None:
    groups = groups_along(record, axis, stage)
    for group in groups:
        color, marker = _COLORS[group.number % len(_COLORS)], _MARKERS[group.number % len(_MARKERS)]
        x, y = [mean[0] for mean in group.means], [mean[1] for mean in group.means]
        panel.plot(x, y, color=color, lw=1.2, label=_label(group.name))
        if stage == "final":
            panel.errorbar(x, y, yerr=[mean[2] or 0.0 for mean in group.means], fmt="none", ecolor=color, capsize=3)
        panel.plot(
            [px for px, _ in group.runs], [py for _, py in group.runs], marker, color=color, ms=5, alpha=0.6, mew=0
        )
    ticks = positions(record["axes"][axis])
    panel.set_xticks([x for x, _ in ticks], [name for _, name in ticks])
    low, high = ticks[0][0], ticks[-1][0]
    panel.set_xlim(low - 0.06 * (high - low or 1), high + 0.06 * (high - low or 1))
    n = {len({run["seed"] for run in record["runs"] if run["stage"] == stage})}
    seeds = "one seed" if n == {1} else f"{n.pop()} seeds, line: mean, bars: sd"
    _finish(panel, f"{stage}: {seeds}", short(axis), perplexity_label(record, stage))
    if any(group.name for group in groups):
        _legend(panel)


def _fronts(record: Mapping[str, Any]) -> Figure | None:
    wanted = [(stage, cost) for stage in STAGES for cost in COSTS if len(places(record, cost, stage)) > 1]
    if not wanted:
        return None
    figure = _figure(4.8 * len(wanted), 4.2)
    names, made_of = labels(record)
    for panel, (stage, cost) in zip(figure.subplots(1, len(wanted), squeeze=False)[0], wanted, strict=True):
        found, named = places(record, cost, stage), highlighted(record)
        front = [place for place in found if place.is_on_front]
        if len(front) > 1:
            panel.step(
                [place.cost for place in front], [place.perplexity for place in front], where="post", color=_OTHERS,
                lw=1, ls="--", label="front: nothing is better in both",
            )  # fmt: skip
        for place in found:
            is_named = place.experiment in named
            i = named.index(place.experiment) if is_named else 0
            color, marker = (_COLORS[i % len(_COLORS)], _MARKERS[i % len(_MARKERS)]) if is_named else (_OTHERS, ".")
            panel.errorbar(
                place.cost, place.perplexity, yerr=place.sd, fmt=marker, color=color, ms=6, capsize=3,
                label=_label(names[place.experiment]) if is_named else None,
            )  # fmt: skip
            if place.is_on_front and not is_named:
                panel.annotate(
                    _label(names[place.experiment], 20), (place.cost, place.perplexity), xytext=(5, 4),
                    textcoords="offset points", fontsize=7, parse_math=False,
                )  # fmt: skip
        panel.margins(0.12)
        panel.xaxis.set_major_formatter(_engineering())
        panel.locator_params(axis="x", nbins=5)
        bars = ", bars: sd" if stage == "final" else ""
        _finish(panel, f"{stage}: cost and quality{bars}", COSTS[cost], perplexity_label(record, stage))
        _legend(panel, made_of)
    return figure


def _curves(record: Mapping[str, Any]) -> Figure | None:
    stages = [stage for stage in STAGES if curves(record, stage)]
    if not stages:
        return None
    figure = _figure(6.4 * len(stages), 4.4)
    named = highlighted(record)
    names, made_of = labels(record)
    for panel, stage in zip(figure.subplots(1, len(stages), squeeze=False)[0], stages, strict=True):
        seen: set[str] = set()
        for curve in curves(record, stage):
            is_named = curve.experiment in named
            i = named.index(curve.experiment) if is_named else 0
            color = _COLORS[i % len(_COLORS)] if is_named else _OTHERS
            name = names[curve.experiment] if is_named else "others"
            x, y = zip(*curve.points, strict=True)
            panel.plot(
                x, y, color=color, lw=1.3 if is_named else 0.9, alpha=0.85, zorder=3 if is_named else 2,
                label=None if name in seen else _label(name),
            )  # fmt: skip
            seen.add(name)
            if curve.status == "killed":
                panel.plot(x[-1], y[-1], "x", color=color, ms=8, label=None if "killed" in seen else "killed")
                seen.add("killed")
        _finish(panel, f"{stage}: dev loss, a line a run", "training tokens", "dev loss (nats per token)")
        panel.xaxis.set_major_formatter(_engineering())
        _legend(panel, made_of)
    return figure


def _stages(record: Mapping[str, Any]) -> list[str]:
    """Those with at least two experiments that were finished."""
    done = {
        stage: {r["experiment"] for r in record["summary"] if r["stage"] == stage and r["done"]} for stage in STAGES
    }
    return [stage for stage, names in done.items() if len(names) > 1]


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _finish(panel: Axes, title: str, x: str, y: str) -> None:
    panel.set_title(title, fontsize=10)
    panel.set_xlabel(x)
    panel.set_ylabel(y)
    panel.grid(color="#E4E4E4", lw=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _engineering() -> EngFormatter:
    """``200k``, ``1.5M``."""
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep="")


def _legend(panel: Axes, title: str = "") -> None:
    entries = panel.legend(
        title=title or None, fontsize=_LABEL_SIZE, title_fontsize=_LABEL_SIZE, framealpha=0.85, edgecolor="none"
    )
    for text in entries.get_texts():
        text.set_parse_math(False)  # an experiment's name is data


def _label(name: str, limit: int = 40) -> str:
    shown = name if len(name) <= limit else f"{name[: limit - 1]}…"
    return shown.lstrip("_") or "all"  # matplotlib leaves names that begin with _ out of a legend


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()
