"""`seqassay benchmark pipeline`: the steps from an input to a record and a report."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from seqassay.config import settings_as_json
from seqassay.durable import disk_errors
from seqassay.engine.precision import resolve, resolve_device
from seqassay.errors import SeqassayError
from seqassay.measure.progress import RunProgress
from seqassay.measure.provenance import device_name, provenance, utc_now
from seqassay.measure.utilisation import usable_cores
from seqassay.models.bundle import Bundle, load_bundle
from seqassay.predict.record import input_records
from seqassay.prove.outputs import check_place, only_outputs, write_report_and_record
from seqassay.prove.pipeline.cases import Case, Plan, Setup, plan
from seqassay.prove.pipeline.figures import (
    given_speed_up,
    over_runs,
    paired_speed_up,
    sample_of,
    scaling_of,
    stages_of,
    values_of,
)
from seqassay.prove.pipeline.labels import LEAST_AGREEMENT, compare_labels
from seqassay.prove.pipeline.record import FORMAT, METHOD, VERSION, check_record, notes_on
from seqassay.prove.pipeline.reference_files import check_reference, write_reference_files
from seqassay.prove.pipeline.runner import Runner, error_of
from seqassay.prove.pipeline.settings import PipelineSettings
from seqassay.prove.pipeline.sweep import Decision, decide, sweep_record
from seqassay.prove.pipeline.workload import Workload, read_workload
from seqassay.prove.speed.figures import undefined
from seqassay.report.pipeline import pipeline_report

REPORT = "pipeline_benchmark.md"

logger = logging.getLogger(__name__)


def benchmark_pipeline(settings: PipelineSettings, *, progress: RunProgress | None = None) -> dict[str, Any]:
    """Run every case in turn, round by round, and write what was found; returns the record (``metrics.json``).

    A case whose run fails gets no more runs; it is named, and the others go on.

    Raises:
        UsageError: settings that cannot work, or something in the output folder's way.
        InputError: a bad input; names file, record and line.
        ModelError: a bundle that cannot be used.
        SeqassayError: the main case failed, so that there is nothing to report.
        ResourceError: the disk is full.
    """
    began = time.monotonic()
    progress = progress or RunProgress()
    check_place(settings.output_dir, force=settings.force, what="benchmark")
    bundle = load_bundle(settings.model)
    device = resolve_device(settings.device)
    precision = resolve(device, settings.precision or bundle.precision).name
    wanted = plan(settings, device_type=device.type, cores=usable_cores())
    if settings.reference:
        check_reference(bundle)
    with scratch_folder(settings.output_dir) as scratch, disk_errors():
        progress.stage = "reading the input"
        workload = read_workload(settings, scratch)
        progress.unit, progress.total_sequences = "runs", settings.repeats * len(wanted.setups)
        bench = Bench(settings, bundle, workload, wanted, scratch, progress)
        bench.run_rounds(wanted.setups, settings.repeats)
        main = bench.cases[wanted.main]
        if not main.runs:
            raise named(wanted.main, error_of(main.failure or {}))
        decision = decide(wanted, bench.cases, bench.run_pairs, settings.seed) if wanted.sweep else None
    record = build_record(settings, bench, decision)
    record["identity"] |= {"device": device_name(device), "precision": precision}
    record["wall_s"] = round(time.monotonic() - began, 3)
    check_record(record)
    with only_outputs(settings.output_dir, force=settings.force, what="benchmark"):
        write_report_and_record(settings.output_dir, REPORT, pipeline_report(record), record)
    return record


def named(setup: Setup, error: SeqassayError) -> SeqassayError:
    """The error with the case that it ended."""
    error.message = f"{setup.name}: {error.message}"
    return error


@contextlib.contextmanager
def scratch_folder(output_dir: Path) -> Iterator[Path]:
    """A folder for the runs' files inside the output folder; neither is left behind empty-handed."""
    with disk_errors():
        was_there = output_dir.is_dir()
        output_dir.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="runs-", dir=output_dir) as name:
            yield Path(name)
    except BaseException:
        if not was_there:
            with contextlib.suppress(OSError):
                output_dir.rmdir()
        raise


