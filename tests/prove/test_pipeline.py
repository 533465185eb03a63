"""`benchmark pipeline`: plans, figures and recommendations on made-up runs, and the installed command on real ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from support import exit_code, random_reads, write_fasta

from seqassay.errors import InputError, ResourceError, SeqassayError, UsageError
from seqassay.measure.schema import check_schema
from seqassay.prove.gates.command import gate
from seqassay.prove.gates.settings import GateSettings
from seqassay.prove.pipeline.cases import Case, Plan, Setup, plan
from seqassay.prove.pipeline.command import benchmark_pipeline
from seqassay.prove.pipeline.figures import given_speed_up, model_flop_utilisation, paired_speed_up, scaling_of
from seqassay.prove.pipeline.labels import compare_labels
from seqassay.prove.pipeline.record import check_record
from seqassay.prove.pipeline.runner import Runner
from seqassay.prove.pipeline.settings import PipelineSettings
from seqassay.prove.pipeline.sweep import decide
from seqassay.report.pipeline import failure_line, pipeline_report, pipeline_summary


def settings_of(tmp_path: Path, **changes: Any) -> PipelineSettings:
    return PipelineSettings(**{"inputs": ("a.fa",), "output_dir": tmp_path / "out", **changes})


def case_of(setup: Setup, walls: list[float]) -> Case:
    return Case(setup, {i: {"wall_s": wall, "peak_host_bytes": 1} for i, wall in enumerate(walls)})


# --- plans -------------------------------------------------------------------------------------------------------


def test_the_most_workers_are_the_main_case_and_one_is_always_there(tmp_path: Path) -> None:
    wanted = plan(settings_of(tmp_path, workers=(2, 4), reference=True), device_type="cpu", cores=4)
    assert [setup.workers for setup in wanted.scaling] == [1, 2, 4]
    assert wanted.main == wanted.scaling[-1]
    assert wanted.main.threads == 4
    assert wanted.reference is not None
    assert wanted.reference.workers == 4
    assert len(wanted.setups) == 4


def test_a_sweep_is_every_pair_and_the_current_setting_once(tmp_path: Path) -> None:
    wanted = plan(
        settings_of(tmp_path, sweep_batch=(2048, 4096), sweep_prefetch=(1, 2), batch=2048),
        device_type="cpu", cores=2,
    )  # fmt: skip
    assert [(setup.batch, setup.prefetch) for setup in wanted.sweep] == [(2048, 1), (2048, 2), (4096, 1), (4096, 2)]
    assert wanted.main == wanted.sweep[0]
    assert plan(settings_of(tmp_path), device_type="cpu", cores=2).sweep == ()


@pytest.mark.parametrize(
    ("changes", "device", "words"),
    [
        ({"workers": (1, 3)}, "cpu", "may use 2 cores"),
        ({"workers": (1, 2)}, "cuda", "one CUDA device"),
        ({"reference": True}, "cuda", "stated for the CPU"),
    ],
)
def test_what_a_machine_cannot_do_is_said_before_anything_runs(
    tmp_path: Path, changes: dict[str, Any], device: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        plan(settings_of(tmp_path, **changes), device_type=device, cores=2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": ()}, "no input file"),
        ({"inputs": ("-",)}, "standard input"),
        ({"repeats": 0}, "--repeats is 0"),
        ({"workers": (2, 2)}, "--workers is 2,2"),
        ({"sweep_batch": (0,)}, "--sweep-batch is 0"),
        ({"workers": (1, 2), "threads": 2}, "exclude each other"),
        ({"reference": True, "baseline_s": 3.0}, "exclude each other"),
        ({"baseline_s": 0.0}, "--baseline-s is 0"),
        ({"baseline_s": float("nan")}, "--baseline-s is nan"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        settings_of(tmp_path, **changes)


# --- figures -----------------------------------------------------------------------------------------------------

ONE, TWO = Setup(workers=1, threads=1), Setup(workers=2, threads=2)
SCALED = Plan(TWO, (ONE, TWO), (), None)


def test_scaling_is_of_rounds_and_efficiency_its_share_of_the_workers() -> None:
    cases = {ONE: case_of(ONE, [10, 20, 10, 20, 10, 20, 11]), TWO: case_of(TWO, [5.5, 11, 5.5, 11, 5.4, 11, 6])}
    found = scaling_of(SCALED, cases, seed=1)
    assert found is not None
    one, two = found["cases"]
    assert one["speed_up"]["value"] == 1.0
    assert two["speed_up"]["value"] == pytest.approx(10 / 5.5)
    assert two["efficiency"]["value"] == pytest.approx(5 / 5.5)
    assert two["efficiency"]["interval_95"] == pytest.approx([end / 2 for end in two["speed_up"]["interval_95"]])
    assert (one["flag"], two["flag"]) == ("", "")
    assert found["on_two"] == two["speed_up"]


@pytest.mark.parametrize(
    ("walls", "flag"),
    [([4, 4.1, 4.2, 4, 4.1, 4], "above 1 beyond noise"), ([4, 6, 4, 6, 4, 4], "above 1 within noise"), ([4], "noise")],
)
def test_an_efficiency_above_one_is_flagged(walls: list[float], flag: str) -> None:
    found = scaling_of(SCALED, {ONE: case_of(ONE, [10.0] * len(walls)), TWO: case_of(TWO, walls)}, seed=1)
    assert found is not None
    assert found["cases"][1]["efficiency"]["value"] > 1
    assert flag in found["cases"][1]["flag"]


def test_a_failed_case_has_no_speed_up_and_says_why() -> None:
    failed = Case(TWO, failure={"round": 0, "error": "out of memory", "hint": ""})
    found = paired_speed_up(case_of(ONE, [1.0]), failed, seed=1)
    assert (found["value"], found["why_undefined"]) == (None, "its run failed: out of memory")


def test_only_rounds_with_a_run_of_both_count() -> None:
    partly = case_of(TWO, [1.0, 1.0, 1.0])
    del partly.runs[1]
    assert paired_speed_up(case_of(ONE, [2.0, 90.0, 4.0, 5.0]), partly, seed=1)["n"] == 2


def test_a_given_time_is_compared_with_every_run() -> None:
    found = given_speed_up(30.0, case_of(ONE, [10.0, 12.0, 10.0, 11.0, 10.0, 10.0, 10.0]), seed=1)
    assert (found["value"], found["n"]) == (3.0, 7)
    assert found["interval_95"][1] == 3.0


def test_more_than_the_peak_is_an_error_at_the_source() -> None:
    peak = {"flop_per_s": {"value": 1e9}}
    samples = [{"flop": 5e8, "embedding_s": 1.0, "peak": peak}, {"flop": 5e8, "embedding_s": 2.0, "peak": None}]
    found = model_flop_utilisation(samples)
    assert (found["value"], found["min"], found["max"]) == (0.375, 0.25, 0.5)
    with pytest.raises(SeqassayError, match=r"came out at 1\.25 of the device's peak"):
        model_flop_utilisation([{"flop": 5e8, "embedding_s": 0.4, "peak": peak}])
    nothing = model_flop_utilisation([{"flop": 0, "embedding_s": 0.0, "peak": peak}])
    assert nothing["why_undefined"] == "there was nothing to embed"


# --- recommendations ---------------------------------------------------------------------------------------------

CURRENT, OTHER = Setup(), Setup(batch=2048)
SWEPT = Plan(CURRENT, (), (CURRENT, OTHER), None)


def decided(walls: list[float], confirmed: list[float]) -> Any:
    asked = []

    def run_pairs(first: Setup, second: Setup, n: int) -> tuple[Case, Case]:
        asked.append((first, second, n))
        return case_of(first, [10.0, 10.1] * (len(confirmed) // 2)), case_of(second, confirmed)

    cases = {CURRENT: case_of(CURRENT, [10.0] * 6), OTHER: case_of(OTHER, walls)}
    return decide(SWEPT, cases, run_pairs, seed=1), asked


def test_a_faster_setting_is_recommended_when_fresh_runs_confirm_it() -> None:
    decision, asked = decided([5.0] * 6, [5.0, 5.1, 5.0, 5.2, 5.1, 5.0])
    assert decision.recommended == OTHER
    assert asked == [(CURRENT, OTHER, 6)]


def test_no_difference_is_said_when_the_interval_reaches_one() -> None:
    decision, _ = decided([9.0] * 6, [9.0, 11.0, 9.0, 11.0, 10.0, 10.0])
    assert decision.recommended == CURRENT
    assert decision.reason.startswith("no difference")


def test_the_fastest_current_setting_needs_no_confirmation() -> None:
    decision, asked = decided([11.0] * 6, [])
    assert (decision.recommended, asked) == (CURRENT, [])
    failed = Case(OTHER, {0: {"wall_s": 1.0}}, failure={"round": 1, "error": "x", "hint": ""})
    assert decide(SWEPT, {CURRENT: case_of(CURRENT, [9.0]), OTHER: failed}, None, 1).fastest == CURRENT  # type: ignore[arg-type]


# --- labels ------------------------------------------------------------------------------------------------------


def table(path: Path, rows: dict[str, tuple[str, float]]) -> Path:
    lines = [f"{name}\t{label}\t{1 - score}\t{score}\n" for name, (label, score) in rows.items()]
    path.write_text("Sequence_ID\tPrediction\tscore1\tscore2\n" + "".join(lines))
    return path


def test_labels_are_compared_by_frame(tmp_path: Path) -> None:
    ours = table(tmp_path / "a", {"x": ("virus", 0.75), "y": ("others", 0.25)})
    theirs = table(tmp_path / "b", {"y": ("virus", 0.5), "x": ("virus", 0.75)})
    found = compare_labels(ours, theirs)
    assert (found["frames"], found["agreement"]["value"], found["largest_score_difference"]) == (2, 0.5, 0.25)
    empty = table(tmp_path / "c", {})
    assert compare_labels(empty, empty)["agreement"]["why_undefined"] == "no sequence has a stop-free frame"
    with pytest.raises(SeqassayError, match="2 of `predict` alone, 0 of the reference"):
        compare_labels(ours, empty)


# --- the whole command -------------------------------------------------------------------------------------------


@pytest.fixture
def reads(tmp_path: Path) -> str:
    return str(write_fasta(tmp_path / "reads.fa", random_reads(60)))


def made_up_run(seconds: Callable[[Setup], float]) -> Callable[..., dict[str, Any]]:
    """In place of a process: a run's record as `predict` writes it, and times as they are wanted."""

    def run(self: Any, setup: Setup, *, with_peak: bool) -> dict[str, Any]:
        undefined = {"value": None, "n": 0, "min": None, "max": None, "why_undefined": "the run is on the CPU"}
        busy = {"stage": "", "seconds": 1.0, "cpu": {"value": 0.5, "n": 1, "min": 0.5, "max": 0.5}, "gpu": undefined}
        busy["gpu_memory"] = {"n": 0, "mean_bytes": None, "max_bytes": None, "why_undefined": "the run is on the CPU"}
        stages = [f"s{i}" for i in range(9)] + ["nucleotide embedding", "protein embedding"]
        record = {
            "utilisation": {"by_stage": [busy | {"stage": name} for name in ("work", "embedding")]}
            | {"energy_j": None, "why_no_energy": "the run is on the CPU", "cost_s": 0.001},
            "queues": {
                "ready": {"depth": 1, "visits": 4, "found_empty": 1, "found_full": 3},
                "to_write": {"visits": 4, "found_full": 1},
            },
            "packing": {"real_tokens": 1000, "efficiency": 0.95},
            "stages": [{"stage": name, "seconds": 0.1, "share": 0.1} for name in stages],
            "loader_wait": {"mean_s": 0.01, "max_s": 0.02},
            "shards": 4,
            "memory": {"peak_host_bytes": 1000, "peak_device_bytes": None},
            "flop": {"nucleotide": 10, "protein": 20},
            "outputs": [{"name": "sequences.tsv", "sha256": "0"}],
        }
        peak = {"flop_per_s": {"value": 1e6}} if with_peak else None
        return {"seconds": seconds(setup), "warm_up_s": 0.1, "record": record, "peak": peak}

    return run


