"""Profiling in `lm evaluate`: figures from their runs by hand, what is refused, stops, what cannot be."""

from __future__ import annotations

import copy
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqassay.errors import InputError, ResourceError, SeqassayError, StoppedError, UsageError
from seqassay.measure.clock import DeviceClock
from seqassay.measure.progress import RunProgress
from seqassay.models.causal_lm import CausalLmConfig
from seqassay.models.lm_files import build_lm, load_lm, save_lm
from seqassay.predict.stop import StopRequested
from seqassay.prove.lm import memory as memory_module
from seqassay.prove.lm import profile as profile_module
from seqassay.prove.lm import profiling as profiling_module
from seqassay.prove.lm.command import evaluate_lm
from seqassay.prove.lm.pieces import FOLDER as PIECES
from seqassay.prove.lm.profiling import LmBench, shapes_of
from seqassay.prove.lm.record import check_record
from seqassay.prove.lm.settings import LmEvaluateSettings
from seqassay.prove.lm.standard import StandardMetrics
from seqassay.text.tokenizer_training import train_bytes_bpe

TEXT = "The cat sat on the mat. The dog sat on the log.\n" * 20
SHORT: dict[str, Any] = {
    "latency_shapes": ((1, 8), (2, 16)), "latency_warm_ups": 1, "latency_runs": 20, "throughput_shape": (2, 16),
    "throughput_s": 0.02, "scaling_batches": (4, 1), "scaling_length": 8, "scaling_runs": 3, "memory_runs": 1,
}  # fmt: skip
FILES = ["latency_results.json", "metrics.json", "profiling_history.jsonl", "profiling_summary.json", "summary.md",
         "throughput_results.json"]  # fmt: skip


