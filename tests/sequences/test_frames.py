from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqassay.errors import UsageError
from seqassay.sequences.chunking import chunk
from seqassay.sequences.frames import FRAME_NAMES, Ambiguity, Frames, six_frames
from seqassay.sequences.genetic_codes import AMINO_ACIDS, codon_table
from seqassay.sequences.ragged import Ragged
from seqassay.sequences.reading import InputSettings, read_shards

Rows = list[tuple[int, str, str, str]]


def rows(frames: Frames) -> Rows:
    """Chunk, frame name, protein, nucleotide partner."""
    return [
        (chunk_index, FRAME_NAMES[frame], protein.decode(), partner.decode())
        for chunk_index, frame, protein, partner in zip(
            frames.chunk.tolist(),
            frames.frame.tolist(),
            frames.protein.to_bytes(),
            frames.nucleotide.to_bytes(),
            strict=True,
        )
    ]


def frames_of(*sequences: str, chunk_length: int = 300, code: int = 1, ambiguity: Ambiguity = "drop") -> Rows:
    bases = Ragged.from_bytes(s.encode() for s in sequences)
    return rows(six_frames(bases, chunk(bases.lengths, chunk_length), genetic_code=code, ambiguity=ambiguity))


def reference_rows(*sequences: str, chunk_length: int = 300, code: int = 1) -> Rows:
    reference = pytest.importorskip("reference_front_end", reason="needs Biopython")
    pieces = [piece for s in sequences for _, piece in reference.reference_chunks(s, chunk_length)]
    return [(i, *frame) for i, piece in enumerate(pieces) for frame in reference.reference_frames(piece, code)]


def reference_cut(*sequences: str, chunk_length: int = 300, code: int = 1) -> Rows:
    bases = Ragged.from_bytes(s.encode() for s in sequences)
    return rows(six_frames(bases, chunk(bases.lengths, chunk_length, "reference"), genetic_code=code))


@pytest.mark.parametrize(
    ("bases", "expected"),
    [
        ("ATGGCC", [("F1", "MA", "ATGGCC"), ("F2", "W", "TGGC"), ("F3", "G", "GGCC"),
                    ("R1", "GH", "GGCCAT"), ("R2", "A", "GCCA"), ("R3", "P", "CCAT")]),
        ("ATGGCCA", [("F1", "MA", "ATGGCCA"), ("F2", "WP", "TGGCCA"), ("F3", "G", "GGCC"),
                     ("R1", "WP", "TGGCCAT"), ("R2", "GH", "GGCCAT"), ("R3", "A", "GCCA")]),
        ("TAA", [("R1", "L", "TTA")]),
        ("ACG", [("F1", "T", "ACG"), ("R1", "R", "CGT")]),
        ("AC", []),
        ("A", []),
    ],
)  # fmt: skip
def test_frames_of_short_sequences(bases: str, expected: list[tuple[str, str, str]]) -> None:
    assert [row[1:] for row in frames_of(bases)] == expected


def test_a_stop_anywhere_drops_the_frame_even_as_last_codon() -> None:
    assert "F1" not in [name for _, name, _, _ in frames_of("ATGGCCTAA")]
    assert "F1" in [name for _, name, _, _ in frames_of("ATGGCCTA")]  # half a codon is not read


@pytest.mark.parametrize(
    ("bases", "rule", "expected"),
    [
        ("ATGNNNGCC", "drop", ("MA", "ATGNNNG")),
        ("ATGNNNGCC", "X", ("MXA", "ATGNNNGCC")),
        ("ATGRCCA", "drop", ("M", "ATGR")),
        ("ATGRCCA", "X", ("MX", "ATGRCCA")),
        ("TARATG", "drop", ("M", "TARA")),  # TAR can only be a stop, and is yet none
        ("TARATG", "X", ("XM", "TARATG")),
    ],
)
def test_ambiguous_codons(bases: str, rule: Ambiguity, expected: tuple[str, str]) -> None:
    assert (0, "F1", *expected) in frames_of(bases, ambiguity=rule)


@pytest.mark.parametrize("rule", ["drop", "X"])
def test_no_plain_codon_no_frame(rule: Ambiguity) -> None:
    assert frames_of("N" * 50, "NNRNNACNNNN", ambiguity=rule) == []


def test_letters_on_the_reverse_strand() -> None:
    assert (0, "R1", "G", "GGCR") in frames_of("RGCC", ambiguity="drop")  # as in the reference
    assert (0, "R1", "G", "GGCY") in frames_of("RGCC", ambiguity="X")


def test_order_is_chunk_then_frame() -> None:
    found = frames_of("ACG", "TAA", "ACG")
    assert [(index, name) for index, name, _, _ in found] == [(0, "F1"), (0, "R1"), (1, "R1"), (2, "F1"), (2, "R1")]


def test_nothing_in_nothing_out() -> None:
    assert frames_of() == []


@given(st.lists(st.text("ACGT", min_size=1, max_size=80), max_size=8), st.sampled_from([1, 2, 6, 11, 25]))
def test_plain_reads_equal_biopython(sequences: list[str], code: int) -> None:
    assert reference_cut(*sequences, chunk_length=31, code=code) == reference_rows(
        *sequences, chunk_length=31, code=code
    )


@given(st.lists(st.text("ACGTACGTACGTNRYKM", min_size=1, max_size=60), max_size=8))
def test_ambiguous_reads_equal_the_reference_rules(sequences: list[str]) -> None:
    assert reference_cut(*sequences, chunk_length=25) == reference_rows(*sequences, chunk_length=25)


def test_chunks_in_any_order() -> None:
    rng = random.Random(3)
    bases = Ragged.from_bytes("".join(rng.choices("ACGT", k=40)).encode() for _ in range(30))
    chunks = chunk(bases.lengths, 17)
    order = np.array(rng.sample(range(len(chunks)), len(chunks)))
    shuffled = type(chunks)(*(getattr(chunks, name)[order] for name in ("sequence", "number", "start", "length")))
    expected = {(order.tolist().index(i), *rest) for i, *rest in rows(six_frames(bases, chunks))}
    assert set(rows(six_frames(bases, shuffled))) == expected


def test_real_sequences_equal_the_reference(shared_data: Path) -> None:
    file = str(shared_data / "genomes" / "unlabelled.fa.gz")
    shard = next(read_shards(InputSettings((file,)), max_sequences=400, max_bases=400_000))
    sequences = [item.decode() for item in shard.bases.to_bytes()]
    found = reference_cut(*sequences)
    assert len(found) > 500
    assert found == reference_rows(*sequences)


def test_genetic_codes_equal_biopythons() -> None:
    tables = pytest.importorskip("Bio.Data.CodonTable", reason="needs Biopython").unambiguous_dna_by_id
    assert set(AMINO_ACIDS) == set(tables)
    for number, table in tables.items():
        ours = codon_table(number)
        assert len(ours) == 64
        assert {codon: residue for codon, residue in ours.items() if residue != "*"} == table.forward_table
        assert {codon for codon, residue in ours.items() if residue == "*"} == set(table.stop_codons) - set(
            table.forward_table
        )


def test_bad_settings_are_named() -> None:
    with pytest.raises(UsageError, match="genetic code 7"):
        frames_of("ACGT", code=7)
    with pytest.raises(UsageError, match="'keep'"):
        frames_of("ACGT", ambiguity="keep")  # type: ignore[arg-type]
