"""Result files as arrays: frames, chunks and sequences of `predict`, and the same files of VirNucPro.

VirNucPro's own table of chunks has no score columns (``Modified_ID``, ``Is_Virus``), its successors' has them. Every
row is checked: a field too few, a label nobody knows or a score that is no probability is an error that names the line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from seqassay.errors import InputError
from seqassay.models.thresholds import CallThresholds
from seqassay.predict.consensus import CLASSIFIED, STATUSES, VIRUS_THRESHOLD
from seqassay.predict.outputs import CALL_NAMES, CHUNKS_TABLE, FRAMES_TABLE, HEADERS, SEQUENCES_TABLE
from seqassay.prove.compare.columns import Bounds, Bytes, decimals, field, split_rows, words
from seqassay.prove.compare.pairing import Ids

Level = Literal["frames", "chunks", "sequences"]
FloatArray = npt.NDArray[np.float64]

TABLE_OF: dict[Level, str] = {"frames": FRAMES_TABLE, "chunks": CHUNKS_TABLE, "sequences": SEQUENCES_TABLE}
_CHUNKS_WITHOUT_SCORES = "Modified_ID\tIs_Virus"
_LAYOUTS: dict[str, Level] = {
    **{HEADERS[name].rstrip("\n"): level for level, name in TABLE_OF.items()},
    _CHUNKS_WITHOUT_SCORES: "chunks",
}
_TRUTH = ("False", "True")
_MOST_ROUNDING = 0.01  # of the sum of two probabilities, with scores in half precision
_GZIP = b"\x1f\x8b"
_LOOKED_AT = 4096  # bytes at the beginning that show whether a file is text
_SHOWN = 60  # characters of a bad value or header in an error


@dataclass(frozen=True, slots=True)
class Table:
    """A result file.

    Attributes:
        level: what a row is about.
        ids: of the rows.
        labels: 1 virus, 0 others, -1 without a call.
        columns: names of the scores compared; none in VirNucPro's table of chunks.
        scores_NK: in [0, 1]; NaN where a sequence has none.
        virus_score: what the label stands on, virus from ``boundary`` on: P(virus) of a frame, max1 / (max0 + max1) of
            a chunk (VirNucPro's rule max1 >= max0), the score of a sequence; NaN without one.
        facts: of sequences ``length``, ``n_chunks`` and ``status`` (index into ``STATUSES``).
        sha256, n_bytes: of the file.
        boundary: of every row, where its run says so (`with_boundary`); else 0.5.
    """

    path: Path
    level: Level
    ids: Ids
    labels: npt.NDArray[np.int8]
    columns: tuple[str, ...]
    scores_NK: FloatArray
    virus_score: FloatArray
    facts: dict[str, npt.NDArray[np.int64]]
    sha256: str
    n_bytes: int
    boundary: FloatArray | float = VIRUS_THRESHOLD

    @property
    def apart(self) -> FloatArray:
        """Scores less their boundaries; NaN without a score."""
        return self.virus_score - self.boundary

    def with_boundary(self, run: Mapping[str, Any] | None) -> Table:
        """The table with the thresholds by which its run called sequences."""
        said = None if run is None else (run.get("calls") or {}).get("threshold")
        if self.level != "sequences" or said is None:
            return self
        has_frame = self.facts["status"] == CLASSIFIED
        return replace(self, boundary=CallThresholds.from_json(said).of(self.facts["length"], has_frame))

    def __len__(self) -> int:
        return len(self.labels)


def level_of(path: Path) -> Level:
    """What the rows of a result file are about, from its header line.

    Raises:
        InputError: no such file, empty, binary, or a header that no result file has.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_LOOKED_AT)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error
    if not head:
        raise InputError("the file is empty", path=path, hint="a result file has at least its header line")
    line = head.split(b"\n", 1)[0].rstrip(b"\r")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = "\0"
    if text in _LAYOUTS:
        return _LAYOUTS[text]
    if "\0" in text or b"\0" in head:
        hint = "decompress it first" if head.startswith(_GZIP) else _KNOWN_FILES
        raise InputError("binary content, not a result file", path=path, line=1, hint=hint)
    raise InputError(f"no result file has this header: {_shown(line)}", path=path, line=1, hint=_KNOWN_FILES)


_KNOWN_FILES = "headers that are read (tab-separated):\n" + "\n".join(
    "  " + " ".join(header.split("\t")) for header in _LAYOUTS
)


