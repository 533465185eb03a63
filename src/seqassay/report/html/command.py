"""`seqassay report`: the steps from records to one page; and the page that a run writes of itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqassay.durable import disk_errors, write_durably
from seqassay.errors import UsageError
from seqassay.report.html.page import record_page
from seqassay.report.html.records import Check, Record, check_shape, read_records
from seqassay.report.html.settings import ReportSettings

REPORT = "report.html"


def report(settings: ReportSettings, check: Check = check_shape) -> int:
    """Read the records, write the page; return its size in bytes.

    Args:
        check: refuses a record that cannot be.

    Raises:
        UsageError: a record given twice, or something is in the page's way.
        InputError: a bad record, or a table of a run that is not the one it wrote.
        ResourceError: the disk is full.
    """
    check_place(settings.output, force=settings.force)
    records = read_records([Path(path) for path in settings.records], check)
    html = record_page(records)
    with disk_errors(path=settings.output):
        settings.output.parent.mkdir(parents=True, exist_ok=True)
        return write_durably(settings.output, [html.encode()])


def check_place(path: Path, *, force: bool) -> None:
    """Find before the work what would be in its way afterwards.

    Raises:
        UsageError: a folder, or without ``force`` a file, has the page's name.
    """
    if path.is_dir():
        raise UsageError(f"{path}: a folder is in the way of the page", hint="choose another --output")
    if path.exists() and not force:
        raise UsageError(f"{path}: is there already", hint="replace it (--force), or choose another --output")


def write_own_page(folder: Path, kind: str, content: Mapping[str, Any]) -> None:
    """A finished run's page, beside its tables; ``seqassay report`` makes the same from the folder.

    Args:
        content: the run's record, which is about to be written.

    Raises:
        OSError: the disk is full, and the like.
    """
    html = record_page([Record(kind, dict(content), folder / "run.json")])
    write_durably(folder / REPORT, [html.encode()])
