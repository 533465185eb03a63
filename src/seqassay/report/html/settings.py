"""What `seqassay report` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seqassay.errors import UsageError

FILE_ENDINGS = (".html", ".htm")


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """Everything ``seqassay report`` can be told; the names are those of the command's options.

    Raises:
        UsageError: no record, or an output that is not named as a page is.
    """

    records: tuple[str, ...]  # metrics.json, run.json, or the folders that hold one
    output: Path = Path("report.html")
    force: bool = False

    def __post_init__(self) -> None:
        if not self.records:
            raise UsageError("no record", hint="name metrics.json or run.json, or the folder that holds it")
        if self.output.suffix.lower() not in FILE_ENDINGS:  # --force must never replace a record
            raise UsageError(
                f"--output is {self.output}; a page's name ends in {' or '.join(FILE_ENDINGS)}",
                hint="name it so: -o report.html",
            )
