"""Scores that are at hand already: a finished run of `predict`, or a table of another tool's scores.

A run is taken only where its input was this test set, record by record; of a table nothing but its ids is known, and
the record says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from seqassay.errors import InputError
from seqassay.models.registry import named_bundle
from seqassay.models.thresholds import ARGMAX, CallThresholds
from seqassay.predict.consensus import CLASSIFIED, SCORE_DECIMALS, STATUSES
from seqassay.predict.folder import RUN_RECORD
from seqassay.predict.outputs import SEQUENCES_TABLE
from seqassay.prove.compare.sources import open_source
from seqassay.prove.scores import NOT_GIVEN, ScoredExamples
from seqassay.prove.test_set import EvaluationSet
from seqassay.train.feature_files import file_sha256

_ID_NAMES = ("sequence_id", "id")
_TABLE = (
    "a table is tab-separated text with a header line, a column sequence_id (or id) and a column score, the "
    "probability of virus from 0 to 1, empty where there is none"
)


@dataclass(frozen=True, slots=True)
class Predictions:
    """A table of scores.

    Attributes:
        kind: ``run`` of `predict`, or ``table``.
        path: as it was given; ``table_path``: the file that was read.
        name, digest: of the run's bundle; of a table its path and None.
        scores: NaN without one.
        status: index into ``scores.ALL_STATUSES``.
        run: what ``run.json`` says.
    """

    kind: Literal["run", "table"]
    path: Path
    table_path: Path
    sha256: str
    name: str
    digest: str | None
    ids: list[str]
    scores: npt.NDArray[np.float64]
    status: npt.NDArray[np.uint8]
    run: dict[str, Any] | None = None

    @property
    def thresholds(self) -> CallThresholds:
        """Those of the run; 0.5 where it called by q-value, is older than thresholds, or is none."""
        said = None if self.run is None else (self.run["calls"] or {}).get("threshold")
        return CallThresholds.from_json(ARGMAX if said is None else said)

    def identity(self) -> dict[str, Any]:
        """What a record says of them."""
        return {
            "kind": self.kind,
            "path": str(self.path),
            "sha256": self.sha256,
            "input_digest": None if self.run is None else self.run["input_digest"],
        }

    def notes(self) -> list[str]:
        """What a reader of the figures should know."""
        if self.run is None:
            return [
                f"the scores of {self.name} are of a table: nothing says by which model, and only ids tie them to it"
            ]
        found = [f"the scores of {self.name} are of a run of `predict`, and were not made again"]
        if self.run["identity"].get("fdr") is not None:
            found.append(f"the run called by --fdr; figures here are of calls by {self.thresholds.rule}")
        return found


def are_predictions(path: str) -> bool:
    """Whether a path is that of predictions, and not of a bundle: a file, or the folder of a run.

    The name of an installed bundle wins over a file or folder of that name, as it does everywhere; ``./mini`` is that.
    """
    if named_bundle(path) is not None:
        return False
    return Path(path).is_file() or (Path(path) / RUN_RECORD).is_file()


def read_predictions(path: Path) -> Predictions:
    """Read a run's scores, or a table's.

    Raises:
        InputError: a run that is not finished or was changed, or a table with a bad row; names the line.
    """
    if not path.is_dir():
        if not path.is_file():
            hint = f"give the folder of a run of `seqassay predict`, or a table; {_TABLE}"
            raise InputError("no such file or folder", path=path, hint=hint)
        return Predictions("table", path, path, _sha256(path), str(path), None, *_read_table(path))
    source = open_source("A", path)
    table, run = path / SEQUENCES_TABLE, dict(source.run or {})
    sha256 = _sha256(table)
    source.check_unchanged(table, sha256)
    bundle = run["bundle"]
    return Predictions("run", path, table, sha256, bundle["name"], bundle["digest"], *_read_table(table), run)


def on_test_set(predictions: Predictions, test_set: EvaluationSet) -> ScoredExamples:
    """The scores in the order of a test set.

    Raises:
        InputError: the run was of other records, or ids do not match.
    """
    if test_set.records_digest is None:
        raise InputError(
            "predictions are held against labelled sequences, and this is a folder of features", path=test_set.path,
            hint="give the sequences that were predicted: --test FASTA",
        )  # fmt: skip
    if predictions.run is not None:
        _check_input(predictions, test_set)
    ids = test_set.examples.ids
    if predictions.ids == ids:  # duplicates too
        return _called(predictions, predictions.scores, predictions.status, test_set)
    row_of = _rows_by_id(predictions, test_set)
    scores, status = np.full(len(ids), np.nan), np.full(len(ids), NOT_GIVEN, np.uint8)
    for i, name in enumerate(ids):
        row = row_of.get(name)
        if row is not None:
            scores[i], status[i] = predictions.scores[row], predictions.status[row]
    return _called(predictions, scores, status, test_set)


def _called(
    predictions: Predictions, scores: npt.NDArray[np.float64], status: npt.NDArray[np.uint8], test_set: EvaluationSet
) -> ScoredExamples:
    """Scores with the thresholds of the run."""
    lengths = test_set.examples.lengths
    assert lengths is not None  # features were refused
    return ScoredExamples.called_by(predictions.thresholds, scores, status, lengths)


def _check_input(predictions: Predictions, test_set: EvaluationSet) -> None:
    run = predictions.run or {}
    if run["version"] in ("1.0", "1.1", "1.2"):
        raise InputError(
            f"is of version {run['version']}, whose input digest depends on the shard size",
            path=predictions.path / RUN_RECORD, hint="predict again with this version",
        )  # fmt: skip
    if run["input_digest"] != test_set.records_digest:
        raise InputError(
            f"the run's input (digest {str(run['input_digest'])[:12]}) is not the test set {test_set.path} "
            f"(digest {test_set.records_digest[:12] if test_set.records_digest else None})",
            path=predictions.path,
            hint=f"predict the test set itself: seqassay predict {test_set.source} -o RUN",
        )


def _rows_by_id(predictions: Predictions, test_set: EvaluationSet) -> dict[str, int]:
    row_of = {name: row for row, name in enumerate(predictions.ids)}
    for ids, path in ((predictions.ids, predictions.table_path), (test_set.examples.ids, test_set.source)):
        if len(set(ids)) < len(ids):
            seen: set[str] = set()
            twice = next(name for name in ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise InputError(f"the id {twice} stands there more than once: rows cannot be told apart", path=path)
    known = set(test_set.examples.ids)
    strange = [name for name in predictions.ids if name not in known]
    if strange:
        none = (
            "not one of its ids is" if len(strange) == len(predictions.ids) else f"{len(strange):,} of its ids are not"
        )
        raise InputError(
            f"{none} in the test set {test_set.path}; the first that is not: {strange[0]}", path=predictions.table_path,
            hint="ids are headers up to the first blank; give predictions of exactly this test set",
        )  # fmt: skip
    return row_of


def _read_table(path: Path) -> tuple[list[str], npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    lines = _lines(path)
    header = next(lines, "").split("\t")
    id_column = next((header.index(name) for name in _ID_NAMES if name in header), None)
    if id_column is None or "score" not in header:
        raise InputError(f"the header is {header}", path=path, line=1, hint=_TABLE)
    score_column, status_column = header.index("score"), header.index("status") if "status" in header else None
    ids, scores, status = [], [], []
    for number, line in enumerate(lines, 2):
        fields = line.split("\t")
        if len(fields) != len(header):
            raise InputError(
                f"{len(fields)} columns where the header has {len(header)}: a row that was cut", path=path, line=number
            )
        if not fields[id_column]:
            raise InputError("the id is empty", path=path, line=number)
        ids.append(fields[id_column])
        scores.append(_score(fields[score_column], path, number))
        said = fields[status_column] if status_column is not None else ""
        if np.isnan(scores[-1]):
            status.append(STATUSES.index(said) if said in STATUSES and said != STATUSES[CLASSIFIED] else NOT_GIVEN)
        else:
            status.append(STATUSES.index(said) if said in STATUSES else CLASSIFIED)
    if not ids:
        raise InputError("holds no row", path=path, hint=_TABLE)
    rounded: npt.NDArray[np.float64] = np.round(scores, SCORE_DECIMALS).astype(np.float64)
    return ids, rounded, np.array(status, np.uint8)


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file.

    Raises:
        InputError: no text, or cut within its last line.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith("\n"):
                    raise InputError("the last line has no line end: the file was cut", path=path, line=number)
                yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError("binary content, not a table", path=path, hint=_TABLE) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error


def _score(text: str, path: Path, line: int) -> float:
    if not text:
        return float("nan")
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        hint = "if scores are percentages, divide them by 100" if 1 < value <= 100 else _TABLE
        raise InputError(f"score is {text!r}; it has to be a number from 0 to 1", path=path, line=line, hint=hint)
    return value


def _sha256(path: Path) -> str:
    found = file_sha256(path)
    if found is None:
        raise InputError("is gone", path=path)
    return found
