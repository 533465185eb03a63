"""Runs of a sweep are known by content: folders may be moved, and what was changed is refused by name."""

from __future__ import annotations

import dataclasses
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from seqassay.config import settings_as_json
from seqassay.errors import ResourceError, UsageError
from seqassay.prove.sweep.command import plan_only
from seqassay.prove.sweep.identity import begun_as, check_same, identity_of
from seqassay.prove.sweep.plan import Task, task_of
from seqassay.prove.sweep.run import is_full_disk
from seqassay.prove.sweep.settings import SweepSettings
from seqassay.prove.sweep.starts import STARTS_FILE, Starts
from seqassay.report.sweep_words import wall_of
from seqassay.text.build import BuildSettings, build_token_files
from seqassay.train.lm_start import identity_of_settings

SWEEP = """
ranking_tokens: 768
final_tokens: 1_024
defaults: {d_model: 16, n_layers: 1, n_heads: 2, context: 16, batch: 4}
experiments:
- {name: plain}
- {name: wide, overrides: {d_ff: 96}}
evaluate: {latency_shapes: [[1, 8]], skip_throughput: true}
"""
FILES = {"tokenizer": "a" * 64, "tokens": {"train": "b" * 64, "valid": "c" * 64}, "probes": {"qa": "d" * 64}}
CURVE = "tokens,dev_perplexity\n64,9.5\n128,4.5\n"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("sweep"), random.Random(1)
    (folder / "text").mkdir()
    for split, n in (("train", 900), ("valid", 60)):
        (folder / "text" / f"{split}.txt").write_text(" ".join(rng.choices(("alpha", "beta", "gamma"), k=n)) + "\n")
    build_token_files(BuildSettings(inputs=(str(folder / "text"),), output_dir=folder / "tokens", characters=True))
    (folder / "sweep.yaml").write_text(f"tokens: {folder / 'tokens'}\n{SWEEP}")
    return folder / "sweep.yaml"


def task(config: Path, folder: Path, name: str = "wide", stage: Any = "ranking", *, curve: str | None = CURVE) -> Task:
    read, planned = plan_only(SweepSettings(config=config, output_dir=folder))
    one = next(p for p in planned if p.name == name)
    place = folder / "ranking/plain-seed0/training"
    more: dict[str, Any] = {}
    if stage == "ranking" and name != read.baseline and curve is not None:
        place.mkdir(parents=True, exist_ok=True)
        (place / "metrics.csv").write_text(curve)
        more = {"baseline": str(place)}
    return task_of(read, one, stage, 0, config.parent / "tokens", folder, threads=1, device="cpu", **more)


def begun(of: Task) -> None:
    """As `lm train` has it while it trains."""
    said = {
        **identity_of_settings(of.train), "model": dataclasses.asdict(of.model.config),
        "tokenizer": FILES["tokenizer"], "train_tokens": "b" * 64, "valid_tokens": "c" * 64,
    }  # fmt: skip
    of.train.output_dir.mkdir(parents=True, exist_ok=True)
    (of.train.output_dir / "training.json").write_text(json.dumps({"identity": said}))


def test_a_run_is_the_same_in_another_folder(config: Path, tmp_path: Path) -> None:
    here, there = task(config, tmp_path / "here"), task(config, tmp_path / "there")
    assert str(tmp_path) not in json.dumps(identity_of(here, FILES))
    check_same(there, FILES, identity_of(here, FILES))
    begun(there)
    assert begun_as(there, FILES) == there


def test_another_curve_of_the_baseline_is_named(config: Path, tmp_path: Path) -> None:
    before, after = task(config, tmp_path / "a"), task(config, tmp_path / "b", curve=CURVE.replace("4.5", "4.6"))
    with pytest.raises(
        UsageError, match=r"against another curve of the baseline 'plain' than the one in .*plain-seed0"
    ):
        check_same(after, FILES, identity_of(before, FILES))
    begun(task(config, tmp_path / "b"))
    after = task(config, tmp_path / "b", curve=CURVE.replace("4.5", "4.6"))
    with pytest.raises(UsageError, match=r"was begun against another baseline, not against .*plain-seed0"):
        begun_as(after, FILES)
    assert begun_as(after, FILES, against_baseline=False) == after


def test_what_was_begun_without_a_curve_goes_on_without_it(config: Path, tmp_path: Path) -> None:
    without, asked = task(config, tmp_path, curve=None), task(config, tmp_path)
    begun(without)
    assert begun_as(asked, FILES).train.baseline is None
    check_same(asked, FILES, identity_of(without, FILES))


