"""Build the embedded bundle: ``python -m seqassay.train.mini PART --data GENOMES --work FOLDER``.

A part is one of `seqassay.train.encoder_bundle`, or ``bundle``, which joins and calibrates what they made. Parts read
``train.fa.gz`` and ``valid.fa.gz`` (less the records that train knows), never the test file. Interrupted, the same
command goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import torch

from seqassay.train.dataset import read_labelled
from seqassay.train.dataset_known import unknown_records
from seqassay.train.encoder_bundle import Plan, build_bundle, train_part
from seqassay.train.encoders import (
    MINI_GROUP_WEIGHTS,
    MINI_NUCLEOTIDE,
    MINI_NUCLEOTIDE_FINISH,
    MINI_PROTEIN,
    Recipe,
)

log = logging.getLogger(__name__)

DESCRIPTION = (
    "Small encoders and heads trained on public database records of viruses, phages and their hosts; "
    "see docs/models/mini.md for data, scope and accuracy"
)
RECIPES = {"nucleotide": MINI_NUCLEOTIDE, "nucleotide-finish": MINI_NUCLEOTIDE_FINISH, "protein": MINI_PROTEIN}


def main(arguments: list[str] | None = None) -> None:
    """Parse, then train a part or write the bundle."""
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
    if options.part == "bundle" and options.bundle is None:
        parser.error("bundle needs --bundle FOLDER")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    run = {"steps": options.steps, "max_minutes": options.max_minutes, "seed": options.seed}
    plan = Plan(
        recipes={part: replace(recipe, **run) for part, recipe in RECIPES.items()},
        group_weights=MINI_GROUP_WEIGHTS,
        name="mini",
        description=DESCRIPTION,
        source=f"trained by seqassay.train.mini, seed {options.seed}",
    )
    train = read_labelled(options.data / "train.fa.gz")
    unknown = unknown_records(read_labelled(options.data / "valid.fa.gz"), {"train": train})
    log.info("valid without what train knows: %s", unknown.facts)
    if options.part == "bundle":
        build_bundle(plan, train, unknown.records, options.work, options.bundle, threads=options.threads)
    else:
        train_part(plan, options.part, train, unknown.records, options.work)


if __name__ == "__main__":
    main()
