from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import random_reads, write_fasta

from seqassay.errors import UsageError
from seqassay.measure.progress import RunProgress
from seqassay.predict import scan_windows
from seqassay.predict.scan_settings import ScanSettings, Windows, resume_command
from seqassay.predict.scan_windows import WindowCount, WindowPlace, window_shards, window_starts
from seqassay.sequences.reading import InputSettings, read_shards


@pytest.mark.parametrize(
    ("length", "starts"),
    [(1, [0]), (9, [0]), (10, [0]), (11, [0, 1]), (14, [0, 4]), (15, [0, 4, 5]), (22, [0, 4, 8, 12])],
)
def test_windows_of_10_every_4(length: int, starts: list[int]) -> None:
    assert window_starts(length, Windows(10, 4)).tolist() == starts


@pytest.mark.parametrize("step", [1, 3, 7, 10])
def test_every_base_is_in_a_window_and_no_window_leaves_the_contig(step: int) -> None:
    for length in range(1, 60):
        starts = window_starts(length, Windows(10, step))
        assert starts[0] == 0 and (np.diff(starts) > 0).all() and (np.diff(starts) <= step).all()
        assert starts[-1] + min(10, length) == length


def test_shards_hold_every_window_once_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [(f"c{i}", bases) for i, (_, bases) in enumerate(random_reads(5, length=57))]
    records[2] = ("c2", "ACG")
    monkeypatch.setattr(scan_windows, "SHARD_WINDOWS", 4)
    windows = Windows(20, 8)
    contigs = read_shards(InputSettings((str(write_fasta(tmp_path / "c.fa", records)),)), max_sequences=2)
    shards = list(window_shards(contigs, windows))
    assert [len(shard.ids) for shard in shards] == [4] * (len(shards) - 1) + [len(shards[-1].ids)]
    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert [shard.first_record for shard in shards] == [4 * i for i in range(len(shards))]
    got = [
        (name, WindowPlace.from_text(place), bases.decode())
        for shard in shards
        for name, place, bases in zip(shard.ids, shard.headers, shard.bases.to_bytes(), strict=True)
    ]
    expected = [
        (name, WindowPlace(number, len(bases), start), bases[start : start + 20])
        for number, (name, bases) in enumerate(records)
        for start in window_starts(len(bases), windows).tolist()
    ]
    assert got == expected


def test_a_shard_is_bounded_by_bases_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_windows, "SHARD_BASES", 100)
    path = write_fasta(tmp_path / "c.fa", [("long", "ACGT" * 100), ("short", "ACG" * 5)])
    shards = list(window_shards(read_shards(InputSettings((str(path),))), Windows(40, 40)))
    assert [len(shard.bases.values) for shard in shards] == [80, 80, 80, 80, 95]
    wide = list(window_shards(read_shards(InputSettings((str(path),))), Windows(150, 150)))
    assert [len(shard.bases.values) for shard in wide] == [150, 150, 150, 15]  # longer than a shard: one each


def test_windows_are_counted_ahead(tmp_path: Path) -> None:
    path = write_fasta(tmp_path / "c.fa", [("a", "ACGT" * 100), ("b", "ACG"), ("c", "A" * 41)])
    progress, windows = RunProgress(), Windows(40, 30)
    with WindowCount([str(path)], windows, progress) as count:
        count._thread.join(10)
    shards = window_shards(read_shards(InputSettings((str(path),))), windows)
    assert progress.total_sequences == sum(len(shard.ids) for shard in shards) == 13 + 1 + 2


def test_window_and_step_follow_the_chunk_length() -> None:
    settings = ScanSettings(inputs=("a",), output_dir=Path("o"))
    assert settings.for_chunks_of(300) == Windows(3000, 1500)
    assert settings.for_chunks_of(500) == Windows(5000, 2500)
    assert ScanSettings(inputs=("a",), output_dir=Path("o"), window=700).for_chunks_of(300) == Windows(700, 700)
    with pytest.raises(UsageError, match="never be looked at"):
        ScanSettings(inputs=("a",), output_dir=Path("o"), step=4000).for_chunks_of(300)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"window": 0}, "--window is 0"),
        ({"step": -1}, "--step is -1"),
        ({"min_region": 0}, "--min-region is 0"),
        ({"max_plots": -1}, "--max-plots is -1"),
        ({"threads": 0}, "--threads is 0"),
        ({"window": 100, "step": 101}, "--step is 101 and --window 100"),
        ({"resume": True, "force": True}, "exclude each other"),
        ({"inputs": ()}, "no input file"),
    ],
)
def test_settings_that_cannot_work(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ScanSettings(**{"inputs": ("a",), "output_dir": Path("o"), **wrong})  # type: ignore[arg-type]


def test_the_resume_command_repeats_what_was_set() -> None:
    settings = ScanSettings(
        inputs=("my genome.fa",), output_dir=Path("out dir"), window=900, plots=False, force=True, max_plots=3
    )
    assert resume_command(settings) == (
        "seqassay scan 'my genome.fa' --output-dir 'out dir' --window 900 --no-plots --max-plots 3 --resume"
    )
