"""`seqassay lm generate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from seqassay.config import resolve_settings

if TYPE_CHECKING:
    from seqassay.prove.lm_generate.settings import LmGenerateSettings


def generate_command(
    checkpoint: Path = typer.Argument(..., metavar="CHECKPOINT", help="The model's folder."),
    inputs: list[str] = typer.Argument(None, metavar="[PROMPT...]", help="Texts to go on from (default: nothing)."),
    prompts: Path = typer.Option(
        None, metavar="FILE", help='Prompts, one a line; or .jsonl: {"prompt": "…"} a line, - for standard input.'
    ),
    output_dir: Path = typer.Option(
        None, "-o", "--output-dir", metavar="OUT", help="Write texts, JSON lines, record and report there."
    ),
    max_new_tokens: int = typer.Option(None, metavar="N", help="Tokens of a continuation at most (default: 100)."),
    temperature: float = typer.Option(
        None, metavar="X", help="0: the most likely token (default); 1: as the model is."
    ),
    top_k: int = typer.Option(None, metavar="K", help="Draw from the K most likely tokens alone."),
    top_p: float = typer.Option(None, metavar="P", help="Draw from the fewest most likely that have P together."),
    seed: int = typer.Option(None, metavar="N", help="Of what is drawn (default: 0)."),
    samples: int = typer.Option(None, metavar="N", help="Continuations of every prompt (default: 1)."),
    stop: list[str] = typer.Option(None, metavar="TEXT", help="A text that ends a continuation; any number of them."),
    stop_token: list[int] = typer.Option(
        None, metavar="ID", help="A token that does, beside the tokenizer's end of a document."
    ),
    prefix: bool = typer.Option(
        None, "--prefix/--no-prefix", help="Begin with the tokenizer's prefix token (default: yes, where it has one)."
    ),
    full_context: str = typer.Option(
        None, metavar="slide|stop", help="Beyond the model's context: go on from its newest half (default), or end."
    ),
    batch: int = typer.Option(None, metavar="TOKENS", help="Room for keys and values of a batch (default: 16384)."),
    device: str = typer.Option(None, metavar="auto|cpu|cuda|cuda:N", help="Where to compute (default: auto)."),
    threads: int = typer.Option(None, metavar="N", help="CPU threads (default: what the machine gives)."),
    force: bool = typer.Option(None, "--force", help="Replace the generation in OUT."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON lines instead of texts."),
    progress: bool = typer.Option(True, "--progress/--no-progress", help="Show a progress line."),
) -> None:
    """Write on from prompts: greedy, or drawn with a temperature, top-k, top-p and a seed.

    Texts go to standard output, what was done and how fast to standard error; with -o all of it goes into OUT:
    continuations.jsonl, continuations.txt, metrics.json and reports/lm_generation.md.
    """
    given: dict[str, Any] = {name: value for name, value in locals().items() if name not in ("progress", "as_json")}
    for name in ("inputs", "stop", "stop_token"):
        given[name] = list(given[name]) if given[name] else None
    from seqassay.prove.lm_generate.settings import LmGenerateSettings

    run(resolve_settings(LmGenerateSettings, {}, given), as_json=as_json, show_progress=progress)


def run(settings: LmGenerateSettings, *, as_json: bool, show_progress: bool) -> None:
    """Generate, and print."""
    # PyTorch takes seconds to import: `--help` and wrong options don't wait for it
    from seqassay.cli.console import watched
    from seqassay.measure.progress import RunProgress
    from seqassay.prove.lm_generate.command import generate_text
    from seqassay.report.lm_generation import lm_generation_summary, plain_text

    progress = RunProgress(unit="continuations")
    unfinished = "nothing was written" if settings.output_dir is not None else "the rest was not generated"
    # a progress line on the same terminal shows what is printed above itself; elsewhere texts stay on standard output
    elsewhere = None if sys.stdout.isatty() else sys.stdout

    def show(row: dict[str, Any]) -> None:
        out = elsewhere or sys.stdout
        if as_json:
            typer.echo(json.dumps(row, ensure_ascii=False), file=out)
        elif settings.output_dir is None:
            is_only = progress.total_sequences == 1
            typer.echo(plain_text(row, is_only=is_only, samples=settings.samples), file=out, nl=False)

    with watched(progress, show_progress=show_progress, unfinished=unfinished):
        result = generate_text(settings, progress=progress, show=show)
    summary = lm_generation_summary(result.record, None if result.folder is None else str(result.folder))
    typer.echo(summary, err=result.folder is None or as_json)
