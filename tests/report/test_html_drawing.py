"""Numbers in words, and the geometry of charts."""

from __future__ import annotations

import re

import numpy as np
import pytest

from seqassay.report.html import numbers
from seqassay.report.html.blocks import bounded
from seqassay.report.html.chart import Label, Path, Rect, Scale, Series, histogram, lines, round_step, tick_text, track
from seqassay.report.html.sample import LENGTH_STEPS, LONGEST_EXACT, MOST_TOP, Lengths, Sample
from seqassay.report.html.shared import joined_stretches
from seqassay.report.html.tracks import MOST_POINTS, Contig, thinned


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.0%"), (1.0, "100.0%"), (0.5, "50.0%"), (1e-6, "< 0.1%"), (1 - 1e-6, "> 99.9%"), (None, "undefined")],
)
def test_shares_never_round_to_nothing_or_to_all(value: float | None, shown: str) -> None:
    assert numbers.share(value) == shown


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.42 s", 0.42), ("12.3 s", 12.3), ("3 min 20 s", 200.0), ("2 h 5 min", 7500.0), ("undefined", None)],
)
def test_seconds(text: str, value: float | None) -> None:
    assert numbers.seconds(value) == text


def test_figures_say_why_they_are_undefined() -> None:
    assert numbers.figure({"value": None, "why_undefined": "one class only"}) == "undefined: one class only"
    assert numbers.figure({"value": 0.00012}) == "0.00012"
    assert numbers.interval([0.1, 0.25], "share") == "10.0% to 25.0%"
    assert numbers.interval([0.1, None]) == numbers.interval(None) == "–"
    assert [numbers.plain(value) for value in (3, 0.5, 1e-9, 123456.7)] == ["3", "0.5", "1e-09", "123,457"]
    assert [numbers.n_bytes(value) for value in (999, 1500, 10**9)] == ["999 bytes", "1.5 kB", "1 GB"]


def test_texts_are_bounded_and_printable() -> None:
    assert bounded("x" * 50, 10) == "x" * 9 + "…"
    assert bounded("a\x00\udc80é") == "a\\x00\\udc80é"


def test_scales_and_ticks() -> None:
    scale = Scale(0, 10, 100, 0)
    assert (scale(0), scale(5), scale(10)) == (100, 50, 0)
    assert scale.ticks(5) == [0, 2, 4, 6, 8, 10]
    assert [round_step(x) for x in (0.11, 1, 1.01, 3, 7)] == [0.2, 1, 2, 5, 10]
    assert [tick_text(x) for x in (0, 0.25, 1500, 20_000, 3e6, 2e9)] == ["0", "0.25", "1,500", "20k", "3M", "2G"]


def test_bars_are_as_high_as_their_counts() -> None:
    chart = histogram("t", "d", ["a", "b"], [("v", [1, 0]), ("o", [1, 4])], x_label="x", y_label="y")
    bars = [shape for shape in chart.shapes if isinstance(shape, Rect)]
    assert len(bars) == 3 and bars[2].height == pytest.approx(4 * bars[0].height)
    assert bars[1].y + bars[1].height == pytest.approx(bars[0].y)  # stacked on it
    assert [bar.tip for bar in bars] == ["a: v 1", "a: o 1", "b: o 4"]


def test_a_gap_breaks_the_line_and_labels_do_not_overlap() -> None:
    chart = lines("t", "d", [Series("s", [(0, 1), (1, None), (2, 3), (3, 4)])], x_label="x", y_label="y")
    drawn = next(shape.d for shape in chart.shapes if isinstance(shape, Path) and shape.css == "line c0")
    assert drawn.count("M") == 2 and drawn.count("L") == 1
    names = [f"{i},000,000" for i in range(40)]
    wide = histogram("t", "d", names, [("", [1] * 40)], x_label="x", y_label="y")
    places = [shape.x for shape in wide.shapes if isinstance(shape, Label) and shape.text in names]
    assert 2 < len(places) < 40 and np.diff(places).min() > 9 * 9.2


