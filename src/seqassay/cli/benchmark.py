"""`seqassay benchmark`: the group of commands that measure speed."""

from __future__ import annotations

import typer

from seqassay.cli import benchmark_pipeline, benchmark_speed


def register(app: typer.Typer) -> None:
    """Add the command group to the app."""
    benchmark = typer.Typer(help="Measure how fast models and the pipeline are.", no_args_is_help=True)
    benchmark_speed.register(benchmark)
    benchmark_pipeline.register(benchmark)
    app.add_typer(benchmark, name="benchmark")
