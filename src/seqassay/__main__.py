"""``seqassay`` and ``python -m seqassay``: the command line, from its first import on.

What can happen anywhere, also while the libraries load, ends here: a stop in one line, exhausted memory in two.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NoReturn

from seqassay.errors import ResourceError, StoppedError, is_out_of_memory

_NEEDED_BYTES = 32 << 20  # where so much can't be had, whatever failed failed for that


def main() -> None:
    """Run the command line; a stop that no command handles ends with exit code 3, exhausted memory with 4."""
    try:
        from seqassay.predict.stop import StopRequested, stop_on_signals

        try:
            with stop_on_signals():
                from seqassay.cli.main import main as run  # loads the models' libraries: seconds on a busy machine

                run()
        except StopRequested as stop:
            _end(str(stop))
    except KeyboardInterrupt:  # before that, or a second one
        _end("Ctrl-C")
    except Exception as error:
        # Libraries that find no memory while they load say so in many ways, or name another cause.
        shortage = next(filter(is_out_of_memory, (error, *_causes(error))), None)
        if shortage is None and _has_room():
            raise
        said = " ".join(str(shortage or error).split())[:200]
    else:
        return
    # Out of the handler: what the failed work held is free again.
    sys.stderr.write(
        f"seqassay: error: out of memory{f' ({said})' if said else ''}\n"
        "give it smaller batches or a smaller model, or use a machine or device with more memory\n"
    )
    sys.exit(ResourceError.exit_code)


def _causes(error: Exception) -> Iterator[BaseException]:
    """What came before a library that could not be loaded."""
    before = error.__cause__ or error.__context__
    while isinstance(error, (ImportError, OSError)) and before is not None:
        yield before
        before = before.__cause__ or before.__context__


def _has_room() -> bool:
    """Whether the failed work, still held, leaves room for more."""
    try:
        bytearray(_NEEDED_BYTES)
    except MemoryError:
        return False
    return True


def _end(stop: str) -> NoReturn:
    sys.stderr.write(f"seqassay: stopped by {stop}; run it again\n")
    sys.exit(StoppedError.exit_code)


if __name__ == "__main__":
    main()
