"""Build the embedded bundle: ``python -m seqassay.train.mini PART --data GENOMES --work FOLDER``.

Parts: ``nucleotide`` and ``protein`` train one encoder each and may run side by side; ``nucleotide-finish`` and
``protein-finish`` train their best states a little further, with made-up sequences; ``bundle`` joins and calibrates.
They read ``train.fa.gz`` and ``valid.fa.gz``, never the test file. Interrupted, the same command goes on from its last
checkpoint.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from seqassay.engine.tokens import NucleotideTokenizer
from seqassay.models.bundle import Bundle, write_bundle
from seqassay.models.calibration import Calibration
from seqassay.models.dnabert import Dnabert
from seqassay.models.esm2 import Esm2
from seqassay.models.weights import save_dnabert, save_esm2
from seqassay.predict.scoring import SequenceScorer
from seqassay.train.calibrate import balanced_weights, fit_calibration, logistic_regression, scored_fragments
from seqassay.train.classifier import SideClassifier, fused_head
from seqassay.train.dataset import LabelledRecords, evaluation_chunks, read_labelled
from seqassay.train.encoders import (
    MINI_GROUP_WEIGHTS,
    MINI_NUCLEOTIDE,
    MINI_NUCLEOTIDE_FINISH,
    MINI_PROTEIN,
    MINI_PROTEIN_FINISH,
    EncoderTrainer,
    Recipe,
    read_best,
)
from seqassay.train.kmer_tokenizer import build_kmer_tokenizer
from seqassay.train.scoring import score_chunks

log = logging.getLogger(__name__)

WORD_LENGTH = 6  # bases: two codons in frame
CHUNK_LENGTH = 300  # bases
DESCRIPTION = (
    "Small encoders and heads trained on public database records of viruses, phages and their hosts; "
    "see docs/models/mini.md for data, scope and accuracy"
)
SIDES = ("nucleotide", "protein")
RECIPES = {
    "nucleotide": MINI_NUCLEOTIDE,
    "protein": MINI_PROTEIN,
    "nucleotide-finish": MINI_NUCLEOTIDE_FINISH,
    "protein-finish": MINI_PROTEIN_FINISH,
}


def best_state(part: str, work: Path) -> SideClassifier:
    """The best state that a part's training has reached."""
    return read_best(work / part, RECIPES[part].encoder)


def trainer(part: str, options: argparse.Namespace) -> EncoderTrainer:
    """The run of one part, in a folder of its own below the work folder."""
    side = part.removesuffix("-finish")
    recipe: Recipe = replace(RECIPES[part], steps=options.steps, max_minutes=options.max_minutes, seed=options.seed)
    tokenizer = NucleotideTokenizer(build_kmer_tokenizer(WORD_LENGTH).to_str()) if side == "nucleotide" else None
    train, valid = (read_labelled(options.data / f"{split}.fa.gz") for split in ("train", "valid"))
    begin_with = best_state(side, options.work) if part != side else None
    return EncoderTrainer(recipe, train, valid, tokenizer, options.work / part, begin_with=begin_with)


def head_weights(nucleotide: SideClassifier, protein: SideClassifier, valid: LabelledRecords) -> tuple[float, float]:
    """Weights of both sides' log-odds in the joint head.

    By a regression on validation chunks with a stop-free frame, beside what the nucleotide head says of all six
    frames: the calibration adds that to the joint evidence, so the joint head need not say it again.
    """
    tokenizer = NucleotideTokenizer(build_kmer_tokenizer(WORD_LENGTH).to_str())
    fitted = []
    for length in Recipe.evaluation_lengths:
        chunks = evaluation_chunks(valid, length, seed=Recipe.seed)
        columns = (
            score_chunks(nucleotide, chunks, tokenizer, open_frames_only=True),
            score_chunks(protein, chunks, None),
            score_chunks(nucleotide, chunks, tokenizer),
        )
        features = np.stack(columns, axis=1)
        known = ~np.isnan(features).any(axis=1)
        labels = chunks.labels[known]
        weights = balanced_weights(labels, valid.groups[chunks.record[known]], MINI_GROUP_WEIGHTS)
        fitted.append(logistic_regression(features[known], labels, weights)[1:])
        log.info("weights at %d bases: nucleotide %.3f, protein %.3f, all frames %.3f", length, *fitted[-1])
    nucleotide_weight, protein_weight, _ = np.maximum(np.mean(fitted, axis=0), 0.0).tolist()
    return nucleotide_weight, protein_weight


def build_bundle(
    nucleotide: SideClassifier, protein: SideClassifier, valid: LabelledRecords, options: argparse.Namespace
) -> Bundle:
    """Join both sides, calibrate along the path that `predict` takes, and write the bundle."""
    if not isinstance(nucleotide.encoder, Dnabert) or not isinstance(protein.encoder, Esm2):
        raise TypeError("the sides are swapped")
    folders = {side: options.work / side / "encoder" for side in SIDES}
    save_dnabert(nucleotide.encoder, folders["nucleotide"])
    tokenizer = build_kmer_tokenizer(WORD_LENGTH).to_str()
    (folders["nucleotide"] / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    save_esm2(protein.encoder, folders["protein"])
    nucleotide_weight, protein_weight = head_weights(nucleotide, protein, valid)
    head = fused_head(nucleotide.head, protein.head, nucleotide_weight=nucleotide_weight, protein_weight=protein_weight)
    source = f"trained by seqassay.train.mini, seed {options.seed}"

    def written(folder: Path, calibration: Calibration | None) -> Bundle:
        return write_bundle(
            folder,
            name="mini",
            nucleotide=folders["nucleotide"],
            protein=folders["protein"],
            head=head,
            nucleotide_head=nucleotide.head,
            calibration=calibration,
            chunk_length=CHUNK_LENGTH,
            description=DESCRIPTION,
            nucleotide_source=source,
            protein_source=source,
            replace=True,
        )

    uncalibrated = written(options.work / "uncalibrated", None)
    scorer = SequenceScorer(uncalibrated, threads=options.threads)
    calibration = fit_calibration(scored_fragments(scorer, valid, MINI_GROUP_WEIGHTS), has_nucleotide_head=True)
    log.info("calibration %s", calibration.as_json())
    return written(options.bundle, calibration)


def main(arguments: list[str] | None = None) -> None:
    """Parse, then train a side or write the bundle."""
    parser = argparse.ArgumentParser(prog="python -m seqassay.train.mini", description=__doc__)
    parser.add_argument("part", choices=(*RECIPES, "bundle"))
    parser.add_argument("--data", type=Path, required=True, help="folder with train.fa.gz and valid.fa.gz")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and history")
    parser.add_argument("--bundle", type=Path, help="bundle folder to write (replaced when there)")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--max-minutes", type=float, default=Recipe.max_minutes)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    if options.part == "bundle":
        if options.bundle is None:
            parser.error("bundle needs --bundle FOLDER")
        nucleotide, protein = (best_state(f"{side}-finish", options.work) for side in SIDES)
        bundle = build_bundle(nucleotide, protein, read_labelled(options.data / "valid.fa.gz"), options)
        log.info("bundle %s, digest %s", bundle.path, bundle.digest)
        return
    run = trainer(options.part, options)
    n_parameters = sum(parameter.numel() for parameter in run.model.parameters())
    log.info("%d parameters; %s", n_parameters, run.recipe)
    run.run()


if __name__ == "__main__":
    main()
