"""``seqassay`` and ``python -m seqassay``: the command line, loaded so that a stop while it loads ends in one line."""

from __future__ import annotations

import sys
from typing import NoReturn

from seqassay.errors import StoppedError


def main() -> None:
    """Run the command line; a stop that no command handles is one line and exit code 3, not a traceback."""
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


def _end(stop: str) -> NoReturn:
    sys.stderr.write(f"seqassay: stopped by {stop}; run it again\n")
    sys.exit(StoppedError.exit_code)


if __name__ == "__main__":
    main()
