"""BLEU and ROUGE of texts (``metrics.json``) as the table on the terminal and the report in markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqassay.report.layout import aligned, escaped, labelled, provenance_rows, table

_NAMES = {"bleu": "BLEU", "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
_HEADER = ("figure", "value", "95% interval", "n")


def text_scores_summary(record: Mapping[str, Any], folder: str | None) -> str:
    """What was scored, the figures, and what to mind."""
    lines = labelled(_about(record))
    lines += ["", *aligned([_HEADER, *_rows(record)], to_the_right=(1,)), ""]
    lines += [f"note: {note}" for note in record["notes"]]
    return "\n".join([*lines, *([f"record  {folder}/metrics.json"] if folder else [])]).rstrip()


def text_scores_report(record: Mapping[str, Any]) -> str:
    """The report in markdown."""
    parts = [
        "# Texts against references",
        table(("", ""), [(label, escaped(text)) for label, text in _about(record)]),
        table(_HEADER, _rows(record)),
    ]
    if record["notes"]:
        parts += ["## Mind", "\n".join(f"- {escaped(note)}" for note in record["notes"])]
    method = record["method"]
    parts += [
        "## Method",
        "\n".join(f"- {name}: {escaped(str(method[name]))}" for name in ("bleu", "rouge", "interval")),
        "## Provenance",
        table(("", ""), provenance_rows(record)),
    ]
    return "\n\n".join(parts) + "\n"


def _about(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    identity, n, bleu = record["identity"], record["n"], record["bleu"]
    fewest, most = n["references_min"], n["references_max"]
    each = f"{fewest} to {most}" if fewest != most else str(most)
    return [
        ("predictions", f"{identity['predictions']['path']}, {n['prediction_words']:,} words"),
        ("references", f"{', '.join(one['path'] for one in identity['references'])}, {n['reference_words']:,} words"),
        ("pairs", f"{n['pairs']:,}, with {each} reference{'s' if most > 1 else ''} each"),
        ("signature", record["method"]["bleu_signature"]),
        (
            "precisions",
            f"{' / '.join(f'{value:.1f}' for value in bleu['precisions'])} (1- to 4-grams), "
            f"brevity penalty {bleu['brevity_penalty']:.3f}",
        ),
    ]


def _rows(record: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    rows = []
    for name, figure in record["figures"].items():
        decimals = 2 if name == "bleu" else 4
        ends = figure["interval_95"]
        value = "undefined" if figure["value"] is None else f"{figure['value']:.{decimals}f}"
        interval = (
            f"none: {figure['why_no_interval']}"
            if ends is None
            else f"{ends[0]:.{decimals}f} to {ends[1]:.{decimals}f}"
        )
        rows.append((_NAMES[name], value, interval, f"{figure['n']:,} pairs"))
    return rows
