from __future__ import annotations

import math
import sys

import numpy as np
import numpy.typing as npt
import pytest

from seqassay.errors import MissingExtraError
from seqassay.predict import regions
from seqassay.predict.regions import RegionCaller, cells, log_odds
from seqassay.predict.scan_settings import Windows
from seqassay.predict.scan_windows import window_starts

pytest.importorskip("ruptures", reason="regions are called with ruptures")

WINDOWS = Windows(3000, 1500)
CALLER = RegionCaller(WINDOWS, 3000)
FloatArray = npt.NDArray[np.float64]


def track(
    length: int, viral: list[tuple[int, int]], *, host: float = -2.0, virus: float = 1.5, sd: float = 0.7, seed: int = 1
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], FloatArray]:
    """Scores with the noise of real tracks: windows are the mean of two halves with noise of their own."""
    start = window_starts(length, WINDOWS)
    noise = np.random.default_rng(seed).normal(0, sd * math.sqrt(2), len(start) + 1)
    middle = start + 1500
    is_viral = np.array([any(a <= m < b for a, b in viral) for m in middle])
    odds = np.where(is_viral, virus, host) + (noise[1:] + noise[:-1]) / 2
    return start, start + 3000, 1 / (1 + np.exp(-odds))


def overlap(a: tuple[int, int], b: tuple[int, int]) -> int:
    return max(0, min(a[1], b[1]) - max(a[0], b[0]))


def test_a_prophage_is_found_with_its_borders() -> None:
    found = CALLER.regions(*track(1_500_000, [(600_000, 640_000)]), 1_500_000)
    assert len(found) == 1
    region = found[0]
    assert abs(region.start - 600_000) <= 3000 and abs(region.end - 640_000) <= 3000
    assert 0.7 < region.score < 0.9 and region.n_windows == pytest.approx(27, abs=4)


def test_several_prophages_and_no_false_one() -> None:
    true = [(100_000, 110_000), (500_000, 545_000), (1_190_000, 1_200_000)]
    for seed in range(5):
        found = CALLER.regions(*track(1_200_000, true, seed=seed), 1_200_000)
        assert len(found) == 3
        for region, truth in zip(found, true, strict=True):
            assert overlap((region.start, region.end), truth) > 0.7 * (truth[1] - truth[0])
        assert found[-1].end == 1_200_000  # up to the contig's end


def test_host_alone_has_no_region_and_phage_alone_is_one() -> None:
    for seed in range(10):
        assert CALLER.regions(*track(2_000_000, [], seed=seed), 2_000_000) == []
    for length in (3000, 20_000, 170_000):
        (whole,) = CALLER.regions(*track(length, [(0, length)], virus=2.5), length)
        assert (whole.start, whole.end) == (0, length)


def test_the_scale_of_the_scores_makes_no_difference() -> None:
    """A better bundle has scores further from 0 and noise to match; what is found is the same."""
    start, end, score = track(600_000, [(200_000, 240_000)])
    doubled = 1 / (1 + np.exp(-1.5 * np.log(score / (1 - score))))
    one, other = (CALLER.regions(start, end, s, 600_000) for s in (score, doubled))
    assert [(r.start, r.end) for r in one] == [(r.start, r.end) for r in other] != []


def test_windows_without_a_score_end_a_region() -> None:
    start, end, score = track(400_000, [(100_000, 200_000)], sd=0.2)
    score[(start >= 140_000) & (start < 160_000)] = np.nan
    found = CALLER.regions(start, end, score, 400_000)
    assert len(found) == 2 and found[0].end < 145_000 and found[1].start > 155_000
    assert not any(math.isnan(region.score) for region in found)
    assert CALLER.regions(start, end, np.full(len(start), np.nan), 400_000) == []


@pytest.mark.parametrize("score", [0.0, 0.4, 0.5, 0.7, 1.0])
def test_a_flat_track_is_one_stretch(score: float) -> None:
    start = window_starts(300_000, WINDOWS)
    found = CALLER.regions(start, start + 3000, np.full(len(start), score), 300_000)
    assert [(r.start, r.end) for r in found] == ([(0, 300_000)] if score > 0.5 else [])


def test_a_short_contig_is_called_as_a_whole() -> None:
    start = window_starts(9000, WINDOWS)
    score = np.array([0.9, 0.9, 0.8, 0.4, 0.2])
    assert [(r.start, r.end) for r in CALLER.regions(start, start + 3000, score, 9000)] == [(0, 9000)]


def test_a_long_track_is_searched_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "MOST_WINDOWS", 100)
    found = CALLER.regions(*track(900_000, [(100_000, 200_000), (600_000, 640_000)]), 900_000)  # pieces of 150 kb
    assert len(found) == 2 and found[0].end - found[0].start > 90_000


def test_cells_tile_the_contig() -> None:
    for length in (1, 5, 3000, 3001, 7000, 10_001):
        start = window_starts(length, WINDOWS)
        first, last = cells(start, np.minimum(start + 3000, length), length)
        assert first[0] == 0 and last[-1] == length
        assert (first[1:] == last[:-1]).all() and (last > first).all()


def test_log_odds_are_bounded() -> None:
    odds = log_odds(np.array([0.0, 0.5, 1.0]))
    assert odds.tolist() == pytest.approx([-math.log(999), 0, math.log(999)])


def test_without_ruptures_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ruptures", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'seqassay\[scan\]'"):
        RegionCaller.check_library()
