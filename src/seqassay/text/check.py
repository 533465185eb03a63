"""`seqassay lm data check`: what splits share with each other, and the training text with probe tasks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqassay.config import settings_as_json
from seqassay.durable import disk_errors, write_durably
from seqassay.errors import InputError, UsageError
from seqassay.measure.progress import RunProgress
from seqassay.measure.provenance import provenance
from seqassay.text.contamination import Contamination
from seqassay.text.ngrams import N_WORDS
from seqassay.text.overlap import LONG_LINE_WORDS, SplitIndex, SplitPass, facts_of, walk
from seqassay.text.probes import find_probes
from seqassay.text.reading import Piece, check_rule, read_pieces
from seqassay.text.sources import SPLITS, find_sources
from seqassay.text.token_files import MANIFEST, TokenFiles, open_token_files

FORMAT, VERSION = "seqassay-text-check", "1.0"
Pieces = Callable[[], Iterator[Piece]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSettings:
    """What to compare; names are those of the command's options.

    Raises:
        UsageError: a limit that is no share, an unknown rule of documents.
    """

    inputs: tuple[str, ...]  # as of a build, or one folder of token files
    documents: str = "file"
    probes: tuple[Path, ...] = ()  # files of tasks, or folders of them
    max_overlap: float | None = None  # of a split's 13-grams in another, and of a task's items in the training text
    output: Path | None = None  # JSON file for the findings

    def __post_init__(self) -> None:
        check_rule(self.documents)
        if self.max_overlap is not None and not 0 <= self.max_overlap <= 1:
            raise UsageError(f"--max-overlap is {self.max_overlap:g}", hint="it is a share, from 0 to 1")


def check_text(settings: CheckSettings, progress: RunProgress | None = None) -> dict[str, Any]:
    """Compare the splits, and the training text with the probe tasks; write the findings where asked for.

    Returns:
        The findings; ``refusals`` lists, in words, what is above the limit.

    Raises:
        UsageError: nothing to compare; a folder in the way of the findings.
        InputError: bad text or a bad probe file.
    """
    progress = progress or RunProgress(unit="characters")
    if settings.output is not None and settings.output.is_dir():
        raise UsageError(f"{settings.output}: a folder is in the way of the findings", hint="name a file")
    probes = find_probes(list(settings.probes))
    texts = _texts(settings, progress)
    if len(texts) < 2 and not probes:
        raise UsageError("one split alone has nothing to be compared with", hint="give another split, or --probes")
    if probes and "train" not in texts:
        raise UsageError("probe tasks are looked for in the training text, and none is given", hint="give train=FILE")

    progress.begin_work()
    names = list(texts)
    indexes: dict[str, SplitIndex] = {}
    for name in names[1:]:
        progress.stage = f"reading {name}"
        indexes[name] = SplitIndex(texts[name]())
    progress.stage = "reading probe tasks"
    contamination = Contamination(probes)
    passes: dict[str, SplitPass] = {}
    for number, name in enumerate(names):
        progress.stage = f"comparing {name}"
        observer = contamination.observe if name == "train" else _ignore
        passes[name] = walk(name, texts[name](), indexes, names[number + 1 :], observer)

    record: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "settings": settings_as_json(settings) | {"probes": [str(path) for path in settings.probes]},
        "method": {
            "n_words": N_WORDS,
            "words": "runs of letters and digits, in lower case; a 13-gram with <unk> is none",
            "long_line_words": LONG_LINE_WORDS,
        },
        **facts_of(passes),
        "probes": contamination.facts(),
        "provenance": provenance(),
    }
    record["refusals"] = _refusals(record, settings.max_overlap)
    if settings.output is not None:
        with disk_errors(path=settings.output):
            write_durably(settings.output, [(json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()])
    return record


def _texts(settings: CheckSettings, progress: RunProgress) -> dict[str, Pieces]:
    """How to read every split, in the order of splits."""
    first = Path(settings.inputs[0]) if settings.inputs else Path()
    if len(settings.inputs) == 1 and (first / MANIFEST).is_file():
        files = open_token_files(first)
        inexact = [name for name in files.splits if not files.manifest["splits"][name]["comes_back_exactly"]]
        if inexact:
            raise InputError(
                f"the tokens of {inexact[0]} do not give its text back exactly", path=first, hint="check the text"
            )
        return {name: _counted(_of_tokens(files, name), progress) for name in SPLITS if name in files.splits}
    sources = find_sources(settings.inputs)

    def of_files(split: str) -> Pieces:
        paths = [source.path for source in sources if source.split == split]
        return lambda: (piece for path in paths for piece in read_pieces(path, settings.documents))

    return {name: _counted(of_files(name), progress) for name in dict.fromkeys(source.split for source in sources)}


def _of_tokens(files: TokenFiles, name: str) -> Pieces:
    split, tokenizer = files.split(name), files.tokenizer()

    def read() -> Iterator[Piece]:
        for number, (begin, end) in enumerate(split.documents(), 1):
            place = f"{files.folder}, document {number} of {name}"
            yield Piece(tokenizer.decode(split.tokens[begin:end]), place, 1, True)

    return read


def _counted(read: Pieces, progress: RunProgress) -> Pieces:
    def counted() -> Iterator[Piece]:
        progress.done_sequences = 0
        for piece in read():
            progress.done_sequences += len(piece.text)
            yield piece

    return counted


def _ignore(*_: object) -> None:
    """A split that probe tasks are not looked for in."""


def _refusals(record: dict[str, Any], limit: float | None) -> list[str]:
    if limit is None:
        return []
    splits = [
        f"{row['ngram_share']:.2%} of the {N_WORDS}-grams of {row['of']} are in {row['within']}"
        for row in record["shared"]
        if SPLITS.index(row["of"]) > SPLITS.index(row["within"])
        and row["ngram_share"] is not None
        and row["ngram_share"] > limit
    ]
    tasks = [
        f"{task['found']:,} of {task['items']:,} items of {task['task']} ({task['found_share']:.2%}) share a "
        f"{N_WORDS}-gram with the training text"
        for task in record["probes"]
        if task["found_share"] > limit
    ]
    return [*splits, *tasks]