class Bench:
    """All cases, and what their runs gave."""

    def __init__(
        self,
        settings: PipelineSettings,
        bundle: Bundle,
        workload: Workload,
        wanted: Plan,
        scratch: Path,
        progress: RunProgress,
    ) -> None:
        self.bundle, self.workload, self.plan = bundle, workload, wanted
        self.cases = {setup: Case(setup) for setup in wanted.setups}
        self.labels: dict[str, Any] | None = None
        self.why_no_labels = ""
        self.load_before, self.load_after = psutil.getloadavg()[0], 0.0
        self._progress, self._rng = progress, np.random.default_rng(settings.seed)
        reference = None
        if wanted.reference is not None:
            files = scratch / "reference-files"
            files.mkdir()
            reference = write_reference_files(bundle, files)
        self._runner = Runner(settings, bundle, workload, scratch, reference)
        self._n_runs = 0
        progress.begin_work()

    def run_rounds(self, setups: list[Setup], n_rounds: int) -> None:
        """Every case once a round, in an order drawn anew."""
        for round_ in range(n_rounds):
            for i in self._rng.permutation(len(setups)):
                case = self.cases[setups[i]]
                if case.failure is None:
                    self._run(case, round_)
            self._check_labels()
        self.load_after = psutil.getloadavg()[0]

    def run_pairs(self, first: Setup, second: Setup, n_pairs: int) -> tuple[Case, Case]:
        """Fresh runs of two cases in pairs, apart from those before."""
        pair = Case(first), Case(second)
        self._progress.total_sequences = (self._progress.total_sequences or 0) + 2 * n_pairs
        for round_ in range(n_pairs):
            for i in self._rng.permutation(2):
                if all(case.failure is None for case in pair):
                    self._run(pair[i], round_)
        return pair

    def _run(self, case: Case, round_: int) -> None:
        self._progress.stage = case.setup.name
        try:
            result = self._runner.run(case.setup, with_peak=case.setup == self.plan.main)
        except SeqassayError as error:
            case.failure = {"round": round_, "exit_code": error.exit_code, "error": error.message, "hint": error.hint}
            logger.warning("%s failed in round %d: %s", case.setup.name, round_ + 1, error.message)
            return
        finally:
            self._progress.end_shard(1)
        if case.setup.kind == "reference":
            sample = {"round": round_, "position": self._n_runs, "wall_s": result["seconds"]}
            case.runs[round_] = sample | {"warm_up_s": result["warm_up_s"]}
        else:
            case.runs[round_] = sample_of(result, self.workload, round_, self._n_runs)
        self._n_runs += 1

    def _check_labels(self) -> None:
        """Once, as soon as the main case and the reference have a table."""
        reference = self.plan.reference
        if reference is None or self.labels is not None or self.why_no_labels:
            return
        if self.cases[reference].runs and self.cases[self.plan.main].runs:
            try:
                self.labels = compare_labels(self._runner.table(self.plan.main), self._runner.table(reference))
            except SeqassayError as error:
                self.why_no_labels = error.message


def build_record(settings: PipelineSettings, bench: Bench, decision: Decision | None) -> dict[str, Any]:
    """All that was found, as JSON types."""
    main = bench.cases[bench.plan.main]
    samples = list(main.runs.values())
    record: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "kind": "pipeline",
        "written_at": utc_now(),
        "identity": {
            "bundle": {"name": bench.bundle.name, "digest": bench.bundle.digest},
            "inputs": input_records(settings.inputs),
            "input_digest": bench.workload.digest,
            "sequences": bench.workload.sequences,
            "bases": bench.workload.bases,
        },
        "settings": settings_as_json(settings),
        "method": METHOD,
        "provenance": provenance(),
        "load_average": {"before": round(bench.load_before, 2), "after": round(bench.load_after, 2)},
        "values": values_of(samples, bench.workload) | {"speed_up": speed_up_of(settings, bench)},
        "stages": stages_of(samples),
        "scaling": scaling_of(bench.plan, bench.cases, settings.seed),
        "sweep": None if decision is None else sweep_record(bench.plan, bench.cases, decision, settings.seed),
        "reference": reference_record(bench),
        "cases": case_records(bench, () if decision is None else decision.confirmed),
    }
    record["notes"] = notes_on(record, main=bench.plan.main.name)
    return record


def speed_up_of(settings: PipelineSettings, bench: Bench) -> dict[str, Any]:
    """Over the reference procedure in the same rounds, or over a time that was given."""
    main, reference = bench.cases[bench.plan.main], bench.plan.reference
    if settings.baseline_s is not None:
        return {"over": f"{settings.baseline_s:g} s, as given"} | given_speed_up(
            settings.baseline_s, main, settings.seed
        )
    if reference is None:
        return {"over": None} | undefined("no baseline was asked for (--reference, --baseline-s)")
    found = {"over": "the reference procedure, run on the same input in the same rounds"}
    if bench.why_no_labels:
        return found | undefined(bench.why_no_labels)
    agreement = (bench.labels or {}).get("agreement", {}).get("value")
    if agreement is not None and agreement < LEAST_AGREEMENT:
        return found | undefined(f"only {agreement:.2%} of the labels are the same: not the same work")
    return found | paired_speed_up(bench.cases[reference], main, settings.seed)


def reference_record(bench: Bench) -> dict[str, Any] | None:
    """Times and labels of the reference procedure."""
    if bench.plan.reference is None:
        return None
    runs = bench.cases[bench.plan.reference].runs
    return {
        "wall_s": over_runs(bench.cases[bench.plan.reference], "wall_s"),
        "labels": bench.labels,
        "why_no_labels": bench.why_no_labels or ("" if bench.labels or runs else "it has no finished run"),
    }


def case_records(bench: Bench, confirmed: Iterable[Case]) -> list[dict[str, Any]]:
    """Every case with its settings and its raw samples."""
    roles = {bench.plan.main: ["main"]}
    for role, setups in (("scaling", bench.plan.scaling), ("sweep", bench.plan.sweep)):
        for setup in setups:
            roles.setdefault(setup, []).append(role)
    if bench.plan.reference:
        roles[bench.plan.reference] = ["reference"]
    cases = [(case, roles[case.setup]) for case in bench.cases.values()]
    cases += [(case, ["confirmation"]) for case in confirmed]
    return [
        {
            "name": case.setup.name,
            "roles": role,
            "kind": case.setup.kind,
            "workers": case.setup.workers,
            "threads": case.setup.threads,
            "batch": case.setup.batch,
            "prefetch": case.setup.prefetch,
            "runs": list(case.runs.values()),
            "same_outputs": same_outputs(case),
            "failure": case.failure,
        }
        for case, role in cases
    ]


def same_outputs(case: Case) -> bool | None:
    """Whether all runs of a case wrote the same bytes; None where there is nothing to compare."""
    written = [run["outputs"] for run in case.runs.values() if "outputs" in run]
    return all(outputs == written[0] for outputs in written) if len(written) > 1 else None
