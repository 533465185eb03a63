"""A whole scan in this process: what it writes, what it refuses, and what becomes of one that is stopped."""

from __future__ import annotations

import errno
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import edit_bundle, make_tiny_bundle, random_reads, write_fasta

from seqassay import durable
from seqassay.errors import InputError, ModelError, ResourceError, SeqassayError, StoppedError, UsageError
from seqassay.models.bundle import load_bundle
from seqassay.predict import scan as scan_module
from seqassay.predict import scan_windows
from seqassay.predict.consensus import ChunkConsensus, SequenceCalls
from seqassay.predict.prepare import ScoredShard
from seqassay.predict.scan import scan
from seqassay.predict.scan_settings import ScanSettings
from seqassay.predict.scan_windows import window_starts
from seqassay.predict.scoring import call_sequences, score_sequences
from seqassay.predict.stop import StopRequested
from seqassay.sequences.ragged import Ragged
from seqassay.sequences.reading import read_shards

pytest.importorskip("ruptures", reason="regions are called with ruptures")
pytest.importorskip("matplotlib", reason="plots are drawn with matplotlib")

TABLES = {"track.tsv", "contigs.tsv", "regions.bed", "regions.gff3"}
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def calibrated_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that gives every window with a base a score, as `mini` does."""
    return make_tiny_bundle(tmp_path_factory.mktemp("calibrated"), calibrated=True)


@pytest.fixture
def settings(calibrated_bundle: Path, tmp_path: Path) -> ScanSettings:
    """Two contigs of 3,000 random bases in windows of 600 every 300."""
    contigs = write_fasta(tmp_path / "contigs.fa", random_reads(2, length=3000))
    return ScanSettings(
        inputs=(str(contigs),),
        output_dir=tmp_path / "out",
        model=str(calibrated_bundle),
        window=600,
        step=300,
        min_region=900,
        plots=False,
        device="cpu",
        threads=1,
    )


@pytest.fixture
def gc_is_viral(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores that follow the share of G and C, 0.1 at 30% and 0.9 at 70%: the answer is known."""

    def by_gc(scored: ScoredShard, calibration: Any, thresholds: Any) -> tuple[ChunkConsensus, SequenceCalls]:
        chunks, calls = call_sequences(scored, calibration, thresholds)
        share = np.array([np.isin(bases, list(b"GC")).mean() for bases in scored.shard.bases])
        score = np.where(np.isnan(calls.score), np.nan, np.clip(0.1 + 2 * (share - 0.3), 0.01, 0.99))
        return chunks, replace(calls, score=score, is_virus=score >= 0.5)

    monkeypatch.setattr(scan_module, "call_sequences", by_gc)


def bases_of(length: int, gc: float, seed: int) -> str:
    return "".join(random.Random(seed).choices("ACGT", weights=(1 - gc, gc, gc, 1 - gc), k=length))


def with_contigs(settings: ScanSettings, records: list[tuple[str, str]], **changes: Any) -> ScanSettings:
    write_fasta(Path(settings.inputs[0]), records)
    return replace(settings, **changes)


def rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()[1:]]


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.name in TABLES or p.suffix == ".png"
    }


# --- what it writes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("calibrated", [False, True])
def test_the_score_of_a_window_is_what_predict_would_give_it(
    settings: ScanSettings, calibrated: bool, tiny_bundle: Path
) -> None:
    if not calibrated:
        settings = replace(settings, model=str(tiny_bundle))
    result = scan(settings)
    contigs = dict(random_reads(2, length=3000))
    found = rows(result.folder / "track.tsv")
    assert len(found) == 2 * 9
    windows = [contigs[name][int(start) : int(end)].encode() for name, start, end, _, _ in found]
    expected = score_sequences(load_bundle(settings.model), Ragged.from_bytes(windows), threads=1)
    assert [float(row[3] or "nan") for row in found] == pytest.approx(expected.score.tolist(), abs=2e-6, nan_ok=True)
    assert [(row[1], row[2]) for row in found[:3]] == [("0", "600"), ("300", "900"), ("600", "1200")]


