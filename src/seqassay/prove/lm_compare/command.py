"""`seqassay lm compare`: the steps from runs to one table, and its files."""

from __future__ import annotations

from pathlib import Path

from seqassay.durable import disk_errors, write_durably
from seqassay.errors import UsageError
from seqassay.prove.lm_compare.settings import FILES, LmCompareSettings
from seqassay.prove.lm_compare.sources import read_runs
from seqassay.prove.lm_compare.table import make_table
from seqassay.report.html.lm_runs_view import runs_page
from seqassay.report.lm_runs import RunsTable, runs_csv, runs_markdown


def compare_lms(settings: LmCompareSettings) -> RunsTable:
    """Read the runs, make the table, write it where it was asked for.

    Raises:
        UsageError: a metric that no run has, a run given twice, or something in a file's way.
        InputError: a place without a whole record.
        ResourceError: the disk is full.
    """
    outputs = {name: path for name in FILES if (path := getattr(settings, name)) is not None}
    for path in outputs.values():
        _check_place(path, force=settings.force)
    table = make_table(read_runs(settings.runs), settings)
    writers = {"markdown": runs_markdown, "html": runs_page, "csv": runs_csv}
    for name, path in outputs.items():
        with disk_errors(path=path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, [writers[name](table).encode("utf-8", "backslashreplace")])
    return table


def _check_place(path: Path, *, force: bool) -> None:
    if path.is_dir():
        raise UsageError(f"{path}: a folder is in the way", hint="choose another name")
    if path.exists() and not force:
        raise UsageError(f"{path}: is there already", hint="replace it (--force), or choose another name")