def test_a_case_that_fails_is_named_and_the_rest_reported(
    tmp_path: Path, reads: str, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)

    def seconds(setup: Setup) -> float:
        if setup.batch == 64:
            raise SeqassayError("its process ended with signal SIGKILL: it said nothing")
        return float(rng.uniform(1, 2)) / (setup.prefetch if setup.prefetch == 3 else 1)

    monkeypatch.setattr(Runner, "run", made_up_run(seconds))
    out = tmp_path / "out"
    record = benchmark_pipeline(
        PipelineSettings(
            inputs=(reads,), output_dir=out, model=str(tiny_bundle), device="cpu",
            sweep_batch=(64, 128), sweep_prefetch=(1, 3), baseline_s=9.0,
        )
    )  # fmt: skip
    check_schema(json.loads((out / "metrics.json").read_text()), "pipeline")
    assert (record["identity"]["sequences"], record["identity"]["bases"]) == (60, 60 * 90)
    failed = [case for case in record["cases"] if case["failure"]]
    assert [(case["batch"], len(case["runs"])) for case in failed] == [(64, 0), (64, 0)]
    assert "batch 64, prefetch 1: its process ended with signal SIGKILL" in failure_line(record)
    assert record["sweep"]["recommended"] == {"batch": 128, "prefetch": 3}
    assert record["values"]["ready_queue_empty"]["value"] == 0.25
    assert record["values"]["speed_up"]["over"] == "9 s, as given"
    assert record["values"]["gpu_utilisation"]["why_undefined"] == "the run is on the CPU"
    report, shown = pipeline_report(record), pipeline_summary(record, str(out))
    for text in (report, shown):
        assert "failed in round 1: its process ended with signal SIGKILL" in text
        assert "batch 128, prefetch 3" in text
    assert "nan" not in report + shown
    assert sorted(path.name for path in out.iterdir()) == ["metrics.json", "reports"]

    (tmp_path / "gates.yaml").write_text(
        "gates:\n  faster: {metric: speed_up, above: 1.1}\n  two: {metric: scaling, at_least: 1.9}\n"
        "  packed: {metric: values.packing_efficiency, record: pipeline, above: 0.96}\n"
    )
    judged = gate(GateSettings(records=(str(out),), gates=tmp_path / "gates.yaml"))
    assert [entry["verdict"] for entry in judged["gates"]] == ["PASSED", "MISSING", "FAILED"]

    lone = json.loads((out / "metrics.json").read_text())
    lone["values"]["speed_up"] = {"over": None, "value": None, "n": 0, "interval_95": None, "why_undefined": "no"}
    (tmp_path / "lone.json").write_text(json.dumps(lone))
    judged = gate(GateSettings(records=(str(tmp_path / "lone.json"),), gates=tmp_path / "gates.yaml", only=("faster",)))
    assert judged["gates"][0]["verdict"] == "MISSING"
    assert "without a baseline" in judged["gates"][0]["reason"]

    for change, words in (
        (lambda r: r["values"]["packing_efficiency"].update(value=3.58), "packing_efficiency.value is 3.58"),
        (lambda r: r["values"]["wall_s"].update(value=99.0), "lies outside its extremes"),
        (lambda r: r["values"]["gpu_utilisation"].pop("why_undefined"), "undefined without a reason"),
        (lambda r: r["cases"][0]["runs"].pop(), "5 runs of the main case, but its figures have n 6"),
    ):
        wrong = json.loads((out / "metrics.json").read_text())
        change(wrong)
        with pytest.raises(SeqassayError, match=words):
            check_record(wrong)


