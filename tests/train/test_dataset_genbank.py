"""GenBank records: labels by taxonomy, annotated proteins, and every way in which a file can be bad."""

from __future__ import annotations

import builtins
import gzip
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seqassay.errors import InputError, MissingExtraError
from seqassay.sequences.ragged import Ragged
from seqassay.train.dataset_genbank import AnnotatedProteins, label_of_lineage, read_genbank

pytest.importorskip("Bio")

GENE = "ATG" + "GCTGATAAAGTTCATAATTGG" * 3 + "TAA"
PROTEIN = "MADKVHNWADKVHNWADKVHNW"


def genbank_text(
    name: str = "NC_1.1",
    *,
    bases: str = "CC" + GENE + "ACGTACGTAA",
    features: str = "     CDS             3..71\n",
    organism: str = "Some virus\n            Viruses; Riboviria; Somales; Someviridae; Somevirus.",
    division: str = "VRL",
    length: int | None = None,
) -> str:
    rows = []
    for start in range(0, len(bases), 60):
        row = bases[start : start + 60].lower()
        rows.append(f"{start + 1:>9} " + " ".join(row[i : i + 10] for i in range(0, len(row), 10)))
    n = len(bases) if length is None else length
    return (
        f"LOCUS       {name.split('.')[0]:<16} {n} bp    DNA     linear   {division} 01-JAN-2024\n"
        f"DEFINITION  made up.\nACCESSION   {name.split('.')[0]}\nVERSION     {name}\nKEYWORDS    .\n"
        f"SOURCE      made up\n  ORGANISM  {organism}\n"
        f"FEATURES             Location/Qualifiers\n     source          1..{len(bases)}\n{features}"
        "ORIGIN\n" + "\n".join(rows) + "\n//\n"
    )


def write(path: Path, text: str) -> str:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


@pytest.mark.parametrize("name", ["x.gbff", "x.gbff.gz"])
def test_a_record(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, genbank_text() + genbank_text("NC_2.3", division="PHG"))
    first, second = read_genbank(path)
    assert (first.id, first.label, first.group, first.taxon, first.family, first.number) == (
        "NC_1.1", "viral", "virus", "Some virus", "Someviridae", 1
    )  # fmt: skip
    assert first.bases.tobytes().decode() == "CC" + GENE + "ACGTACGTAA"
    assert first.proteins == (PROTEIN.encode(),)
    assert (second.id, second.group, second.number) == ("NC_2.3", "phage", 2)


@pytest.mark.parametrize(
    ("feature", "proteins"),
    [
        (
            '     CDS             3..71\n                     /translation="MADK\n                     VH"\n',
            (b"MADKVH",),
        ),
        ("     CDS             2..71\n                     /codon_start=2\n", (PROTEIN.encode(),)),
        ("     CDS             complement(3..71)\n                     /transl_table=1\n", None),
        ("     CDS             3..71\n                     /pseudo\n", ()),
        ("     gene            3..71\n", ()),
        ("     CDS             join(3..32,33..71)\n", (PROTEIN.encode(),)),
    ],
)
def test_proteins(tmp_path: Path, feature: str, proteins: tuple[bytes, ...] | None) -> None:
    (record,) = read_genbank(write(tmp_path / "x.gb", genbank_text(features=feature)))
    if proteins is None:  # the other strand, whatever it says
        assert record.proteins is not None
        assert PROTEIN.encode() not in record.proteins[0]
    else:
        assert record.proteins == proteins


def test_a_table_of_its_own(tmp_path: Path) -> None:
    """TGA is a tryptophan in table 4."""
    bases = GENE.replace("AATTGG", "AATTGA")
    (record,) = read_genbank(
        write(
            tmp_path / "x.gb",
            genbank_text(bases=bases, features="     CDS             1..69\n                     /transl_table=4\n"),
        )
    )
    assert record.proteins == (PROTEIN.encode(),)


