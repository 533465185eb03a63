"""`seqassay gate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from seqassay.config import resolve_settings
from seqassay.errors import GateError

if TYPE_CHECKING:
    from seqassay.prove.gates.settings import GateSettings


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command(name="gate", no_args_is_help=True)
    def gate_command(
        records: list[str] = typer.Argument(
            ..., metavar="RECORD...", help="metrics.json or run.json, or the folder that holds it."
        ),
        gates: Path = typer.Option(None, "--gates", metavar="FILE", help="The gates: a YAML file."),
        only: list[str] = typer.Option(None, "--only", metavar="NAME", help="Judge this gate alone; may be repeated."),
        output_dir: Path = typer.Option(None, "-o", "--output-dir", metavar="OUT", help="Folder for the gate record."),
        force: bool = typer.Option(None, "--force", help="Replace the gate record in OUT."),
    ) -> None:
        """Judge the figures of records by the limits of a file.

        Records are metrics.json of `evaluate` and `compare`, and run.json of `predict`. Prints figure, interval, limit
        and verdict of every gate; with -o writes metrics.json. Exit code 0 when every gate is PASSED, 5 when one is
        FAILED, UNDECIDED (the interval straddles the limit) or MISSING (no record holds the figure).
        """
        given = {name: value for name, value in locals().items() if name != "app"}
        given |= {"records": list(records), "only": list(only) if only else None}
        from seqassay.prove.gates.settings import GateSettings

        run(resolve_settings(GateSettings, {}, given))


def run(settings: GateSettings) -> None:
    """Judge the gates, and print the table.

    Raises:
        GateError: a gate is not PASSED.
    """
    # PyTorch takes seconds to import: `--help` and wrong options don't wait for it
    from seqassay.prove.gate import PASSED
    from seqassay.prove.gates.command import gate
    from seqassay.report.gates import gate_table, verdict_line

    record = gate(settings)
    typer.echo(gate_table(record))
    if settings.output_dir is not None:
        typer.echo(f"record  {settings.output_dir}/metrics.json")
    if record["verdict"] != PASSED:
        raise GateError(verdict_line(record))