def made_up_peak(peak: Any, _: DeviceClock) -> None:
    peak.flop, peak.seconds = {"made up": 10**15}, {"made up": [1.0]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lm")
    train_bytes_bpe([TEXT], 270).save(folder / "tokenizer.json")
    config = CausalLmConfig(vocab_size=270, d_model=16, n_layers=1, n_heads=2, d_ff=24, context=16)
    save_lm(build_lm(config, 1), folder / "model", seed=1, tokenizer=folder / "tokenizer.json")
    return folder / "model"


@pytest.fixture
def run(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """An evaluation in which no peak is measured for real, for that takes a second, nor memory, for which see below."""
    monkeypatch.setattr("seqassay.prove.speed.peak.Peak.measure", made_up_peak)
    monkeypatch.setattr(profiling_module, "_WARM_LIMIT_S", 0.01)

    def evaluate(**options: Any) -> dict[str, Any]:
        given = {"checkpoint": model, "output_dir": tmp_path / "out", "device": "cpu", "skip_memory": True, **SHORT}
        given |= options
        return evaluate_lm(LmEvaluateSettings(**given)).record

    return evaluate


def test_every_figure_is_that_of_its_runs(run: Callable[..., Any], tmp_path: Path) -> None:
    record = run(skip_memory=False)
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == FILES
    found = record["profiling"]
    rows = [json.loads(line) for line in (out / "profiling_history.jsonl").read_text().splitlines()]

    def runs(part: str, shape: str) -> list[float]:
        return [row["seconds"] for row in rows if (row["part"], row["shape"], row["phase"]) == (part, shape, "timed")]

    assert [entry["shape"] for entry in found["latency"]] == ["1x8", "2x16"]
    for entry in found["latency"]:
        ms = np.array(runs("latency", entry["shape"])) * 1e3
        assert entry["samples_ms"] == pytest.approx(ms.tolist()) and len(ms) == 20
        said = entry["latency_ms"]
        assert said["value"] == pytest.approx(ms.mean()) and said["sd"] == pytest.approx(ms.std(ddof=1))
        assert (said["min"], said["max"]) == pytest.approx((ms.min(), ms.max()))
        assert entry["median_ms"] == pytest.approx(np.median(ms))
        assert entry["p95_ms"] == pytest.approx(np.percentile(ms, 95)) and entry["p99_ms"] is None
        tokens = entry["batch"] * entry["length_tokens"]
        assert entry["tokens_per_s"]["value"] == pytest.approx(tokens / ms.mean() * 1e3)
        config = CausalLmConfig(vocab_size=270, d_model=16, n_layers=1, n_heads=2, d_ff=24, context=16)
        flop = build_lm(config, 1).flops([entry["length_tokens"]] * entry["batch"])
        assert entry["model_flop_utilisation"]["value"] == pytest.approx(flop / ms.mean() * 1e3 / 1e15)
    slices = runs("throughput", "2x16")
    entry = found["throughput"]
    assert entry["slices_s"] == slices and entry["tokens_per_s"]["n"] == len(slices) >= 3
    assert entry["tokens_per_s"]["value"] == pytest.approx(entry["runs"] * 32 / sum(slices))
    assert entry["sequences_per_s"]["value"] == pytest.approx(entry["runs"] * 2 / sum(slices))
    one, four = found["scaling"]
    assert (one["shape"], four["shape"], one["speed_up"]["value"]) == ("1x8", "4x8", 1)
    ratios = np.array(one["samples_ms"]) / (np.array(four["samples_ms"]) / 4)
    assert four["speed_up"]["value"] == pytest.approx(np.median(ratios)) and four["speed_up"]["n"] == 3
    memory = found["memory"]
    ends = [memory[key]["value"] for key in ("before_model_bytes", "loaded_bytes", "peak_bytes")]
    assert ends == sorted(ends) and ends[0] > 50e6 and memory["cuda_peak_allocated_bytes"] is None

    standard = StandardMetrics.from_json(json.loads((out / "metrics.json").read_text())["standard"])
    assert len(standard.to_json()) > 60 and standard.to_json() == record["standard"]
    assert standard.latency_mean_ms == found["latency"][0]["latency_ms"]["value"]
    assert standard.peak_memory_bytes == round(ends[2]) and standard.valid_loss is None
    assert json.loads((out / "latency_results.json").read_text())["latency"] == found["latency"]
    assert json.loads((out / "throughput_results.json").read_text())["scaling"] == found["scaling"]
    summary = (out / "summary.md").read_text()
    for title in ("Configuration", "Training", "Validation", "Test", "SmallBench", "Performance", "Reproducibility",
                  "Full configuration"):  # fmt: skip
        assert f"\n## {title}\n" in summary
    assert f"| 1x8 | {found['latency'][0]['latency_ms']['value']:.4g} |" in summary


def test_parts_that_are_skipped_leave_no_file(run: Callable[..., Any], tmp_path: Path) -> None:
    run()
    record = run(skip_latency=True, skip_scaling=True, force=True)
    assert [name for name in ("latency", "throughput", "scaling", "memory") if record["profiling"][name]] == [
        "throughput"
    ]
    assert not (tmp_path / "out/latency_results.json").exists()
    assert record["standard"]["latency_mean_ms"] is None
    (tmp_path / "text.txt").write_text(TEXT)
    record = run(inputs=(str(tmp_path / "text.txt"),), skip_profiling=True, force=True)
    assert record["profiling"] is None and record["standard"]["test_perplexity"] > 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metrics.json", "summary.md"]
    assert run(skip_latency=True, skip_throughput=True, force=True, run_id="mine")["run"]["id"] == "mine"
    with pytest.raises(UsageError, match="every part is skipped"):
        run(inputs=("x",), skip_perplexity=True, skip_profiling=True)


def test_no_shape_is_cut_in_silence(model: Path, tmp_path: Path) -> None:
    def settings(**options: Any) -> LmEvaluateSettings:
        return LmEvaluateSettings(checkpoint=model, output_dir=tmp_path, **options)

    shapes = shapes_of(settings(), 512)
    assert shapes.latency == ((1, 128), (1, 512)) and shapes.throughput == (32, 512) and not shapes.notes
    shapes = shapes_of(settings(), 200)
    assert shapes.latency == ((1, 128),) and shapes.throughput == (32, 200) == shapes.memory
    assert shapes.notes[0] == "latency of 1x512 is left out: the context is 200 tokens"
    assert "those of 32x200, not of 32x512" in shapes.notes[1]
    shapes = shapes_of(settings(), 16)
    assert (
        shapes.latency == ((1, 16),) and shapes.scaling_length == 16 and "1x16 is measured instead" in shapes.notes[0]
    )
    for options in (
        {"latency_shapes": ((1, 8), (1, 17))}, {"throughput_shape": (4, 17)}, {"memory_shape": (1, 17)},
        {"scaling_length": 17},
    ):  # fmt: skip
        with pytest.raises(UsageError, match="sequences of 17 tokens; the model was made for 16"):
            shapes_of(settings(**options), 16)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"latency_shapes": ((0, 8),)}, "--latency-shapes is 0x8"),
        ({"latency_shapes": ((1, 8), (1, 8))}, "names one twice"),
        ({"latency_shapes": ()}, "nothing is named to measure"),
        ({"scaling_batches": (1, 1)}, "--scaling-batches is 1, 1"),
        ({"throughput_s": math.nan}, "--throughput-s is nan"),
        ({"latency_runs": 1}, "--latency-runs is 1"),
        ({"run_id": "\n"}, "--run-id is"),
    ],
)
def test_settings_that_cannot_be(model: Path, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        LmEvaluateSettings(checkpoint=model, output_dir=tmp_path, **options)


def test_a_stop_loses_the_part_in_work_alone(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(*given: Any) -> Any:
        raise StopRequested("SIGTERM")

    with monkeypatch.context() as planted:
        planted.setattr(profile_module, "measure_scaling", stopping)
        with pytest.raises(StoppedError, match=r"stopped by SIGTERM; what was finished is kept in .*\ngo on with"):
            run()
    out = tmp_path / "out"
    kept = sorted(path.name for path in (out / PIECES).iterdir())
    assert kept == ["latency.json", "manifest.json", "throughput.json"] and not (out / "metrics.json").exists()
    run_id = json.loads((out / PIECES / "manifest.json").read_text())["run_id"]
    with pytest.raises(UsageError, match=r"holds an interrupted evaluation\ngo on with it \(--resume\)"):
        run()
    with pytest.raises(UsageError, match="latency_runs was 20, is now 30"):
        run(resume=True, latency_runs=30)
    text = (out / PIECES / "throughput.json").read_text()
    (out / PIECES / "throughput.json").write_text(text.replace("1", "2", 3))  # damaged: it is measured again
    monkeypatch.setattr(profile_module, "measure_latency", stopping)
    record = run(resume=True)
    assert record["run"]["resumed_parts"] == ["latency"] and record["run"]["id"] == run_id
    assert len(record["profiling"]["latency"][0]["samples_ms"]) == 20
    assert sorted(path.name for path in out.iterdir()) == FILES


def test_memory_that_runs_out(run: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ResourceError, match=r"out of memory with 1,000,000,000,000 sequences of 8 tokens\nmeasure a small"
    ):
        run(latency_shapes=((10**12, 8),))
    job = {"checkpoint": str(model), "shape": [10**12, 8], "device": "cpu", "threads": torch.get_num_threads()}
    said = memory_module._result(job)
    assert said == {"out_of_memory": "out of memory with 1,000,000,000,000 sequences of 8 tokens"}
    with pytest.raises(ResourceError, match="out of memory with 1,000,000,000,000 sequences of 8 tokens"):
        run(force=True, memory_shape=(10**12, 8), skip_latency=True, skip_scaling=True, skip_memory=False)
    record = run(force=True, scaling_batches=(1, 2, 10**12), skip_latency=True, skip_throughput=True)
    last = record["profiling"]["scaling"][-1]
    assert last["latency_ms"]["value"] is None and "out of memory" in last["latency_ms"]["why_undefined"]
    assert "scaling: out of memory from 1000000000000x8 on" in record["notes"]
    assert "| undefined |" in (tmp_path / "out/summary.md").read_text()


def test_the_process_that_measures_memory_ends_with_its_parent(tmp_path: Path, model: Path) -> None:
    job = {"checkpoint": str(model), "shape": [1, 8], "device": "cpu", "threads": 1, "result": str(tmp_path / "result")}
    (tmp_path / "job.json").write_text(json.dumps(job))
    words = [sys.executable, "-m", "seqassay.prove.lm.memory", str(tmp_path / "job.json")]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, check=False, timeout=60)
    assert done.returncode == 3 or (tmp_path / "result").exists()
    with pytest.raises(SeqassayError, match=r"the process that measures memory ended with 1: .*no such folder"):
        memory_module._run({**job, "checkpoint": str(tmp_path / "gone")})


def test_figures_that_cannot_be_are_no_record(run: Callable[..., Any]) -> None:
    record = run()
    for place, value, words in (
        (("latency", 0, "latency_ms", "value"), -1, "below 0"),
        (("latency", 0, "samples_ms", 3), 1e9, "its samples say"),
        (("latency", 0, "p95_ms"), 0.0, "percentiles are not in order"),
        (("latency", 0, "model_flop_utilisation", "max"), 1.5, "above 1"),
        (("throughput", "runs"), 10**6, "not what the slices say"),
        (("scaling", 1, "latency_ms", "n"), 4, "3 samples"),
        (("latency", 0, "tokens_per_s", "min"), 1e15, "outside its extremes"),
    ):
        changed = copy.deepcopy(record)
        part: Any = changed["profiling"]
        for name in place[:-1]:
            part = part[name]
        part[place[-1]] = value
        with pytest.raises(SeqassayError, match=words):
            check_record(changed)
    changed = copy.deepcopy(record)
    changed["standard"]["latency_mean_ms"] *= 1.0000001
    with pytest.raises(SeqassayError, match="the standard metrics are not those of the rest"):
        check_record(changed)


class _Peak:
    """A device whose peak comes out higher every time it is measured, up to a limit."""

    flop_per_s = 0.0
    rates = (1e6, 1e9, 1e9, 1e9, 1e9, 1e9, 1e9)

    def __init__(self) -> None:
        self.n = 0

    def measure(self, _: DeviceClock) -> None:
        self.flop_per_s, self.n = self.rates[self.n], self.n + 1


def test_more_than_the_device_can_do_is_an_error(model: Path) -> None:
    """A peak that came out too small is measured again; what is impossible then as well is an error."""
    bench = LmBench(load_lm(model).model, torch.device("cpu"), RunProgress())
    bench.peak = peak = _Peak()  # type: ignore[assignment]
    bench.measure_peak()
    assert 0 < bench.utilisation((1, 8), [0.01, 0.001], 0.0055)["max"] < 1 and peak.n == 2
    with pytest.raises(SeqassayError, match="of the device's peak, which no model can reach"):
        bench.utilisation((1, 8), [1e-9], 1e-9)


def test_runs_are_steady_or_said_not_to_be(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(1)
    monkeypatch.setattr(DeviceClock, "time_s", lambda self, work: 0.001 * next(ticks))
    record = run(skip_scaling=True, skip_throughput=True)
    assert any("never became steady" in note for note in record["notes"])


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("valid_loss", 3.0, None),
        ("valid_perplexity", 0.5, "outside 1 to inf"),
        ("valid_perplexity", 20.0, "not the exponential"),
        ("parameters", 1.5, "parameters is 1.5, not int"),
        ("parameters", True, "not int"),
        ("embedding_ratio", 0.9, "not that of the parameters"),
        ("latency_p99_ms", math.inf, "not a finite number"),
        ("latency_max_ms", 1e-9, "not in order"),
        ("smallbench_nli_accuracy", 0.5, "not the mean"),
        ("smallbench_nli_accuracy", 50.0, "outside 0 to 1"),
        ("weights_sha256", "abc", "no SHA-256"),
        ("device", "", "device is empty"),
        ("run_id", None, "run_id is null"),
        ("stranger", 1, "have no stranger"),
    ],
)
def test_standard_metrics_are_validated(record: dict[str, Any], field: str, value: Any, words: str | None) -> None:
    content = {**record["standard"], field: value}
    if words is None:
        assert StandardMetrics.from_json(content).valid_loss == value
        return
    with pytest.raises(InputError, match=words):
        StandardMetrics.from_json(content)
    with pytest.raises(InputError, match="lack seed"):
        StandardMetrics.from_json({key: x for key, x in record["standard"].items() if key != "seed"})


@pytest.fixture(scope="module")
def record(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    options = {**SHORT, "skip_throughput": True, "skip_scaling": True, "skip_memory": True}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("seqassay.prove.speed.peak.Peak.measure", made_up_peak)
        folder = tmp_path_factory.mktemp("standard") / "out"
        return evaluate_lm(LmEvaluateSettings(checkpoint=model, output_dir=folder, **options)).record
