"""The table of many runs: its columns, its order, and which figures of it cannot be compared."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence

from seqassay.errors import UsageError
from seqassay.prove.lm_compare.settings import LmCompareSettings
from seqassay.prove.lm_compare.sources import ALIASES, ComparedRun
from seqassay.report.lm_runs import RunRow, RunsTable

ALL = "all"
USUAL = (
    "status", "parameters", "test_token_perplexity", "test_bits_per_byte", "valid_token_perplexity",
    "valid_bits_per_byte", "training_dev_perplexity", "smallbench_average_accuracy", "latency_mean_ms",
    "throughput_tokens_per_s", "peak_memory_bytes", "training_tokens", "training_tokens_per_s", "seed",
)  # fmt: skip
_NEVER_FIRST = ("status", "parameters")  # columns that no order is wanted by, unless it is asked for
MARKS = {
    "tokenizer": ("†", "another tokenizer than most: bits per byte compare, figures per token do not"),
    "text": ("‡", "another text than most: no figure of it compares"),
    "windows": ("§", "other windows, prefix, or share of the text than most"),
    "probes": ("#", "other items or shots than most"),
    "shape": ("*", "another batch or length than most"),
    "machine": ("¶", "another machine than most"),
}
# Figures by name, what they were measured on, and which differences of that keep them from being compared.
_FAMILIES = (
    (r"(train|valid|test)_(loss|token_perplexity|top_\d+_accuracy)", None, ("tokenizer", "text", "windows")),
    (r"(train|valid|test)_(bits_per_byte|byte_perplexity|word_perplexity)", None, ("text", "windows")),
    (r"training_dev_.*", "training_dev", ("tokenizer", "windows")),
    (r"training_(wall_s|tokens_per_s)", "training", ("machine",)),
    (r"smallbench_.*_accuracy", "smallbench", ("probes",)),
    (r"latency_.*_ms", "latency", ("shape", "machine")),
    (r"throughput_.*_per_s|model_flop_utilisation", "throughput", ("shape", "machine")),
    (r"peak_memory_bytes", "memory", ("shape", "machine")),
)


def make_table(runs: Sequence[ComparedRun], settings: LmCompareSettings) -> RunsTable:
    """Choose the columns, mark what cannot be compared, put the runs in order.

    Raises:
        UsageError: a metric that no run has.
    """
    known = list(dict.fromkeys(name for run in runs for name, value in run.figures.items() if value is not None))
    has_unfinished = any(run.figures.get("status", "done") != "done" for run in runs)
    columns = _columns(known, settings.columns, has_unfinished=has_unfinished)
    sort = (
        _known(settings.sort, known) if settings.sort else next((c for c in columns if c not in _NEVER_FIRST), "name")
    )
    if sort != "name" and sort not in columns:
        columns = [sort, *columns]
    marks = [_marks(run, runs, columns) for run in runs]
    used = {mark for of_run in marks for marked in of_run.values() for mark in marked}
    rows = [RunRow(run.name, run.kind, run.place, run.figures, of_run) for run, of_run in zip(runs, marks, strict=True)]
    return RunsTable(
        columns=columns,
        rows=_sorted(rows, sort, descending=settings.descending),
        sort=sort,
        descending=settings.descending,
        meanings={mark: meaning for mark, meaning in MARKS.values() if mark in used},
        notes=_notes(rows, sort, known),
    )


def _columns(known: Sequence[str], asked: Sequence[str], *, has_unfinished: bool) -> list[str]:
    if tuple(asked) == (ALL,):
        return list(known)
    if asked:
        return list(dict.fromkeys(_known(name, known) for name in asked))
    return [name for name in USUAL if name in known and (name != "status" or has_unfinished)]


def _known(name: str, known: Sequence[str]) -> str:
    """The name of a metric that some run has."""
    found = name if name in known else ALIASES.get(name, name)
    if found == "name" or found in known:
        return found
    near = difflib.get_close_matches(name, known, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    raise UsageError(f"no run has a metric {name!r}", hint=f"{guess}known: {', '.join(sorted(known))}")


def _sorted(rows: Sequence[RunRow], sort: str, *, descending: bool) -> list[RunRow]:
    """In order; runs that lack the metric last, in the order that they were given in."""
    if sort == "name":
        return sorted(rows, key=lambda row: row.name, reverse=descending)
    having = [row for row in rows if row.figures.get(sort) is not None]
    lacking = [row for row in rows if row.figures.get(sort) is None]

    def key(row: RunRow) -> tuple[bool, float, str]:
        value = row.figures[sort]
        return (True, 0.0, value) if isinstance(value, str) else (False, float(value or 0), "")

    return [*sorted(having, key=key, reverse=descending), *lacking]


def _marks(run: ComparedRun, runs: Sequence[ComparedRun], columns: Sequence[str]) -> dict[str, str]:
    marks = {}
    for column in columns:
        family, aspects = _family(column)
        having = [
            other.basis[family] for other in runs if family in other.basis and other.figures.get(column) is not None
        ]
        if family not in run.basis or run.figures.get(column) is None:
            continue
        found = ""
        for aspect in aspects:
            counted = Counter(basis[aspect] for basis in having if aspect in basis)
            mine = run.basis[family].get(aspect)
            if mine is not None and mine != counted.most_common(1)[0][0]:  # of equally many the first
                found += MARKS[aspect][0]
        if found:
            marks[column] = found
    return marks


def _family(column: str) -> tuple[str, Sequence[str]]:
    for pattern, family, aspects in _FAMILIES:
        if match := re.fullmatch(pattern, column):
            return family or match[1], aspects
    return "", ()


def _notes(rows: Sequence[RunRow], sort: str, known: Sequence[str]) -> list[str]:
    """What to mind of the order."""
    tokenizer, text = MARKS["tokenizer"][0], MARKS["text"][0]
    marked = [row.marks.get(sort, "") for row in rows]
    if not any(tokenizer in marks for marks in marked):
        return []
    better = f"{sort.split('_')[0]}_bits_per_byte"
    would_do = better in known and not any(text in marks for marks in marked)
    instead = f"; {better} does (--sort {better})" if would_do else ""
    return [f"{sort} does not rank models with different tokenizers{instead}"]
