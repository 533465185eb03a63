"""Scores of a test set by a bundle: of sequences along `predict`'s own path, or of features by the bundle's head."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open

from seqassay.engine.embed import load_encoder
from seqassay.engine.precision import resolve_device
from seqassay.errors import InputError, ModelError
from seqassay.measure.progress import RunProgress
from seqassay.models.bundle import Bundle
from seqassay.models.thresholds import CallThresholds
from seqassay.predict.consensus import (
    CLASSIFIED,
    NO_FRAME,
    SCORE_DECIMALS,
    STATUSES,
    VIRUS_THRESHOLD,
    chunk_consensus,
    mean_chunk_score,
)
from seqassay.predict.scoring import SequenceScorer
from seqassay.prove.parts import ScoredParts
from seqassay.prove.test_set import EvaluationSet, read_again
from seqassay.train.feature_files import FeatureSet

# Beside those of `predict`: a sequence that predictions of another tool give no score.
ALL_STATUSES = (*STATUSES, "not_given")
NOT_GIVEN = len(STATUSES)
_FRAMES_AT_ONCE = 16_384  # of 3,328 values: 220 MB


@dataclass(frozen=True, slots=True)
class ScoredExamples:
    """One entry for every example of a test set, in its order.

    Attributes:
        score: P(virus), uncalibrated where `of_head_alone`, rounded as `predict` prints it; NaN without one.
        status: index into ``ALL_STATUSES``.
        threshold: the score from which it is called virus.
        thresholds: where these are from.
    """

    score: npt.NDArray[np.float64]
    status: npt.NDArray[np.uint8]
    threshold: npt.NDArray[np.float64]
    thresholds: CallThresholds

    @property
    def rule(self) -> str:
        """How calls are made, in words."""
        return self.thresholds.rule

    @classmethod
    def called_by(
        cls,
        thresholds: CallThresholds,
        score: npt.NDArray[np.float64],
        status: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int64],
    ) -> ScoredExamples:
        """Scores with the thresholds of their sequences' lengths in bases."""
        return cls(score, status, thresholds.of(lengths, status == CLASSIFIED), thresholds)

    @property
    def has_score(self) -> npt.NDArray[np.bool_]:
        """Which examples figures can be about."""
        known: npt.NDArray[np.bool_] = ~np.isnan(self.score)
        return known

    @property
    def is_virus(self) -> npt.NDArray[np.bool_]:
        """The calls; False without a score."""
        called: npt.NDArray[np.bool_] = self.score >= self.threshold
        return called


def check_scorable(test_set: EvaluationSet, bundle: Bundle) -> None:
    """Refuse features that this bundle cannot score, before anything is scored.

    Raises:
        InputError: names what differs, and the command that rebuilds the features or goes without them.
    """
    if test_set.features is not None:
        _check_features(test_set.features, bundle)


def of_head_alone(test_set: EvaluationSet, bundle: Bundle) -> bool:
    """Whether scores of this test set are of the bundle's head alone, and not those that `predict` gives with it.

    A calibrated probability also depends on the sequence's length and on the frames with a stop, which features do not
    keep. What they do keep is all that an uncalibrated score depends on, so that is what the head is measured by.
    """
    return test_set.features is not None and bundle.calibration is not None


def score_test_set(
    test_set: EvaluationSet,
    bundle: Bundle,
    *,
    device: str,
    threads: int | None,
    progress: RunProgress,
    parts: ScoredParts | None = None,
) -> ScoredExamples:
    """Score every example.

    Args:
        parts: what was scored before is taken from there, and what is scored is kept there.

    Raises:
        InputError: no example has a score, or the test set was changed.
        ModelError: the models cannot be loaded, or give no number where there is evidence.
    """
    progress.stage = f"loading {bundle.name}"
    if test_set.features is not None:
        scores = _score_features(test_set.features, len(test_set.examples), bundle, device, progress)
    else:
        scores = _score_sequences(test_set, bundle, device, threads, progress, parts)
    broken = (scores.status == CLASSIFIED) & ~scores.has_score
    if broken.any():
        name = test_set.examples.ids[int(np.argmax(broken))]
        raise ModelError(
            f"{bundle.path}: gives {broken.sum():,} sequences a score that is not a number, the first of them {name}"
        )
    if not scores.has_score.any():
        reasons = ", ".join(f"{n:,} {name}" for name, n in count_statuses(scores.status).items() if n)
        raise InputError(f"not one of its {len(scores.score):,} sequences has a score: {reasons}", path=test_set.path)
    return scores


