"""Every kind of record has a page: of the least that its schema asks for, with and without what may be null."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from seqassay.errors import InputError
from seqassay.measure.schema import KINDS, check_schema, schema
from seqassay.report.html.page import letters, record_page
from seqassay.report.html.records import Record, read_record


def example(kind: str, *, null: bool) -> dict[str, Any]:
    """A record of the kind: everything that its schema names, and null wherever it may be, or nowhere."""
    whole = schema(kind)

    def of(part: Mapping[str, Any]) -> Any:
        if "$ref" in part:
            beside = {key: value for key, value in part.items() if key != "$ref"}
            return of({**whole["$defs"][part["$ref"].rsplit("/", 1)[1]], **beside})
        if "allOf" in part:
            alone = {key: value for key, value in part.items() if key != "allOf"}
            return {key: value for one in (*part["allOf"], alone) for key, value in of(one).items()}
        if "const" in part:
            return part["const"]
        if "enum" in part:
            return part["enum"][-1]
        if "anyOf" in part and "type" not in part:
            return None if null and {"type": "null"} in part["anyOf"] else of(part["anyOf"][0])
        types = part.get("type", "object")
        types = [types] if isinstance(types, str) else types
        if types == ["null"] or (null and "null" in types):
            return None
        name = next(name for name in types if name != "null")
        if name == "object":
            found = {key: of(value) for key, value in part.get("properties", {}).items()}
            rest = part.get("additionalProperties") or {}
            found |= {key: of(rest) for key in part.get("required", ()) if key not in found}
            return found or ({"name": of(rest)} if part.get("minProperties") else {})
        if name == "array":
            return [of(part.get("items", {"type": "integer"})) for _ in range(max(1, part.get("minItems", 1)))]
        least = max(part.get("minimum", 0), 1 if "exclusiveMinimum" in part else 0)
        return {"string": "0" * 64 if "pattern" in part else "words <i>", "boolean": True}.get(name, least)

    record: dict[str, Any] = of(whole)
    # what a schema cannot say, or says by alternatives
    for name in ("roc", "precision_recall"):
        for curves in (record.get("curves"), (record.get("comparison") or {}).get("baseline_curves")):
            if curves:
                curves[name] = {"why_undefined": "one class"}
    if kind == "evaluation":
        record["confusion_matrix"]["classes"] = ["Non-Viral", "Viral"]
        record["curves"]["histogram"]["edges"] = [0.0, 1.0]
    if kind == "run" and record["calls"]:
        record["calls"]["false_discovery_rate"] |= {"can_tell": False, "reason": "too few"}
    return record


@pytest.mark.parametrize("null", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_the_least_record_of_every_kind_has_a_page(kind: str, null: bool, tmp_path: Path) -> None:
    record = example(kind, null=null)
    check_schema(record, kind)
    (tmp_path / "metrics.json").write_text(json.dumps(record))
    read = read_record(tmp_path)
    assert read.kind == kind
    html = record_page([read])
    assert "<i>" not in html and "<h2>Provenance</h2>" in html
    assert "None" not in html
    other = copy.deepcopy(record) | {"written_at": "later"}
    both = record_page([read, Record(kind, other, tmp_path / "other.json")])
    assert f"2 {kind} records side by side" in both


def test_a_part_that_the_schema_leaves_open_and_the_page_needs(tmp_path: Path) -> None:
    record = example("gate", null=True)
    del record["identity"]["records"][0]["sha256"]
    path = tmp_path / "metrics.json"
    with pytest.raises(InputError, match=r"metrics.json: is no whole record of the kind 'gate': KeyError\('sha256'\)"):
        record_page([Record("gate", record, path)])


def test_letters_go_on_after_z() -> None:
    assert [letters(i) for i in (0, 1, 25, 26, 27, 701, 702)] == ["A", "B", "Z", "AA", "AB", "ZZ", "AAA"]
