"""Figures of a baseline that is not at hand itself: a JSON file, or JSON on the command line.

Either the five figures under their names, as fractions, or the ``metrics.json`` of an earlier `seqassay evaluate`,
which must be of the same test set.
"""

from __future__ import annotations

import difflib
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from seqassay.errors import InputError
from seqassay.prove.gate import exact
from seqassay.prove.record import FORMAT, SCORES_OF_HEAD, VERSION

REQUIRED = ("accuracy", "precision", "recall", "f1", "roc_auc")
_TAKEN = (*REQUIRED, "confusion_matrix", "n", "name")
_ROUNDING = 0.001  # a printed accuracy may differ from its confusion matrix by this
_EXAMPLE = '{"accuracy": 0.93, "precision": 0.92, "recall": 0.94, "f1": 0.93, "roc_auc": 0.98}'


@dataclass(frozen=True, slots=True)
class BaselineMetrics:
    """A baseline's figures.

    Attributes:
        figures: by name; None where the baseline's own record says that it is undefined.
        accuracy: exactly; from the confusion matrix where there is one.
        n: examples they are about; None where it is not said.
        test_set_digest: None for bare figures, whose test set nobody can check.
        ignored: keys that were not read.
        of_head_alone: a record says that its figures are of the bundle's head, and not of what `predict` gives.
    """

    name: str
    figures: Mapping[str, float | None]
    accuracy: Fraction
    n: int | None
    test_set_digest: str | None
    ignored: tuple[str, ...]
    of_head_alone: bool = False


def read_baseline_metrics(file_or_json: str) -> BaselineMetrics:
    """Parse and check.

    Raises:
        InputError: no JSON object, a figure that is missing, no number or out of its range; names the key.
    """
    inline = file_or_json.lstrip().startswith(("{", "["))
    place = "--baseline-metrics" if inline else file_or_json
    try:
        said = json.loads(file_or_json if inline else Path(file_or_json).read_bytes())
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}", path=place, hint=f"give a JSON file, or JSON itself: '{_EXAMPLE}'"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not JSON: {error}", path=place, hint=f"for example: {_EXAMPLE}") from error
    if not isinstance(said, dict):
        raise InputError(f"holds a JSON {type(said).__name__}, not an object", path=place, hint=f"such as: {_EXAMPLE}")
    if said.get("format") == FORMAT:
        return _of_record(said, place)
    name = said.get("name", "given figures" if inline else Path(file_or_json).name)
    said, place = _one_level_down(said, place)
    figures = {key: _fraction(said, key, place) for key in REQUIRED}
    n, matrix = _count(said, place), _matrix(said, place)
    accuracy = exact(figures["accuracy"])
    if matrix is not None:
        accuracy = Fraction(matrix[0][0] + matrix[1][1], sum(map(sum, matrix)))
        if abs(float(accuracy) - figures["accuracy"]) > _ROUNDING:
            raise InputError(
                f"accuracy is {figures['accuracy']:g}, but confusion_matrix makes it {float(accuracy):.4f}", path=place
            )
    ignored = tuple(sorted(key for key in said if key not in _TAKEN))
    return BaselineMetrics(str(name), figures, accuracy, n, None, ignored)


def _one_level_down(said: dict[str, Any], place: str) -> tuple[dict[str, Any], str]:
    """The figures themselves, where a tool has put them into an object of their own (``{"metrics": {...}}``).

    Raises:
        InputError: there are several such objects, of which one has to be chosen.
    """
    if any(key in said for key in REQUIRED):
        return said, place
    inner = {key: value for key, value in said.items() if isinstance(value, dict) and any(k in value for k in REQUIRED)}
    if not inner:
        return said, place
    if len(inner) > 1:
        raise InputError(
            f"holds figures in {' and '.join(map(repr, inner))}",
            path=place,
            hint="give the object that is meant, alone",
        )
    ((key, found),) = inner.items()
    return found, f"{place}, {key}"


