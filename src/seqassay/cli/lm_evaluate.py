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
    shots_from: Path = typer.Option(
        None, metavar="PLACE", help="Training rows: folder or file (default: train/ in --probes)."
    ),
    shots_seed: int = typer.Option(None, metavar="N", help="Seed that draws the shots (default: 0)."),
    max_samples: int = typer.Option(None, metavar="N", help="Ask the first N rows of every task alone."),
    skip_perplexity: bool = typer.Option(None, "--skip-perplexity", help="Leave the text out."),
    skip_smallbench: bool = typer.Option(None, "--skip-smallbench", help="Leave the probes out."),
    skip_profiling: bool = typer.Option(None, "--skip-profiling", help="Leave speed and memory out."),
    skip_latency: bool = typer.Option(None, "--skip-latency", help="Leave latency out."),
    skip_throughput: bool = typer.Option(None, "--skip-throughput", help="Leave throughput out."),
    skip_scaling: bool = typer.Option(None, "--skip-scaling", help="Leave scaling over batch sizes out."),
    skip_memory: bool = typer.Option(None, "--skip-memory", help="Leave memory out."),
    latency_shapes: str = typer.Option(
        None, metavar="SHAPES", help="Sequences x tokens, with commas between (default: 1x128,1x512)."
    ),
    latency_warm_ups: int = typer.Option(None, metavar="N", help="Runs before the timed ones (default: 10)."),
    latency_runs: int = typer.Option(None, metavar="N", help="Timed runs of every shape (default: 100)."),
    throughput_shape: str = typer.Option(None, metavar="SHAPE", help="Sequences x tokens (default: 32x512)."),
    throughput_s: float = typer.Option(None, metavar="SECONDS", help="How long (default: 10)."),
    scaling_batches: str = typer.Option(None, metavar="NS", help="Batch sizes (default: 1,2,4,8,16,32)."),
    scaling_length: int = typer.Option(None, metavar="TOKENS", help="Of each sequence (default: 128)."),
    scaling_runs: int = typer.Option(None, metavar="N", help="Rounds over the batch sizes (default: 10)."),
    memory_shape: str = typer.Option(None, metavar="SHAPE", help="Sequences x tokens (default: the throughput's)."),
    memory_runs: int = typer.Option(None, metavar="N", help="Fresh processes that measure it (default: 3)."),
    run_id: str = typer.Option(None, metavar="NAME", help="Name of this run (default: made of the time)."),
    device: str = typer.Option(None, metavar="auto|cpu|cuda|cuda:N", help="Where to compute (default: auto)."),
    threads: int = typer.Option(None, metavar="N", help="CPU threads (default: what the machine gives)."),
    force: bool = typer.Option(None, "--force", help="Replace the evaluation in OUT."),
    resume: bool = typer.Option(None, "--resume", help="Go on with what a stopped evaluation has finished."),
    progress: bool = typer.Option(True, "--progress/--no-progress", help="Show a progress line."),
) -> None:
    """Evaluate a language model in one go: perplexity of text, SmallBench (--probes), speed and memory.

    Every token is scored exactly once, in rolling windows. Guards run first: a model that sees the future, shifted
    labels, or tokens left out end the command with an error that names the likely bug. A --skip option leaves a part
    out. Writes metrics.json, summary.md, smallbench_results.json, latency_results.json and throughput_results.json.
    """
    given: dict[str, Any] = {name: value for name, value in locals().items() if name != "progress"}
    given["inputs"] = list(inputs) if inputs else None
    given["probes"] = list(probes) if probes else None
    if splits is not None:
        given["splits"] = [name.strip() for name in splits.split(",")]
    if top_k is not None:
        given["top_k"] = _whole_numbers("--top-k", top_k, ",", "1,5")
    if scaling_batches is not None:
        given["scaling_batches"] = _whole_numbers("--scaling-batches", scaling_batches, ",", "1,8,32")
    if latency_shapes is not None:
        given["latency_shapes"] = [_shape("--latency-shapes", text) for text in latency_shapes.split(",")]
    for name, text in (("throughput_shape", throughput_shape), ("memory_shape", memory_shape)):
        if text is not None:
            given[name] = _shape(f"--{name.replace('_', '-')}", text)
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


def _whole_numbers(option: str, text: str, between: str, example: str) -> list[int]:
    try:
        return [int(part) for part in text.split(between)]
    except ValueError:
        known = "with commas between" if between == "," else "with an x between"
        raise UsageError(f"{option} is {text!r}; it is whole numbers {known}, as in {example}") from None


def _shape(option: str, text: str) -> list[int]:
    numbers = _whole_numbers(option, text, "x", "1x128")
    if len(numbers) != 2:
        raise UsageError(f"{option} is {text!r}; it is sequences x tokens, as in 1x128")
    return numbers
