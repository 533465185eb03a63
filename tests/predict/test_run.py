"""Whole runs in this process, with a tiny bundle of random weights."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import random_reads, write_fasta

from seqassay.config import PredictSettings
from seqassay.engine.embed import load_encoder
from seqassay.errors import InputError, ResourceError, SeqassayError, StoppedError, UsageError
from seqassay.measure.stages import PREDICT_STAGES
from seqassay.models.attention import PackedLayout
from seqassay.models.bundle import load_bundle
from seqassay.predict import run as run_module
from seqassay.predict.prepare import Model
from seqassay.predict.run import predict
from seqassay.predict.stop import StopRequested
from seqassay.sequences.ragged import Ragged

TABLES = ("prediction_results.txt", "prediction_results_highestscore.csv", "sequences.tsv")
AMINO_ACIDS = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"  # codons in the order TCAG


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in (".txt", ".csv", ".tsv", ".gz")}


def naive_frames(bases: str) -> list[tuple[str, str, str]]:
    """Frame name, protein, nucleotide partner, one codon after the other."""
    reverse = bases[::-1].translate(str.maketrans("ACGT", "TGCA"))
    found = []
    for strand, letter in ((bases, "F"), (reverse, "R")):
        for start in range(3):
            codons = [strand[i : i + 3] for i in range(start, len(strand) - 2, 3)]
            protein = "".join(
                AMINO_ACIDS["TCAG".index(a) * 16 + "TCAG".index(b) * 4 + "TCAG".index(c)] for a, b, c in codons
            )
            if protein and "*" not in protein:
                found.append((f"{letter}{start + 1}", protein, strand[start : start + 3 * len(protein) + 1]))
    return found


def naive_embedding(encoder_folder: Path, sequence: str, *, leave_out: int) -> torch.Tensor:
    encoder = load_encoder(encoder_folder)
    tokens = encoder.tokenizer.encode(Ragged.from_bytes([sequence.encode()]))
    layout = PackedLayout.from_lengths(tokens.lengths, torch.device("cpu"))
    hidden_TD = encoder.model(torch.from_numpy(tokens.values), layout)
    return hidden_TD[leave_out : len(hidden_TD) - leave_out].mean(dim=0)


@torch.inference_mode()
def test_the_results_equal_one_frame_at_a_time(settings: PredictSettings) -> None:
    records = random_reads(12, length=60)
    write_fasta(Path(settings.inputs[0]), records)
    result = predict(replace(settings, precision="exact"))
    bundle = load_bundle(settings.model)
    head = bundle.load_head()
    expected = {}
    for name, bases in records:
        for frame, protein, nucleotide in naive_frames(bases):
            merged = torch.cat(
                [
                    naive_embedding(bundle.nucleotide_path, nucleotide, leave_out=0),
                    naive_embedding(bundle.protein_path, protein, leave_out=1),
                ]
            )
            expected[f"{name}_chunk_1{frame}"] = torch.softmax(head(merged[None]), dim=1)[0].numpy()
    found = rows(result.folder / TABLES[0])
    assert [row["Sequence_ID"] for row in found] == list(expected)
    assert len(found) > 12
    for row in found:
        others, virus = expected[row["Sequence_ID"]]
        assert float(row["score1"]) == pytest.approx(others, abs=1e-5)
        assert float(row["score2"]) == pytest.approx(virus, abs=1e-5)
        assert row["Prediction"] == ("virus" if float(row["score2"]) > float(row["score1"]) else "others")


def test_the_tables_follow_from_the_frames(settings: PredictSettings) -> None:
    folder = predict(settings).folder
    frames, chunks, sequences = (rows(folder / name) for name in TABLES)
    by_chunk: dict[str, list[tuple[np.float32, np.float32]]] = {}
    for row in frames:
        by_chunk.setdefault(row["Sequence_ID"][:-2], []).append((np.float32(row["score1"]), np.float32(row["score2"])))
    assert [row["Modified_ID"] for row in chunks] == list(by_chunk)
    for row in chunks:
        others, virus = (max(column) for column in zip(*by_chunk[row["Modified_ID"]], strict=True))
        assert (np.float32(row["max_score_0"]), np.float32(row["max_score_1"])) == (others, virus)
        assert row["Is_Virus"] == str(virus >= others)
    assert [row["sequence_id"] for row in sequences] == [f"read{i}" for i in range(1, 101)]
    scores = {row["Modified_ID"].removesuffix("_chunk_1"): row for row in chunks}
    for row in sequences:
        assert (row["length"], row["n_chunks"]) == ("90", "1")
        assert row["n_frames"] == str(len(by_chunk.get(f"{row['sequence_id']}_chunk_1", [])))
        if row["sequence_id"] not in scores:
            assert (row["status"], row["score"], row["call"]) == ("no_frame", "", "")
            continue
        others, virus = (float(scores[row["sequence_id"]][f"max_score_{i}"]) for i in (0, 1))
        assert float(row["score"]) == pytest.approx(virus / (others + virus), abs=1e-6)
        assert row["call"] == ("virus" if float(row["score"]) >= 0.5 else "others")
    assert {row["call"] for row in sequences} == {"virus", "others", ""}  # the input exercises all three


def test_the_headers_are_those_of_the_reference(settings: PredictSettings) -> None:
    folder = predict(settings).folder
    assert (folder / TABLES[0]).read_text().startswith("Sequence_ID\tPrediction\tscore1\tscore2\nread")
    assert (folder / TABLES[1]).read_text().startswith("Modified_ID\tIs_Virus\tmax_score_0\tmax_score_1\nread")
    assert (
        (folder / TABLES[2])
        .read_text()
        .startswith("sequence_id\tlength\tn_chunks\tn_frames\tstatus\tscore\tcall\tq_value\nread1\t")
    )


def test_the_counts_add_up_and_agree_with_the_tables(settings: PredictSettings) -> None:
    result = predict(settings)
    counts = result.record["counts"]
    frames, chunks, sequences = (rows(result.folder / name) for name in TABLES)
    assert counts["sequences"] == len(sequences) == 100
    assert counts["frames"] == len(frames) == sum(int(row["n_frames"]) for row in sequences)
    assert counts["chunks_classified"] == len(chunks)
    for status in ("classified", "no_frame", "too_short", "no_bases"):
        assert counts[status] == sum(row["status"] == status for row in sequences)
    for call in ("virus", "others"):
        assert counts[call] == sum(row["call"] == call for row in sequences)
    assert counts["frames_virus"] == sum(row["Prediction"] == "virus" for row in frames)
    assert result.record["shards"] == 5


def test_the_record_on_disk_is_the_result_and_is_whole(settings: PredictSettings) -> None:
    result = predict(settings)
    record = json.loads((result.folder / "run.json").read_text())
    assert record == json.loads(json.dumps(result.record))
    assert record["status"] == "done"
    assert [stage["stage"] for stage in record["stages"]][:9] == list(PREDICT_STAGES)
    assert all(stage["seconds"] > 0 for stage in record["stages"])
    assert sum(stage["share"] for stage in record["stages"]) == pytest.approx(1, abs=1e-4)
    assert 0 < record["packing"]["efficiency"] <= 1
    assert record["packing"]["real_tokens"] <= record["packing"]["capacity_tokens"]
    assert record["bundle"]["digest"] == load_bundle(settings.model).digest
    assert record["inputs"] == [{"name": settings.inputs[0], "bytes": Path(settings.inputs[0]).stat().st_size}]
    assert record["settings"]["shard_size"] == 20
    assert record["loader_wait"]["count"] == 5
    assert not (result.folder / "shards").exists()
    for output in record["outputs"]:
        assert (result.folder / output["name"]).stat().st_size == output["bytes"]


def test_the_same_input_gives_the_same_bytes(settings: PredictSettings, tmp_path: Path) -> None:
    first, second = predict(settings), predict(replace(settings, output_dir=tmp_path / "again"))
    assert all_bytes(first.folder) == all_bytes(second.folder)
    assert first.record["input_digest"] == second.record["input_digest"]


def test_shard_size_changes_no_call(settings: PredictSettings, tmp_path: Path) -> None:
    whole = predict(settings)
    first = rows(whole.folder / "sequences.tsv")
    other = predict(replace(settings, output_dir=tmp_path / "b", shard_size=7))
    second = rows(other.folder / "sequences.tsv")
    assert [(r["sequence_id"], r["status"], r["n_frames"]) for r in first] == [
        (r["sequence_id"], r["status"], r["n_frames"]) for r in second
    ]
    for a, b in zip(first, second, strict=True):
        assert a["score"] == b["score"] == "" or float(a["score"]) == pytest.approx(float(b["score"]), abs=1e-5)
    assert other.record["input_digest"] == whole.record["input_digest"]


def test_translation_settings_override_the_bundle(settings: PredictSettings) -> None:
    records = [("stop in code 1", "ATGTGA" * 10), ("contig", "ACG" * 167), ("n", "ACGACN" * 10)]
    write_fasta(Path(settings.inputs[0]), records)

    def table(**changes: object) -> list[tuple[str, str]]:
        result = predict(replace(settings, force=True, **changes))
        assert result.record["identity"].items() >= changes.items()
        frames = rows(result.folder / "prediction_results.txt")
        return [(r["Sequence_ID"], r["score2"]) for r in frames]

    default = table()
    assert "stop_chunk_1F1" not in dict(default)
    assert "stop_chunk_1F1" in dict(table(genetic_code=2))  # TGA is a tryptophan in vertebrate mitochondria
    by_reference = dict(table(chunk_rule="reference"))
    assert by_reference["contig_chunk_2F1"] != dict(default)["contig_chunk_2F1"]
    assert dict(table(ambiguity="X"))["n_chunk_1F1"] != dict(default)["n_chunk_1F1"]  # 20 residues, not 10
    with pytest.raises(UsageError, match="unknown genetic code 99"):
        predict(replace(settings, genetic_code=99, force=True))


def test_viral_sequences_come_out_as_fasta_with_their_headers(settings: PredictSettings) -> None:
    records = [(f"{name} whole header\twith é", bases) for name, bases in random_reads(40)]
    write_fasta(Path(settings.inputs[0]), records)
    result = predict(settings)
    called = [row["call"] == "virus" for row in rows(result.folder / "sequences.tsv")]
    assert 0 < sum(called) < 40
    expected = "".join(f">{h}\n{b}\n" for (h, b), is_virus in zip(records, called, strict=True) if is_virus)
    assert gzip.decompress((result.folder / "viral.fasta.gz").read_bytes()).decode() == expected


def test_viral_reads_come_out_as_fastq_with_their_qualities(settings: PredictSettings, tmp_path: Path) -> None:
    qualities = ["".join(chr(33 + (i * j) % 60) for j in range(90)) for i in range(1, 41)]
    text = [f"@{n} 1:N:0\n{b}\n+\n{q}\n" for (n, b), q in zip(random_reads(40), qualities, strict=True)]
    (tmp_path / "reads.fq").write_text("".join(text))
    result = predict(replace(settings, inputs=(str(tmp_path / "reads.fq"),)))
    called = [row["call"] == "virus" for row in rows(result.folder / "sequences.tsv")]
    expected = "".join(record for record, is_virus in zip(text, called, strict=True) if is_virus)
    assert gzip.decompress((result.folder / "viral.fastq.gz").read_bytes()).decode() == expected
    assert not (result.folder / "viral.fasta.gz").exists()


def test_duplicates_are_kept_apart_and_identical_frames_embedded_once(settings: PredictSettings) -> None:
    (_, bases) = random_reads(1)[0]
    write_fasta(Path(settings.inputs[0]), [("same", bases)] * 5 + [("other", bases)])
    result = predict(settings)
    sequences = rows(result.folder / "sequences.tsv")
    assert [row["sequence_id"] for row in sequences] == ["same"] * 5 + ["other"]
    assert len({row["score"] for row in sequences}) == 1
    counts = result.record["counts"]
    assert counts["frames"] == 6 * counts["frames_distinct_protein"] == 6 * counts["frames_distinct_nucleotide"]


def test_every_status_has_its_row(settings: PredictSettings) -> None:
    records = [
        ("stops", "TAATAATAATTAATTAATTAA"),
        ("one", "A"),
        ("two", "NN"),
        ("unknown", "N" * 50),
        ("good", "GCT" * 20),
    ]
    write_fasta(Path(settings.inputs[0]), records)
    sequences = rows(predict(settings).folder / "sequences.tsv")
    assert [row["status"] for row in sequences] == ["no_frame", "too_short", "too_short", "no_bases", "classified"]
    assert [row["score"] != "" for row in sequences] == [False] * 4 + [True]


def test_nothing_classified_is_a_result_too(settings: PredictSettings) -> None:
    write_fasta(Path(settings.inputs[0]), [("a", "A"), ("b", "N" * 40)])
    result = predict(settings)
    assert [len(rows(result.folder / name)) for name in TABLES] == [0, 0, 2]
    assert gzip.decompress((result.folder / "viral.fasta.gz").read_bytes()) == b""
    assert result.record["packing"]["efficiency"] is None


def test_contigs_are_cut_into_chunks(settings: PredictSettings) -> None:
    write_fasta(Path(settings.inputs[0]), [*random_reads(1, length=1000, seed=3), ("coding", "GCTGCA" * 200)])
    folder = predict(settings).folder
    sequences = rows(folder / "sequences.tsv")
    assert [(row["length"], row["n_chunks"]) for row in sequences] == [("1000", "4"), ("1200", "4")]
    names = {row["Modified_ID"] for row in rows(folder / TABLES[1])}
    assert {f"coding_chunk_{i}" for i in range(1, 5)} <= names


def test_a_contig_of_ten_million_bases(settings: PredictSettings) -> None:
    bases = np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(1).integers(0, 4, 10_000_000)].tobytes().decode()
    write_fasta(Path(settings.inputs[0]), [("long", bases), ("short", "GCTGCA")])
    sequences = rows(predict(settings).folder / "sequences.tsv")
    assert [(row["sequence_id"], row["length"], row["n_chunks"]) for row in sequences] == [
        ("long", "10000000", "33334"),
        ("short", "6", "1"),
    ]


def test_pairs_are_two_records(settings: PredictSettings, tmp_path: Path) -> None:
    forward, reverse = tmp_path / "r1.fa", tmp_path / "r2.fa"
    write_fasta(forward, random_reads(30, seed=1))
    write_fasta(reverse, random_reads(30, seed=2))
    result = predict(replace(settings, inputs=(str(forward), str(reverse)), pairing="two-files"))
    ids = [row["sequence_id"] for row in rows(result.folder / "sequences.tsv")]
    assert ids == [f"read{i}/{mate}" for i in range(1, 31) for mate in (1, 2)]


# --- resuming ---------------------------------------------------------------------------------------------------


class Interrupted(Exception):
    """Raised in place of scoring a shard."""


def run_until_shard(
    settings: PredictSettings, number: int, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Run with ``error`` raised instead of scoring the shard of this number."""
    original = Model.score

    def score(self: Model, prepared: object, progress: object) -> object:
        if prepared.shard.index == number:
            raise error
        return original(self, prepared, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Model, "score", score)
        predict(settings)