def check_same_test_set(baseline: BaselineMetrics, digest: str) -> None:
    """Refuse a baseline's record that is of another test set.

    Raises:
        InputError: names both digests.
    """
    if baseline.test_set_digest not in (None, digest):
        raise InputError(
            f"the baseline's figures are of another test set ({str(baseline.test_set_digest)[:12]}) than this one "
            f"({digest[:12]})",
            hint="evaluate the baseline on this test set, or give its bundle: --baseline BUNDLE",
        )


def _of_record(said: Mapping[str, Any], place: str) -> BaselineMetrics:
    """What an earlier evaluation found."""
    version = str(said.get("version"))
    if version.split(".")[0] != VERSION.split(".")[0]:
        raise InputError(
            f"is {FORMAT} version {version!r}; this seqassay reads {VERSION.split('.')[0]}.x",
            path=place,
            hint="evaluate the baseline again",
        )
    try:
        values, matrix = said["values"], said["confusion_matrix"]["matrix"]
        found = {key: values[key]["value"] for key in REQUIRED}
        name, digest = said["identity"]["bundle"]["name"], said["identity"]["test_set"]["digest"]
        of_head = said.get("method", {}).get("scores") == SCORES_OF_HEAD  # no such key in older records
    except (KeyError, TypeError) as error:
        raise InputError(
            f"is cut or was changed: {error} is missing", path=place, hint="evaluate the baseline again"
        ) from error
    undefined = {key: None for key in REQUIRED if found[key] is None and key != "accuracy"}
    figures = {key: _fraction(found, key, place) for key in REQUIRED if key not in undefined}
    checked = _matrix({"confusion_matrix": matrix}, place)
    assert checked is not None
    n = sum(map(sum, checked))
    accuracy = Fraction(checked[0][0] + checked[1][1], n)
    return BaselineMetrics(str(name), {**figures, **undefined}, accuracy, n, str(digest), (), of_head)


def _fraction(said: Mapping[str, Any], key: str, place: str) -> float:
    if key not in said:
        near = difflib.get_close_matches(key.replace("_", ""), said, n=1, cutoff=0.5)
        found = f"; it holds {near[0]!r}" if near else ""
        raise InputError(
            f"key {key!r} is missing{found}", path=place, hint=f"needed are {', '.join(REQUIRED)}: {_EXAMPLE}"
        )
    value = said[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        hint = "figures are fractions from 0 to 1, such as 0.93 for 93%"
        raise InputError(f"key {key!r} is {json.dumps(value)}, not a number", path=place, hint=hint)
    if isinstance(value, float) and not math.isfinite(value):
        hint = "leave --baseline-metrics out where a figure of the baseline is not known"
        raise InputError(f"key {key!r} is {value}, not a number", path=place, hint=hint)
    if not 0 <= value <= 1:
        percent = f"if it is a percentage, write {value / 100:g}" if 1 < value <= 100 else "figures are fractions"
        shown = f"{value:g}" if abs(value) <= sys.float_info.max else "a number of hundreds of digits"
        raise InputError(f"key {key!r} is {shown}; it lies between 0 and 1", path=place, hint=percent)
    return float(value)


def _count(said: Mapping[str, Any], place: str) -> int | None:
    n = said.get("n")
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
        raise InputError(f"key 'n' is {n!r}; it is a number of examples", path=place)
    return n


def _matrix(said: Mapping[str, Any], place: str) -> list[list[int]] | None:
    """Rows are the truth, columns the calls, Non-Viral before Viral."""
    matrix = said.get("confusion_matrix")
    if matrix is None:
        return None
    good = isinstance(matrix, list) and len(matrix) == 2
    good = good and all(isinstance(row, list) and len(row) == 2 for row in matrix)
    cells = [cell for row in matrix for cell in row] if good else []
    good = good and all(isinstance(cell, int) and not isinstance(cell, bool) and cell >= 0 for cell in cells)
    if not good or not sum(cells):
        raise InputError(
            f"key 'confusion_matrix' is {matrix!r}",
            path=place,
            hint="it is [[true others, called virus], [missed virus, true virus]], in numbers of examples",
        )
    return [row[:] for row in matrix]
