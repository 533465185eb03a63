"""One picture a contig: the score along it, the called regions shaded."""

from __future__ import annotations

import io
import itertools
import warnings

import numpy as np
import numpy.typing as npt

from seqassay.errors import MissingExtraError

# Okabe & Ito's colours, which the colour-blind tell apart too.
_LINE, _REGION, _THRESHOLD = "#0072B2", "#E69F00", "#000000"
_MOST_POINTS = 4000  # more than a picture has columns: longer tracks are drawn as the range of each bin
_DPI = 150
_MEGABASE, _KILOBASE = 1_000_000, 1_000
_NAME_CHARACTERS = 80


def check_matplotlib() -> None:
    """Find out before the work whether pictures can be drawn.

    Raises:
        MissingExtraError: with the install command.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "matplotlib", extra="scan", purpose="drawing plots (--no-plots does without)"
        ) from error


def draw_track(
    name: str,
    length: int,
    position: npt.NDArray[np.float64],
    score: npt.NDArray[np.float64],
    regions: list[tuple[int, int]],
    threshold: float,
) -> bytes:
    """The picture as PNG.

    Args:
        name: of the contig.
        length: of the contig, in bases.
        position: middle of every window, in bases, ascending.
        score: of every window, 0 to 1; NaN without one, which leaves a gap.
        regions: 0-based half-open.
        threshold: where a dashed line is drawn.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    unit, per_unit = ("Mb", _MEGABASE) if length >= _MEGABASE else ("kb", _KILOBASE)
    figure = Figure(figsize=(9.0, 2.8), layout="constrained")
    axes = figure.subplots()
    for start, end in regions:
        axes.axvspan(start / per_unit, end / per_unit, color=_REGION, alpha=0.35, lw=0)
        # a region narrower than a pixel is still seen on the upper edge
        axes.plot([(start + end) / 2 / per_unit], [1.06], marker="v", color=_REGION, ms=5, clip_on=False)
    is_binned = len(position) > _MOST_POINTS
    if is_binned:
        x, low, middle, high = _binned(position, score)
        axes.fill_between(x / per_unit, low, high, color=_LINE, alpha=0.3, lw=0)
        axes.plot(x / per_unit, middle, color=_LINE, lw=0.8)
    else:
        # a window between two without a score is a point and no line
        axes.plot(position / per_unit, score, color=_LINE, lw=0.8, marker="o", ms=3 if len(position) < 50 else 0.8)
    axes.axhline(threshold, color=_THRESHOLD, lw=0.8, ls="--")
    axes.set(xlim=(0, length / per_unit), ylim=(-0.02, 1.02))
    axes.set_xlabel(f"position ({unit})")
    axes.set_ylabel("probability of virus")
    shown = name if len(name) <= _NAME_CHARACTERS else name[: _NAME_CHARACTERS - 1] + "…"
    counted = "1 viral region" if len(regions) == 1 else f"{len(regions) or 'no'} viral regions"
    # a name is data: a $ in it is no formula
    axes.set_title(f"{shown}, {length:,} bases, {counted}", fontsize=9, loc="left", pad=12, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        handles=[
            Line2D([], [], color=_LINE, label="mean of windows" if is_binned else "score of a window"),
            *([Patch(color=_LINE, alpha=0.3, label="their range")] if is_binned else []),
            Line2D([], [], color=_THRESHOLD, lw=0.8, ls="--", label=f"{threshold:g}"),
            Patch(color=_REGION, alpha=0.35, label="viral region"),
        ],
        loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8,
    )  # fmt: skip
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a name in another script: boxes do
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def _binned(position: npt.NDArray[np.float64], score: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    """Middle position, and smallest, mean and largest score, of neighbouring windows; NaN where none has one."""
    n_bins = _MOST_POINTS // 4
    edges = np.linspace(0, len(position), n_bins + 1).astype(int)
    columns = []
    for first, last in itertools.pairwise(edges):
        there = score[first:last][~np.isnan(score[first:last])]
        figures = (there.min(), there.mean(), there.max()) if len(there) else (np.nan,) * 3
        columns.append((position[first:last].mean(), *figures))
    return tuple(np.array(columns).T)
