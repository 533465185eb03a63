from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from seqassay.predict.pipeline import ReadAhead, WriteBehind


def test_items_come_in_order() -> None:
    written: list[int] = []
    with ReadAhead(iter(range(100))) as ahead, WriteBehind(written.append) as behind:
        for item in ahead:
            behind.put(item)
    assert written == list(range(100))


def test_reading_is_never_more_than_its_depth_ahead() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for i in range(20):
            made.append(i)
            yield i

    with ReadAhead(source(), depth=1) as ahead:
        for item in ahead:
            time.sleep(0.005)
            assert made[-1] <= item + 2  # one in the queue, one waiting for room


def test_an_exception_of_the_reader_surfaces_as_itself_after_what_came_before() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise LookupError("record 2")

    seen = []
    with pytest.raises(LookupError, match="record 2"), ReadAhead(source()) as ahead:
        seen.extend(ahead)
    assert seen in ([], [1])
    with ReadAhead(source()) as ahead:
        iterator = iter(ahead)
        assert next(iterator) == 1


def test_an_exception_of_the_writer_surfaces_at_put_or_at_the_end() -> None:
    def fail(item: int) -> None:
        raise LookupError(f"item {item}")

    with pytest.raises(LookupError, match="item 0"), WriteBehind(fail) as behind:
        for i in range(1000):
            behind.put(i)
    with pytest.raises(LookupError, match="item 7"), WriteBehind(fail) as behind:
        behind.put(7)


def test_leaving_by_an_exception_abandons_what_is_queued_and_ends_the_threads() -> None:
    written: list[int] = []
    gate = threading.Event()

    def slow(item: int) -> None:
        gate.wait(5)
        written.append(item)

    def endless() -> Iterator[int]:
        i = 0
        while True:
            yield i
            i += 1

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), ReadAhead(endless()) as ahead, WriteBehind(slow) as behind:
        for item in ahead:
            behind.put(item)
            if item == 1:
                gate.set()
                raise KeyboardInterrupt
    assert len(written) <= 2
    assert threading.active_count() == before


def test_queues_know_how_they_were_found() -> None:
    made = threading.Event()

    def source() -> Iterator[int]:
        yield from range(3)
        made.set()

    with ReadAhead(source(), depth=3) as ahead:
        assert made.wait(20)
        assert list(ahead) == [0, 1, 2]
    assert (ahead.state.visits, ahead.state.found_empty, ahead.state.found_full) == (3, 0, 1)

    taken, go = threading.Event(), threading.Event()

    def consume(item: int) -> None:
        taken.set()
        go.wait(20)

    with WriteBehind(consume) as behind:
        behind.put(0)
        assert taken.wait(20)
        behind.put(1)
        threading.Timer(0.2, go.set).start()
        behind.put(2)  # waits until the first is consumed
    assert (behind.state.visits, behind.state.found_empty, behind.state.found_full) == (3, 2, 1)
