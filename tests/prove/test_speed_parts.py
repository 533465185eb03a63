"""Parts of the speed benchmark: what is embedded, what work that is, which figures and verdicts follow, what fits."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import write_fasta
from torch.utils.flop_counter import FlopCounterMode

from seqassay.engine.precision import resolve
from seqassay.errors import InputError, ModelError, ResourceError, SeqassayError, UsageError
from seqassay.models import linear
from seqassay.models.attention import PackedLayout
from seqassay.models.esm2 import ESM2_SIZES, Esm2, Esm2Config
from seqassay.prove.gate import PASSED, SKIPPED, UNDECIDED
from seqassay.prove.speed import memory
from seqassay.prove.speed.encoders import Wanted, find_baseline, find_candidate, open_encoder
from seqassay.prove.speed.figures import rates, undefined
from seqassay.prove.speed.sequences import make_workload
from seqassay.prove.speed.settings import SpeedSettings
from seqassay.prove.speed.verdict import FAILED, speed_gate
from seqassay.prove.speed.work import Work, work_of
from seqassay.sequences.chunking import chunk
from seqassay.sequences.frames import six_frames
from seqassay.sequences.ragged import Ragged

CPU = torch.device("cpu")


def settings(**changes: Any) -> SpeedSettings:
    return SpeedSettings(output_dir=Path("out"), **changes)


# What is embedded


def test_synthetic_proteins_have_the_three_lengths_and_one_seed() -> None:
    workload = make_workload(settings(n_sequences=90))
    assert np.unique(workload.residues.lengths, return_counts=True)[1].tolist() == [30, 30, 30]
    assert len(set(workload.residues.to_bytes())) == 90
    assert set(workload.residues.values.tolist()) == set(b"ACDEFGHIKLMNPQRSTVWY")
    said = workload.as_record()
    assert (said["n"], said["residues"], said["length_median"]) == (90, 27_000, 300.0)
    assert make_workload(settings(n_sequences=90)).as_record() == said
    assert make_workload(settings(n_sequences=90, seed=1)).as_record()["digest"] != said["digest"]


def test_one_synthetic_protein() -> None:
    assert make_workload(settings(n_sequences=1)).residues.lengths.tolist() in ([100], [300], [500])


def test_proteins_of_files_are_the_first_distinct_ones(tmp_path: Path) -> None:
    path = write_fasta(tmp_path / "p.fa", [("a", "MKV"), ("b", "MKV"), ("c", "MWL*"), ("d", "MKV"), ("e", "HHH")])
    workload = make_workload(settings(sequences=(str(path),), n_sequences=2))
    assert workload.residues.to_bytes() == [b"MKV", b"MWL"]
    assert workload.source == {
        "kind": "proteins of files",
        "files": [str(path)],
        "repeats_left_out": 1,
        "without_residue": 0,
    }


def test_long_proteins_are_counted(tmp_path: Path) -> None:
    path = write_fasta(tmp_path / "p.fa", [("a", "M" * 1022), ("b", "W" * 1023)])
    assert make_workload(settings(sequences=(str(path),))).as_record()["longer_than_trained"] == 1


def test_frames_of_nucleotides_are_those_of_predict(tmp_path: Path) -> None:
    bases = "ATGGCCGCTAAAGATCTGGGC" * 30
    path = write_fasta(tmp_path / "n.fa", [("a", bases)])
    ragged = Ragged.from_bytes([bases.encode()])
    expected = list(dict.fromkeys(six_frames(ragged, chunk(ragged.lengths, 300)).protein.to_bytes()))
    workload = make_workload(settings(sequences=(str(path),), translate=300))
    assert workload.residues.to_bytes() == expected
    assert (workload.source["chunk_length"], workload.source["kind"]) == (300, "stop-free frames of files")


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (">a\nACGTACGTNN\n>b\nACGGGT\n", {}, "are nucleotides"),
        (">a\nTAATTAATTAATTAATTAACTAACTAA\n", {"translate": 300}, "not one stop-free frame"),
        (">a\nMQEL\n", {"translate": 300}, "line 2"),
        ("", {}, ""),
        ("this is no FASTA\n", {}, ""),
        (">a\nMK7V\n", {}, "line 2"),
    ],
)
def test_bad_sequences_are_refused(tmp_path: Path, content: str, options: dict[str, Any], words: str) -> None:
    path = tmp_path / "bad.fa"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        make_workload(settings(sequences=(str(path),), **options))
    assert "bad.fa" in error.value.message
    assert words in error.value.message


def test_nucleotides_are_told_how_to_be_translated(tmp_path: Path) -> None:
    path = write_fasta(tmp_path / "n.fa", [("a", "ACGT")])
    with pytest.raises(InputError) as error:
        make_workload(settings(sequences=(str(path),)))
    assert "--translate 300" in error.value.hint


# What can be told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_sequences": 0}, "--n-sequences is 0"),
        ({"runs": -1}, "--runs is -1"),
        ({"pairs": 0}, "--pairs is 0"),
        ({"warm_ups": -1}, "--warm-ups is -1"),
        ({"batch": -5}, "--batch is -5"),
        ({"threads": 0}, "--threads is 0"),
        ({"seed": -1}, "--seed is -1"),
        ({"min_speedup": 0.0}, "--min-speedup is 0"),
        ({"min_speedup": float("nan")}, "--min-speedup is nan"),
        ({"translate": 300}, "no file was given"),
        ({"translate": 0, "sequences": ("x",)}, "--translate is 0"),
        ({"candidate_only": True, "baseline_precision": "bf16"}, "exclude each other"),
    ],
)
def test_settings_that_cannot_work(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as error:
        settings(**changes)
    assert words in error.value.message


# The work


@pytest.mark.parametrize("lengths", [[5], [50, 3, 50, 17]])
@pytest.mark.parametrize("exact", [True, False])
def test_operations_are_those_that_pytorch_counts(
    lengths: list[int], exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With gradients, and without the fused attention, all are plain products, which PyTorch's own counter sees."""
    monkeypatch.setattr("seqassay.models.attention._products_beat_sdpa", lambda _, causal: True)
    model = Esm2(Esm2Config(2, 16, 2)).eval()
    token_lengths = sorted(length + 2 for length in lengths)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(sum(token_lengths), dtype=torch.int64), PackedLayout.from_lengths(token_lengths), exact=exact)
    work = work_of(model, lengths, exact=exact)
    assert work.flop == counter.get_total_flops()
    assert (work.sequences, work.residues, work.tokens) == (len(lengths), sum(lengths), sum(token_lengths))