def test_windows_are_scored_by_the_weights_of_tracks(settings: ScanSettings, tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "with_tracks", calibrated=True)

    def with_best_frames(said: dict[str, Any]) -> None:
        means = said["calibration"]["framed"]
        said["calibration"] |= {"framed": [[*row, 5.0] for row in means], "framed_of_tracks": means}

    edit_bundle(bundle, with_best_frames)
    scan(settings)
    scan(replace(settings, model=str(bundle), output_dir=tmp_path / "other"))
    track = rows(settings.output_dir / "track.tsv")
    assert rows(tmp_path / "other" / "track.tsv") == track  # the tiny bundle's own weights are those of means
    framed = [(name, int(start), int(end), float(score)) for name, start, end, score, of in track if of == "classified"]
    contigs = dict(random_reads(2, length=3000))
    windows = Ragged.from_bytes([contigs[name][start:end].encode() for name, start, end, _ in framed])
    of_means, with_best = (score_sequences(load_bundle(of), windows).score for of in (settings.model, bundle))
    assert of_means.tolist() == pytest.approx([score for *_, score in framed], abs=2e-6)
    assert (abs(with_best - of_means) > 1e-3).any()


def test_a_viral_piece_is_found_and_written_in_every_format(settings: ScanSettings, gc_is_viral: None) -> None:
    genome = bases_of(20_100, 0.3, 1) + bases_of(6000, 0.7, 2) + bases_of(20_000, 0.3, 3)
    result = scan(with_contigs(settings, [("chr 1 of two", genome), ("all_viral", bases_of(9000, 0.7, 4))], plots=True))
    bed = [line.split("\t") for line in (result.folder / "regions.bed").read_text().splitlines()]
    assert [(row[0], row[3], row[5]) for row in bed] == [("chr", "region_1", "."), ("all_viral", "region_2", ".")]
    assert abs(int(bed[0][1]) - 20_100) <= 450 and abs(int(bed[0][2]) - 26_100) <= 450
    assert bed[1][1:3] == ["0", "9000"]
    assert all(800 <= int(row[4]) <= 1000 for row in bed)
    gff = (result.folder / "regions.gff3").read_text().splitlines()
    assert gff[0] == "##gff-version 3"
    features = [line.split("\t") for line in gff[1:]]
    assert [len(feature) for feature in features] == [9, 9]
    assert [feature[2] for feature in features] == ["prophage", "viral_sequence"]
    for feature, region in zip(features, bed, strict=True):
        assert (int(feature[3]) - 1, int(feature[4])) == (int(region[1]), int(region[2]))  # 1-based, both included
        assert feature[6:8] == [".", "."]
        assert round(1000 * float(feature[5])) == int(region[4])
    assert features[0][8].startswith("ID=region_1;contig_number=1;")
    contigs = rows(result.folder / "contigs.tsv")
    assert [row[4] for row in contigs] == ["1", "1"]
    assert contigs[1] == ["all_viral", "9000", "29", "29", "1", "9000", "scanned", "plots/all_viral.png"]
    counts = result.record["counts"]
    assert counts["regions"] == counts["contigs_with_regions"] == 2
    assert counts["region_bases"] == sum(int(row[2]) - int(row[1]) for row in bed)


