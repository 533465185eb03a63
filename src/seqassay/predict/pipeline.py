"""Threads on both sides of the device: one prepares the next shard, one writes the last; bounded queues between.

An exception in either thread surfaces in the main thread as itself.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_S = 0.1  # how often a thread with a full queue looks whether the run has ended
_JOIN_S = 5.0  # how long a stopping run waits for a thread; the threads are daemons, and commits are atomic


@dataclass(slots=True)
class QueueState:
    """How full a queue was found by the main thread, whenever it came to it.

    Attributes:
        depth: most items it holds.
        visits: items taken from it or put into it.
        found_empty, found_full: of those visits.
    """

    depth: int
    visits: int = 0
    found_empty: int = 0
    found_full: int = 0

    def count(self, n_items: int) -> None:
        """A visit that found this many items."""
        self.visits += 1
        self.found_empty += n_items == 0
        self.found_full += n_items >= self.depth


class ReadAhead(Generic[T]):
    """Iterate over ``source`` in a thread, at most ``depth`` finished items ahead of the consumer."""

    def __init__(self, source: Iterable[T], *, depth: int = 1, name: str = "read-ahead") -> None:
        self.state = QueueState(depth)
        self._n_made = self._n_taken = 0
        self._queue: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(maxsize=depth)
        self._closed = threading.Event()
        self._source = source
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> ReadAhead[T]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join(_JOIN_S)

    def __iter__(self) -> Iterator[T]:
        while True:
            n_ready = min(self.state.depth, self._n_made - self._n_taken)  # one may wait for room, beyond the depth
            is_item, value = self._queue.get()
            if is_item:
                self.state.count(n_ready)
                self._n_taken += 1
                yield value  # type: ignore[misc]
            elif value is None:
                return
            else:
                raise value  # type: ignore[misc]

    def _run(self) -> None:
        try:
            for item in self._source:
                self._n_made += 1
                if not self._put((True, item)):
                    return
                del item  # a finished shard must not stay alive while the next one is made
            self._put((False, None))
        except BaseException as error:  # noqa: BLE001  (handed to the consumer, which raises it)
            self._put((False, error))

    def _put(self, message: tuple[bool, T | BaseException | None]) -> bool:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(message, timeout=_POLL_S)
                return True
        return False


class WriteBehind(Generic[T]):
    """Call ``consume`` on every item in a thread, in order; leaving the block waits for the last one.

    When the block is left by an exception, what is still queued is abandoned; the item in work is finished.
    """

    def __init__(self, consume: Callable[[T], None], *, depth: int = 1, name: str = "write-behind") -> None:
        self.state = QueueState(depth)
        self._queue: queue.Queue[T | None] = queue.Queue(maxsize=depth)
        self._consume = consume
        self._error: BaseException | None = None
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> WriteBehind[T]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:
            self._abandoned.set()
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(None)
            self._thread.join(_JOIN_S)
            return
        self._put(None)
        self._thread.join()
        self._raise_if_failed()

    def put(self, item: T) -> None:
        """Hand over an item; waits while the queue is full, and raises what ``consume`` raised."""
        self.state.count(self._queue.qsize())
        self._put(item)

    def _put(self, item: T | None) -> None:
        while True:
            self._raise_if_failed()
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=_POLL_S)
                return

    def _raise_if_failed(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while not self._abandoned.is_set():
            item = self._queue.get()
            if item is None:
                return
            try:
                self._consume(item)
            except BaseException as error:  # noqa: BLE001  (raised in the main thread by put or at the end)
                self._error = error
                return
            del item
