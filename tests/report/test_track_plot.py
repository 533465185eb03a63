from __future__ import annotations

import struct
import sys

import numpy as np
import pytest

from seqassay.errors import MissingExtraError

pytest.importorskip("matplotlib", reason="plots are drawn with matplotlib")

from seqassay.report.track_plot import check_matplotlib, draw_track


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n") and png.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@pytest.mark.parametrize("name", ["chr1", "$x^{2", "été 細菌 |1", "<b>&", "n" * 5000])
@pytest.mark.parametrize("n_windows", [1, 60, 20_000])
def test_a_picture_of_one_size_whatever_the_name_and_the_length(name: str, n_windows: int) -> None:
    position = 1500.0 * np.arange(1, n_windows + 1)
    score = np.random.default_rng(1).uniform(0, 1, n_windows)
    length = 1500 * (n_windows + 1)
    assert size_of(draw_track(name, length, position, score, [(0, 1500)], 0.5)) == (1350, 420)


def test_windows_without_a_score_leave_a_gap_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    for n_windows in (30, 9000):
        score = np.full(n_windows, 0.3)
        score[n_windows // 3 : n_windows // 2] = np.nan
        draw_track("c", 100 * n_windows, 100.0 * np.arange(n_windows), score, [], 0.5)
        draw_track("c", 100 * n_windows, 100.0 * np.arange(n_windows), np.full(n_windows, np.nan), [], 0.5)
    shown = [str(warning.message) for warning in recwarn]
    assert not [text for text in shown if "nan" in text.lower() or "slice" in text.lower()]


def test_the_same_track_gives_the_same_bytes() -> None:
    position, score = np.arange(10.0), np.linspace(0, 1, 10)
    assert draw_track("c", 10, position, score, [(3, 5)], 0.5) == draw_track("c", 10, position, score, [(3, 5)], 0.5)


def test_without_matplotlib_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'seqassay\[scan\]'"):
        check_matplotlib()
