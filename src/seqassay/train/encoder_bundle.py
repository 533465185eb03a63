"""From labelled records to a calibrated bundle: both encoders trained, joined and calibrated.

Every part of the training has a folder of its own below the work folder and goes on from its checkpoint:

- ``SIDE-pretrain`` (where the plan has it): masked tokens, no labels;
- ``SIDE``: labels, from the pre-trained state or from random weights;
- ``nucleotide-finish``: labels and made-up sequences, from the best state of the part before.

The two sides don't need each other until they are joined, and may be trained side by side.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from seqassay.engine.tokens import NucleotideTokenizer
from seqassay.models.bundle import Bundle, write_bundle
from seqassay.models.calibration import Calibration
from seqassay.models.dnabert import Dnabert
from seqassay.models.esm2 import Esm2
from seqassay.models.thresholds import CallThresholds
from seqassay.models.weights import save_dnabert, save_esm2
from seqassay.predict.scoring import SequenceScorer
from seqassay.train.calibrate import balanced_weights, fit_calibration, logistic_regression, scored_fragments
from seqassay.train.classifier import SideClassifier, fused_head
from seqassay.train.dataset import LabelledRecords, evaluation_chunks
from seqassay.train.encoders import EncoderTrainer, Recipe, read_best
from seqassay.train.kmer_tokenizer import build_kmer_tokenizer
from seqassay.train.scoring import score_chunks
from seqassay.train.thresholds import thresholds_of

log = logging.getLogger(__name__)

SIDES = ("nucleotide", "protein")
WORD_LENGTH = 6  # bases of a nucleotide token: two codons in frame


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained, and what the bundle says of itself.

    Attributes:
        recipes: by part, in the order they are trained.
        group_weights: of the validation records' groups, for joining and calibrating.
        chunk_length: in bases.
    """

    recipes: Mapping[str, Recipe]
    group_weights: Mapping[str, float]
    name: str
    description: str
    source: str
    chunk_length: int = 300

    def parts_of(self, side: str) -> list[str]:
        """A side's parts in order."""
        return [part for part in self.recipes if part.split("-")[0] == side]


def train_part(
    plan: Plan,
    part: str,
    train: LabelledRecords,
    valid: LabelledRecords,
    work: Path,
    *,
    device: torch.device | None = None,
) -> None:
    """Train one part, from wherever its checkpoint stands, on the CPU or another device."""
    parts = plan.parts_of(part.split("-")[0])
    before = parts[: parts.index(part)]
    recipe = plan.recipes[part]
    begin_with = best_state(plan, before[-1], work) if before else None
    tokenizer = nucleotide_tokenizer() if recipe.reads_nucleotides else None
    trainer = EncoderTrainer(recipe, train, valid, tokenizer, work / part, begin_with=begin_with, device=device)
    log.info("%s: %d parameters; %s", part, sum(p.numel() for p in trainer.model.parameters()), recipe)
    trainer.run()


def best_state(plan: Plan, part: str, work: Path) -> SideClassifier:
    """The best state that a part's training has reached.

    Raises:
        ModelError: it was not trained yet.
    """
    return read_best(work / part, plan.recipes[part].encoder)


def nucleotide_tokenizer() -> NucleotideTokenizer:
    """Of the encoders trained here."""
    return NucleotideTokenizer(build_kmer_tokenizer(WORD_LENGTH).to_str())


def head_weights(
    nucleotide: SideClassifier, protein: SideClassifier, valid: LabelledRecords, plan: Plan
) -> tuple[float, float]:
    """Weights of both sides' log-odds in the joint head.

    By a regression on validation chunks with a stop-free frame, beside what the nucleotide head says of all six
    frames: the calibration adds that to the joint evidence, so the joint head need not say it again.
    """
    tokenizer = nucleotide_tokenizer()
    fitted = []
    for length in plan.recipes[SIDES[0]].evaluation_lengths:
        chunks = evaluation_chunks(valid, length, seed=Recipe.seed)
        columns = (
            score_chunks(nucleotide, chunks, tokenizer, open_frames_only=True),
            score_chunks(protein, chunks, None),
            score_chunks(nucleotide, chunks, tokenizer),
        )
        features = np.stack(columns, axis=1)
        known = ~np.isnan(features).any(axis=1)
        labels = chunks.labels[known]
        weights = balanced_weights(labels, valid.groups[chunks.record[known]], plan.group_weights)
        fitted.append(logistic_regression(features[known], labels, weights)[1:])
        log.info("weights at %d bases: nucleotide %.3f, protein %.3f, all frames %.3f", length, *fitted[-1])
    nucleotide_weight, protein_weight, _ = np.maximum(np.mean(fitted, axis=0), 0.0).tolist()
    return nucleotide_weight, protein_weight


def build_bundle(
    plan: Plan,
    train: LabelledRecords,
    valid: LabelledRecords,
    work: Path,
    folder: Path,
    *,
    threads: int | None = None,
    device: torch.device | None = None,
) -> Bundle:
    """Join the best states of both sides, calibrate along the path that `predict` takes, and write the bundle.

    Calibrated is with ``valid``; the thresholds keep made-up sequences of both splits from being called.
    """
    device = device or torch.device("cpu")
    nucleotide, protein = (best_state(plan, plan.parts_of(side)[-1], work) for side in SIDES)
    if not isinstance(nucleotide.encoder, Dnabert) or not isinstance(protein.encoder, Esm2):
        raise TypeError("the plan's recipes name the sides wrongly")
    folders = {side: work / "encoders" / side for side in SIDES}
    save_dnabert(nucleotide.encoder, folders["nucleotide"])
    tokenizer = build_kmer_tokenizer(WORD_LENGTH).to_str()
    (folders["nucleotide"] / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    save_esm2(protein.encoder, folders["protein"])
    nucleotide_weight, protein_weight = head_weights(nucleotide.to(device), protein.to(device), valid, plan)
    nucleotide.cpu()
    protein.cpu()
    head = fused_head(nucleotide.head, protein.head, nucleotide_weight=nucleotide_weight, protein_weight=protein_weight)

    def written(place: Path, calibration: Calibration | None, thresholds: CallThresholds | None) -> Bundle:
        return write_bundle(
            place,
            name=plan.name,
            nucleotide=folders["nucleotide"],
            protein=folders["protein"],
            head=head,
            nucleotide_head=nucleotide.head,
            calibration=calibration,
            thresholds=thresholds,
            chunk_length=plan.chunk_length,
            description=plan.description,
            nucleotide_source=plan.source,
            protein_source=plan.source,
            replace=True,
        )

    scorer = SequenceScorer(written(work / "uncalibrated", None, None), device=str(device), threads=threads)
    fragments = scored_fragments(scorer, valid, plan.group_weights)
    calibration = fit_calibration(fragments, has_nucleotide_head=True, chunk_length=plan.chunk_length)
    log.info("calibration %s", calibration.as_json())
    thresholds = thresholds_of(scorer, (valid, train), fragments, calibration)
    log.info("thresholds %s", None if thresholds is None else thresholds.as_json())
    bundle = written(folder, calibration, thresholds)
    log.info("bundle %s, digest %s", bundle.path, bundle.digest)
    return bundle
