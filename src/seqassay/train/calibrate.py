"""Fit a bundle's calibration on held-out labelled sequences, along the path that `predict` takes.

At each of some lengths fragments of the validation records are scored, and a logistic regression of the label on their
evidence is fitted (`seqassay.models.calibration`). Classes weigh the same, so that probabilities refer to equal shares
of virus and others; within them groups weigh as in training, so that the best-sequenced host does not decide; and in a
group a taxon weighs as the square root of its fragments, so that one well-sequenced genome does not either.

The best frames' evidence is fitted for sequences of several chunks. The heads are trained on the mean over the frames
of one chunk; over many chunks the frames that are no gene blur it (cross-validated over taxa of `mini`'s validation
data, the log loss at 3,000 bases falls from 0.58 to 0.54, and up to 300 bases it rises).

What false discovery rates come to is measured on taxa that a fit did not see: the fit is repeated without a tenth of
them, ten times (cross-validation by taxon).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from seqassay.errors import MissingExtraError, UsageError
from seqassay.models.calibration import RATES, Calibration, Evidence
from seqassay.predict.scoring import SequenceScorer, evidence_of
from seqassay.sequences.ragged import Ragged
from seqassay.train.dataset import (
    BASES_PER_CHUNK,
    LABELS,
    LabelledRecords,
    evaluation_chunks,
    taxon_numbers,
)

CALIBRATION_LENGTHS = (100, 150, 250, 300, 500, 1000, 3000)  # bases
FEWEST_FRAGMENTS = 100  # of each label, with or without a frame, that a regression is fitted on
MOST_PER_RECORD = 3  # fragments of one length
_AT_ONCE = 2048
_FOLDS = 10

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScoredFragments:
    """Fragments of one length with their evidence, labels, weights and taxa (a number each)."""

    length: int
    evidence: Evidence
    labels: npt.NDArray[np.int64]
    weights: FloatArray
    taxa: npt.NDArray[np.int64]

    def take(self, rows: npt.NDArray[np.bool_]) -> ScoredFragments:
        """Some of them."""
        evidence = Evidence(*(getattr(self.evidence, name)[rows] for name in Evidence.__slots__))
        return ScoredFragments(self.length, evidence, self.labels[rows], self.weights[rows], self.taxa[rows])


def fit_calibration(
    fragments: Sequence[ScoredFragments], *, has_nucleotide_head: bool, chunk_length: int
) -> Calibration:
    """Regressions at every length (see `fit_weights`), and what false discovery rates come to on taxa unseen by a fit.

    Raises:
        UsageError: the first length has too few fragments.
    """
    fitted = fit_weights(fragments, has_nucleotide_head=has_nucleotide_head, chunk_length=chunk_length)
    if any(part.length > chunk_length for part in fragments):
        of_means = fit_weights(fragments, has_nucleotide_head=has_nucleotide_head, chunk_length=None)
        fitted = replace(fitted, track_K3=of_means.framed_KC[:, :3])
    probabilities = held_out_probabilities(
        fragments, has_nucleotide_head=has_nucleotide_head, chunk_length=chunk_length
    )
    if probabilities is None:
        return fitted
    columns = [held_out_rates(part, found) for part, found in zip(fragments, probabilities, strict=True)]
    return replace(fitted, held_out_RK=np.stack(columns, axis=1))


def held_out_probabilities(
    fragments: Sequence[ScoredFragments], *, has_nucleotide_head: bool, chunk_length: int, seed: int = 1
) -> list[FloatArray] | None:
    """Probabilities at each length, each taxon's by a fit without it; None for too few to leave some out."""
    n_taxa = 1 + max(int(part.taxa.max()) for part in fragments)
    fold_of_taxon = np.random.default_rng(seed).permutation(n_taxa) % _FOLDS
    probabilities = [np.full(len(part.labels), np.nan) for part in fragments]
    for fold in range(_FOLDS):
        inside = [fold_of_taxon[part.taxa] == fold for part in fragments]
        rest = [part.take(~rows) for part, rows in zip(fragments, inside, strict=True)]
        try:
            fitted = fit_weights(rest, has_nucleotide_head=has_nucleotide_head, chunk_length=chunk_length)
        except UsageError:
            return None
        for part, rows, found in zip(fragments, inside, probabilities, strict=True):
            found[rows] = fitted.probability(part.take(rows).evidence)
    return probabilities