def test_the_command_ends_with_1_where_a_case_failed(
    tmp_path: Path, reads: str, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def seconds(setup: Setup) -> float:
        if setup.batch == 64:
            raise ResourceError("its process ended with signal SIGKILL: it said nothing")
        return 1.0

    monkeypatch.setattr(Runner, "run", made_up_run(seconds))
    out = tmp_path / "out"
    options = ("-o", str(out), "-m", str(tiny_bundle), "--device", "cpu", "--repeats", "1", "--sweep-batch", "64,128")
    assert exit_code(monkeypatch, "benchmark", "pipeline", reads, *options, "--no-progress") == 1
    shown = capsys.readouterr()
    assert "a case failed: batch 64, prefetch 1: its process ended with signal SIGKILL" in shown.err
    assert "batch 128, prefetch 1" in shown.out and (out / "metrics.json").is_file()


def test_without_a_main_run_there_is_nothing_to_report(
    tmp_path: Path, reads: str, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(setup: Setup) -> float:
        raise ResourceError("no room")

    monkeypatch.setattr(Runner, "run", made_up_run(fail))
    out = tmp_path / "out"
    with pytest.raises(ResourceError) as caught:
        benchmark_pipeline(
            PipelineSettings(inputs=(reads,), output_dir=out, model=str(tiny_bundle), device="cpu", repeats=2)
        )
    assert caught.value.message == "batch by device, prefetch 1: no room"
    assert not out.exists()


def test_a_bad_input_is_said_before_anything_runs(tmp_path: Path, reads: str, tiny_bundle: Path) -> None:
    Path(reads).write_text(">a\nMKVL\n")
    out = tmp_path / "out"
    with pytest.raises(InputError, match="record 1"):
        benchmark_pipeline(PipelineSettings(inputs=(reads,), output_dir=out, model=str(tiny_bundle), device="cpu"))
    assert not out.exists()
    Path(reads).write_text(">a\nACGTACGTACGT\n>a\nACGTACGTACGT\n")
    pytest.importorskip("esm")
    with pytest.raises(UsageError, match="the id 'a' is there twice"):
        benchmark_pipeline(
            PipelineSettings(inputs=(reads,), output_dir=out, model=str(tiny_bundle), device="cpu", reference=True)
        )


SEQASSAY = Path(sys.executable).with_name("seqassay")


def test_the_installed_command_measures_scaling_and_the_reference(
    tmp_path: Path, reads: str, tiny_bundle: Path
) -> None:
    pytest.importorskip("esm")
    pytest.importorskip("transformers")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this process may use one core: there is nothing to scale over")
    contig = "".join(np.random.default_rng(3).choice(["GCC", "GAT", "AAA", "CTG", "ATG"], 234))[:-1]
    write_fasta(Path(reads), [*random_reads(12), ("contig", contig)])  # both sides cut it into three, alike
    options = ["-m", tiny_bundle, "--device", "cpu", "--repeats", "1", "--workers", "1,2", "--reference"]
    command = [SEQASSAY, "benchmark", "pipeline", reads, "-o", tmp_path / "out", *options, "--no-progress"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "out" / "metrics.json").read_text())
    check_record(record)
    assert record["identity"]["bases"] == 12 * 90 + 701
    assert record["reference"]["labels"]["agreement"]["value"] == 1.0
    assert record["reference"]["labels"]["largest_score_difference"] < 1e-4
    assert [row["workers"] for row in record["scaling"]["cases"]] == [1, 2]
    assert record["scaling"]["on_two"]["value"] > 0
    assert {case["name"]: len(case["runs"]) for case in record["cases"]} == {
        "2 workers, batch by device, prefetch 1": 1,
        "1 worker, batch by device, prefetch 1": 1,
        "reference procedure": 1,
    }
    assert 0 < record["values"]["model_flop_utilisation"]["value"] < 1
    assert "same labels" in done.stdout
    again = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert (again.returncode, "is not empty" in again.stderr) == (2, True)


def test_a_stop_ends_the_process_of_the_run_and_leaves_nothing(tmp_path: Path, reads: str, tiny_bundle: Path) -> None:
    command = [SEQASSAY, "benchmark", "pipeline", reads, "-o", tmp_path / "out", "-m", tiny_bundle, "--device", "cpu"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 120
    while not children and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
        children = psutil.Process(process.pid).children()
    assert children, process.communicate()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "stopped by SIGTERM; the benchmark was not finished" in errors
    assert psutil.wait_procs(children, timeout=20)[1] == []
    assert not (tmp_path / "out").exists()
