"""`seqassay evaluate`: is this bundle right, how sure is that, and may it take the baseline's place?"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import seqassay
from seqassay.config import settings_as_json
from seqassay.durable import disk_errors
from seqassay.engine.precision import resolve_device
from seqassay.errors import InputError, ModelError, StoppedError
from seqassay.measure.progress import RunProgress
from seqassay.measure.provenance import provenance, utc_now
from seqassay.models.thresholds import CallThresholds
from seqassay.predict.stop import StopRequested
from seqassay.prove.baseline import BaselineMetrics, check_same_test_set, read_baseline_metrics
from seqassay.prove.comparison import accuracy_gate, compare_models, compare_with_metrics
from seqassay.prove.contender import Contender, contender, given_bundle, given_predictions
from seqassay.prove.figures import (
    INTERVAL,
    SAMPLES,
    SEED,
    by_group,
    by_length,
    calibration_and_curves,
    coverage,
    effective_units,
    notes_on_intervals,
    overall,
    set_statistics,
)
from seqassay.prove.outputs import METRICS, check_place, write_outputs
from seqassay.prove.parts import (
    ScoredParts,
    begin_parts,
    finished_before,
    has_parts,
    n_parts,
    remove_parts,
    resume_command,
)
from seqassay.prove.record import FORMAT, VERSION, check_record
from seqassay.prove.scores import ScoredExamples
from seqassay.prove.settings import EvaluateSettings
from seqassay.prove.test_set import EvaluationSet, read_test_set, sequences_of
from seqassay.train.output_folder import only_writer


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A finished evaluation: its record (``metrics.json``), and the folder it is in."""

    record: dict[str, Any]
    folder: Path


def evaluate(settings: EvaluateSettings, *, progress: RunProgress | None = None) -> Evaluation:
    """Score a test set, work out every figure, compare with the baseline, and write the outputs.

    Raises:
        UsageError: settings that cannot work, or something in the output folder's way, such as another evaluation.
        InputError: a bad test set or baseline; names the file and the record or key.
        ModelError: a bundle that cannot be used.
        StoppedError: SIGTERM or Ctrl-C; what was scored is kept.
        ResourceError: a full disk; likewise.
    """
    progress = progress or RunProgress()
    began = time.monotonic()
    check_place(settings.output_dir, force=settings.force, resume=settings.resume)
    figures_alone = None if settings.baseline_metrics is None else read_baseline_metrics(settings.baseline_metrics)
    model = contender(settings.bundle)
    other = _baseline(settings)

    test_set = read_test_set(settings.test, progress)
    if figures_alone is not None:
        check_same_test_set(figures_alone, test_set.digest)
    for one in filter(None, (model, other)):
        one.check(test_set)
    identity = _identity(model, other, figures_alone, test_set)
    with disk_errors(resume_command(settings)), only_writer(settings.output_dir), _kept_on_a_stop(settings):
        return _evaluated(settings, model, other, figures_alone, test_set, identity, progress, began)


def _evaluated(
    settings: EvaluateSettings,
    model: Contender,
    other: Contender | None,
    figures_alone: BaselineMetrics | None,
    test_set: EvaluationSet,
    identity: dict[str, Any],
    progress: RunProgress,
    began: float,
) -> Evaluation:
    """The evaluation of what was checked, in a folder that nobody else writes to."""
    if settings.resume and not has_parts(settings.output_dir):
        done = finished_before(settings.output_dir, METRICS, identity, settings_as_json(settings))
        if done is not None:
            return Evaluation(done, settings.output_dir)
    heads_alone = [one.name for one in (model, other) if one and one.of_head_alone(test_set)]

    progress.total_sequences = len(test_set.examples) * (1 if other is None else 2)
    candidate, baseline = _score(settings, test_set, model, other, progress)

    progress.stage = "working out figures"
    examples, units = test_set.examples, test_set.examples.units(settings.unit)
    record = _opening(settings, model, test_set, identity, candidate.thresholds)
    record |= {"test_set": set_statistics(examples, units), "scored": coverage(examples, candidate)}
    record["scored"]["effective_units"] = effective_units(examples, candidate, units)
    record["notes"] += notes_on_intervals(record["scored"]["effective_units"])
    record |= overall(examples, candidate, units)
    record |= {"by_group": by_group(examples, candidate, units), "by_length": by_length(examples, candidate, units)}
    record |= calibration_and_curves(
        examples, candidate, units, model.calibration(test_set), known=model.predictions is None
    )

    progress.stage = "comparing with the baseline"
    comparison = None
    if other is not None and baseline is not None:
        comparison = compare_models(examples, candidate, baseline, units, model, other)
        comparison["baseline"] |= other.identity()
        record["notes"] += other.notes(test_set)
        if baseline.rule != candidate.rule:
            record["notes"].append(
                f"{other.name} calls virus where {baseline.rule}, {model.name} where {candidate.rule}"
            )
    elif figures_alone is not None:
        comparison = compare_with_metrics(record["values"], record["confusion_matrix"]["matrix"], figures_alone)
    record["comparison"] = comparison
    if figures_alone is not None and figures_alone.of_head_alone:
        heads_alone.append(figures_alone.name)
    record["gate"] = accuracy_gate(comparison, settings.threshold, heads_alone, sequences_of(test_set))
    record["verdict"] = record["gate"]["verdict"]

    progress.stage = "writing"
    record["wall_s"] = round(time.monotonic() - began, 3)
    check_record(record)
    write_outputs(settings.output_dir, record, examples, candidate, baseline)
    remove_parts(settings.output_dir)
    return Evaluation(record, settings.output_dir)


