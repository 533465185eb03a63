"""Bundles with a nucleotide head and a calibration: scores of every sequence with bases, q-values, `--fdr`."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import make_tiny_bundle, random_reads, write_fasta

from seqassay.config import PredictSettings
from seqassay.errors import UsageError
from seqassay.models.bundle import load_bundle
from seqassay.predict.outputs import SEQUENCES_TABLE, VIRAL_FASTA
from seqassay.predict.run import predict
from seqassay.predict.scoring import score_sequences
from seqassay.sequences.ragged import Ragged

READS = [*random_reads(140), ("short", "AC"), ("unknown", "NNNNNN"), ("long", "ACGGTTCA" * 120)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("calibrated"), calibrated=True)


@pytest.fixture
def settings(tmp_path: Path, bundle: Path) -> PredictSettings:
    reads = write_fasta(tmp_path / "reads.fasta", READS)
    return PredictSettings(
        inputs=(str(reads),), output_dir=tmp_path / "out", model=str(bundle), device="cpu", shard_size=32
    )


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / SEQUENCES_TABLE).open(newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def viral_ids(folder: Path) -> list[str]:
    text = gzip.decompress((folder / VIRAL_FASTA).read_bytes()).decode()
    return [line[1:] for line in text.splitlines() if line.startswith(">")]


def test_every_sequence_with_bases_has_a_score(settings: PredictSettings) -> None:
    record = predict(settings).record
    table = rows(settings.output_dir)
    assert [row["sequence_id"] for row in table] == [name for name, _ in READS]
    without_frame = [row for row in table if row["status"] == "no_frame"]
    assert without_frame
    for row in table:
        has_score = row["status"] in ("classified", "no_frame")
        assert bool(row["score"]) == bool(row["call"]) == bool(row["q_value"]) == has_score
        if has_score:
            assert row["call"] == ("virus" if float(row["score"]) >= 0.5 else "others")
    counts = record["counts"]
    assert counts["scored"] == counts["virus"] + counts["others"] == counts["classified"] + counts["no_frame"] == 141
    assert viral_ids(settings.output_dir) == [row["sequence_id"] for row in table if row["call"] == "virus"]


def test_scores_in_memory_are_those_of_the_command(settings: PredictSettings, bundle: Path) -> None:
    predict(settings)
    calls = score_sequences(load_bundle(bundle), Ragged.from_bytes(bases.encode() for _, bases in READS))
    written = [float(row["score"] or "nan") for row in rows(settings.output_dir)]
    np.testing.assert_allclose(calls.score, written, atol=2e-6)


def test_q_values_fall_with_the_score_and_fdr_calls_by_them(settings: PredictSettings) -> None:
    predict(settings)
    table = [row for row in rows(settings.output_dir) if row["score"]]
    table.sort(key=lambda row: -float(row["score"]))
    q = [float(row["q_value"]) for row in table]
    assert q == sorted(q)
    fdr = q[len(q) // 3]

    by_fdr = replace(settings, output_dir=settings.output_dir.with_name("fdr"), fdr=fdr)
    record = predict(by_fdr).record
    called = [row for row in rows(by_fdr.output_dir) if row["call"] == "virus"]
    assert {row["sequence_id"] for row in called} == {
        row["sequence_id"] for row in table if float(row["q_value"]) <= fdr
    }
    assert viral_ids(by_fdr.output_dir) == [row["sequence_id"] for row in called]
    assert record["counts"]["virus"] == len(called)
    assert record["calls"]["rule"] == f"q_value <= {fdr:g}"


def test_fastq_with_fdr_keeps_qualities(settings: PredictSettings, tmp_path: Path) -> None:
    reads = tmp_path / "reads.fastq"
    reads.write_text("".join(f"@{name} x\n{bases}\n+\n{'I' * len(bases)}\n" for name, bases in READS))
    record = predict(replace(settings, inputs=(str(reads),), fdr=0.6)).record
    text = gzip.decompress((settings.output_dir / "viral.fastq.gz").read_bytes()).decode().splitlines()
    assert len(text) == 4 * record["counts"]["virus"] > 0
    assert all(len(bases) == len(quality) for bases, quality in zip(text[1::4], text[3::4], strict=True))


def test_a_resumed_run_writes_the_same_bytes(settings: PredictSettings) -> None:
    whole = replace(settings, output_dir=settings.output_dir.with_name("whole"), fdr=0.5)
    predict(whole)
    part = replace(settings, fdr=0.5, keep_intermediate=True)
    predict(part)
    (part.output_dir / "run.json").unlink()
    (part.output_dir / "shards" / "shard-000002.zip").unlink()
    predict(replace(part, resume=True))
    for name in (SEQUENCES_TABLE, VIRAL_FASTA):
        assert (part.output_dir / name).read_bytes() == (whole.output_dir / name).read_bytes()


def test_another_rate_is_another_run(settings: PredictSettings) -> None:
    predict(replace(settings, fdr=0.5, keep_intermediate=True))
    (settings.output_dir / "run.json").unlink()
    with pytest.raises(UsageError, match=r"fdr was 0\.5, is now 0\.1"):
        predict(replace(settings, fdr=0.1, resume=True))


def test_fdr_needs_a_calibration(settings: PredictSettings, tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="the bundle tiny has no calibration"):
        predict(replace(settings, model=str(tiny_bundle), fdr=0.05))
    assert not settings.output_dir.exists()


@pytest.mark.parametrize("fdr", [0.0, 1.0, -0.1, 5.0])
def test_rates_outside_their_range(settings: PredictSettings, fdr: float) -> None:
    with pytest.raises(UsageError, match="a false discovery rate lies between 0 and 1"):
        replace(settings, fdr=fdr)


def test_without_a_calibration_q_values_are_empty(settings: PredictSettings, tiny_bundle: Path) -> None:
    record = predict(replace(settings, model=str(tiny_bundle))).record
    assert {row["q_value"] for row in rows(settings.output_dir)} == {""}
    said = json.loads((settings.output_dir / "run.json").read_text())["calls"]
    assert said == {"rule": "score >= 0.5", "threshold": "argmax"}
    assert record["counts"]["scored"] == record["counts"]["classified"]
