"""``seqassay`` and ``python -m seqassay``: the command line, loaded so that Ctrl-C while it loads ends in one line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; a Ctrl-C that no command handles is one line and exit code 1, not a traceback."""
    try:
        from seqassay.cli.main import main as run  # loads the models' libraries: seconds on a busy machine

        run()
    except KeyboardInterrupt:
        sys.exit("seqassay: stopped by Ctrl-C")


if __name__ == "__main__":
    main()