@pytest.mark.parametrize(
    ("lineage", "division", "found"),
    [
        ("Viruses; Duplodnaviria", "VRL", ("viral", "virus")),
        ("Viruses; Duplodnaviria", "PHG", ("viral", "phage")),
        ("Bacteria; Bacillati", "CON", ("other", "bacteria")),
        ("Archaea", "", ("other", "archaea")),
        ("Eukaryota; Metazoa; Chordata; Vertebrata; Mammalia", "", ("other", "vertebrate")),
        ("Eukaryota; Metazoa; Arthropoda", "", ("other", "invertebrate")),
        ("Eukaryota; Fungi; Ascomycota", "", ("other", "fungi")),
        ("Eukaryota; Viridiplantae", "", ("other", "plant")),
        ("Eukaryota; Sar; Alveolata", "", ("other", "protozoa")),
        ("other sequences; artificial sequences", "", ("", "")),
        ("", "", ("", "")),
    ],
)
def test_labels_by_taxonomy(lineage: str, division: str, found: tuple[str, str]) -> None:
    assert label_of_lineage(lineage.split("; ") if lineage else [], division=division) == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: re.sub(r"ORIGIN.*//", "ORIGIN\n//", text, flags=re.DOTALL), "record 2 (NC_2.1): has no sequence"),
        (lambda text: text.replace("ORIGIN", "CONTIG      join(AB1.1:1..81)\nORIGIN", 1).split("ORIGIN")[0] + "//\n",
         "record 2"),
        (lambda text: text.replace("1 ccatggctga", "1 ccatg*ctga"), "record 2 (NC_2.1): '*' at position 6"),
        (lambda text: text.replace("3..71\n", f"3..71\n{'':21}/transl_table=77\n"),
         "a coding sequence has the genetic code '77', which is none of NCBI's"),
        (lambda text: text.replace(" 81 bp", " 99 bp"), "record 2: this record cannot be read"),
    ],
)  # fmt: skip
def test_bad_records_are_named(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    path = write(tmp_path / "x.gb", genbank_text() + change(genbank_text("NC_2.1")))
    with pytest.raises(InputError) as error:
        list(read_genbank(path))
    assert message in str(error.value)
    assert path in str(error.value)


def test_a_file_cut_anywhere_is_never_read_as_a_whole_one(tmp_path: Path) -> None:
    text = genbank_text() + genbank_text("NC_2.1")
    end_of_first = text.index("//") + 2
    for cut in [*range(1, len(text) - 3, 7), text.index("//") + 2, text.index("//") + 3]:
        path = write(tmp_path / "x.gb", text[:cut])
        try:
            n_records = len(list(read_genbank(path)))
        except InputError:
            continue
        assert (n_records, cut in (end_of_first, end_of_first + 1)) == (1, True)  # cut just behind the first record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("LOCUS", "LQCUS"), "1 records could be read, but 2 end in this file"),
        (lambda text: text[:3], "text after the last end"),
    ],
)
def test_a_record_that_would_be_passed_over(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    path = write(tmp_path / "x.gb", genbank_text() + change(genbank_text("NC_2.1")))
    with pytest.raises(InputError, match=message):
        list(read_genbank(path))


def test_rubbish(tmp_path: Path) -> None:
    rng = random.Random(1)
    text = genbank_text()
    for _ in range(60):
        data = bytearray(text.encode())
        for _ in range(rng.randint(1, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path = tmp_path / "x.gb"
        path.write_bytes(bytes(data))
        try:
            list(read_genbank(str(path)))
        except InputError as error:
            assert "x.gb" in str(error)
    path.write_bytes(gzip.compress(text.encode())[:-30])
    with pytest.raises(InputError):
        list(read_genbank(str(path)))


def test_without_biopython_the_message_is_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_bio(name: str, *rest: object, **more: object) -> object:
        if name.split(".")[0] == "Bio":
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", no_bio)
    with pytest.raises(MissingExtraError, match=r"pip install 'seqassay\[train\]'"):
        list(read_genbank(write(tmp_path / "x.gb", genbank_text())))


def test_looking_frames_up_agrees_with_plain_search() -> None:
    rng = random.Random(2)
    proteins = tuple("".join(rng.choices("ACDE", k=rng.randint(1, 60))).encode() for _ in range(40))
    frames = []
    for _ in range(500):
        protein = rng.choice(proteins).decode()
        start = rng.randrange(len(protein))
        part = protein[start : start + rng.randint(1, 30)]
        frames.append(part if rng.random() < 0.5 else part + rng.choice("ACDEK"))
    expected = [any(frame.encode() in protein for protein in proteins) for frame in frames]
    found = AnnotatedProteins(proteins).contain(Ragged.from_bytes(frame.encode() for frame in frames))
    assert found.tolist() == expected
    assert 50 < np.count_nonzero(found) < 450
    assert not AnnotatedProteins(()).contain(Ragged.from_bytes([b"M", b"MADKVHNWAD"])).any()