def held_out_rates(part: ScoredFragments, probabilities: FloatArray) -> FloatArray:
    """Share of others among the fragments called at each of `RATES`, by weight; NaN where none is called.

    Called are the likeliest ones whose mean probability of being an other is at most the rate, as by `q_value`.
    """
    order = np.argsort(-probabilities)[: int((~np.isnan(probabilities)).sum())]  # NaN sort last
    weight = np.cumsum(part.weights[order])
    expected = np.cumsum(part.weights[order] * (1 - probabilities[order])) / weight
    false = np.cumsum(part.weights[order] * (part.labels[order] == 0)) / weight
    ends = [np.flatnonzero(expected <= rate) for rate in RATES]
    return np.array([float(false[end[-1]]) if len(end) else math.nan for end in ends])


def fit_weights(
    fragments: Sequence[ScoredFragments], *, has_nucleotide_head: bool, chunk_length: int | None
) -> Calibration:
    """Regressions at every length, for fragments with a stop-free frame and (with that head) for those without.

    The best frames' evidence takes part at lengths above ``chunk_length``, if that is given. A length with too few
    fragments takes the nearest shorter one's weights (whole genomes without a stop-free frame in any chunk hardly
    exist); the shortest learns the nucleotide head's from all its fragments.

    Raises:
        UsageError: the first length has too few fragments.
    """
    framed: list[list[float]] = []
    unframed: list[list[float]] = []
    for part in fragments:
        joint, nucleotide, best = part.evidence.joint, part.evidence.nucleotide, part.evidence.best
        has_frame = ~np.isnan(joint)
        takes_part = [True, has_nucleotide_head, chunk_length is not None and part.length > chunk_length]
        framed.append(_fitted(part, has_frame, np.stack([joint, nucleotide, best], axis=1), takes_part, framed))
        if has_nucleotide_head:
            without = ~has_frame & ~np.isnan(nucleotide)
            if not unframed and _rarest(part, without) < FEWEST_FRAGMENTS:
                without = ~np.isnan(nucleotide)  # no other fragments to learn from
            unframed.append(_fitted(part, without, nucleotide[:, None], [True], unframed))
    return Calibration(
        prior=0.5,
        n_others=min(int((part.labels == 0).sum()) for part in fragments),
        lengths_K=np.array([float(part.length) for part in fragments]),
        framed_KC=np.array(framed),
        unframed_K2=np.array(unframed) if has_nucleotide_head else None,
    )


