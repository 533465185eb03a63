"""`seqassay report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from seqassay.config import resolve_settings

if TYPE_CHECKING:
    from seqassay.report.html.settings import ReportSettings


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command(name="report", no_args_is_help=True)
    def report_command(
        records: list[str] = typer.Argument(
            ..., metavar="RECORD...", help="metrics.json or run.json, or the folder that holds it."
        ),
        output: Path = typer.Option(None, "-o", "--output", metavar="FILE.html", help="(default: report.html)"),
        force: bool = typer.Option(None, "--force", help="Replace FILE.html."),
    ) -> None:
        """Show any record, or several side by side, as one HTML page.

        The page holds all it shows: it opens from disk, and needs no network and no script. `predict` and `scan` write
        the page of their own run.
        """
        given = {"records": list(records), "output": output, "force": force}
        from seqassay.report.html.settings import ReportSettings

        run(resolve_settings(ReportSettings, {}, given))


def run(settings: ReportSettings) -> None:
    """Write the page, and print where it is."""
    from seqassay.prove.record_checks import check_content
    from seqassay.report.html.command import report

    n_bytes = report(settings, check_content)
    typer.echo(f"page  {settings.output} ({n_bytes:,} bytes)")
