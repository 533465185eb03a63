"""Put training records aside for selection and calibration: a part of every group, by family, genus, taxon and study.

A validation split that lacks whole groups chooses and calibrates for the groups it has. What is put aside here joins
it. No taxon of the part is left in training, and some of them go with their whole family, others with their genus: the
part is as strange to the model as a sample's unknown taxa are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqassay.train.dataset import LabelledRecords

SHARE = 0.15  # of every group's records
_BY_FAMILY = 0.5  # of them by whole families, where records name one
_MOST = 1.5  # times what is wanted: a unit that would go beyond it stays in training


@dataclass(frozen=True, slots=True)
class Aside:
    """Numbers of the records put aside and of those left, ``int64``, both in order; groups that gave none."""

    aside: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    groups_without: list[str]


def put_aside(records: LabelledRecords, *, share: float = SHARE, seed: int = 1) -> Aside:
    """Choose about ``share`` of every group's records, whole families and genera at a time.

    Half of them by family, the rest by genus (first word of the taxon), or by taxon where that gives none, as for a
    group of one genus. Groups of one study (``metagenome_viral``, ``metagenome_other``) are chosen from together. A
    group that is one large taxon gives none.
    """
    rng = np.random.default_rng(seed)
    # A name alone does not make two groups' records relatives ("uncultured"), so groups have genera of their own.
    sources = np.array([group.split("_")[0] for group in records.groups.tolist()])
    genera = np.array([taxon.split(" ")[0] for taxon in records.taxa.tolist()])
    chosen = np.zeros(len(records), np.bool_)
    for source in np.unique(sources).tolist():
        of_source = sources == source
        for names, wanted in ((records.families, _BY_FAMILY * share), (genera, share), (records.taxa, share)):
            _choose(chosen, of_source, names, wanted * of_source.sum(), rng)
            if names is genera and chosen[of_source].any():
                break
    given = set(sources[chosen].tolist())
    return Aside(np.flatnonzero(chosen), np.flatnonzero(~chosen), sorted(set(sources.tolist()) - given))


def _choose(
    chosen: npt.NDArray[np.bool_],
    of_source: npt.NDArray[np.bool_],
    names: npt.NDArray[np.str_],
    wanted: float,
    rng: np.random.Generator,
) -> None:
    """Mark all records of a name, for names in random order, until ``wanted`` of the source are marked."""
    units, sizes = np.unique(names[of_source & (names != "")], return_counts=True)
    for i in rng.permutation(len(units)).tolist():
        n = int((chosen & of_source).sum())
        if n >= wanted:
            return
        if n + sizes[i] <= _MOST * wanted:
            chosen |= of_source & (names == units[i])
