"""`seqassay evaluate`: is this bundle right, how sure is that, and may it take the baseline's place?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqassay.config import settings_as_json
from seqassay.engine.precision import resolve_device
from seqassay.measure.progress import RunProgress
from seqassay.measure.provenance import device_name, provenance, utc_now
from seqassay.models.bundle import Bundle, load_bundle
from seqassay.predict.consensus import VIRUS_THRESHOLD
from seqassay.prove.baseline import check_same_test_set, read_baseline_metrics
from seqassay.prove.comparison import accuracy_gate, compare_bundles, compare_with_metrics
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
from seqassay.prove.outputs import check_place, write_outputs
from seqassay.prove.record import FORMAT, SCORES_OF_HEAD, SCORES_OF_PREDICT, VERSION, check_record
from seqassay.prove.scores import check_scorable, of_head_alone, score_test_set
from seqassay.prove.settings import EvaluateSettings
from seqassay.prove.test_set import EvaluationSet, read_test_set, sequences_of


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A finished evaluation: its record (``metrics.json``), and the folder it is in."""

    record: dict[str, Any]
    folder: Path


def evaluate(settings: EvaluateSettings, *, progress: RunProgress | None = None) -> Evaluation:
    """Score a test set, work out every figure, compare with the baseline, and write the outputs.

    Raises:
        UsageError: settings that cannot work, or something in the output folder's way.
        InputError: a bad test set or baseline; names the file and the record or key.
        ModelError: a bundle that cannot be used.
    """
    progress = progress or RunProgress()
    began = time.monotonic()
    check_place(settings.output_dir, force=settings.force)
    figures_alone = None if settings.baseline_metrics is None else read_baseline_metrics(settings.baseline_metrics)
    bundle = load_bundle(settings.bundle)
    other = None if settings.baseline is None else load_bundle(settings.baseline)

    test_set = read_test_set(settings.test, progress)
    if figures_alone is not None:
        check_same_test_set(figures_alone, test_set.digest)
    for model in filter(None, (bundle, other)):
        check_scorable(test_set, model)

    heads_alone = [model.name for model in (bundle, other) if model and of_head_alone(test_set, model)]
    options: dict[str, Any] = {"device": settings.device, "threads": settings.threads, "progress": progress}
    progress.total_sequences = len(test_set.examples) * (1 if other is None else 2)
    candidate = score_test_set(test_set, bundle, **options)
    baseline = None if other is None else score_test_set(test_set, other, **options)

    progress.stage = "working out figures"
    examples, units = test_set.examples, test_set.examples.units(settings.unit)
    record = _opening(settings, bundle, test_set)
    record |= {"test_set": set_statistics(examples, units), "scored": coverage(examples, candidate)}
    record["scored"]["effective_units"] = effective_units(examples, candidate, units)
    record["notes"] += notes_on_intervals(record["scored"]["effective_units"])
    record |= overall(examples, candidate, units)
    record |= {"by_group": by_group(examples, candidate, units), "by_length": by_length(examples, candidate, units)}
    record |= calibration_and_curves(
        examples, candidate, units, None if of_head_alone(test_set, bundle) else bundle.calibration
    )

    progress.stage = "comparing with the baseline"
    comparison = None
    if other is not None and baseline is not None:
        comparison = compare_bundles(examples, candidate, baseline, units, bundle, other)
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
    return Evaluation(record, settings.output_dir)


def _opening(settings: EvaluateSettings, bundle: Bundle, test_set: EvaluationSet) -> dict[str, Any]:
    """What was evaluated, on what, and how."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": "evaluation",
        "written_at": utc_now(),
        "identity": {
            "bundle": {"name": bundle.name, "digest": bundle.digest},
            "test_set": {
                "kind": test_set.kind,
                "path": str(test_set.path),
                "digest": test_set.digest,
                **test_set.facts,
            },
        },
        "settings": settings_as_json(settings),
        "method": {
            "scores": SCORES_OF_HEAD if of_head_alone(test_set, bundle) else SCORES_OF_PREDICT,
            "call": f"score >= {VIRUS_THRESHOLD:g}",
            "unit": settings.unit,
            "bootstrap_samples": SAMPLES,
            "seed": SEED,
            "interval": INTERVAL,
        },
        "device": device_name(resolve_device(settings.device)),
        "precision": bundle.precision,
        "provenance": provenance(),
        "notes": [*test_set.notes, *_notes_on_scores(bundle, test_set)],
    }


def _notes_on_scores(bundle: Bundle, test_set: EvaluationSet) -> list[str]:
    """That figures are of the head alone, where they are, and what to do for those of the bundle."""
    if not of_head_alone(test_set, bundle):
        return []
    return [
        f"figures are of the head of {bundle.name} on stop-free frames alone, uncalibrated: `predict` with this bundle "
        "also weighs lengths and the frames with a stop, which features do not keep, and gives other scores; for its "
        f"own figures give the labelled sequences: --test {sequences_of(test_set)}"
    ]