def test_what_was_begun_of_other_settings_or_tokens_is_named(config: Path, tmp_path: Path) -> None:
    asked = task(config, tmp_path)
    begun(asked)
    other = dataclasses.replace(asked, train=dataclasses.replace(asked.train, learning_rate=0.5))
    with pytest.raises(UsageError, match=r"a training of other settings: learning_rate is 0.\d+ there, 0.5 here"):
        begun_as(other, FILES)
    changed = {**FILES, "tokens": {"train": "e" * 64, "valid": "c" * 64}}
    with pytest.raises(UsageError, match=r"train_tokens is bbbbbbbbbbbb… there, eeeeeeeeeeee… here"):
        begun_as(asked, changed)


def test_probes_are_known_by_content_and_profiling_is_no_runs(config: Path, tmp_path: Path) -> None:
    ranked, final = task(config, tmp_path), task(config, tmp_path, stage="final")
    changed = {**FILES, "probes": {"qa": "e" * 64}}
    check_same(ranked, changed, identity_of(ranked, FILES))
    with pytest.raises(UsageError, match=r"probes.qa is dddddddddddd… there, eeeeeeeeeeee… here"):
        check_same(final, changed, identity_of(final, FILES))
    shorter = dataclasses.replace(final, evaluate=dataclasses.replace(final.evaluate, latency_shapes=((1, 4), (2, 8))))
    check_same(shorter, FILES, identity_of(final, FILES))


@pytest.mark.parametrize("stage", ["ranking", "final"])
def test_identities_of_the_first_form_are_understood(config: Path, tmp_path: Path, stage: str) -> None:
    asked = task(config, tmp_path, stage=stage)
    before: dict[str, Any] = {name: said for name, said in identity_of(asked, FILES).items()
                              if name not in ("form", "probes")}  # fmt: skip
    before["baseline"] = asked.baseline
    profiling = {k: v for k, v in settings_as_json(asked.evaluate).items()
                 if k.startswith(("latency", "skip", "memory", "probes", "shots"))}  # fmt: skip
    before["evaluate"] = {**before["evaluate"], **profiling}
    before = json.loads(json.dumps(before))
    check_same(asked, FILES, before)
    with pytest.raises(UsageError, match="seed is 7 there, 0 here"):
        check_same(asked, FILES, {**before, "seed": 7})
    if stage == "ranking":
        with pytest.raises(UsageError, match="the baseline is wild there, plain here"):
            check_same(asked, FILES, {**before, "baseline": "wild"})


@pytest.mark.parametrize("said", ["I/O error: No space left on device (os error 28)", "database or disk is full"])
def test_a_full_disk_is_known_by_what_libraries_say(said: str) -> None:
    error = ResourceError("the disk is full")
    error.__cause__ = RuntimeError(said)
    assert is_full_disk(error)
    error.__cause__ = RuntimeError("out of memory")
    assert not is_full_disk(error)


def test_wall_time_is_that_of_all_starts(tmp_path: Path) -> None:
    with Starts(tmp_path, 0.0) as first:
        assert first.said()["starts"] == {"n": 1, "without_end": 0, "mark_every_s": 10.0, "misses_earlier": False}
    said = json.loads((tmp_path / STARTS_FILE).read_bytes())
    said["starts"] = [{**said["starts"][0], "wall_s": 100.0}, {**said["starts"][0], "wall_s": 30.0}]
    said["starts"][1]["noted_its_end"] = False  # as a SIGKILL leaves it
    (tmp_path / STARTS_FILE).write_text(json.dumps(said))
    with Starts(tmp_path, time.monotonic() - 5) as third:
        found = third.said()
    assert 135 <= found["wall_s"] < 200
    assert wall_of(found) == (
        "over 3 starts, 1 of which noted no end (killed, or the disk was full): it counts up to the last mark, made "
        "every 10 s"
    )
    assert [one["noted_its_end"] for one in json.loads((tmp_path / STARTS_FILE).read_bytes())["starts"]] == [
        True, False, True,
    ]  # fmt: skip


def test_starts_that_noted_nothing_are_said_to_be_missing(tmp_path: Path) -> None:
    (tmp_path / "ranking").mkdir()
    with Starts(tmp_path, 0.0) as start:
        assert wall_of(start.said()) == "in one start, without earlier ones that were not noted"
    (tmp_path / STARTS_FILE).write_text("{}")
    with Starts(tmp_path, 0.0) as start:
        assert start.said()["starts"]["misses_earlier"]
    assert wall_of({"wall_s": 3.0}) == "of the last start alone"
