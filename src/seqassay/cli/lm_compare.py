"""`seqassay lm compare`."""

from __future__ import annotations

from pathlib import Path

import typer

from seqassay.config import resolve_settings


def compare_command(
    runs: list[str] = typer.Argument(..., metavar="RUN...", help="Folders of lm evaluate, train or sweep; or records."),
    sort: str = typer.Option(None, metavar="METRIC", help="Order by it, or by name (default: the first metric shown)."),
    descending: bool = typer.Option(None, "--descending", help="Largest first."),
    columns: str = typer.Option(None, metavar="METRICS", help="With commas between, or all (default: the usual ones)."),
    markdown: Path = typer.Option(None, metavar="FILE.md", help="Write the table as markdown too."),
    html: Path = typer.Option(None, metavar="FILE.html", help="... as a page that sorts by a click on a header."),
    csv: Path = typer.Option(None, metavar="FILE.csv", help="... as CSV, every figure in full."),
    force: bool = typer.Option(None, "--force", help="Replace files that are there."),
) -> None:
    """Show many runs of language models in one table, ordered by any metric.

    A sweep stands for all of its runs. What a run lacks is shown as –, and comes last. Figures that were measured on
    another tokenizer, text, windows, probes or machine than most are marked.
    """
    given = {name: value for name, value in locals().items() if name not in ("runs", "columns")}
    given["runs"] = list(runs)
    given["columns"] = None if columns is None else [name.strip() for name in columns.split(",")]
    from seqassay.prove.lm_compare.settings import LmCompareSettings

    settings = resolve_settings(LmCompareSettings, {}, given)
    # reading records imports PyTorch, which takes seconds: `--help` and wrong options don't wait for it
    from seqassay.prove.lm_compare.command import compare_lms
    from seqassay.report.lm_runs import runs_summary

    table = compare_lms(settings)
    typer.echo(runs_summary(table))
    for name in ("markdown", "html", "csv"):
        if (path := getattr(settings, name)) is not None:
            typer.echo(f"{name:<10}{path}")