def read_table(path: Path) -> Table:
    """Read and check a result file.

    Raises:
        InputError: names the file, and the line.
    """
    level = level_of(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error
    first = content.find(b"\n") + 1
    header = content[: first - 1 if first else len(content)].rstrip(b"\r").decode().split("\t")
    n_lines = content.count(b"\n")
    if not content.endswith(b"\n"):
        raise InputError(
            "the last line has no line end: the file was cut", path=path, line=n_lines + 1, hint="copy it again, whole"
        )
    data = np.frombuffer(content, np.uint8)
    bounds, bad_row, n_found = split_rows(data, first, len(header))
    if bad_row >= 0:
        raise InputError(
            f"{n_found} columns where the header has {len(header)}: a row that was cut, or another table's",
            path=path, line=bad_row + 2,
        )  # fmt: skip
    reader = _Reader(path, data, bounds, header)
    labels, names, scores_NK, virus_score, facts = _PARTS[level](reader)
    starts, ends = bounds[:, 0].copy(), bounds[:, 1] - 1
    reader.refuse(starts == ends, "the id is empty")
    return Table(
        path=path, level=level, ids=Ids(data, starts, ends), labels=labels, columns=names, scores_NK=scores_NK,
        virus_score=virus_score, facts=facts, sha256=hashlib.sha256(content).hexdigest(), n_bytes=len(content),
    )  # fmt: skip


class _Reader:
    """Columns of one file by name, each value checked."""

    def __init__(self, path: Path, data: Bytes, bounds: Bounds, header: list[str]) -> None:
        self._path, self._data, self._bounds, self.header = path, data, bounds, header

    def words(self, name: str, known: Sequence[str], *, empty: bool = False) -> npt.NDArray[np.int8]:
        """Which of the known words; -1 for an empty field where that is allowed."""
        column = self.header.index(name)
        codes = words(self._data, self._bounds, column, tuple(known))
        unknown = codes < 0
        if empty:
            unknown &= self._bounds[:, column + 1] - 1 > self._bounds[:, column]
        self.refuse(unknown, f"{name} is {{}}; it has to be {' or '.join(known)}", name)
        return codes

    def score(self, name: str, *, empty: bool = False) -> FloatArray:
        """Numbers from 0 to 1; NaN for an empty field where that is allowed."""
        values = self._numbers(name, "a number from 0 to 1", empty=empty)
        above = values > 1
        hint = ""
        if above.any() and values[above].max() <= 100:
            hint = "if these are percentages, divide them by 100: scores are fractions"
        self.refuse(above | (values < 0), f"{name} is {{}}; it has to be a number from 0 to 1", name, hint=hint)
        return values

    def count(self, name: str) -> npt.NDArray[np.int64]:
        """Whole numbers from 0 on."""
        values = self._numbers(name, "a whole number")
        self.refuse((values < 0) | (values % 1 != 0), f"{name} is {{}}; it has to be a whole number", name)
        return values.astype(np.int64)

    def refuse(self, wrong: npt.NDArray[np.bool_], message: str, name: str | None = None, *, hint: str = "") -> None:
        """Raise an InputError about the first row that is wrong; ``{}`` in the message stands for its value."""
        if not wrong.any():
            return
        row = int(np.argmax(wrong))
        if name is not None:
            message = message.format(_shown(field(self._data, self._bounds, row, self.header.index(name))))
        more = int(wrong.sum()) - 1
        raise InputError(
            message + (f" (and {more:,} more rows like it)" if more else ""), path=self._path, line=row + 2, hint=hint
        )

    def _numbers(self, name: str, wanted: str, *, empty: bool = False) -> FloatArray:
        values, no_number = decimals(self._data, self._bounds, self.header.index(name))
        wrong = np.zeros(len(values), np.bool_) if empty else np.isnan(values)
        wrong[no_number] = True
        self.refuse(wrong, f"{name} is {{}}; it has to be {wanted}", name)
        return values


_Parts = tuple[npt.NDArray[np.int8], tuple[str, ...], FloatArray, FloatArray, dict[str, npt.NDArray[np.int64]]]


def _frames(reader: _Reader) -> _Parts:
    labels = reader.words("Prediction", CALL_NAMES)
    scores_NK = np.column_stack([reader.score(name) for name in ("score1", "score2")])
    no_probabilities = np.abs(scores_NK.sum(axis=1) - 1) > _MOST_ROUNDING
    reader.refuse(no_probabilities, "score1 and score2 do not add up to 1: they are no probabilities of two classes")
    return labels, ("score1", "score2"), scores_NK, scores_NK[:, 1], {}


def _chunks(reader: _Reader) -> _Parts:
    labels = reader.words("Is_Virus", _TRUTH)
    names = tuple(name for name in ("max_score_0", "max_score_1") if name in reader.header)
    if not names:
        return labels, (), np.zeros((len(labels), 0)), np.full(len(labels), np.nan), {}
    scores_NK = np.column_stack([reader.score(name) for name in names])
    total = scores_NK.sum(axis=1)
    reader.refuse(total == 0, "max_score_0 and max_score_1 are both 0, and no frame scores so")
    return labels, names, scores_NK, scores_NK[:, 1] / total, {}


def _sequences(reader: _Reader) -> _Parts:
    labels = reader.words("call", CALL_NAMES, empty=True)
    score = reader.score("score", empty=True)
    reader.refuse((labels < 0) != np.isnan(score), "a score without a call, or a call without a score")
    facts: dict[str, npt.NDArray[np.int64]] = {name: reader.count(name) for name in ("length", "n_chunks")}
    facts["status"] = reader.words("status", STATUSES).astype(np.int64)
    return labels, ("score",), score[:, None], score, facts


_PARTS = {"frames": _frames, "chunks": _chunks, "sequences": _sequences}


def _shown(value: bytes) -> str:
    text = value.decode("utf-8", "replace")
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")
