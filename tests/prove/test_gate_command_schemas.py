"""The published schemas: whole, themselves valid, and exact about the place that breaks one."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from seqassay.errors import SeqassayError
from seqassay.measure.schema import KINDS, check_schema, schema
from seqassay.prove.compare.command import compare
from seqassay.prove.compare.settings import CompareSettings
from seqassay.prove.evaluate import evaluate
from seqassay.prove.gates.command import gate
from seqassay.prove.gates.settings import GateSettings
from seqassay.prove.settings import EvaluateSettings

DOCS = Path(__file__).parents[2] / "docs/schemas"


@pytest.mark.parametrize("kind", KINDS)
def test_the_documentation_has_the_schemas_of_the_package(kind: str) -> None:
    Draft202012Validator.check_schema(schema(kind))
    assert json.loads((DOCS / f"{kind}.json").read_text()) == schema(kind)


def test_records_of_embeddings_and_of_few_examples(tmp_path: Path, write_labelled: Any, tiny_bundle: Path) -> None:
    """Figures without interval or value, a level without labels, figures alone as a baseline."""
    settings: dict[str, Any] = {"bundle": str(tiny_bundle), "device": "cpu", "threads": 1}
    figures = json.dumps({"accuracy": 0.5, "precision": 0.5, "recall": 0.5, "f1": 0.5, "roc_auc": 0.5})
    test = write_labelled(8, n_stopped=2)
    out = tmp_path / "evaluation"
    evaluate(EvaluateSettings(test=test, output_dir=out, baseline_metrics=figures, **settings))
    check_schema(json.loads((out / "metrics.json").read_text()), "evaluation")
    one_class = evaluate(
        EvaluateSettings(
            test=write_labelled(8, name="viral.fa", label="viral"), output_dir=tmp_path / "one", **settings
        )
    )
    check_schema(one_class.record, "evaluation")


@pytest.fixture
def records(tmp_path: Path, write_labelled: Any, tiny_bundle: Path) -> dict[str, dict[str, Any]]:
    """A record of each kind but a run's, as the commands write it."""
    options: dict[str, Any] = {"bundle": str(tiny_bundle), "device": "cpu", "threads": 1}
    evaluate(EvaluateSettings(test=write_labelled(40), output_dir=tmp_path / "e", baseline=str(tiny_bundle), **options))
    for name in ("a.txt", "b.txt"):
        rows = "".join(f"r{i}_chunk_1F1\tvirus\t0.1\t0.9\n" for i in range(30))
        (tmp_path / name).write_text("Sequence_ID\tPrediction\tscore1\tscore2\n" + rows)
    compare(CompareSettings(a=tmp_path / "a.txt", b=tmp_path / "b.txt", output_dir=tmp_path / "c"))
    (tmp_path / "gates.yaml").write_text("gates: {g: {metric: values.roc_auc, above: 0.5}}")
    gate(GateSettings(records=(str(tmp_path / "e"),), gates=tmp_path / "gates.yaml", output_dir=tmp_path / "g"))
    folders = {"evaluation": "e", "comparison": "c", "gate": "g"}
    return {kind: json.loads((tmp_path / folder / "metrics.json").read_text()) for kind, folder in folders.items()}


GONE = object()


def test_what_cannot_be_is_refused_with_its_place(records: dict[str, dict[str, Any]]) -> None:
    cases: list[tuple[str, tuple[Any, ...], Any, str]] = [
        ("evaluation", ("values", "roc_auc", "value"), 1.5, "values.roc_auc.value is 1.5, above 1"),
        ("evaluation", ("values", "mcc", "interval_95"), [-3, 0], "values.mcc.interval_95[0] is -3, below -1"),
        ("evaluation", ("comparison", "accuracy_drop", "difference"), -2, "comparison.accuracy_drop.difference is -2"),
        ("evaluation", ("by_group", 0, "roc_auc", "value"), "0.9", 'by_group[0].roc_auc.value is "0.9", not number'),
        ("evaluation", ("values", "f1"), GONE, "values lacks f1"),
        ("evaluation", ("calibration", "log_loss", "value"), -0.1, "calibration.log_loss.value is -0.1, below 0"),
        ("evaluation", ("version",), "1.0", 'version is "1.0"; known: 2.0'),
        ("evaluation", ("test_set", "sequences"), 3.5, "test_set.sequences is 3.5, not integer"),
        ("comparison", ("levels", 0, "labels", "agreement", "value"), 3.58, "levels[0].labels.agreement.value is 3.58"),
        ("comparison", ("levels", 0, "rows", "in_both"), GONE, "levels[0].rows lacks in_both"),
        ("comparison", ("provenance", "hardware"), GONE, "provenance lacks hardware"),
        ("comparison", ("kind",), "evaluation", 'kind is "evaluation"; known: comparison'),
        ("gate", ("gates", 0, "verdict"), "GOOD", 'gates[0].verdict is "GOOD"; known: PASSED'),
        ("gate", ("identity", "records", 0, "sha256"), "ab", 'identity.records[0].sha256 is "ab", against pattern'),
        ("gate", ("counts",), GONE, "the record lacks counts"),
    ]
    for kind, place, value, words in cases:
        record = copy.deepcopy(records[kind])
        check_schema(record, kind)
        *parents, last = place
        part: Any = record
        for name in parents:
            part = part[name]
        if value is GONE:
            del part[last]
        else:
            part[last] = value
        with pytest.raises(SeqassayError) as error:
            check_schema(record, kind)
        assert error.value.message.startswith(words), (place, error.value.message)
