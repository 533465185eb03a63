"""`seqassay lm score-text`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from seqassay.config import resolve_settings


def score_text_command(
    predictions: Path = typer.Argument(
        ..., metavar="PREDICTIONS", help="Texts, one a line; or .jsonl, as lm generate -o writes."
    ),
    references: list[str] = typer.Argument(
        ..., metavar="REFERENCES...", help="Files with as many lines: one reference each, or a list of them in .jsonl."
    ),
    output_dir: Path = typer.Option(None, "-o", "--output-dir", metavar="OUT", help="Write record and report there."),
    bleu_tokenizer: str = typer.Option(
        None, metavar="13a|intl|char|zh|none", help="How BLEU cuts texts into words (default: 13a)."
    ),
    lowercase: bool = typer.Option(None, "--lowercase", help="BLEU without regard to case."),
    stemmer: bool = typer.Option(None, "--stemmer", help="ROUGE over word stems (Porter)."),
    resamples: int = typer.Option(None, metavar="N", help="Samples of the bootstrap (default: 1000)."),
    seed: int = typer.Option(None, metavar="N", help="Of the bootstrap (default: 0)."),
    force: bool = typer.Option(None, "--force", help="Replace the scores in OUT."),
    as_json: bool = typer.Option(False, "--json", help="Print the record as JSON."),
) -> None:
    """BLEU (sacrebleu, with its signature) and ROUGE-1, -2, -L (rouge-score) of texts against references.

    With 95% intervals of a bootstrap over pairs. With -o writes metrics.json, pairs.jsonl and a report.
    """
    given: dict[str, Any] = {name: value for name, value in locals().items() if name != "as_json"}
    given["references"] = list(references)
    from seqassay.prove.lm_score_text.command import score_text_files
    from seqassay.prove.lm_score_text.settings import LmScoreTextSettings
    from seqassay.report.lm_text_scores import text_scores_summary

    result = score_text_files(resolve_settings(LmScoreTextSettings, {}, given))
    if as_json:
        typer.echo(json.dumps(result.record, indent=1, ensure_ascii=False))
    else:
        typer.echo(text_scores_summary(result.record, None if result.folder is None else str(result.folder)))
