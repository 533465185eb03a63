"""Charts as shapes in a plane: the template writes them as inline SVG.

The charts of a page are bars, lines and tracks of a few hundred points. They are drawn by these few functions and not
by matplotlib, because every run of `predict` writes its page: with the base install, without seconds of import, in
text that a screen reader reads and that takes the page's colours, light or dark.

Shapes have classes and no colours (``c0`` is the first series' colour); numbers are in the units of the view box.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 560, 320
WIDE, WIDE_HEIGHT = 1120, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 78.0, 16.0, 12.0, 54.0
_CHARACTER = 9.2  # width of a label's character on a phone, where letters are larger, to make room for labels
_BAR_HEIGHT = 26.0

Point = tuple[float, float | None]


@dataclass(frozen=True, slots=True)
class Rect:
    """A bar or a band; ``tip`` is its tooltip."""

    x: float
    y: float
    width: float
    height: float
    css: str
    tip: str = ""
    kind: str = "rect"


@dataclass(frozen=True, slots=True)
class Path:
    """A line (or an area, by its class)."""

    d: str
    css: str
    kind: str = "path"


@dataclass(frozen=True, slots=True)
class Label:
    """Text; ``anchor`` is start, middle or end."""

    x: float
    y: float
    text: str
    anchor: str = "middle"
    css: str = "label"
    turned: bool = False
    kind: str = "label"


@dataclass(frozen=True)
class Chart:
    """A drawing with what a reader who cannot see it is told.

    Attributes:
        title: what is drawn.
        description: how to read it, and what it shows.
        legend: class and name of each series; empty for one series.
    """

    title: str
    description: str
    width: float
    height: float
    shapes: list[Rect | Path | Label]
    legend: list[tuple[str, str]] = field(default_factory=list)
    is_wide: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """A named line of points; a point without y leaves a gap. Points may carry a band (low, high).

    Attributes:
        name: empty for a line that the legend leaves out.
        joined: whether there is a line, or points alone.
        color: that of another series, by its number; None for one of its own.
        labels: words beside the points.
    """

    name: str
    points: Sequence[Point]
    band: Sequence[tuple[float, float, float]] = ()
    marked: bool = False
    joined: bool = True
    color: int | None = None
    labels: Sequence[str] = ()


class Scale:
    """From figures to places along an axis, with ticks at round figures."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = low, high if high > low else low + 1
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        """The place of a figure."""
        return self._start + (value - self.low) / (self.high - self.low) * (self._end - self._start)

    def ticks(self, most: int = 6) -> list[float]:
        """Round figures from low to high, at most about this many."""
        step = round_step((self.high - self.low) / most)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least this."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def tick_text(value: float) -> str:
    """``0.25``, ``1,500``, ``20k``, ``3M``, ``2G``, ``8T``."""
    if value == 0:
        return "0"
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor * (10 if unit == "k" else 1):
            return f"{value / factor:g}{unit}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{round(value, 10):g}"


def histogram(
    title: str,
    description: str,
    bins: Sequence[str],
    series: Sequence[tuple[str, Sequence[int]]],
    *,
    x_label: str,
    y_label: str,
    edges: Sequence[str] = (),
    stacked: bool = True,
) -> Chart:
    """Bars over bins, stacked or overlaid from the bottom.

    Args:
        bins: each bin in words, for the tooltips.
        series: name and a count for every bin.
        edges: labels of the bins' edges, one more than bins; those that have room are drawn. Without them the bins'
            own words are.
    """
    n = len(bins)
    sums = [sum(values[i] for _, values in series) if stacked else max(v[i] for _, v in series) for i in range(n)]
    x = Scale(0, n, _LEFT, WIDTH - _RIGHT)
    y = Scale(0, max([*sums, 1]) * 1.04, HEIGHT - _BOTTOM, _TOP)
    shapes = _y_axis(y, WIDTH, y_label)
    gap = 1.0 if n <= 60 else 0.0
    for i in range(n):
        base = 0.0
        for number, (name, values) in enumerate(series):
            if values[i]:
                top = y(base + values[i])
                css = f"fill c{number}"
                tip = f"{bins[i]}: {name} {values[i]:,}" if name else f"{bins[i]}: {values[i]:,}"
                shapes.append(Rect(x(i) + gap / 2, top, x(1) - x(0) - gap, y(base) - top, css, tip))
            if stacked:
                base += values[i]
    labels = [(x(i), text) for i, text in enumerate(edges)] or [(x(i + 0.5), text) for i, text in enumerate(bins)]
    shapes += [*_x_labels(labels, HEIGHT - _BOTTOM), _x_title(x_label, WIDTH, HEIGHT)]
    shapes.append(Path(f"M{_LEFT:g} {y(0):.1f}H{WIDTH - _RIGHT:g}", "axis"))
    legend = [(f"c{i}", name) for i, (name, _) in enumerate(series)] if len(series) > 1 else []
    return Chart(title, description, WIDTH, HEIGHT, shapes, legend)


