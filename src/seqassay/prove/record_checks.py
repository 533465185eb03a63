"""A record that was read: held against its schema, and against what a schema cannot say, such as sums of counts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from seqassay.errors import InputError, SeqassayError
from seqassay.measure.schema import check_schema
from seqassay.predict.counts import Counts
from seqassay.prove.compare.record import check_record as check_comparison
from seqassay.prove.lm.record import check_record as check_lm_evaluation
from seqassay.prove.record import check_record as check_evaluation
from seqassay.prove.speed.record import check_record as check_speed
from seqassay.prove.sweep.record import check_record as check_lm_sweep


def check_content(content: dict[str, Any], kind: str, path: Path) -> None:
    """Refuse a record with a figure that cannot be.

    Raises:
        InputError: names the file, and the figure.
    """
    try:
        check_schema(content, kind)
        _check_sums(content, kind)
    except SeqassayError as error:
        raise InputError(error.message, path=path, hint="make it again, or name another") from error
    except (KeyError, TypeError) as error:  # of embeddings and heads' records, parts that the schema leaves open
        raise InputError(f"is no whole record of the kind {kind!r}: {error!r}", path=path) from error


def _check_sums(content: dict[str, Any], kind: str) -> None:
    if kind == "evaluation":
        check_evaluation(content)
    elif kind == "comparison":
        check_comparison(content)
    elif kind == "speed":
        check_speed(content)
    elif kind == "lm_evaluation":
        check_lm_evaluation(content)
    elif kind == "lm_sweep":
        check_lm_sweep(content)
    elif kind == "pipeline":
        from seqassay.prove.pipeline.record import check_record  # with PyTorch, which takes seconds to import

        check_record(content)
    elif kind == "run" and content["status"] == "done":
        known = {field.name for field in dataclasses.fields(Counts)}
        Counts(**{name: n for name, n in content["counts"].items() if name in known}).check()
