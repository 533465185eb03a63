"""`seqassay evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from seqassay.cli.console import gate_error, watched
from seqassay.config import resolve_settings

if TYPE_CHECKING:
    from seqassay.prove.settings import EvaluateSettings


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command(name="evaluate", no_args_is_help=True)
    def evaluate_command(
        bundle: str = typer.Argument(
            ...,
            metavar="BUNDLE",
            help="The model: a bundle's name or folder, or its scores: a run of predict, or a table.",
        ),
        test: Path = typer.Option(
            None, "--test", metavar="TEST", help="Labelled FASTA, a dataset folder, or features of a test set."
        ),
        output_dir: Path = typer.Option(None, "-o", "--output-dir", metavar="OUT", help="Folder for the outputs."),
        baseline: str = typer.Option(
            None, "--baseline", metavar="BUNDLE", help="Compare with this bundle on the same sequences."
        ),
        baseline_metrics: str = typer.Option(
            None,
            "--baseline-metrics",
            metavar="FILE_OR_JSON",
            help="Compare with figures: a JSON file, or JSON itself.",
        ),
        baseline_predictions: str = typer.Option(
            None,
            "--baseline-predictions",
            metavar="RUN_OR_TABLE",
            help="Compare with scores at hand: the folder of a run of predict, or a table with ids and scores.",
        ),
        threshold: float = typer.Option(
            None, metavar="FRACTION", help="Accuracy must drop by less than this (default: 0.05)."
        ),
        unit: str = typer.Option(
            None, metavar="record|taxon", help="What intervals are drawn over (default: record, the genome)."
        ),
        device: str = typer.Option(None, metavar="auto|cpu|cuda|cuda:N", help="Where to compute (default: auto)."),
        threads: int = typer.Option(None, metavar="N", help="CPU threads (default: what the machine gives)."),
        resume: bool = typer.Option(None, "--resume", help="Go on with the interrupted evaluation in OUT."),
        force: bool = typer.Option(None, "--force", help="Replace the evaluation in OUT."),
        progress: bool = typer.Option(True, "--progress/--no-progress", help="Show progress."),
    ) -> None:
        """Measure a model on labelled sequences, with intervals, and gate it against a baseline.

        Writes metrics.json, predictions.tsv (one row for every sequence) and reports/validation_report.md. With a
        baseline the verdict is PASSED (exit code 0), DEPLOYMENT HALTED or UNDECIDED (both 5).
        """
        given = {name: value for name, value in locals().items() if name not in ("app", "progress")}
        from seqassay.prove.settings import EvaluateSettings

        run(resolve_settings(EvaluateSettings, {}, given), show_progress=progress)


def run(settings: EvaluateSettings, *, show_progress: bool) -> None:
    """Run one evaluation with its progress line, and print what came out.

    Raises:
        GateError: there is a baseline, and the candidate did not pass.
    """
    # PyTorch takes seconds to import: `--help` and wrong options don't wait for it
    from seqassay.measure.progress import RunProgress
    from seqassay.prove.evaluate import evaluate
    from seqassay.prove.gate import PASSED, SKIPPED
    from seqassay.report.markdown import drop_line, validation_summary

    progress = RunProgress()
    with watched(progress, show_progress=show_progress, unfinished="the evaluation was not finished"):
        result = evaluate(settings, progress=progress)
    gate = result.record["gate"]
    typer.echo(validation_summary(result.record, str(result.folder)))
    if gate["verdict"] not in (PASSED, SKIPPED):
        raise gate_error(gate, drop_line(gate))