def horizontal_bars(
    title: str,
    description: str,
    names: Sequence[str],
    series: Sequence[tuple[str, Sequence[float]]],
    shown: Sequence[Sequence[str]],
    *,
    x_label: str,
) -> Chart:
    """One group of bars a name, each with its figure beside it.

    Args:
        shown: the figures as text, by series and name.
    """
    left = 12 + _CHARACTER * max(len(name) for name in names)
    right = 16 + _CHARACTER * max(len(text) for texts in shown for text in texts)
    height_of_one = max(_BAR_HEIGHT, 16.0 * len(series) + 8)
    height = _TOP + height_of_one * len(names) + 32
    most = max((value for _, values in series for value in values), default=0.0)
    x = Scale(0, most or 1.0, left, WIDTH - right)
    shapes: list[Rect | Path | Label] = []
    thickness = (height_of_one - 8) / len(series)
    for i, name in enumerate(names):
        top = _TOP + i * height_of_one
        shapes.append(Label(left - 8, top + height_of_one / 2 + 4, name, "end"))
        for number, (series_name, values) in enumerate(series):
            y = top + 4 + number * thickness
            tip = f"{name}: {shown[number][i]}" + (f" ({series_name})" if len(series) > 1 else "")
            shapes.append(Rect(left, y, max(x(values[i]) - left, 0.0), thickness - 1, f"fill c{number}", tip))
            shapes.append(Label(x(values[i]) + 6, y + thickness / 2 + 4, shown[number][i], "start"))
    shapes.append(Path(f"M{left:.1f} {_TOP:g}V{height - 32:.1f}", "axis"))
    shapes.append(Label((left + WIDTH - right) / 2, height - 10, x_label, css="label title"))
    legend = [(f"c{i}", name) for i, (name, _) in enumerate(series)] if len(series) > 1 else []
    return Chart(title, description, WIDTH, height, shapes, legend)


def lines(
    title: str,
    description: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    diagonal: str = "",
    x_ticks: Sequence[tuple[float, str]] = (),
) -> Chart:
    """Lines over a plane.

    Args:
        diagonal: what the line from corner to corner stands for; empty for none.
        x_ticks: places and words along the axis, instead of round figures.
    """
    x_low, x_high = x_range or _extent([point[0] for one in series for point in one.points])
    y_low, y_high = y_range or _extent([p[1] for one in series for p in one.points if p[1] is not None], from_zero=True)
    x = Scale(x_low, x_high, _LEFT, WIDTH - _RIGHT)
    y = Scale(y_low, y_high, HEIGHT - _BOTTOM, _TOP)
    shapes = _y_axis(y, WIDTH, y_label) + _x_axis(x, HEIGHT, x_label, WIDTH, ticks=x_ticks)
    if diagonal:
        shapes.append(Path(f"M{x(x_low):.1f} {y(y_low):.1f}L{x(x_high):.1f} {y(y_high):.1f}", "guide"))
    legend = []
    for number, one in enumerate(series):
        color = number if one.color is None else one.color
        for at, low, high in one.band:
            shapes.append(Path(f"M{x(at):.1f} {y(low):.1f}V{y(high):.1f}", f"whisker c{color}"))
        if one.joined:
            shapes.append(Path(_line(one.points, x, y), f"line c{color}"))
        if one.marked:
            shapes += [Path(_dot(x(px), y(py)), f"fill c{color}") for px, py in one.points if py is not None]
        for (px, py), text in zip(one.points, one.labels, strict=False):
            if py is not None:
                is_left = x(px) < (_LEFT + WIDTH) / 2
                shapes.append(Label(x(px) + (7 if is_left else -7), y(py) - 7, text, "start" if is_left else "end"))
        if one.name:
            legend.append((f"{'line ' if one.joined else ''}c{color}", one.name))
    legend = legend if len(series) > 1 else []
    return Chart(title, description, WIDTH, HEIGHT, shapes, [*legend, *([("guide", diagonal)] if diagonal else [])])