# Figures


def test_rates_are_of_the_mean_or_the_median_with_n_and_spread() -> None:
    work = Work(sequences=10, residues=980, tokens=1000, flop=4_000)
    found = rates([1.0, 2.0, 6.0], work, 8_000.0, "mean")
    assert found["total_s"] == 9.0
    assert found["run_s"] == {"value": 3.0, "n": 3, "sd": pytest.approx(7**0.5), "min": 1.0, "max": 6.0}
    assert found["per_sequence_s"]["value"] == pytest.approx(0.3)
    assert (found["sequences_per_s"]["value"], found["tokens_per_s"]["value"]) == pytest.approx((10 / 3, 1000 / 3))
    assert found["share_of_peak"]["value"] == pytest.approx(4_000 / 3 / 8_000)
    assert found["samples_s"] == [1.0, 2.0, 6.0]
    assert rates([1.0, 2.0, 6.0], work, 8_000.0, "median")["tokens_per_s"]["value"] == 500
    assert rates([2.0], work, 8_000.0, "mean")["run_s"]["sd"] is None


def test_more_than_the_peak_is_an_error() -> None:
    with pytest.raises(SeqassayError, match=r"1\.33 of the device's peak"):
        rates([1.0, 3.0], Work(1, 1, 3, 4_000), 3_000.0, "median")


def figure(value: float, *interval: float) -> dict[str, Any]:
    return {"value": value, "interval_95": list(interval) or None, "n": 20, "why_no_interval": "too few"}


@pytest.mark.parametrize(
    ("speed_up", "verdict"),
    [
        (figure(2.5, 2.1, 3.0), PASSED),
        (figure(2.1, 2.0, 2.2), PASSED),
        (figure(2.1, 1.99, 2.2), UNDECIDED),
        (figure(1.9, 1.8, 2.0), UNDECIDED),
        (figure(1.9, 1.8, 1.99), FAILED),
        (figure(9.0), UNDECIDED),
        (figure(1.0), UNDECIDED),
    ],
)
def test_the_verdict_stands_on_the_whole_interval(speed_up: dict[str, Any], verdict: str) -> None:
    gate = speed_gate(speed_up, 2.0)
    assert gate["verdict"] == verdict
    assert bool(gate["next_steps"]) is (verdict != PASSED)