@pytest.fixture
def interrupted(settings: PredictSettings, monkeypatch: pytest.MonkeyPatch) -> PredictSettings:
    """Settings to resume a run that ended before its fourth shard."""
    with pytest.raises(Interrupted):
        run_until_shard(settings, 3, monkeypatch, Interrupted("at shard 3"))
    return replace(settings, resume=True)


def count_scored(settings: PredictSettings, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Run, and return the numbers of the shards that were computed."""
    scored, original = [], Model.score

    def score(self: Model, prepared: object, progress: object) -> object:
        scored.append(prepared.shard.index)
        return original(self, prepared, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Model, "score", score)
        predict(settings)
    return scored


def test_a_failed_run_leaves_its_shards_and_says_so(interrupted: PredictSettings) -> None:
    names = sorted(path.name for path in interrupted.output_dir.iterdir())
    assert names == ["run.json", "shards"]
    record = json.loads((interrupted.output_dir / "run.json").read_text())
    assert (record["status"], record["error"]) == ("failed", "at shard 3")
    assert record["input_digest"] is None


def test_resuming_computes_only_what_is_missing(
    interrupted: PredictSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = {path.name for path in (interrupted.output_dir / "shards").glob("shard-*.zip")}
    assert committed >= {"shard-000000.zip"}
    scored = count_scored(interrupted, monkeypatch)
    assert scored == list(range(len(committed), 5))
    whole = predict(replace(interrupted, resume=False, output_dir=tmp_path / "whole"))
    assert all_bytes(interrupted.output_dir) == all_bytes(whole.folder)
    record = json.loads((interrupted.output_dir / "run.json").read_text())
    assert record["resumed_sequences"] == 20 * len(committed)
    assert record["counts"] == whole.record["counts"]
    assert record["input_digest"] == whole.record["input_digest"]


def test_a_damaged_shard_is_computed_again(interrupted: PredictSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = interrupted.output_dir / "shards" / "shard-000000.zip"
    shard.write_bytes(shard.read_bytes()[:-40])
    assert count_scored(interrupted, monkeypatch)[0] == 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"shard_size": 10}, "shard_size was 20, is now 10"),
        ({"ambiguity": "X"}, "ambiguity was 'drop', is now 'X'"),
        ({"precision": "exact"}, "precision was 'float32', is now 'exact'"),
        ({"batch": 100}, "token_budgets was"),
        ({"inputs": ("other.fa",)}, "inputs was ['reads.fa'], is now ['other.fa']"),
    ],
)
def test_another_run_is_not_resumed(
    interrupted: PredictSettings, change: dict[str, object], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(interrupted.inputs[0]).parent)
    write_fasta(Path("other.fa"), random_reads(100))
    with pytest.raises(UsageError) as caught:
        predict(replace(interrupted, **change))
    assert named in caught.value.message
    assert (interrupted.output_dir / "shards" / "shard-000000.zip").exists()


def test_an_input_that_changed_is_named_by_shard_and_records(interrupted: PredictSettings) -> None:
    records = random_reads(100)
    records[3] = ("read4", "ACGT" * 20)
    write_fasta(Path(interrupted.inputs[0]), records)
    with pytest.raises(InputError, match="shard 0, records 1 to 20"):
        predict(interrupted)


def test_an_input_that_became_shorter_is_refused(interrupted: PredictSettings) -> None:
    n_committed = len(list((interrupted.output_dir / "shards").glob("shard-*.zip")))
    assert n_committed >= 2
    write_fasta(Path(interrupted.inputs[0]), random_reads(20))
    with pytest.raises(InputError, match="shorter"):
        predict(interrupted)


def test_resuming_a_finished_run_changes_nothing(settings: PredictSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    before = all_bytes(predict(settings).folder)
    resumed = replace(settings, resume=True)
    assert count_scored(resumed, monkeypatch) == []
    assert predict(resumed).was_done
    assert all_bytes(settings.output_dir) == before
    with pytest.raises(UsageError, match="shard_size"):
        predict(replace(resumed, shard_size=21))
    (settings.output_dir / "sequences.tsv").unlink()
    with pytest.raises(UsageError, match=r"sequences\.tsv: an output of the finished run is gone"):
        predict(resumed)


def test_kept_shards_make_the_outputs_again(settings: PredictSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = replace(settings, keep_intermediate=True)
    before = all_bytes(predict(kept).folder)
    assert len(list((kept.output_dir / "shards").glob("shard-*.zip"))) == 5
    (kept.output_dir / "sequences.tsv").unlink()
    assert count_scored(replace(kept, resume=True), monkeypatch) == []
    assert all_bytes(kept.output_dir) == before


def test_resume_in_a_new_place_begins(settings: PredictSettings) -> None:
    assert predict(replace(settings, resume=True)).record["counts"]["sequences"] == 100


def test_a_stop_keeps_the_shards_and_names_the_command(
    settings: PredictSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoppedError) as caught:
        run_until_shard(settings, 2, monkeypatch, StopRequested("SIGTERM"))
    assert caught.value.exit_code == 3
    assert "stopped by SIGTERM" in caught.value.message
    assert f"--output-dir {settings.output_dir}" in caught.value.hint
    assert caught.value.hint.endswith("--resume")
    assert json.loads((settings.output_dir / "run.json").read_text())["status"] == "stopped"
    assert predict(replace(settings, resume=True)).record["counts"]["sequences"] == 100


def test_out_of_memory_is_resumable(settings: PredictSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResourceError) as caught:
        run_until_shard(settings, 2, monkeypatch, MemoryError())
    assert caught.value.exit_code == 4
    assert predict(replace(settings, resume=True)).record["counts"]["sequences"] == 100


# --- the folder -------------------------------------------------------------------------------------------------


def test_force_replaces_the_run_and_leaves_foreign_files(settings: PredictSettings) -> None:
    predict(replace(settings, keep_intermediate=True))
    (settings.output_dir / "notes.txt").write_text("mine")
    (settings.output_dir / "shards" / "notes.txt").write_text("mine too")
    with pytest.raises(UsageError, match="not empty"):
        predict(settings)
    write_fasta(Path(settings.inputs[0]), random_reads(7))
    result = predict(replace(settings, force=True))
    assert len(rows(result.folder / "sequences.tsv")) == 7
    assert (settings.output_dir / "notes.txt").read_text() == "mine"
    assert (settings.output_dir / "shards" / "notes.txt").read_text() == "mine too"


def test_force_with_a_bad_input_keeps_the_old_run(settings: PredictSettings) -> None:
    before = all_bytes(predict(settings).folder)
    Path(settings.inputs[0]).write_text(">a\n")
    with pytest.raises(InputError):
        predict(replace(settings, force=True))
    assert all_bytes(settings.output_dir) == before


def test_resume_in_a_foreign_folder_is_refused(settings: PredictSettings) -> None:
    settings.output_dir.mkdir()
    (settings.output_dir / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"no run to resume \(it holds thesis.tex\)"):
        predict(replace(settings, resume=True))
    assert [path.name for path in settings.output_dir.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_way(settings: PredictSettings) -> None:
    settings.output_dir.write_text("")
    for place in (settings.output_dir, settings.output_dir / "below"):
        with pytest.raises(UsageError, match="a file is in the way"):
            predict(replace(settings, output_dir=place))


def test_two_runs_do_not_share_a_folder(settings: PredictSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    original = run_module.finish

    def second_run_first(*arguments: object) -> object:
        with pytest.raises(UsageError, match="another run is working there"):
            predict(replace(settings, resume=True))
        return original(*arguments)

    monkeypatch.setattr(run_module, "finish", second_run_first)
    assert predict(settings).record["status"] == "done"


def test_a_bad_first_record_leaves_no_folder(settings: PredictSettings) -> None:
    Path(settings.inputs[0]).write_text(">a\nMKVLHW\n")
    with pytest.raises(InputError, match="record 1"):
        predict(replace(settings, output_dir=settings.output_dir / "deep" / "deeper"))
    assert not settings.output_dir.exists()


def test_a_bad_later_record_leaves_no_output_and_can_be_mended(settings: PredictSettings) -> None:
    # files are read a mebibyte at a time: with these headers the bad record is not in the first
    records = [(f"{name} {'x' * 20_000}", bases) for name, bases in random_reads(100)]
    write_fasta(Path(settings.inputs[0]), [*records[:70], ("bad", "ACGTMKVLHW"), *records[71:]])
    with pytest.raises(InputError, match="record 71") as caught:
        predict(settings)
    assert caught.value.hint.endswith("--resume")
    assert sorted(path.name for path in settings.output_dir.iterdir()) == ["run.json", "shards"]
    assert json.loads((settings.output_dir / "run.json").read_text())["status"] == "failed"
    write_fasta(Path(settings.inputs[0]), records)
    assert predict(replace(settings, resume=True)).record["counts"]["sequences"] == 100


def test_an_inconsistency_is_an_error_and_no_output(settings: PredictSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqassay.predict.outputs.sequence_rows", lambda shard, calls: "one row\n")
    with pytest.raises(SeqassayError, match=r"rows of sequences\.tsv: 1 against 20"):
        predict(settings)
    assert json.loads((settings.output_dir / "run.json").read_text())["status"] == "failed"


def test_the_record_tells_how_busy_the_run_was(settings: PredictSettings) -> None:
    record = predict(replace(settings, prefetch=2, force=True)).record
    shards = record["shards"]
    assert shards > 1
    assert {name: (queue["depth"], queue["visits"]) for name, queue in record["queues"].items()} == {
        "ready": (2, shards),
        "to_write": (1, shards),
    }
    stages = {entry["stage"]: entry for entry in record["utilisation"]["by_stage"]}
    assert list(stages) == ["work", "embedding", "nucleotide embedding", "protein embedding"]
    parts = stages["nucleotide embedding"]["seconds"] + stages["protein embedding"]["seconds"]
    assert stages["embedding"]["seconds"] == pytest.approx(parts, abs=0.01)
    assert stages["embedding"]["seconds"] <= stages["work"]["seconds"] <= record["wall_s"]
    assert stages["work"]["gpu"]["why_undefined"] == "the run is on the CPU"
    last = record["timeline"][-1]
    assert last["sequences"] == record["counts"]["sequences"]
    assert last["tokens"] == record["packing"]["real_tokens"]
    weights = record["packing"]["protein"]["real_tokens"] * 2 * 2 * (4 * 40**2 + 2 * 40 * 64)
    assert weights < record["flop"]["protein"] < 2 * weights  # attention's products beside those of the weights


def test_the_depth_of_reading_ahead_changes_no_byte(settings: PredictSettings) -> None:
    before = all_bytes(predict(settings).folder)
    assert all_bytes(predict(replace(settings, prefetch=3, force=True)).folder) == before
    with pytest.raises(UsageError, match="--prefetch is 0"):
        replace(settings, prefetch=0)