def check_enough(records: LabelledRecords, *, max_per_record: int = MOST_PER_RECORD) -> None:
    """Refuse records that are too few to calibrate on; said before hours of training.

    Raises:
        UsageError: fewer fragments of one label than a regression needs, had all of them a stop-free frame.
    """
    length = CALIBRATION_LENGTHS[0]
    counts = np.minimum(max_per_record, 1 + records.bases.lengths // BASES_PER_CHUNK)
    for name, label in LABELS.items():
        n = int(counts[(records.labels == label) & (records.bases.lengths >= length)].sum())
        if n < FEWEST_FRAGMENTS:
            raise UsageError(
                f"{n} validation fragments of {length} bases with label={name}: too few to calibrate on",
                hint=f"at least {FEWEST_FRAGMENTS} are needed, at most {max_per_record} from one record",
            )


def scored_fragments(
    scorer: SequenceScorer,
    records: LabelledRecords,
    group_weights: Mapping[str, float],
    *,
    lengths: Sequence[int] = CALIBRATION_LENGTHS,
    max_per_record: int = MOST_PER_RECORD,
    seed: int = 1,
) -> list[ScoredFragments]:
    """Evidence of fixed fragments of the records, at every length that some record of each label has."""
    found = []
    taxa = taxon_numbers(records)
    longest = min(int(records.bases.lengths[records.labels == label].max(initial=0)) for label in (0, 1))
    for length in (length for length in lengths if length <= longest):
        chunks = evaluation_chunks(records, length, seed=seed, max_per_record=max_per_record)
        weights = balanced_weights(chunks.labels, records.groups[chunks.record], group_weights, taxa[chunks.record])
        evidence = evidence_of_bases(scorer, chunks.bases)
        found.append(ScoredFragments(length, evidence, chunks.labels, weights, taxa[chunks.record]))
    if not found:
        raise UsageError(
            f"no record of both labels is {min(lengths)} bases long", hint="give longer validation records"
        )
    return found


def evidence_of_bases(scorer: SequenceScorer, bases: Ragged) -> Evidence:
    """Evidence of sequences, some thousand at a time."""
    pieces = (np.arange(first, min(first + _AT_ONCE, len(bases))) for first in range(0, len(bases), _AT_ONCE))
    return joined_evidence([evidence_of(scorer.scored(bases.take(rows))) for rows in pieces])


def joined_evidence(parts: Sequence[Evidence]) -> Evidence:
    """The sequences of all parts in order."""
    return Evidence(*(np.concatenate([getattr(part, name) for part in parts]) for name in Evidence.__slots__))


def balanced_weights(
    labels: npt.NDArray[np.int64],
    groups: npt.NDArray[np.str_],
    group_weights: Mapping[str, float],
    taxa: npt.NDArray[np.int64] | None = None,
) -> FloatArray:
    """Weights that sum to one half over each label, with the groups of a label in proportion to theirs.

    With ``taxa`` (a number each), those of a group in proportion to the square root of how many are of them.
    """
    weights: FloatArray = np.ones(len(labels))
    if taxa is not None:
        weights /= np.sqrt(np.bincount(taxa)[taxa])
    for group in np.unique(groups).tolist():
        of_group = groups == group
        weights[of_group] *= group_weights.get(group, 0.0) / weights[of_group].sum()
    for label in (0, 1):
        of_label = labels == label
        weights[of_label] *= 0.5 / weights[of_label].sum()
    return weights


def _fitted(
    part: ScoredFragments,
    rows: npt.NDArray[np.bool_],
    features: FloatArray,
    takes_part: Sequence[bool],
    shorter: Sequence[Sequence[float]],
) -> list[float]:
    """Constant and weights of a regression on some rows; those of the next shorter length where there are too few.

    A feature that does not take part has a weight of 0.
    """
    labels = part.labels[rows]
    if _rarest(part, rows) < FEWEST_FRAGMENTS:
        if not shorter:
            raise UsageError(
                f"too few labelled fragments of {part.length} bases to calibrate on: {len(labels)}",
                hint=f"give validation records with at least {FEWEST_FRAGMENTS} fragments of each label",
            )
        return list(shorter[-1])
    constant, *fitted = logistic_regression(features[rows][:, takes_part], labels, part.weights[rows])
    weights = np.zeros(len(takes_part))
    weights[np.array(takes_part)] = fitted
    return [constant, *weights.tolist()]


def _rarest(part: ScoredFragments, rows: npt.NDArray[np.bool_]) -> int:
    """Fragments of the rarer label among some rows."""
    return min(int((part.labels[rows] == label).sum()) for label in (0, 1))


def logistic_regression(features: FloatArray, labels: npt.NDArray[np.int64], weights: FloatArray) -> list[float]:
    """Constant and weights by maximum likelihood, hardly regularised."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise MissingExtraError("scikit-learn", extra="train", purpose="calibration") from None
    model = LogisticRegression(C=1e3, max_iter=1000).fit(features, labels, weights * len(labels) / weights.sum())
    return [float(model.intercept_[0]), *map(float, model.coef_[0])]
