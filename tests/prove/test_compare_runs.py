"""Runs and result files side by side: whose they are, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import make_tiny_bundle, random_reads, write_fasta

from seqassay.config import PredictSettings
from seqassay.errors import InputError, UsageError
from seqassay.predict.outputs import CHUNKS_TABLE, FRAMES_TABLE, SEQUENCES_TABLE
from seqassay.predict.run import predict as run_predict
from seqassay.prove.compare.command import Comparison, compare
from seqassay.prove.compare.settings import CompareSettings


@pytest.fixture(scope="module")
def reads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty short reads and two of several chunks."""
    records = [*random_reads(40), *((f"long{name}", bases) for name, bases in random_reads(2, length=700, seed=2))]
    return write_fasta(tmp_path_factory.mktemp("reads") / "reads.fa", records)


@pytest.fixture(scope="module")
def finished(tiny_bundle: Path, reads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    return predict(reads, tmp_path_factory.mktemp("runs") / "first", tiny_bundle)


def predict(reads: Path, out: Path, bundle: Path, **settings: Any) -> Path:
    run_predict(
        PredictSettings(
            inputs=(str(reads),), output_dir=out, model=str(bundle), device="cpu", threads=1, progress=False, **settings
        )
    )
    return out


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Comparison]:
    """Compare into ``out``."""

    def call(a: Path, b: Path, **settings: Any) -> Comparison:
        return compare(CompareSettings(a=a, b=b, output_dir=tmp_path / "out", **settings))

    return call


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be spoilt."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def change_record(folder: Path, **changes: Any) -> None:
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_run_beside_the_same_in_other_batches(run, finished: Path, reads: Path, tiny_bundle: Path, tmp_path) -> None:
    other = predict(reads, tmp_path / "other", tiny_bundle, batch=256)
    record = run(finished, other, min_agreement=0.3).record
    assert [level["level"] for level in record["levels"]] == ["frames", "chunks", "sequences"]
    assert record["identity"]["found"] == {"bundle": "same", "chunk-length": "same", "inputs": "same"}
    assert record["identity"]["a"]["chunk_length"] == 300
    assert list(record["identity"]["other_settings"]) == ["token_budgets"]
    for level in record["levels"]:
        assert level["flips"]["n"] == 0
        assert level["rows"]["in_both"] == level["rows"]["a"] == level["rows"]["b"] > 0
        assert level["scores"]["within_tolerance"]["value"] == 1
    assert record["levels"][2]["rows"]["a"] == 42
    assert record["levels"][2]["labels"]["called_in_neither"] > 0
    assert record["levels"][2]["statuses_changed"] == []
    assert record["verdict"] == "PASSED"
    assert record["notes"] == []
    sha256 = {Path(file["path"]).name: file["sha256"] for file in record["files"] if file["side"] == "A"}
    said = json.loads((finished / "run.json").read_text())["outputs"]
    assert sha256 == {output["name"]: output["sha256"] for output in said if output["name"] in sha256}


