"""One of the models that are evaluated: a bundle that scores the test set, or scores that it gave before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqassay.engine.precision import resolve_device
from seqassay.errors import InputError, UsageError
from seqassay.measure.progress import RunProgress
from seqassay.measure.provenance import device_name
from seqassay.models.bundle import Bundle, load_bundle
from seqassay.models.calibration import Calibration
from seqassay.prove.parts import ScoredParts
from seqassay.prove.predictions import Predictions, are_predictions, on_test_set, read_predictions
from seqassay.prove.record import SCORES_GIVEN, SCORES_OF_HEAD, SCORES_OF_PREDICT
from seqassay.prove.scores import ScoredExamples, check_scorable, of_head_alone, score_test_set
from seqassay.prove.test_set import EvaluationSet, sequences_of


@dataclass(frozen=True, slots=True)
class Contender:
    """A model by its bundle, or by its predictions.

    Attributes:
        digest: of the bundle; None for a table, of which nobody knows the model.
    """

    name: str
    digest: str | None
    bundle: Bundle | None = None
    predictions: Predictions | None = None

    def check(self, test_set: EvaluationSet) -> None:
        """Refuse a test set that this model cannot be held against, before anything is scored.

        Raises:
            InputError: features of other encoders; predictions of other sequences.
        """
        if self.bundle is not None:
            check_scorable(test_set, self.bundle)
        if self.predictions is not None and not on_test_set(self.predictions, test_set).has_score.any():
            raise InputError("gives not one sequence of the test set a score", path=self.predictions.path)

    def scores(
        self,
        test_set: EvaluationSet,
        *,
        device: str,
        threads: int | None,
        progress: RunProgress,
        parts: ScoredParts | None,
    ) -> ScoredExamples:
        """Score every example, or look its score up; errors as `score_test_set` and `on_test_set`."""
        if self.predictions is not None:
            progress.done_sequences += len(test_set.examples)
            return on_test_set(self.predictions, test_set)
        assert self.bundle is not None
        return score_test_set(test_set, self.bundle, device=device, threads=threads, progress=progress, parts=parts)

    def of_head_alone(self, test_set: EvaluationSet) -> bool:
        """Whether its scores are of the bundle's head alone; see `scores.of_head_alone`."""
        return self.bundle is not None and of_head_alone(test_set, self.bundle)

    def says(self, test_set: EvaluationSet) -> str:
        """What its scores are, as ``method.scores`` has it."""
        if self.predictions is not None:
            return SCORES_GIVEN
        return SCORES_OF_HEAD if self.of_head_alone(test_set) else SCORES_OF_PREDICT

    def calibration(self, test_set: EvaluationSet) -> Calibration | None:
        """What its scores went through; of predictions it is not known."""
        return None if self.bundle is None or self.of_head_alone(test_set) else self.bundle.calibration

    def identity(self) -> dict[str, Any]:
        """Name and digest, and where predictions are from."""
        said: dict[str, Any] = {"name": self.name, "digest": self.digest}
        return said if self.predictions is None else {**said, "predictions": self.predictions.identity()}

    def made_on(self, device: str) -> dict[str, str]:
        """Device and precision of its scores."""
        if self.bundle is not None:
            return {"device": device_name(resolve_device(device)), "precision": self.bundle.precision}
        run = self.predictions.run if self.predictions is not None else None
        return {name: "not known" if run is None else str(run[name]) for name in ("device", "precision")}

    def notes(self, test_set: EvaluationSet) -> list[str]:
        """What a reader of its figures should know."""
        if self.predictions is not None:
            return self.predictions.notes()
        if not self.of_head_alone(test_set):
            return []
        return [
            f"figures are of the head of {self.name} on stop-free frames alone, uncalibrated: `predict` with this "
            "bundle also weighs lengths and the frames with a stop, which features do not keep, and gives other "
            f"scores; for its own figures give the labelled sequences: --test {sequences_of(test_set)}"
        ]


def contender(given: str) -> Contender:
    """A bundle by name or folder, a run of `predict` by its folder, or a table of scores.

    Raises:
        InputError, ModelError: see `read_predictions` and `load_bundle`.
    """
    if are_predictions(given):
        return given_predictions(given)
    bundle = load_bundle(given)
    return Contender(bundle.name, bundle.digest, bundle=bundle)


def given_bundle(given: str) -> Contender:
    """A bundle, and nothing else.

    Raises:
        UsageError: predictions; names the option for them.
        ModelError: see `load_bundle`.
    """
    if are_predictions(given):
        raise UsageError(
            f"--baseline names predictions, not a bundle: {given}", hint=f"give them as --baseline-predictions {given}"
        )
    return contender(given)


def given_predictions(given: str) -> Contender:
    """A run of `predict` or a table of scores; errors as `read_predictions`."""
    predictions = read_predictions(Path(given))
    return Contender(predictions.name, predictions.digest, predictions=predictions)
