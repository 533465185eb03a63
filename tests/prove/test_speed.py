"""`benchmark speed` from settings to record and report, on a clock that moves by what an encoder is said to cost."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import write_fasta

from seqassay.engine.embed import Embedder
from seqassay.errors import InputError, ModelError, ResourceError, SeqassayError, UsageError
from seqassay.measure.clock import DeviceClock
from seqassay.models.esm2 import Esm2, Esm2Config
from seqassay.models.weights import save_esm2
from seqassay.prove.gates.command import gate
from seqassay.prove.gates.settings import GateSettings
from seqassay.prove.speed import encoders
from seqassay.prove.speed.command import benchmark_speed
from seqassay.prove.speed.record import check_record
from seqassay.prove.speed.settings import SpeedSettings
from seqassay.report.speed import speed_summary

Benchmark = Callable[..., dict[str, Any]]
Costs = dict[str, list[float]]  # seconds of an encoder's passes, used in turn, again and again


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two encoders of random weights: ``small`` and ``large``."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("encoders")
    save_esm2(Esm2(Esm2Config(1, 16, 2)), folder / "small")
    save_esm2(Esm2(Esm2Config(2, 32, 2)), folder / "large")
    return folder


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Costs:
    """What a pass of each encoder costs; reading the clock costs a microsecond, and a product no more."""
    cost: Costs = {"small": [1.0], "large": [3.0]}
    now_ns, turn = [0], dict.fromkeys(cost, 0)
    embed = Embedder.embed

    def paid_embed(self: Embedder, sequences: Any) -> Any:
        name = self.encoder.name
        now_ns[0] += round(cost[name][turn[name] % len(cost[name])] * 1e9)
        turn[name] += 1
        return embed(self, sequences)

    def read_ns() -> int:
        now_ns[0] += 1_000
        return now_ns[0]

    monkeypatch.setattr(Embedder, "embed", paid_embed)
    monkeypatch.setattr(DeviceClock, "of", lambda _: DeviceClock(now_ns=read_ns))
    monkeypatch.setattr("seqassay.prove.speed.peak._CPU_SIZES", (64,))
    monkeypatch.setattr("seqassay.prove.speed.peak._ENGINE_SHAPES", ((32, 64),))
    return cost


@pytest.fixture
def benchmark(folders: Path, tmp_path: Path, costs: Costs) -> Benchmark:
    """Benchmark small against large into ``out``."""

    def run(**changes: Any) -> dict[str, Any]:
        options: dict[str, Any] = {
            "candidate": str(folders / "small"),
            "baseline": str(folders / "large"),
            "output_dir": tmp_path / "out",
            "n_sequences": 4,
            "warm_ups": 2,
            "pairs": 8,
            "device": "cpu",
            "threads": 1,
        }
        return benchmark_speed(SpeedSettings(**{**options, **changes}))

    return run


JITTER = [1.0, 1.01, 0.99, 1.005, 0.995]


def test_the_whole_record(benchmark: Benchmark, costs: Costs, tmp_path: Path) -> None:
    costs["large"] = [3 * factor for factor in JITTER]
    record = benchmark()
    check_record(record)
    assert json.loads((tmp_path / "out/metrics.json").read_text()) == record
    assert record["verdict"] == "PASSED"
    speed_up = record["values"]["speed_up"]
    assert speed_up["value"] == pytest.approx(3.0, rel=0.01)
    assert speed_up["interval_95"][0] > 2.9
    assert speed_up["n"] == 8
    small, large = record["models"]["candidate"], record["models"]["baseline"]
    ratios = np.array(large["paired"]["samples_s"]) / np.array(small["paired"]["samples_s"])
    assert record["pairs"]["ratios"] == ratios.tolist()
    assert sorted(record["pairs"]["first"]) == ["baseline"] * 4 + ["candidate"] * 4
    assert small["classic"]["samples_s"] == pytest.approx([1.0] * 3, rel=1e-5)
    assert len(small["classic"]["warm_up_s"]) == 2
    assert small["classic"]["total_s"] == pytest.approx(3.0, rel=1e-5)
    assert small["classic"]["per_sequence_s"]["value"] == pytest.approx(0.25, rel=1e-5)
    assert small["first_call_s"] == pytest.approx(1.0, rel=1e-5)
    assert small["compile_s"] is None
    work, n_residues = small["work"], record["sequences"]["residues"]
    assert (work["sequences"], work["residues"], work["tokens"]) == (4, n_residues, n_residues + 8)
    assert small["paired"]["tokens_per_s"]["value"] == pytest.approx(work["tokens"], rel=1e-5)
    best = max(sample["flop"] / seconds for sample in record["peaks"][0]["samples"] for seconds in sample["seconds"])
    assert record["peaks"][0]["flop_per_s"]["value"] == best
    assert small["paired"]["share_of_peak"]["value"] == pytest.approx(work["flop"] / best, rel=1e-5)
    assert record["same_work"]["same_sequences"] is record["same_work"]["same_tokens"] is True
    assert record["same_work"]["flop_ratio"] == large["work"]["flop"] / work["flop"]
    assert small["embeddings"] == {"d_model": 16, "finite": {"value": 1.0, "n": 4}}
    assert record["identity"]["candidate"]["digest"] == small["digest"] != large["digest"]


def test_the_report_and_the_summary_show_the_record(benchmark: Benchmark, costs: Costs, tmp_path: Path) -> None:
    costs["large"] = [3 * factor for factor in JITTER]
    record = benchmark()
    report = (tmp_path / "out/reports/speed_benchmark.md").read_text()
    speed_up = record["values"]["speed_up"]
    low, high = speed_up["interval_95"]
    shown = f"{speed_up['value']:.2f} (95% {low:.2f} to {high:.2f})"
    assert f"**PASSED**: the speed-up and its whole interval reach the limit. Speed-up {shown}" in report
    for words in ("2 warm-ups, then 3 timed runs", "8 pairs, each encoder first in half", *record["method"].values()):
        assert words in report or words[0].upper() + words[1:] in report, words
    summary = speed_summary(record, "out")
    assert f"speed-up   {shown}, 8 pairs" in summary
    assert "out/reports/speed_benchmark.md" in summary
    assert "nan" not in summary + report


@pytest.mark.parametrize(
    ("large", "verdict"),
    [([1.5 * factor for factor in JITTER], "FAILED"), ([1.2, 2.8, 2.1], "UNDECIDED"), ([3.0], "UNDECIDED")],
)
def test_verdicts(benchmark: Benchmark, costs: Costs, large: list[float], verdict: str) -> None:
    """PASSED is the test of the whole record; pairs that are all the same have no interval."""
    costs["large"] = large
    assert benchmark()["verdict"] == verdict


def test_few_pairs_decide_nothing(benchmark: Benchmark) -> None:
    record = benchmark(pairs=3)
    assert record["verdict"] == "UNDECIDED"
    assert "3 pairs are too few" in record["gate"]["reason"]


def test_candidate_only(benchmark: Benchmark, tmp_path: Path) -> None:
    record = benchmark(candidate_only=True)
    assert record["verdict"] == "SKIPPED"
    assert record["models"]["baseline"] is record["pairs"] is record["same_work"] is None
    assert record["values"]["speed_up"]["value"] is None
    assert record["baseline_status"]["status"] == "not wanted"
    assert "**Gate skipped**: no baseline was wanted" in (tmp_path / "out/reports/speed_benchmark.md").read_text()
    assert "undefined: no baseline was wanted" in speed_summary(record, "out")


def test_one_sequence_and_one_run(benchmark: Benchmark) -> None:
    record = benchmark(n_sequences=1, warm_ups=0, runs=1)
    assert record["sequences"]["n"] == 1
    assert record["models"]["candidate"]["classic"]["run_s"]["sd"] is None


def test_a_model_against_itself_is_said(benchmark: Benchmark, folders: Path) -> None:
    notes = benchmark(baseline=str(folders / "small"))["notes"]
    assert any("same model in the same number format" in note for note in notes)


def test_two_number_formats_have_two_peaks(benchmark: Benchmark, folders: Path) -> None:
    record = benchmark(candidate=str(folders / "large"), precision="bf16", baseline_precision="float32")
    assert [peak["number_format"] for peak in record["peaks"]] == ["bfloat16", "float32"]
    assert [record["models"][role]["precision"] for role in ("candidate", "baseline")] == ["bf16", "float32"]
    assert record["models"]["candidate"]["weight_bytes"] * 2 == record["models"]["baseline"]["weight_bytes"]


def test_a_baseline_that_does_not_fit_is_skipped(benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    def check_fits(name: str, *_: Any) -> None:
        if name == "large":
            raise ResourceError("large does not fit: it takes 11.0 GiB, and 2.0 GiB of the memory are free")

    monkeypatch.setattr(encoders, "check_fits", check_fits)
    record = benchmark()
    assert record["verdict"] == "UNDECIDED"
    assert record["baseline_status"]["status"] == "skipped"
    assert record["gate"]["reason"].startswith("the baseline was skipped: large does not fit: it takes 11.0 GiB")
    assert record["models"]["baseline"] is None
    assert record["models"]["candidate"]["classic"]["run_s"]["n"] == 3


def test_a_baseline_that_runs_out_of_memory_is_skipped(benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    embed = Embedder.embed

    def exhausted(self: Embedder, sequences: Any) -> Any:
        if self.encoder.name == "large":
            raise ResourceError("out of memory on cpu: one sequence of 502 tokens does not fit by itself")
        return embed(self, sequences)

    monkeypatch.setattr(Embedder, "embed", exhausted)
    record = benchmark()
    assert record["verdict"] == "UNDECIDED"
    assert "one sequence of 502 tokens" in record["gate"]["reason"]


def test_a_baseline_that_gets_no_kernel_is_skipped(benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    """What oneDNN says when memory runs out, as seen with 650M parameters in 4.2 GB."""
    forward, n_calls = Esm2.forward, 0

    def exhausted(self: Esm2, *batch: Any, **options: Any) -> Any:
        nonlocal n_calls
        if self.config.n_layers == 2:
            n_calls += 1
            raise RuntimeError("could not create a primitive")
        return forward(self, *batch, **options)

    monkeypatch.setattr(Esm2, "forward", exhausted)
    record = benchmark()
    assert record["verdict"] == "UNDECIDED"
    assert "does not fit by itself" in record["gate"]["reason"]
    assert n_calls > 1, "smaller batches are tried first"


def test_weights_that_are_no_numbers(benchmark: Benchmark, folders: Path, tmp_path: Path) -> None:
    """As a candidate they end the benchmark, as a baseline they are skipped."""
    bad = broken(folders / "large", tmp_path / "large", float("nan"))
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        benchmark(candidate=str(bad))
    assert not (tmp_path / "out").exists()
    record = benchmark(baseline=str(bad))
    assert record["verdict"] == "UNDECIDED"
    assert "model.safetensors" in record["baseline_status"]["reason"]


def test_embeddings_that_are_no_numbers_have_no_speed_up(benchmark: Benchmark, folders: Path, tmp_path: Path) -> None:
    bad = broken(folders / "small", tmp_path / "small", 1e38)
    record = benchmark(candidate=str(bad))
    assert record["verdict"] == "FAILED"
    assert record["values"]["speed_up"]["value"] is None
    assert record["models"]["candidate"]["embeddings"]["finite"]["value"] == 0
    assert "4 of the candidate's 4 embeddings hold values that are no numbers" in record["gate"]["reason"]


def broken(folder: Path, to: Path, value: float) -> Path:
    """A copy of an encoder with this value all over one of its matrices."""
    to.mkdir()
    (to / "config.json").write_bytes((folder / "config.json").read_bytes())
    tensors = load_file(folder / "model.safetensors")
    tensors["esm.encoder.layer.0.output.dense.weight"].fill_(value)
    save_file(tensors, to / "model.safetensors", {"format": "pt"})
    return to


def test_more_than_the_peak_ends_it_with_nothing_written(benchmark: Benchmark, costs: Costs, tmp_path: Path) -> None:
    costs["large"] = [1e-9]
    with pytest.raises(SeqassayError, match="no model can reach"):
        benchmark()
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_needs_force(benchmark: Benchmark, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        benchmark()
    benchmark(force=True, candidate_only=True)
    assert (tmp_path / "out/mine.txt").read_text() == "mine"


def test_bad_input_is_found_before_a_model_is_loaded(
    benchmark: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("seqassay.prove.speed.command.open_encoder", never)
    (tmp_path / "bad.fa").write_text("rubbish\n")
    with pytest.raises(InputError, match=r"bad\.fa"):
        benchmark(sequences=(str(tmp_path / "bad.fa"),))
    with pytest.raises(UsageError, match="unknown device"):
        benchmark(device="abacus")
    with pytest.raises(UsageError, match="fp16 needs a CUDA device"):
        benchmark(baseline_precision="fp16")
    with pytest.raises(UsageError, match="--random-weights"):
        benchmark(random_weights=True)
    assert not (tmp_path / "out").exists()


def test_what_a_reader_has_to_keep_in_mind(
    benchmark: Benchmark, costs: Costs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("psutil.getloadavg", lambda: (9.0, 9.0, 9.0))
    costs["large"] = [1.0, 1.0, 1.0, 8.0, 8.0, 8.0]
    path = write_fasta(tmp_path / "p.fa", [("a", "MKV"), ("b", "W" * 1100)])
    notes = "\n".join(benchmark(sequences=(str(path),))["notes"])
    assert "the machine was busy before the benchmark began (load average 9.0" in notes
    assert "there are 2 distinct sequences, fewer than the 4 asked for" in notes
    assert "1 sequences are longer than the 1,022 residues" in notes
    assert "large never became steady" in notes


def test_a_gate_on_the_record(benchmark: Benchmark, costs: Costs, tmp_path: Path) -> None:
    costs["large"] = [3 * factor for factor in JITTER]
    benchmark()
    gates = tmp_path / "gates.yaml"
    gates.write_text("gates:\n  fast: {metric: speed_up, at_least: 2}\n  faster: {metric: speed_up, at_least: 4}\n")
    found = gate(GateSettings(records=(str(tmp_path / "out"),), gates=gates))
    assert [entry["verdict"] for entry in found["gates"]] == ["PASSED", "FAILED"]


def test_records_that_cannot_be_are_refused(benchmark: Benchmark) -> None:
    record = benchmark()

    def check(change: Callable[[dict[str, Any]], object], words: str) -> None:
        changed = copy.deepcopy(record)
        change(changed)
        with pytest.raises(SeqassayError) as error:
            check_record(changed)
        assert words in error.value.message

    small = "candidate"
    check(lambda r: r["models"][small]["paired"]["share_of_peak"].update(value=3.58), "value is 3.58, above 1")
    check(lambda r: r["models"].update(candidate=None), "models.candidate is null")
    check(lambda r: r["values"]["speed_up"].update(value=99.0), "99.0 lies outside its extremes")
    check(lambda r: r["values"]["speed_up"].update(value=None), "undefined without a reason")
    check(lambda r: r["pairs"]["ratios"].pop(), "7 ratios, but 8 pairs")
    check(lambda r: r["models"][small]["classic"]["samples_s"].pop(), "candidate: 2 classic runs, but 3")
    check(lambda r: r["models"][small]["work"].update(sequences=5), "embedded 5 of 4 sequences")
    check(lambda r: r.update(pairs=None), "a speed-up without pairs")
