"""`seqassay lm evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from seqassay.config import resolve_settings
from seqassay.errors import UsageError

if TYPE_CHECKING:
    from seqassay.prove.lm.settings import LmEvaluateSettings


def evaluate_command(
    checkpoint: Path = typer.Argument(..., metavar="CHECKPOINT", help="The model's folder."),
    inputs: list[str] = typer.Argument(
        None, metavar="[TOKENS_OR_TEXT...]", help="A folder of token files; or text: a file, SPLIT=PLACE, a folder."
    ),
    output_dir: Path = typer.Option(..., "-o", "--output-dir", metavar="OUT", help="Folder for record and report."),
    splits: str = typer.Option(
        None, metavar="NAMES", help="Of train, valid, test, with commas between (default: all but train)."
    ),
    documents: str = typer.Option(
        None, metavar="RULE", help="Where documents end in text: file, wikitext, blank-lines, line:TEXT."
    ),
    windows: str = typer.Option(
        None, metavar="documents|stream", help="Score each document on its own, or the split as one stream."
    ),
    prefix: bool = typer.Option(
        None, "--prefix/--no-prefix", help="Begin with the tokenizer's prefix token (default: yes, where it has one)."
    ),
    context: int = typer.Option(None, metavar="TOKENS", help="Length of a window (default: the model's context)."),
    stride: int = typer.Option(None, metavar="TOKENS", help="How far a window moves on (default: the context)."),
    top_k: str = typer.Option(None, metavar="KS", help="Accuracy among the k most likely tokens (default: 1,5)."),
    max_batches: int = typer.Option(None, metavar="N", help="Score the first N batches of every split alone."),
    batch: int = typer.Option(None, metavar="TOKENS", help="Token budget of a batch (default: 16384)."),
    probes: list[str] = typer.Option(
        None, metavar="PLACE", help="SmallBench: a folder of sentiment, nli, qa, paraphrase .jsonl, or such a file."
    ),
    shots: int = typer.Option(None, metavar="N", help="Answered training rows before every prompt (default: 0)."),
    shots_from: Path = typer.Option(None, metavar="FOLDER", help="Of the training rows (default: train/ in PLACE)."),
    shots_seed: int = typer.Option(None, metavar="N", help="Seed that draws the shots (default: 0)."),
    max_samples: int = typer.Option(None, metavar="N", help="Ask the first N rows of every task alone."),
    device: str = typer.Option(None, metavar="auto|cpu|cuda|cuda:N", help="Where to compute (default: auto)."),
    threads: int = typer.Option(None, metavar="N", help="CPU threads (default: what the machine gives)."),
    force: bool = typer.Option(None, "--force", help="Replace the evaluation in OUT."),
    resume: bool = typer.Option(None, "--resume", help="Go on with the probe items that a stopped run has scored."),
    progress: bool = typer.Option(True, "--progress/--no-progress", help="Show a progress line."),
) -> None:
    """Score text with a language model: loss, perplexity per token, word and byte, bits per byte, top-k accuracy.

    Every token is scored exactly once, in rolling windows. Guards run first: a model that sees the future, shifted
    labels, or tokens left out end the command with an error that names the likely bug. With --probes the SmallBench
    tasks are asked too. Writes metrics.json, reports/lm_evaluation.md and smallbench_items.jsonl.
    """
    given: dict[str, Any] = {name: value for name, value in locals().items() if name != "progress"}
    given["inputs"] = list(inputs) if inputs else None
    given["probes"] = list(probes) if probes else None
    if splits is not None:
        given["splits"] = [name.strip() for name in splits.split(",")]
    if top_k is not None:
        given["top_k"] = [_whole_number(text) for text in top_k.split(",")]
    from seqassay.prove.lm.settings import LmEvaluateSettings

    run(resolve_settings(LmEvaluateSettings, {}, given), show_progress=progress)


def run(settings: LmEvaluateSettings, *, show_progress: bool) -> None:
    """Evaluate, and print the figures."""
    # PyTorch takes seconds to import: `--help` and wrong options don't wait for it
    from seqassay.cli.console import watched
    from seqassay.measure.progress import RunProgress
    from seqassay.prove.lm.command import evaluate_lm
    from seqassay.report.lm_evaluation import lm_evaluation_summary

    progress = RunProgress(unit="tokens")
    with watched(progress, show_progress=show_progress, unfinished="the evaluation was not finished"):
        result = evaluate_lm(settings, progress=progress)
    typer.echo(lm_evaluation_summary(result.record, str(result.folder)))


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--top-k is {text!r}; it is whole numbers with commas between, as in 1,5") from None
