"""`seqassay lm score-text`: the steps from files of texts and references to a record."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seqassay.config import settings_as_json
from seqassay.digests import file_sha256
from seqassay.errors import InputError, SeqassayError
from seqassay.evaluate.generated_text import TextScores, score_texts
from seqassay.measure.provenance import provenance, utc_now
from seqassay.measure.schema import check_schema
from seqassay.prove.lm_score_text.settings import LmScoreTextSettings
from seqassay.prove.outputs import check_place, only_outputs, write_report_and_record
from seqassay.report.lm_text_scores import text_scores_report
from seqassay.text.rows import TextRow, read_rows

FORMAT, VERSION, KIND = "seqassay-lm-text-scores", "1.0", "lm_text_scores"
PAIRS, REPORT = "pairs.jsonl", "lm_text_scores.md"
PREDICTION_FIELDS = ("prediction", "continuation", "text")
REFERENCE_FIELDS = ("reference", "text", "references")


@dataclass(frozen=True, slots=True)
class LmTextScores:
    """The record, and the folder that it is in, if any."""

    record: dict[str, Any]
    folder: Path | None


def score_text_files(settings: LmScoreTextSettings) -> LmTextScores:
    """Read texts and references, score them, and write the outputs where a folder is named.

    Raises:
        InputError: files of different numbers of lines, empty ones, a reference without text.
        UsageError: something in the output folder's way.
        MissingExtraError: sacrebleu or rouge-score is not installed.
    """
    began = time.monotonic()
    if settings.output_dir is not None:
        check_place(settings.output_dir, force=settings.force, what="scores")
    predictions = read_rows(settings.predictions, PREDICTION_FIELDS)
    references = read_references(settings.references, settings.predictions, len(predictions))
    texts = [row.texts[0] for row in predictions]
    scores = score_texts(
        texts, references, bleu_tokenizer=settings.bleu_tokenizer, lowercase=settings.lowercase,
        stemmer=settings.stemmer, n_samples=settings.resamples, seed=settings.seed,
    )  # fmt: skip
    record = _record(settings, texts, references, scores)
    record["wall_s"] = round(time.monotonic() - began, 3)
    check_record(record)
    folder = settings.output_dir
    if folder is not None:
        rows = (
            {"line": row.line, **{name: values[i] for name, values in scores.pairs.items()}}
            for i, row in enumerate(predictions)
        )
        lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
        with only_outputs(folder, force=settings.force, what="scores"):
            write_report_and_record(folder, REPORT, text_scores_report(record), record, {PAIRS: [lines.encode()]})
    return LmTextScores(record, folder)


def read_references(paths: Sequence[str], predictions: Path, n: int) -> list[tuple[str, ...]]:
    """The references of every prediction, those of all files together.

    Raises:
        InputError: names the file: as many lines as predictions are needed, and text in each.
    """
    files: list[list[TextRow]] = []
    for path in paths:
        rows = read_rows(path, REFERENCE_FIELDS, several=True)
        if len(rows) != n:
            raise InputError(
                f"has {len(rows):,} lines, and {predictions} has {n:,}",
                path=path,
                hint="line by line they belong together; several references of one text are further files, or lists "
                'in JSON lines: {"references": ["…", "…"]}',
            )
        for row in rows:
            if not all(text.strip() for text in row.texts):
                raise InputError("the reference has no text", path=path, line=row.line)
        files.append(rows)
    return [tuple(text for rows in files for text in rows[i].texts) for i in range(n)]


def _record(
    settings: LmScoreTextSettings, texts: Sequence[str], references: Sequence[Sequence[str]], scores: TextScores
) -> dict[str, Any]:
    """Everything but the time that it took."""
    n_empty = sum(not text.strip() for text in texts)
    n_rouge = scores.figures["rouge1"].n
    notes = []
    if n_empty:
        notes.append(f"predictions without text: {n_empty:,} of {len(texts):,}; they count, and score 0")
    if 0 < n_rouge < len(texts):
        notes.append(
            f"ROUGE leaves out {len(texts) - n_rouge:,} of {len(texts):,} pairs, whose references have no letter a to "
            "z and no digit, which is all that its words are made of"
        )
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": KIND,
        "written_at": utc_now(),
        "identity": {
            "predictions": _source(settings.predictions),
            "references": [_source(Path(path)) for path in settings.references],
        },
        "settings": settings_as_json(settings),
        "method": {
            "bleu_signature": scores.bleu_signature,
            "bleu": "of the corpus, by sacrebleu (Post 2018), from 0 to 100",
            "rouge": "mean F-measure of the pairs, by rouge-score, from 0 to 1; of several references the best; "
            + ("word stems (Porter)" if settings.stemmer else "words as they are"),
            "interval": "percentiles of a bootstrap over pairs",
            "resamples": settings.resamples,
            "seed": settings.seed,
        },
        "n": {
            "pairs": len(texts),
            "references_min": min(map(len, references)),
            "references_max": max(map(len, references)),
            "empty_predictions": n_empty,
            "prediction_words": scores.prediction_words,
            "reference_words": scores.reference_words,
        },
        "figures": {name: asdict(figure) for name, figure in scores.figures.items()},
        "bleu": {"brevity_penalty": scores.brevity_penalty, "precisions": list(scores.precisions)},
        "notes": notes,
        "provenance": provenance(),
    }


def _source(path: Path) -> dict[str, Any]:
    return {"path": str(path), "sha256": file_sha256(path) if path.is_file() else None}


def check_record(record: dict[str, Any]) -> None:
    """Everything is as the schema has it, and null figures and intervals have a reason.

    Raises:
        SeqassayError: names the figure (a bug here, or a record that was changed).
    """
    check_schema(record, KIND)
    for name, figure in record["figures"].items():
        if (figure["value"] is None) != bool(figure["reason"]):
            raise SeqassayError(f"{name} is {figure['value']}, with the reason {figure['reason']!r}")
        if (figure["interval_95"] is None) != bool(figure["why_no_interval"]):
            raise SeqassayError(f"{name} has the interval {figure['interval_95']}: {figure['why_no_interval']!r}")
        if figure["n"] > record["n"]["pairs"]:
            raise SeqassayError(f"{name} is over {figure['n']} pairs of {record['n']['pairs']}")
