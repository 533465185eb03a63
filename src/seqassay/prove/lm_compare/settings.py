"""What `seqassay lm compare` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seqassay.config import option_name
from seqassay.errors import UsageError

FILES = {"markdown": (".md", ".markdown"), "html": (".html", ".htm"), "csv": (".csv",)}


@dataclass(frozen=True, kw_only=True)
class LmCompareSettings:
    """Everything ``seqassay lm compare`` can be told; the names are those of the command's options.

    Raises:
        UsageError: no run, or a file that is not named as its kind is.
    """

    runs: tuple[str, ...]  # folders or records of evaluations, trainings, sweeps
    sort: str | None = None  # a metric, or "name"; None: the first column that is one
    descending: bool = False
    columns: tuple[str, ...] = ()  # metrics; none: the usual ones; "all": every one that a run has
    markdown: Path | None = None
    html: Path | None = None
    csv: Path | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if not self.runs:
            raise UsageError("no run", hint="name folders of lm evaluate, lm train or lm sweep, or their records")
        for name, endings in FILES.items():
            path = getattr(self, name)
            if path is not None and path.suffix.lower() not in endings:  # --force must never replace a record
                raise UsageError(f"{option_name(name)} is {path}; its name ends in {' or '.join(endings)}")
        if len({*filter(None, (self.markdown, self.html, self.csv))}) < sum(
            path is not None for path in (self.markdown, self.html, self.csv)
        ):
            raise UsageError("two outputs have one name")
