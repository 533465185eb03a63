"""What commands show on standard error while they run."""

from __future__ import annotations

import contextlib
import logging
import shlex
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from seqassay.errors import GateError, StoppedError
from seqassay.predict.stop import StopRequested, stop_on_signals

if TYPE_CHECKING:
    from seqassay.measure.progress import RunProgress


@contextlib.contextmanager
def watched(progress: RunProgress, *, show_progress: bool, unfinished: str) -> Iterator[None]:
    """Warnings and a progress line; SIGTERM and Ctrl-C end a command with exit code 3, as everywhere.

    Args:
        unfinished: what a stop leaves behind, in words.
    """
    from seqassay.report.terminal import ProgressReporter, error_console

    with contextlib.ExitStack() as stack:
        stack.enter_context(console_log(logging.WARNING))
        try:
            with contextlib.ExitStack() as work:
                work.enter_context(stop_on_signals())
                if show_progress:
                    work.enter_context(ProgressReporter(progress, error_console()))
                yield
        except StopRequested as stop:
            raise StoppedError(f"stopped by {stop}; {unfinished}", hint="run it again") from None


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """SIGTERM and Ctrl-C end what goes on when its command is given again with exit code 3."""
    try:
        with stop_on_signals():
            yield
    except StopRequested as stop:
        raise StoppedError(f"stopped by {stop}", hint="give the same command again: it goes on there") from None


@contextlib.contextmanager
def resumable(kept: str, *, option: str = "") -> Iterator[None]:
    """SIGTERM and Ctrl-C end a command with exit code 3 and the words that go on from there.

    Args:
        kept: what a stop leaves, in words.
        option: what the words need beside those that were given.
    """
    try:
        with stop_on_signals():
            yield
    except StopRequested as stop:
        words = [*(word for word in sys.argv[1:] if word not in ("--force", option)), *filter(None, [option])]
        raise StoppedError(
            f"stopped by {stop}; {kept}", hint=f"go on with:\n  {shlex.join(['seqassay', *words])}"
        ) from None


def gate_error(gate: Mapping[str, Any], figure_beside_limit: str) -> GateError:
    """A gate that did not pass, with what to do next."""
    steps = "\n".join(f"{i}. {step}" for i, step in enumerate(gate["next_steps"], 1))
    return GateError(f"{gate['verdict']}: {figure_beside_limit}", hint=f"Next steps:\n{steps}")


@contextlib.contextmanager
def console_log(level: int, *, only: str = "seqassay") -> Iterator[None]:
    """The package's log lines on standard error, from this level on.

    Args:
        only: below the level of warnings, lines of this part of the package alone.
    """
    from seqassay.report.terminal import ConsoleLogHandler, error_console

    package = logging.getLogger("seqassay")
    before, handler = package.level, ConsoleLogHandler(error_console(), level)
    handler.addFilter(lambda line: line.levelno >= logging.WARNING or line.name.startswith(only))
    package.addHandler(handler)
    package.setLevel(min(level, before or level))
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(before)