def test_the_record_is_whole_and_its_counts_add_up(settings: ScanSettings) -> None:
    records = [*random_reads(3, length=2000), ("short", "ACGT" * 50), ("none", "N" * 1500), ("one", "A")]
    result = scan(with_contigs(settings, records))
    record = json.loads((result.folder / "run.json").read_text())
    assert record == json.loads(json.dumps(result.record))
    assert (record["format"], record["status"]) == ("seqassay-scan", "done")
    counts = record["counts"]
    assert counts["contigs"] == 6 == len(rows(result.folder / "contigs.tsv"))
    assert (counts["scanned"], counts["short"], counts["no_score"]) == (3, 1, 2)
    assert counts["bases"] == sum(len(bases) for _, bases in records)
    n_windows = sum(len(window_starts(len(bases), settings.for_chunks_of(300))) for _, bases in records)
    assert counts["windows"] == n_windows == len(rows(result.folder / "track.tsv"))
    assert counts["windows_scored"] + counts["windows_without_score"] == n_windows
    assert counts["plots"] + counts["plots_left_out"] == 6
    assert record["windows"] == {"length": 600, "step": 300}
    assert record["settings"]["window"] == 600 and record["provenance"]["seqassay"]
    for output in record["outputs"]:
        data = (result.folder / output["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (output["bytes"], output["sha256"])
    assert {output["name"] for output in record["outputs"]} >= TABLES
    assert not (result.folder / "shards").exists()


def test_what_cannot_be_scanned_has_its_row_and_says_so(settings: ScanSettings) -> None:
    result = scan(with_contigs(settings, [("short", "ACGT" * 50), ("none", "N" * 1500), ("one", "A")]))
    track = rows(result.folder / "track.tsv")
    assert track[0][:3] == ["short", "0", "200"]
    assert [row[:] for row in track if row[0] == "one"] == [["one", "0", "1", "", "too_short"]]
    assert {tuple(row[3:]) for row in track if row[0] == "none"} == {("", "no_bases")}
    assert [(row[0], row[6]) for row in rows(result.folder / "contigs.tsv")] == [
        ("short", "short"), ("none", "no_score"), ("one", "no_score"),
    ]  # fmt: skip
    assert (result.folder / "regions.bed").read_bytes() == b""
    assert (result.folder / "regions.gff3").read_bytes() == b"##gff-version 3\n"
    assert not (result.folder / "plots").exists()


def test_regions_below_the_least_length_are_counted(settings: ScanSettings, gc_is_viral: None) -> None:
    result = scan(with_contigs(settings, [("a", bases_of(700, 0.7, 1))], min_region=900))
    assert result.record["counts"]["regions_too_short"] == 1
    assert result.record["counts"]["regions"] == 0


# --- plots ------------------------------------------------------------------------------------------------------


def test_odd_names_get_plots_of_their_own(settings: ScanSettings) -> None:
    names = ["a/b", "a_b", "A_B", "../up", "été|1 rest", "x" * 300, "dup", "dup", "dup.2", "..."]
    bases = random_reads(1, length=700)[0][1]
    result = scan(with_contigs(settings, [(name, bases) for name in names], plots=True))
    contigs = rows(result.folder / "contigs.tsv")
    assert [row[0] for row in contigs] == [name.split()[0] for name in names]
    plots = [row[7] for row in contigs]
    assert plots[:5] == ["plots/a_b.png", "plots/a_b.2.png", "plots/A_B.3.png", "plots/_up.png", "plots/_t__1.png"]
    assert plots[6:] == ["plots/dup.png", "plots/dup.2.png", "plots/dup.2.2.png", "plots/contig.png"]
    assert len({plot.lower() for plot in plots}) == len(names)
    assert sorted(str(path.relative_to(result.folder)) for path in result.folder.rglob("*.png")) == sorted(plots)
    assert all((result.folder / plot).read_bytes().startswith(PNG) for plot in plots)
    assert not list(result.folder.parent.glob("up*"))


def test_the_number_of_plots_is_limited_and_regions_go_first(settings: ScanSettings, gc_is_viral: None) -> None:
    records = [("long", bases_of(9000, 0.3, 1)), ("viral", bases_of(4000, 0.7, 2)), ("longer", bases_of(9900, 0.3, 3))]
    result = scan(with_contigs(settings, records, plots=True, max_plots=2))
    assert {path.name for path in (result.folder / "plots").iterdir()} == {"viral.png", "longer.png"}
    assert [row[7] for row in rows(result.folder / "contigs.tsv")] == ["", "plots/viral.png", "plots/longer.png"]
    assert (result.record["counts"]["plots"], result.record["counts"]["plots_left_out"]) == (2, 1)
    for none in ({"plots": False}, {"plots": True, "max_plots": 0}):
        other = scan(replace(settings, force=True, **none))  # type: ignore[arg-type]
        assert other.record["counts"]["plots"] == 0
        assert not (other.folder / "plots").exists()  # --force took the old ones


# --- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (">a\n", "header without a sequence"),
        (">p\nMKLVFFLE\n", "looks like a protein"),
        ("ACGT\n", "first header"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(settings: ScanSettings, text: str, message: str) -> None:
    Path(settings.inputs[0]).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        scan(settings)
    assert caught.value.exit_code == 2
    assert not settings.output_dir.exists()


def test_an_error_after_the_first_shard_keeps_the_shards(
    settings: ScanSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_windows, "SHARD_WINDOWS", 4)
    monkeypatch.setattr(scan_module, "read_shards", partial(read_shards, max_sequences=1))
    good = Path(settings.inputs[0]).read_text()
    Path(settings.inputs[0]).write_text(good + ">bad\n" + "ACGT" * 500_000 + "E\n")  # another block
    with pytest.raises(InputError, match="record 3") as caught:
        scan(settings)
    assert "--resume" in caught.value.hint
    assert json.loads((settings.output_dir / "run.json").read_text())["status"] == "failed"


def test_an_unknown_bundle(settings: ScanSettings) -> None:
    with pytest.raises((UsageError, ModelError), match="nowhere"):
        scan(replace(settings, model="nowhere"))
    assert not settings.output_dir.exists()


# --- stopping and going on --------------------------------------------------------------------------------------


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_windows, "SHARD_WINDOWS", 4)


def fail_at_call(monkeypatch: pytest.MonkeyPatch, name: str, number: int, error: BaseException) -> None:
    """Let the function of this name in the main path raise at its call of this number, from 0."""
    original: Callable[..., Any] = getattr(scan_module, name)
    calls: Iterator[int] = iter(range(1_000_000))

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == number:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(scan_module, name, wrapped)


@pytest.mark.parametrize(
    ("name", "number"), [("score_shard", 0), ("score_shard", 3), ("staged", 0), ("staged", 2), ("draw", 1)]
)
def test_a_stopped_scan_goes_on_to_the_same_bytes(
    settings: ScanSettings, small_shards: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    settings = replace(settings, plots=name == "draw")
    whole = scan(replace(settings, output_dir=tmp_path / "whole"))
    with monkeypatch.context() as patch:
        fail_at_call(patch, name, number, StopRequested("Ctrl-C"))
        with pytest.raises(StoppedError) as caught:
            scan(settings)
    assert caught.value.exit_code == 3
    assert "stopped by Ctrl-C" in caught.value.message and caught.value.hint.endswith("--resume")
    assert "seqassay scan" in caught.value.hint
    assert json.loads((settings.output_dir / "run.json").read_text())["status"] == "stopped"
    assert not TABLES & {path.name for path in settings.output_dir.iterdir()}
    assert not list(settings.output_dir.rglob("*.partial"))
    resumed = scan(replace(settings, resume=True))
    assert all_bytes(resumed.folder) == all_bytes(whole.folder)
    assert resumed.record["counts"] == whole.record["counts"]
    again = scan(replace(settings, resume=True))
    assert again.was_done and again.record["counts"] == whole.record["counts"]


def test_a_full_disk_is_said_and_the_scan_goes_on(
    settings: ScanSettings, small_shards: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scan(replace(settings, output_dir=tmp_path / "whole"))
    n_writes = 0
    original = durable.stage

    def full(path: Path, pieces: Any) -> int:
        nonlocal n_writes
        n_writes += 1
        if n_writes == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return original(path, pieces)

    for fails_at in range(3, 13):  # shards, tables, run.json; 1 and 2 are the manifest and the first run.json
        n_writes, folder = 0, tmp_path / f"full{fails_at}"
        with monkeypatch.context() as patch:
            patch.setattr(durable, "stage", full)
            patch.setattr(scan_module, "stage", full)
            with pytest.raises(ResourceError, match="the disk is full") as caught:
                scan(replace(settings, output_dir=folder))
        assert caught.value.exit_code == 4 and "--resume" in caught.value.hint
        is_last = fails_at == 12  # the run.json that says "done": the tables are there
        assert not TABLES & {path.name for path in folder.iterdir()} or is_last
        assert all_bytes(scan(replace(settings, output_dir=folder, resume=True)).folder) == all_bytes(whole.folder)


def test_out_of_memory_is_resumable(
    settings: ScanSettings, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_at_call(patch, "score_shard", 2, MemoryError())
        with pytest.raises(ResourceError, match="out of memory"):
            scan(settings)
    assert scan(replace(settings, resume=True)).record["resumed_windows"] == 8


def test_resume_refuses_other_settings_and_another_input(
    settings: ScanSettings, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_at_call(patch, "score_shard", 2, StopRequested("SIGTERM"))
        with pytest.raises(StoppedError):
            scan(settings)
    with pytest.raises(UsageError, match="step was 300, is now 200"):
        scan(replace(settings, resume=True, step=200))
    changed = with_contigs(settings, [("read1", "ACGT" * 750), ("read2", "ACGT" * 750)], resume=True)
    with pytest.raises(SeqassayError, match="the input has changed"):
        scan(changed)


def test_a_folder_that_is_not_empty_is_refused_and_force_leaves_foreign_files(settings: ScanSettings) -> None:
    first = scan(replace(settings, plots=True))
    (settings.output_dir / "notes.txt").write_text("mine")
    (settings.output_dir / "plots" / "mine.txt").write_text("mine too")
    with pytest.raises(UsageError, match="not empty"):
        scan(settings)
    second = scan(with_contigs(settings, random_reads(1, length=900), force=True))
    assert second.record["counts"]["contigs"] == 1 < first.record["counts"]["contigs"]
    assert [path.name for path in (settings.output_dir / "plots").iterdir()].count("read2.png") == 0
    assert (settings.output_dir / "notes.txt").read_text() == "mine"
    assert (settings.output_dir / "plots" / "mine.txt").read_text() == "mine too"