def test_another_bundle_is_refused_unless_named(run, finished: Path, reads: Path, tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle", calibrated=True)
    other = predict(reads, tmp_path / "other", bundle)
    with pytest.raises(UsageError, match=r"bundle: A has tiny \w{12}, B has tiny \w{12}") as caught:
        run(finished, other)
    assert caught.value.hint.endswith("--allow-different bundle")
    assert not (tmp_path / "out").exists()
    record = run(finished, other, allow_different=("bundle",)).record
    assert record["identity"]["found"]["bundle"] == "different"
    assert any(note.startswith("bundle differs, as allowed") for note in record["notes"])


def test_other_inputs_are_refused_unless_named(run, finished: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    other = predict(write_fasta(tmp_path / "r.fa", random_reads(30)), tmp_path / "other", tiny_bundle)
    with pytest.raises(UsageError, match="inputs: A has records with the digest") as caught:
        run(finished, other)
    assert caught.value.hint.endswith("--allow-different inputs")
    record = run(finished, other, allow_different=("inputs",)).record
    assert record["levels"][2]["rows"]["only_a"] == 12
    assert any("12 rows are in A alone and 0 in B alone" in note for note in record["notes"])


def test_another_chunk_length_is_seen_in_the_rows(run, finished: Path, copied: Path, tmp_path: Path) -> None:
    """Two chunks in place of three: what 500-bp chunks make of 700 bases."""
    table = (finished / SEQUENCES_TABLE).read_text()
    assert table.count("\t700\t3\t") == 2
    other = tmp_path / "other.tsv"
    other.write_text(table.replace("\t700\t3\t", "\t700\t2\t"))
    message = "chunk-length: 2 sequences of the same length were cut into another number of chunks"
    with pytest.raises(UsageError, match=message):
        run(finished / SEQUENCES_TABLE, other)
    assert not (tmp_path / "out").exists()
    record = run(finished / SEQUENCES_TABLE, other, allow_different=("chunk-length",)).record
    assert record["identity"]["found"]["chunk-length"] == "different"


def test_a_known_chunk_length_that_differs_is_refused(run, finished: Path, copied: Path) -> None:
    change_record(copied, bundle={"name": "b500", "digest": "f" * 64, "chunk_length": 500})
    with pytest.raises(UsageError, match="chunk-length: A has 300 bases, B has 500 bases") as caught:
        run(finished, copied, allow_different=("bundle",))
    assert caught.value.hint.endswith("--allow-different bundle,chunk-length")
    assert run(finished, copied, allow_different=("bundle", "chunk-length")).record["verdict"] == "SKIPPED"


def test_other_lengths_under_the_same_ids_are_other_inputs(run, finished: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tsv"
    other.write_text((finished / SEQUENCES_TABLE).read_text().replace("\t90\t", "\t91\t", 1))
    with pytest.raises(UsageError, match="inputs: 1 sequences have another length under the same id"):
        run(other, finished / SEQUENCES_TABLE)


def test_what_does_not_differ_is_not_to_be_named(run, finished: Path) -> None:
    with pytest.raises(UsageError, match="names inputs, but that is the same on both sides"):
        run(finished, finished, allow_different=("inputs",))
    with pytest.raises(UsageError, match="names encoder; these files differ in bundle or chunk-length or inputs"):
        run(finished, finished, allow_different=("encoder",))


def test_other_shard_sizes_are_the_same_inputs(run, finished: Path, reads: Path, tiny_bundle, tmp_path) -> None:
    other = predict(reads, tmp_path / "other", tiny_bundle, shard_size=10)
    record = run(finished, other).record
    assert record["identity"]["found"]["inputs"] == "same"
    assert record["identity"]["other_settings"] == {"shard_size": {"a": 8192, "b": 10}}
    assert record["notes"] == []


@pytest.mark.parametrize(("version", "found"), [("1.2", "unknown"), ("1.3", "same")])
def test_the_digest_of_an_older_record_is_another(run, finished: Path, copied: Path, version: str, found: str) -> None:
    change_record(copied, version=version)
    assert run(finished, copied).record["identity"]["found"]["inputs"] == found


def test_older_records_of_one_shard_size_know_their_inputs(run, copied: Path, tmp_path: Path) -> None:
    change_record(copied, version="1.2")
    twin = Path(shutil.copytree(copied, tmp_path / "twin"))
    assert run(copied, twin).record["identity"]["found"]["inputs"] == "same"


def test_another_chunk_rule_is_mentioned(run, finished: Path, reads: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    other = predict(reads, tmp_path / "other", tiny_bundle, chunk_rule="reference")
    notes = run(finished, other).record["notes"]
    assert "other chunk_rule: rows with one id need not be of the same bases" in notes


def test_result_files_alone_have_no_identity(run, finished: Path, tmp_path: Path) -> None:
    alone = tmp_path / "results.txt"
    shutil.copy(finished / FRAMES_TABLE, alone)
    record = run(finished, alone).record
    assert [level["level"] for level in record["levels"]] == ["frames"]
    assert record["identity"]["found"] == {"bundle": "unknown", "chunk-length": "unknown", "inputs": "unknown"}
    assert record["identity"]["a"]["known"]
    assert not record["identity"]["b"]["known"]
    assert "identity unknown: nothing says which model B is of" in record["notes"]


def test_a_result_file_beside_its_run_has_that_runs_identity(run, finished: Path, copied: Path) -> None:
    record = run(finished / CHUNKS_TABLE, copied / CHUNKS_TABLE).record
    assert record["identity"]["found"] == {"bundle": "same", "chunk-length": "same", "inputs": "same"}


def test_a_changed_result_file_has_no_identity_and_breaks_its_run(run, finished: Path, copied: Path) -> None:
    path = copied / FRAMES_TABLE
    path.write_text(path.read_text() + "more_chunk_1F1\tvirus\t0.25\t0.75\n")
    with pytest.raises(InputError, match="was changed since its run wrote it"):
        run(finished, copied)
    assert not run(finished, path).record["identity"]["b"]["known"]


def test_rows_in_another_order_and_number_are_compared_by_id(run, finished: Path, tmp_path: Path) -> None:
    header, *rows = (finished / FRAMES_TABLE).read_text().splitlines(keepends=True)
    other = tmp_path / "other.txt"
    other.write_text("".join([header, *reversed(rows[2:]), "new_chunk_1F1\tvirus\t0.25\t0.75\n"]))
    record = run(finished, other, min_agreement=0.5).record
    (level,) = record["levels"]
    assert (level["rows"]["only_a"], level["rows"]["only_b"], level["rows"]["same_order"]) == (2, 1, False)
    assert level["flips"]["n"] == 0
    assert level["labels"]["agreement_with_missing"]["value"] == (len(rows) - 2) / (len(rows) + 1)
    assert "frames: the rows stand in another order; they were compared by id" in record["notes"]


def test_virnucpros_own_table_of_chunks_compares_labels_alone(run, finished: Path, tmp_path: Path) -> None:
    rows = [line.split("\t")[:2] for line in (finished / CHUNKS_TABLE).read_text().splitlines()]
    other = tmp_path / "prediction_results_highestscore.csv"
    rows[1][1] = {"True": "False", "False": "True"}[rows[1][1]]
    other.write_text("".join("\t".join(row) + "\n" for row in [rows[0], *sorted(rows[1:])]))
    (level,) = run(finished, other).record["levels"]
    assert level["scores"] == {"compared": False, "why_not": "B has no score columns"}
    assert level["flips"] == {"n": 1, "with_scores": 0}


def test_calls_by_false_discovery_rate_are_mentioned(run, finished: Path, copied: Path) -> None:
    said = json.loads((copied / "run.json").read_text())
    change_record(copied, identity={**said["identity"], "fdr": 0.05})
    assert any(
        "sequences of B were called by their false discovery rate" in note
        for note in run(finished, copied).record["notes"]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "stopped"}, "the run is not finished: its status is 'stopped'"),
        ({"status": "running"}, "the run is not finished"),
        ({"format": "other"}, "not the record of a run"),
        ({"version": "2.0"}, "is of version '2.0'"),
        ({"bundle": None}, "not the record of a run"),
        ({"outputs": 3}, "not the record of a run"),
    ],
)
def test_folders_of_no_finished_run(run, finished: Path, copied: Path, tmp_path: Path, changes, message: str) -> None:
    change_record(copied, **changes)
    with pytest.raises(InputError, match=message) as caught:
        run(finished, copied)
    assert "run.json" in caught.value.message
    assert not (tmp_path / "out").exists()


def test_folders_without_a_record_or_a_table(run, finished: Path, copied: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: holds no run\.json") as caught:
        run(finished, tmp_path / "empty")
    assert "prediction_results.txt" in caught.value.hint
    (copied / CHUNKS_TABLE).unlink()
    with pytest.raises(InputError, match="this result file of the finished run is gone"):
        run(finished, copied)
    (copied / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json: is not JSON"):
        run(finished, copied)
    with pytest.raises(InputError, match="no such file or folder"):
        run(finished, tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()


def test_sides_that_have_nothing_in_common(run, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing to compare: A \(.*\) holds frames, B \(.*\) holds sequences"):
        run(finished / FRAMES_TABLE, finished / SEQUENCES_TABLE)
    other = tmp_path / "other.txt"
    other.write_text("Sequence_ID\tPrediction\tscore1\tscore2\nx_chunk_1F1\tvirus\t0.25\t0.75\n")
    with pytest.raises(InputError, match="not one row of"):
        run(finished, other)
    assert not (tmp_path / "out").exists()
