"""One exception family: what happened, with which value, and what fixes it; one exit code each.

Exit codes of every command:

====  ==============================================================================================
code  meaning
====  ==============================================================================================
0     done
1     failure that is none of those below
2     bad usage or bad input (files, settings, models)
3     stopped before the end (SIGTERM, Ctrl-C); says whether it goes on from there or begins again
4     out of memory or out of disk
5     a gate failed
====  ==============================================================================================
"""

from __future__ import annotations

from importlib import util
from pathlib import Path

_OUT_OF_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "Cannot allocate memory",
    "bad_alloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "could not create a primitive",  # oneDNN's word for it
    "can't start new thread",  # its stack finds no room
    "failed to map segment",  # of a library
)


class SeqassayError(Exception):
    """A failure with a cause the user can read; ``hint`` says what fixes it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(SeqassayError):
    """Settings that cannot work: a flag, a value, an unknown name, an output folder in the way."""

    exit_code = 2


class InputError(SeqassayError):
    """Bad input data; keeps the file, the 1-based record and the 1-based line as data."""

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        path: Path | str | None = None,
        record: int | None = None,
        record_id: str | None = None,
        line: int | None = None,
        hint: str = "",
    ) -> None:
        place = [] if path is None else [str(path)]
        if record is not None:
            name = "" if not record_id else f" ({_short(record_id)})"
            place.append(f"record {record}{name}")
        if line is not None:
            place.append(f"line {line}")
        super().__init__(": ".join([", ".join(place), message]) if place else message, hint=hint)
        self.path, self.record, self.record_id, self.line = path, record, record_id, line


class ModelError(SeqassayError):
    """A weight file, an encoder folder or a bundle that cannot be used; names the file and the tensor."""

    exit_code = 2


class MissingExtraError(UsageError):
    """An optional package is needed; the message is the exact install command."""

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed",
            hint=f"install it with: pip install 'seqassay[{extra}]'",
        )
        self.package, self.extra = package, extra


def require_package(module: str, *, extra: str, purpose: str, package: str | None = None) -> None:
    """Find out before the work whether an optional package is there, without importing it.

    Args:
        package: its name on the registry, where that is not the module's.

    Raises:
        MissingExtraError: it is not installed.
    """
    if util.find_spec(module) is None:
        raise MissingExtraError(package or module, extra=extra, purpose=purpose)


class StoppedError(SeqassayError):
    """The command was stopped (SIGTERM, Ctrl-C); the message says what is kept, the hint how to go on."""

    exit_code = 3


class ResourceError(SeqassayError):
    """Out of memory or out of disk."""

    exit_code = 4


class GateError(SeqassayError):
    """A measured figure is on the wrong side of its limit."""

    exit_code = 5


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception is PyTorch's, its libraries', the system's or Python's way to say that memory ran out."""
    text = str(error)
    return isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY)


def _short(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