def test_a_short_region_on_a_long_contig_is_seen() -> None:
    chart = track("t", "d", [(5.0, 0.5)], [], [(100, 101)], length=10_000_000, threshold=0.5)
    region = next(shape for shape in chart.shapes if isinstance(shape, Rect))
    assert region.width == 2.0 and region.tip == "viral region 101 to 101"


def test_tracks_are_thinned_with_their_range() -> None:
    n = 10_000
    scores = np.tile([0.2, 0.4], n // 2)
    scores[:100] = np.nan
    contig = Contig(0, "c", n * 10, n, n - 100, 0, 0, "scanned")
    found = thinned(contig, np.arange(n) * 10.0, np.arange(n) * 10.0 + 10, scores, [])
    assert len(found.points) == MOST_POINTS
    assert found.points[0] == (100.0, None) and found.points[-1][1] == pytest.approx(0.3)
    assert {(round(low, 6), round(high, 6)) for _, low, high in found.band} == {(0.2, 0.4)}
    few = thinned(contig, np.array([0.0]), np.array([10.0]), np.array([0.7]), [])
    assert few.points == [(5.0, 0.7)] and few.band == []


def test_sequences_are_counted_in_blocks_as_at_once() -> None:
    rng = np.random.default_rng(0)
    score = np.round(rng.random(1000), 2)
    rows = [
        f"s{i}\t{i + 1}\t1\t1\tclassified\t{s:.6f}\t{'virus' if s >= 0.5 else 'others'}\t{1 - s:.6f}".encode().split(
            b"\t"
        )
        for i, s in enumerate(score.tolist())
    ]
    whole, blocks = Sample(), Sample()
    whole.add(rows)
    for first in range(0, 1000, 7):
        blocks.add(rows[first : first + 7])
    assert blocks.top == whole.top and len(whole.top) == MOST_TOP
    expected = sorted(range(1000), key=lambda i: (-score[i], i))[:MOST_TOP]
    assert [sequence.row for sequence in whole.top] == expected
    assert (blocks.virus_by_score == whole.virus_by_score).all()
    assert whole.virus_by_band.tolist() == [sum(score >= 0.99), *(
        sum((low <= score) & (score < high)) for high, low in ((0.99, 0.9), (0.9, 0.75), (0.75, 0.5))
    ), 0, 0, 0]  # fmt: skip
    assert whole.by_q_limit is not None
    assert whole.by_q_limit.tolist() == [sum(np.round(1 - score, 6) <= q) for q in (0.01, 0.05, 0.1, 0.2)]
    assert whole.by_status == {"classified": [1000, 1000, int((score >= 0.5).sum())]}


def test_lengths_at_the_edges_of_their_bins() -> None:
    lengths = Lengths()
    lengths.add(np.array([0, 1, 2, LONGEST_EXACT, LONGEST_EXACT + 1, 10**9]))
    assert lengths.exact.sum() == 4 and lengths.by_step.sum() == lengths.n == 6
    for length in (1, 2, 5, 10):
        one = Lengths()
        one.add(np.array([length]))
        assert one.by_step[LENGTH_STEPS.index(length) + 1] == 1  # a bin holds its lower edge
    assert (lengths.shortest, lengths.longest) == (0, 10**9)


def test_throughput_is_joined_to_few_stretches_that_add_up() -> None:
    timeline = [{"seconds": (i + 1) / 2, "sequences": 10 * (i // 3)} for i in range(200)]
    stretches = joined_stretches(timeline)
    assert len(stretches) <= 30 and stretches[0][0] == 0 and stretches[-1][1] == 100.0
    assert sum((end - start) * rate for start, end, rate in stretches) == pytest.approx(timeline[-1]["sequences"])
    assert joined_stretches([]) == []


def test_no_colour_is_named_outside_the_style() -> None:
    chart = track("t", "d", [(5.0, 0.5)], [], [(1, 9)], length=10, threshold=0.5)
    assert not re.search("#[0-9a-f]{3}|rgb", repr(chart.shapes))