def count_statuses(status: npt.NDArray[np.uint8]) -> dict[str, int]:
    """Sequences of every status."""
    n_of = dict(zip(ALL_STATUSES, np.bincount(status, minlength=len(ALL_STATUSES)).tolist(), strict=True))
    return {name: n for name, n in n_of.items() if n or name in STATUSES}


def _score_sequences(
    test_set: EvaluationSet,
    bundle: Bundle,
    device: str,
    threads: int | None,
    progress: RunProgress,
    parts: ScoredParts | None,
) -> ScoredExamples:
    scorer = SequenceScorer(bundle, device=device, threads=threads)
    progress.begin_work()
    progress.stage = f"scoring with {bundle.name}"
    score, status = [], []
    for shard in read_again(test_set):
        kept = None if parts is None else parts.get(shard.index, len(shard.ids))
        if kept is None:
            calls = scorer.calls(shard.bases)
            kept = calls.score, calls.status
            if parts is not None:
                parts.put(shard.index, *kept)
        else:
            progress.resumed_sequences += len(shard.ids)
        score.append(kept[0])
        status.append(kept[1])
        progress.done_sequences += len(shard.ids)
    lengths = test_set.examples.lengths
    assert lengths is not None  # of sequences they are known
    return ScoredExamples.called_by(bundle.thresholds, np.concatenate(score), np.concatenate(status), lengths)


def _check_features(features: FeatureSet, bundle: Bundle) -> None:
    made_with = {name: features.identity[name] for name in ("chunk_length", "chunk_rule", "genetic_code", "ambiguity")}
    wanted: dict[str, Any] = {name: getattr(bundle, name) for name in made_with}
    for kind, path in (("nucleotide", bundle.nucleotide_path), ("protein", bundle.protein_path)):
        made_with[f"{kind} encoder"] = _short(features.identity[kind]["digest"])
        wanted[f"{kind} encoder"] = _short(load_encoder(path, kind=kind).digest)  # type: ignore[arg-type]
    differences = [
        f"{name.replace('_', ' ')}: {made_with[name]} there, {wanted[name]} in bundle {bundle.name}"
        for name in wanted
        if made_with[name] != wanted[name]
    ]
    if differences:
        words = ["seqassay", "train", "features", str(features.description["input"]["path"])]
        words += ["-o", str(features.folder), "--split", "test", "--model", str(bundle.path), "--force"]
        raise InputError(
            f"features were not made with the encoders of this bundle: {'; '.join(differences)}",
            path=features.folder,
            hint=f"make them again:\n  {shlex.join(words)}",
        )


def _score_features(
    features: FeatureSet, n_records: int, bundle: Bundle, device_name: str, progress: RunProgress
) -> ScoredExamples:
    """Head, chunk consensus and mean over chunks, as `predict` takes them for a bundle without a calibration."""
    device = resolve_device(device_name)
    head = bundle.load_head().to(device)
    progress.begin_work()
    progress.stage = f"scoring with {bundle.name}"
    scores_F2 = np.empty((len(features), 2), np.float32)
    with torch.inference_mode():
        for first in range(0, len(features), _FRAMES_AT_ONCE):
            piece = np.arange(first, min(first + _FRAMES_AT_ONCE, len(features)))
            scores_F2[piece] = head.scores(features.rows(piece).to(device)).cpu().numpy()
    chunk_F, record_F = features.chunk_F.numpy(), _record_of_frames(features)
    chunk_sequence = np.zeros(int(chunk_F.max(initial=-1)) + 1, np.int64)
    chunk_sequence[chunk_F] = record_F
    score = mean_chunk_score(chunk_sequence, chunk_consensus(chunk_F, scores_F2), n_records)
    status = np.full(n_records, NO_FRAME, np.uint8)
    status[record_F] = CLASSIFIED
    progress.done_sequences += n_records
    lengths = np.zeros(n_records, np.int64)  # which the threshold of uncalibrated scores does not ask for
    return ScoredExamples.called_by(
        CallThresholds.at(VIRUS_THRESHOLD), np.round(score, SCORE_DECIMALS), status, lengths
    )


def _record_of_frames(features: FeatureSet) -> npt.NDArray[np.int64]:
    parts = [np.zeros(0, np.int64)]
    for entry in features.description["files"]:
        with safe_open(features.folder / entry["name"], framework="np") as file:
            parts.append(file.get_tensor("record"))
    return np.concatenate(parts)


def _short(digest: str) -> str:
    return digest[:12]
