"""SIGTERM and Ctrl-C as an exception in the main thread, and the command that goes on from there."""

from __future__ import annotations

import contextlib
import shlex
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import fields
from types import FrameType
from typing import TYPE_CHECKING

from seqassay.config import PredictSettings, option_name

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class StopRequested(BaseException):
    """The user or the system asked the run to stop; like KeyboardInterrupt, no handler of errors catches it."""


class _Handlers:
    """Both signals' handler while one ``stop_on_signals`` lasts; the first signal restores what was there before."""

    def __init__(self) -> None:
        self._before = {number: signal.getsignal(number) for number in _NUMBERS}
        for number in _NUMBERS:
            signal.signal(number, self)

    def __call__(self, number: int, _: FrameType | None) -> None:
        self.restore()
        raise StopRequested("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise ``StopRequested`` in the main thread at SIGTERM or SIGINT; a second signal acts as it did before.

    Python runs signal handlers between two bytecodes, so the exception comes between two tensor operations, within
    seconds even on a slow machine. In another thread than the main one nothing is installed; nor is it within another
    such block, so that the second signal acts as it did before both.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or any(isinstance(signal.getsignal(number), _Handlers) for number in _NUMBERS):
        yield
        return
    handlers = _Handlers()
    try:
        yield
    finally:
        handlers.restore()


def resume_command(settings: PredictSettings) -> str:
    """The command line that goes on with a run of these settings, for the shell, on one line."""
    return command_to_resume("predict", settings, settings.inputs)


def command_to_resume(command: str, settings: DataclassInstance, inputs: Sequence[str] = ()) -> str:
    """The command line that goes on with what a command with a ``--resume`` of its own began.

    Args:
        command: its words after ``seqassay``.
        settings: those that it was given; options that have their defaults are left out.
        inputs: what stands without an option's name; the settings call it ``input`` or ``inputs``.
    """
    words = ["seqassay", *command.split(), *inputs]
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name in ("input", "inputs", "resume", "force") or value == field.default:
            continue
        if isinstance(value, bool):
            words.append(option_name(field.name) if value else option_name(f"no_{field.name}"))
        else:
            words += [option_name(field.name), str(value)]
    return shlex.join([*words, "--resume"])
