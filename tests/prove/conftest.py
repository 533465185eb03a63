"""Labelled sequences of two codon usages, and bundles that score them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import make_tiny_bundle

SENSE = sorted({a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"} - {"TAA", "TAG", "TGA"})
# Random codons get both calls from the tiny bundles' heads; the others are richer in G and C.
CODONS = {"viral": SENSE, "other": SENSE + 2 * [codon for codon in SENSE if sum(map(codon.count, "GC")) > 1]}
GROUPS = {"viral": ("phage", "rna_virus"), "other": ("bacteria", "fungi")}
STOPS = "TAATTAATTAATTAATTAACTAACTAA"  # a stop in each frame of both strands


def labelled_text(n: int, *, label: str | None = None, seed: int = 0, n_stopped: int = 4) -> str:
    """Two chunks a genome, alternating labels by genome; the last ``n_stopped`` have no frame, and two no base."""
    rng = np.random.default_rng(seed)
    lines = []
    for i in range(n):
        of = label or ("viral", "other")[i // 2 % 2]
        group = GROUPS[of][i // 4 % 2]
        bases = "".join(rng.choice(np.array(CODONS[of]), rng.choice([20, 40, 70])))
        if i >= n - n_stopped:
            bases = STOPS
        lines.append(f'>s{i} label={of} group={group} taxon="taxon {i // 4}" record=g{i // 2}\n{bases}\n')
    lines += [f">n{i} label={label or 'other'} group={GROUPS[label or 'other'][0]}\nNNNNNN\n" for i in range(2)]
    return "".join(lines)


@pytest.fixture
def write_labelled(tmp_path: Path) -> Callable[..., Path]:
    """Write labelled sequences, see ``labelled_text``; returns the path."""

    def write(n: int = 80, *, name: str = "labelled.fa", **options: object) -> Path:
        path = tmp_path / name
        path.write_text(labelled_text(n, **options))  # type: ignore[arg-type]
        return path

    return write


@pytest.fixture(scope="session")
def calibrated_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``tiny_bundle``, with a nucleotide head and a calibration."""
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles"), calibrated=True)
