from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqassay.measure.timeline import Stretch, Timeline


@given(n=st.integers(0, 5_000))
def test_points_are_few_and_lose_nothing(n: int) -> None:
    timeline = Timeline(most_points=20)
    for i in range(n):
        timeline.add(Stretch(wall_s=0.5, cpu_s=0.25, sequences=i, tokens=2, device_sum=0.4, device_n=1))
    points = timeline.as_records(cores=1)
    assert len(points) <= 20
    if not n:
        assert points == []
        return
    last = points[-1]
    assert last["seconds"] == pytest.approx(n / 2)
    assert (last["sequences"], last["tokens"]) == (n * (n - 1) // 2, 2 * n)
    assert {(point["cpu"], point["gpu"], point["tokens_per_s"]) for point in points} == {(0.5, 0.4, 4.0)}
    assert [point["seconds"] for point in points] == sorted(point["seconds"] for point in points)


def test_a_share_is_undefined_where_nothing_was_read_and_never_above_one() -> None:
    timeline = Timeline()
    timeline.add(Stretch(wall_s=0.5, cpu_s=1.02, sequences=3, tokens=30))  # the clock's lag
    timeline.add(Stretch(wall_s=0.5, cpu_s=1.2))
    timeline.add(Stretch())
    full, impossible, empty = timeline.as_records(cores=2)
    assert full == {
        "seconds": 0.5, "sequences": 3, "tokens": 30, "sequences_per_s": 6.0, "tokens_per_s": 60.0,
        "cpu": 1.0, "gpu": None,
    }  # fmt: skip
    assert impossible["cpu"] is None
    assert (empty["sequences_per_s"], empty["cpu"]) == (None, None)


def test_an_odd_number_of_points_cannot_be_joined_in_pairs() -> None:
    with pytest.raises(ValueError, match="most_points is 3"):
        Timeline(most_points=3)