@contextlib.contextmanager
def _kept_on_a_stop(settings: EvaluateSettings) -> Iterator[None]:
    """Say how to go on with what was scored before a stop; a folder in which nothing is worth keeping goes.

    Raises:
        StoppedError: there is something to go on with.
    """
    try:
        yield
    except StopRequested as stop:
        n_kept = n_parts(settings.output_dir)
        if not n_kept:
            remove_parts(settings.output_dir)
            raise
        raise StoppedError(
            f"stopped by {stop}; {n_kept:,} scored pieces are kept", hint=f"go on with:\n  {resume_command(settings)}"
        ) from None
    except (InputError, ModelError):  # going on would end so again
        remove_parts(settings.output_dir)
        raise


def _baseline(settings: EvaluateSettings) -> Contender | None:
    """The other model, where there is one."""
    if settings.baseline is not None:
        return given_bundle(settings.baseline)
    return None if settings.baseline_predictions is None else given_predictions(settings.baseline_predictions)


def _score(
    settings: EvaluateSettings,
    test_set: EvaluationSet,
    model: Contender,
    other: Contender | None,
    progress: RunProgress,
) -> tuple[ScoredExamples, ScoredExamples | None]:
    """Scores of both models, kept piece by piece while they are made."""
    contenders = {"candidate": model, **({} if other is None else {"baseline": other})}
    parts = {}
    if test_set.features is None and any(one.bundle is not None for one in contenders.values()):
        identity = {
            "seqassay": seqassay.__version__,
            "test_set": test_set.digest,
            "device": resolve_device(settings.device).type,
            **{role: one.digest for role, one in contenders.items()},
        }
        folder = begin_parts(settings.output_dir, identity, resume=settings.resume)
        parts = {role: ScoredParts(folder, role) for role in contenders}
    scores = {
        role: one.scores(
            test_set, device=settings.device, threads=settings.threads, progress=progress, parts=parts.get(role)
        )
        for role, one in contenders.items()
    }
    return scores["candidate"], scores.get("baseline")


def _identity(
    model: Contender, other: Contender | None, figures_alone: BaselineMetrics | None, test_set: EvaluationSet
) -> dict[str, Any]:
    """What the figures are of: two evaluations of one identity and the same settings find the same."""
    baseline = None if other is None else other.identity()
    if figures_alone is not None:
        baseline = {"name": figures_alone.name, "digest": None, "figures": dict(figures_alone.figures)}
    return {
        "bundle": model.identity(),
        "baseline": baseline,
        "test_set": {
            "kind": test_set.kind,
            "path": str(test_set.path),
            "digest": test_set.digest,
            **test_set.facts,
        },
    }


def _opening(
    settings: EvaluateSettings,
    model: Contender,
    test_set: EvaluationSet,
    identity: dict[str, Any],
    thresholds: CallThresholds,
) -> dict[str, Any]:
    """What was evaluated, on what, and how."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": "evaluation",
        "written_at": utc_now(),
        "identity": identity,
        "settings": settings_as_json(settings),
        "method": {
            "scores": model.says(test_set),
            "call": thresholds.rule,
            "threshold": thresholds.as_json(),
            "unit": settings.unit,
            "bootstrap_samples": SAMPLES,
            "seed": SEED,
            "interval": INTERVAL,
        },
        **model.made_on(settings.device),
        "provenance": provenance(),
        "notes": [*test_set.notes, *model.notes(test_set)],
    }
