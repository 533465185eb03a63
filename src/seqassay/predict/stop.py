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


class StopRequested(BaseException):
    """The user or the system asked the run to stop; like KeyboardInterrupt, no handler of errors catches it."""


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise ``StopRequested`` in the main thread at SIGTERM or SIGINT; a second signal acts as it did before.

    Python runs signal handlers between two bytecodes, so the exception comes between two tensor operations, within
    seconds even on a slow machine. In another thread than the main one nothing is installed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(number: int, _: FrameType | None) -> None:
        restore()
        raise StopRequested("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()


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