def track(
    title: str,
    description: str,
    points: Sequence[Point],
    band: Sequence[tuple[float, float, float]],
    regions: Sequence[tuple[int, int]],
    *,
    length: int,
    threshold: float,
) -> Chart:
    """A score along a contig, with regions as shaded stretches.

    Args:
        band: position, lowest and highest score, where a point stands for several windows.
        regions: 0-based half-open, in bases.
    """
    x = Scale(0, length, _LEFT, WIDE - _RIGHT)
    y = Scale(0, 1, WIDE_HEIGHT - _BOTTOM, _TOP)
    shapes: list[Rect | Path | Label] = []
    for start, end in regions:
        width = max(x(end) - x(start), 2.0)  # a short region on a long contig is still seen
        tip = f"viral region {start + 1:,} to {end:,}"
        shapes.append(Rect(x(start), _TOP, width, WIDE_HEIGHT - _BOTTOM - _TOP, "region", tip))
    shapes += _y_axis(y, WIDE, "probability of virus") + _x_axis(x, WIDE_HEIGHT, "position (bases)", WIDE, most=12)
    shapes.append(Path(f"M{_LEFT:g} {y(threshold):.1f}H{WIDE - _RIGHT:g}", "guide"))
    if band:
        upper = [f"{x(at):.1f} {y(high):.1f}" for at, _, high in band]
        lower = [f"{x(at):.1f} {y(low):.1f}" for at, low, _ in reversed(band)]
        shapes.append(Path(f"M{'L'.join(upper + lower)}Z", "band c0"))
    shapes.append(Path(_line(points, x, y), "line c0"))
    known = [point for point in points if point[1] is not None]
    if len(known) <= 60:
        shapes += [Path(_dot(x(at), y(score)), "fill c0") for at, score in known if score is not None]
    legend = [("line c0", "score"), ("guide", f"{threshold:g}"), *([("region", "viral region")] if regions else [])]
    return Chart(title, description, WIDE, WIDE_HEIGHT, shapes, legend, is_wide=True)


def _y_axis(y: Scale, width: float, label: str) -> list[Rect | Path | Label]:
    shapes: list[Rect | Path | Label] = []
    for value in y.ticks(5):
        shapes.append(Path(f"M{_LEFT:g} {y(value):.1f}H{width - _RIGHT:g}", "grid"))
        shapes.append(Label(_LEFT - 8, y(value) + 4.5, tick_text(value), "end"))
    shapes.append(Label(16, (y(y.low) + y(y.high)) / 2, label, css="label title", turned=True))
    return shapes


def _x_axis(
    x: Scale, height: float, label: str, width: float, most: int = 6, ticks: Sequence[tuple[float, str]] = ()
) -> list[Rect | Path | Label]:
    bottom = height - _BOTTOM
    shapes: list[Rect | Path | Label] = [Path(f"M{_LEFT:g} {bottom:g}H{width - _RIGHT:g}", "axis")]
    named = ticks or [(value, tick_text(value)) for value in x.ticks(most)]
    shapes += _x_labels([(x(value), text) for value, text in named], bottom)
    return [*shapes, _x_title(label, width, height)]


def _x_labels(labels: Sequence[tuple[float, str]], bottom: float) -> list[Rect | Path | Label]:
    """Labels from the left, each as soon as the one before leaves room."""
    shapes: list[Rect | Path | Label] = []
    free_from = -math.inf
    for at, text in labels:
        if not text:
            continue
        half = _CHARACTER * len(text) / 2
        if at - half < free_from:
            continue
        shapes += [Path(f"M{at:.1f} {bottom:g}v5", "axis"), Label(at, bottom + 20, text)]
        free_from = at + half + 8
    return shapes


def _x_title(text: str, width: float, height: float) -> Label:
    return Label((_LEFT + width - _RIGHT) / 2, height - 10, text, css="label title")


def _line(points: Sequence[Point], x: Scale, y: Scale) -> str:
    """A path through the points, broken where there is none."""
    pieces = []
    for has_value, group in itertools.groupby(points, key=lambda point: point[1] is not None):
        if has_value:
            pieces.append("M" + "L".join(f"{x(at):.1f} {y(value):.1f}" for at, value in group if value is not None))
    return "".join(pieces)


def _dot(x: float, y: float, radius: float = 3.0) -> str:
    half = f"a{radius:g} {radius:g} 0 1 0"
    return f"M{x - radius:.1f} {y:.1f}{half} {2 * radius:g} 0{half} {-2 * radius:g} 0"


def _extent(values: Sequence[float], *, from_zero: bool = False) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if from_zero:
        low, high = min(low, 0.0), high * 1.05 if high > 0 else high
    return (low, high) if high > low else (low, low + 1)
