"""`seqassay compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from seqassay.cli.console import gate_error, watched
from seqassay.config import resolve_settings

if TYPE_CHECKING:
    from seqassay.prove.compare.settings import CompareSettings


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command(name="compare", no_args_is_help=True)
    def compare_command(
        a: Path = typer.Argument(..., metavar="A", help="A run's folder, a result file, or embeddings."),
        b: Path = typer.Argument(..., metavar="B", help="What to compare it with."),
        output_dir: Path = typer.Option(None, "-o", "--output-dir", metavar="OUT", help="Folder for the outputs."),
        tolerance: float = typer.Option(
            None, metavar="DIFFERENCE", help="Scores that differ by no more are alike (default: 0.0001)."
        ),
        mismatch_limit: int = typer.Option(
            None, metavar="N", help="Rows listed of every kind of mismatch (default: 1000)."
        ),
        min_agreement: float = typer.Option(
            None, metavar="SHARE", help="Gate: at least this share of the rows has the same label, such as 0.99."
        ),
        allow_different: str = typer.Option(
            None, metavar="NAMES", help="What differs: of bundle, encoder, chunk-length, inputs, with commas between."
        ),
        force: bool = typer.Option(None, "--force", help="Replace the comparison in OUT."),
        progress: bool = typer.Option(True, "--progress/--no-progress", help="Say what is being done."),
    ) -> None:
        """Compare the results of two runs: labels, scores and embeddings, row by row.

        A and B are folders of `predict`, result files (prediction_results.txt, its highest-score table, sequences.tsv,
        VirNucPro's too), or files of `embed`. Writes metrics.json, mismatches.tsv and reports/comparison_report.md.
        With --min-agreement the verdict is PASSED (exit code 0), FAILED or UNDECIDED (both 5).
        """
        given = {name: value for name, value in locals().items() if name not in ("app", "progress", "allow_different")}
        if allow_different is not None:
            given["allow_different"] = [name.strip() for name in allow_different.split(",")]
        from seqassay.prove.compare.settings import CompareSettings

        run(resolve_settings(CompareSettings, {}, given), show_steps=progress)


def run(settings: CompareSettings, *, show_steps: bool) -> None:
    """Run one comparison, and print what came out.

    Raises:
        GateError: there is a limit, and it was not shown to be reached.
    """
    # PyTorch takes seconds to import: `--help` and wrong options don't wait for it
    from seqassay.measure.progress import RunProgress
    from seqassay.prove.compare.command import compare
    from seqassay.prove.gate import PASSED, SKIPPED
    from seqassay.report.comparison import comparison_summary, gate_line
    from seqassay.report.terminal import error_console

    steps = error_console()
    with watched(RunProgress(), show_progress=False, unfinished="the comparison was not finished"):
        result = compare(settings, say=steps.print if show_steps else lambda _: None)
    gate = result.record["gate"]
    typer.echo(comparison_summary(result.record, str(result.folder)))
    if gate["verdict"] not in (PASSED, SKIPPED):
        raise gate_error(gate, gate_line(gate))
