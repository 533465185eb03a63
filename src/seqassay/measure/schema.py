"""The published schemas of records, and the place in a record that breaks one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from seqassay.errors import SeqassayError

KINDS = (
    "evaluation",
    "comparison",
    "run",
    "gate",
    "speed",
    "pipeline",
    "scan",
    "lm_evaluation",
    "lm_training",
    "lm_generation",
    "lm_text_scores",
    "lm_sweep",
    "lm_harness",
)  # each has schemas/KIND.json


@cache
def schema(kind: str) -> Mapping[str, Any]:
    """The JSON Schema (2020-12) of a kind of record."""
    text = resources.files("seqassay").joinpath("schemas", f"{kind}.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def check_schema(record: Any, kind: str) -> None:
    """The record is one of its kind: every key there, of its type, no figure out of its range, of a known version.

    Raises:
        SeqassayError: names the first place that is not as the schema has it.
    """
    from jsonschema import Draft202012Validator  # 75 ms to import: only who writes or reads a record waits for it

    as_written = json.loads(json.dumps(record, allow_nan=False))  # tuples are lists in the file
    errors = sorted(
        Draft202012Validator(schema(kind)).iter_errors(as_written), key=lambda error: list(map(str, error.path))
    )
    if errors:
        error = errors[0]
        while error.context:  # alternatives: of the one that fits farthest, what is wrong lies deepest
            error = max(error.context, key=lambda inner: len(inner.absolute_path))
        raise SeqassayError(f"{_place(error.absolute_path)}{_what(error)}")


def _place(path: Any) -> str:
    """``levels[0].labels.agreement``; the record itself for what it lacks at its top."""
    text = ""
    for name in path:
        text += f"[{name}]" if isinstance(name, int) else f".{name}" if text else str(name)
    return f"{text} " if text else "the record "


def _what(error: Any) -> str:
    """What is wrong there, without the whole of what stands there."""
    found, wanted = error.instance, error.validator_value
    shown = _short(found)
    if error.validator == "required":
        return f"lacks {', '.join(name for name in wanted if name not in found)}"
    if error.validator in ("minimum", "maximum"):
        return f"is {shown}, {'below' if error.validator == 'minimum' else 'above'} {wanted:g}"
    if error.validator == "type":
        return f"is {shown}, not {' or '.join([wanted] if isinstance(wanted, str) else wanted)}"
    if error.validator in ("enum", "const"):
        known = wanted if error.validator == "enum" else [wanted]
        return f"is {shown}; known: {', '.join(map(str, known))}"
    return f"is {shown}, against {error.validator} {wanted}"


def _short(value: Any, limit: int = 60) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