@pytest.mark.parametrize("verdict", [SKIPPED, UNDECIDED, FAILED])
def test_without_a_speed_up_the_reason_is_the_figures(verdict: str) -> None:
    gate = speed_gate(undefined("the baseline was skipped: gone"), 2.0, when_undefined=verdict)
    assert (gate["verdict"], gate["value"]) == (verdict, None)
    assert gate["reason"] == "the baseline was skipped: gone"


# Memory


def test_what_does_not_fit_is_said_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 33 × 1280 all weights have a second copy in the kernels' layout, of 36 × 2560 only the smallest matrix."""
    monkeypatch.setattr(memory, "available_host_bytes", lambda: 5 * 2**30)
    large = ESM2_SIZES["650M"]
    check_fits = partial(memory.check_fits, "large")
    check_fits(large, CPU, resolve(CPU, "exact"))
    with pytest.raises(ResourceError, match=r"large does not fit: it takes 5\.1 GiB, and 5\.0 GiB"):
        check_fits(large, CPU, resolve(CPU, "float32"))
    with pytest.raises(ResourceError, match=r"it takes 11\.7 GiB"):
        check_fits(ESM2_SIZES["3B"], CPU, resolve(CPU, "float32"))
    assert memory.KEPT_TWICE_BYTES == linear._MOST_PACKED_BYTES


def test_the_limit_of_a_container_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    free = memory.available_host_bytes()
    assert free > 10_000
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("9000\n")
    assert memory.available_host_bytes() > 10_000
    (tmp_path / "memory.max").write_text("10000\n")
    assert memory.available_host_bytes() == 1000


# Encoders


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(UsageError) as error:
        find_candidate(settings(candidate="esm2_t6_8M"))
    assert "'esm2_t6_8M'" in error.value.message
    assert "did you mean esm2_t6_8M_UR50D" in error.value.hint
    with pytest.raises(UsageError, match="no protein encoder named 'nothing'"):
        find_baseline(settings(baseline="nothing"))


def test_a_known_baseline_that_was_not_fetched_is_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEQASSAY_HOME", str(tmp_path))
    why = find_baseline(settings())
    assert isinstance(why, str)
    assert "seqassay models fetch esm2_t36_3B_UR50D" in why
    with pytest.raises(UsageError, match="not in the cache"):
        find_candidate(settings())


def test_nucleotide_encoders_are_refused(tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="DNABERT-S is a nucleotide encoder"):
        find_candidate(settings(candidate="DNABERT-S", random_weights=True))
    with pytest.raises(ModelError, match="nucleotide encoder"):
        find_candidate(settings(candidate=f"{tiny_bundle}:nucleotide"))


@pytest.mark.parametrize("name", ["{}", "{}:protein"])
def test_a_bundle_means_its_protein_encoder(tiny_bundle: Path, name: str) -> None:
    wanted = find_candidate(settings(candidate=name.format(tiny_bundle)))
    assert wanted.name == "tiny:protein"
    assert wanted.n_parameters == 33 * 40 + 2 * (4 * 40**2 + 4 * 40 + 2 * 40 * 64 + 64 + 40 + 4 * 40) + 2 * 40


def test_random_weights_have_the_published_shape_and_one_seed() -> None:
    wanted = find_candidate(settings(candidate="esm2_t6_8M_UR50D", random_weights=True))
    assert (wanted.path, wanted.shape) == (None, Esm2Config(6, 320, 20))
    small = Wanted("small", None, Esm2Config(1, 16, 2), 1, "float32")
    digests = [open_encoder(small, settings(device="cpu", seed=seed)).embedder.encoder.digest for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]
    state = open_encoder(small, settings(device="cpu")).model.state_dict()
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state.values())
    assert state["layers.0.attention_norm.weight"].tolist() == [1.0] * 16
    assert state["layers.0.fc1.weight"].std().item() == pytest.approx(0.02, rel=0.1)
