"""From files to a folder: counts that add up, the same bytes again, whole or not at all."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seqassay.cli.dataset import summary_lines
from seqassay.errors import InputError, ResourceError, UsageError
from seqassay.train import dataset_folder
from seqassay.train.dataset import read_labelled
from seqassay.train.dataset_build import BuildSettings, build_dataset
from seqassay.train.dataset_chunks import ChunkRule

GROUPS = (("viral", "virus"), ("viral", "phage"), ("other", "human"), ("other", "bacteria"))


def write_source(path: Path, *, n_taxa: int = 12, split: str = "", seed: int = 1, length: int = 900) -> Path:
    """Labelled records of some taxa a group, two pieces each."""
    rng = random.Random(seed)
    lines = []
    for label, group in GROUPS:
        for taxon in range(n_taxa):
            for piece in range(2):
                name = f"{group}{seed}_{taxon}:{piece * 1000 + 1}-{piece * 1000 + length}"
                bases = "".join(
                    rng.choices(["ATG", "GCC", "AAA", "GAC", "TAA", "N"], [30, 30, 30, 30, 1, 0.2], k=length // 3)
                )
                of_split = f" split={split}" if split else ""
                fields = f'label={label} group={group} taxon="{group} {taxon}" family="f {taxon // 2}"{of_split}'
                lines.append(f">{name} {fields}\n{bases}\n")
    path.write_bytes(gzip.compress("".join(lines).encode()) if path.suffix == ".gz" else "".join(lines).encode())
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source.fa")


def settings(tmp_path: Path, *inputs: object, **more: Any) -> BuildSettings:
    defaults: dict[str, Any] = {"split_by": "taxon", "rule": ChunkRule(300)}
    return BuildSettings(tuple(map(str, inputs)), tmp_path / "out", **{**defaults, **more})


def totals(counts: dict[str, Any]) -> dict[str, int]:
    entries = [entry for labels in counts.values() for groups in labels.values() for entry in groups.values()]
    return {key: sum(entry[key] for entry in entries) for key in ("records", "chunks", "bases")}


def check_sums(manifest: dict[str, Any]) -> None:
    kept = totals(manifest["counts"])
    left_out = manifest["left_out_records"].values()
    assert manifest["input"]["records"] == kept["records"] + sum(entry["records"] for entry in left_out)
    if manifest["unit"] == "chunks":
        left_out = manifest["left_out_chunks"].values()
        assert manifest["cut"]["chunks"] == kept["chunks"] + sum(entry["chunks"] for entry in left_out)
        assert manifest["cut"]["bases"] == kept["bases"] + sum(entry["bases"] for entry in left_out)


@pytest.mark.parametrize("chunk_length", [300, 500, 47, None])
@pytest.mark.parametrize("balance", [(), ("train",), ("train", "valid", "test")])
def test_what_is_written_is_what_the_manifest_says(
    tmp_path: Path, source: Path, chunk_length: int | None, balance: tuple[str, ...]
) -> None:
    manifest = build_dataset(settings(tmp_path, source, rule=ChunkRule(chunk_length), balance=balance))
    out = tmp_path / "out"
    assert json.loads((out / "dataset.json").read_text()) == manifest
    assert (manifest["format"], manifest["version"]) == ("seqassay-dataset", 1)
    assert manifest["chunk_length"] == chunk_length
    assert sorted(path.name for path in out.iterdir()) == ["dataset.json", "test.fa.gz", "train.fa.gz", "valid.fa.gz"]
    check_sums(manifest)
    for split, labels in manifest["counts"].items():
        path = out / f"{split}.fa.gz"
        assert manifest["files"][path.name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        records = read_labelled(path)
        assert len(records) == sum(entry["chunks"] for groups in labels.values() for entry in groups.values())
        for label, groups in labels.items():
            for group, entry in groups.items():
                of_group = (records.groups == group) & (records.labels == (label == "viral"))
                assert of_group.sum() == entry["chunks"]
                assert records.bases.lengths[of_group].sum() == entry["bases"]
        assert len(set(records.ids)) == len(records)
        if balance and chunk_length and split in balance:
            n_viral = int(records.labels.sum())
            assert n_viral == len(records) - n_viral
    assert manifest["left_out_records"].keys() <= {"no_chunk_left"}


def test_chunks_are_where_their_headers_say(tmp_path: Path, source: Path) -> None:
    build_dataset(settings(tmp_path, source))
    originals = {}
    for part in source.read_text()[1:].split("\n>"):
        header, bases = part.strip().split("\n")
        originals[header.split()[0]] = bases
    n_chunks = 0
    for path in (tmp_path / "out").glob("*.fa.gz"):
        for part in gzip.decompress(path.read_bytes()).decode()[1:].split("\n>"):
            header, bases = part.strip().split("\n")
            name, fields = header.split()[0], dict(f.split("=", 1) for f in header.split() if "=" in f)
            start = int(fields["start"])
            assert originals[fields["record"]][start : start + len(bases)] == bases
            assert name.startswith(f"{fields['record']}_chunk_")
            assert fields["genome"] == fields["record"].split(":")[0]
            assert len(bases) == 300
            n_chunks += 1
    assert n_chunks > 100


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, source: Path) -> None:
    first = settings(tmp_path, source, balance=("train",))
    build_dataset(first)
    before = {path.name: path.read_bytes() for path in first.output_dir.iterdir()}
    time.sleep(1.1)  # a time in a gzip header would differ now
    build_dataset(replace(first, force=True))
    assert {path.name: path.read_bytes() for path in first.output_dir.iterdir()} == before
    build_dataset(replace(first, force=True, seed=7))
    assert (first.output_dir / "train.fa.gz").read_bytes() != before["train.fa.gz"]


def test_whole_records_can_be_built_from_again(tmp_path: Path, source: Path) -> None:
    first = build_dataset(settings(tmp_path, source, rule=ChunkRule(None)))
    inputs = [f"split={split}:{tmp_path / 'out' / split}.fa.gz" for split in ("train", "valid", "test")]
    again = BuildSettings(tuple(inputs), tmp_path / "again", rule=ChunkRule(None))
    assert build_dataset(again)["counts"] == first["counts"]
    assert (tmp_path / "again" / "test.fa.gz").read_bytes() == (tmp_path / "out" / "test.fa.gz").read_bytes()


def test_given_splits_and_what_is_left_out_of_them(tmp_path: Path) -> None:
    paths = [
        write_source(tmp_path / f"{s}.fa.gz", split=s, seed=i) for i, s in enumerate(("train", "valid", "none"), 1)
    ]
    manifest = build_dataset(settings(tmp_path, *paths, split_by=None))
    assert list(manifest["counts"]) == ["train", "valid"]
    assert manifest["left_out_records"]["split_none"]["records"] == 96
    assert manifest["split"] == {"rule": "given"}
    check_sums(manifest)


def test_groups_can_be_chosen(tmp_path: Path, source: Path) -> None:
    manifest = build_dataset(settings(tmp_path, source, groups=("virus", "human")))
    assert manifest["left_out_records"]["group_not_chosen"]["records"] == 48
    check_sums(manifest)
    with pytest.raises(UsageError, match="no record is of the group 'fungi'"):
        build_dataset(settings(tmp_path, source, groups=("fungi",), force=True))


def test_a_table_labels_what_has_no_label(tmp_path: Path) -> None:
    rng = random.Random(4)
    names = [f"s{i}" for i in range(40)]
    fasta = tmp_path / "plain.fa"
    fasta.write_text("".join(f">{name}\n{''.join(rng.choices('ACGT', k=300))}\n" for name in names))
    table = tmp_path / "table.csv"
    rows = [f"{name},{'viral' if i % 2 else 'other'},g{i % 2},taxon {i}" for i, name in enumerate(names)]
    table.write_text("\n".join(["id,label,group,taxon", *rows, "gone,viral,g,t"]) + "\n")
    manifest = build_dataset(settings(tmp_path, fasta, table=str(table), rule=ChunkRule(None)))
    assert totals(manifest["counts"])["records"] == 40
    assert manifest["table_rows_without_record"] == 1
    assert manifest["table"]["sha256"] == hashlib.sha256(table.read_bytes()).hexdigest()


def test_splits_by_a_study_table(tmp_path: Path, source: Path) -> None:
    table = tmp_path / "splits.tsv"
    rows = [f"{group} {taxon}\t{('train', 'valid', 'test')[taxon % 3]}" for _, group in GROUPS for taxon in range(12)]
    table.write_text("\n".join(["taxon\tsplit", *rows]) + "\n")
    manifest = build_dataset(settings(tmp_path, source, split_by=None, split_table=str(table), rule=ChunkRule(None)))
    assert {s: totals({s: c})["records"] for s, c in manifest["counts"].items()} == {
        "train": 32, "valid": 32, "test": 32
    }  # fmt: skip
    assert manifest["split"]["table"]["sha256"] == hashlib.sha256(table.read_bytes()).hexdigest()


def test_near_duplicates_across_splits(tmp_path: Path) -> None:
    rng = random.Random(5)
    common = "".join(rng.choices("ACGT", k=900))
    for split in ("train", "test"):
        lines = [
            f">{split}{i} label={'viral' if i % 2 else 'other'}\n{''.join(rng.choices('ACGT', k=900))}\n"
            for i in range(6)
        ]
        lines.append(f">{split}_twin label=viral\n{common}{'A' if split == 'test' else 'C'}\n")
        (tmp_path / f"{split}.fa").write_text("".join(lines))
    inputs = [f"split={split}:{tmp_path / split}.fa" for split in ("train", "test")]
    one = settings(tmp_path, *inputs, split_by=None, rule=ChunkRule(None))
    with pytest.raises(InputError, match=r"test_twin \(test\): 100% of"):
        build_dataset(one)
    assert not one.output_dir.exists()
    manifest = build_dataset(replace(one, drops_near_duplicates=True))
    assert manifest["left_out_records"]["near_duplicate"]["records"] == 1
    assert manifest["near_duplicates"]["worst"][0]["id"] == "test_twin"
    check_sums(manifest)
    assert "train_twin" not in read_labelled(one.output_dir / "train.fa.gz").ids


def test_a_record_without_a_label_is_named(tmp_path: Path, source: Path) -> None:
    bare = tmp_path / "bare.csv"
    bare.write_text("id,sequence\na,ACGTACGTACGT\n")
    with pytest.raises(InputError, match=r"bare\.csv, record 1 \(a\): has no label") as error:
        build_dataset(settings(tmp_path, source, bare))
    assert "label=viral:FILE" in error.value.hint


def test_records_of_one_label_are_refused_whatever_the_split_rule(tmp_path: Path, source: Path) -> None:
    one = settings(tmp_path, source, groups=("phage", "virus"))
    with pytest.raises(InputError, match="all 48 records have the label viral"):
        build_dataset(one)
    given = write_source(tmp_path / "given.fa", split="train")
    with pytest.raises(InputError, match=r"the split train holds records of one label only \(viral\); left out: 48"):
        build_dataset(replace(settings(tmp_path, given, groups=("phage", "virus")), split_by=None))


def test_a_genbank_record_without_features_is_named(tmp_path: Path) -> None:
    from test_dataset_genbank import genbank_text

    path = tmp_path / "x.gb"
    path.write_text(genbank_text() + genbank_text("NC_2.1", features="") + genbank_text("NC_3.1", features=""))
    message = r"x\.gb, record 2 \(NC_2\.1\): has no annotated protein \(no CDS\).*\(2 such records\)"
    with pytest.raises(InputError, match=message) as error:
        build_dataset(settings(tmp_path, path))
    assert "--skip-unannotated" in error.value.hint


def test_a_genome_in_two_splits(tmp_path: Path) -> None:
    write_source(tmp_path / "a.fa", split="train")
    write_source(tmp_path / "b.fa", split="train", seed=2)
    text = (tmp_path / "b.fa").read_text().replace("human2_3:1001", "human1_3:5001").replace("train", "test")
    (tmp_path / "b.fa").write_text(text)
    one = settings(tmp_path, tmp_path / "a.fa", tmp_path / "b.fa", split_by=None)
    with pytest.raises(InputError, match=r"the genome human1_3 is in two splits: here test, and train in .*a\.fa"):
        build_dataset(one)
    manifest = build_dataset(replace(one, drops_shared_genomes=True))
    assert manifest["left_out_records"]["genome_in_a_later_split"]["records"] == 2
    check_sums(manifest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": ()}, "no input given"),
        ({"split_by": None}, "is in no split"),
        ({"split_table": "x.tsv"}, "not both"),
        ({"split_by": "family", "groups": ("virus",)}, "all 24 records have the label viral"),
        ({"sketch_scale": 0}, "the sketch scale is 0"),
        ({"fractions": {"train": 0.999, "valid": 0.0005, "test": 0.0005}, "groups": ("virus", "human")}, "is empty"),
        ({"balance": ("dev",)}, "no split is called 'dev'"),
        ({"max_shared": 1.5}, "--max-shared is 1.5"),
        ({"seed": -1}, "the seed is -1"),
        ({"rule": ChunkRule(300, genetic_code=99)}, "unknown genetic code 99"),
        ({"rule": ChunkRule(300, "annotated")}, "is not from GenBank"),
    ],
)
def test_settings_that_cannot_work(tmp_path: Path, source: Path, change: dict[str, Any], message: str) -> None:
    one = replace(settings(tmp_path, source), **change)
    with pytest.raises((UsageError, InputError)) as error:
        build_dataset(one)
    assert message in str(error.value)
    assert error.value.exit_code == 2
    assert not one.output_dir.exists()


def test_a_split_that_ends_up_empty(tmp_path: Path) -> None:
    path = write_source(tmp_path / "x.fa", n_taxa=2)
    with pytest.raises(InputError, match="is empty"):
        build_dataset(settings(tmp_path, path, split_by="family"))


@pytest.mark.parametrize("how", ["genomes", "near-duplicates"])
def test_a_split_whose_records_are_all_dropped(tmp_path: Path, how: str) -> None:
    """Dropping makes no dataset without a training set."""
    train = write_source(tmp_path / "train.fa", n_taxa=2, split="train")
    test = tmp_path / "test.fa"
    text = train.read_text().replace("split=train", "split=test")
    if how == "near-duplicates":  # of other genomes, and a base longer
        text = re.sub(r"\n(?=[A-Z])", "\nC", re.sub(r">(\S+)", r">\1x", text))
    test.write_text(text)
    one = settings(
        tmp_path, train, test, split_by=None, drops_shared_genomes=how == "genomes", drops_near_duplicates=True
    )
    reason = "genome in a later split" if how == "genomes" else "near duplicate"
    with pytest.raises(InputError, match=rf"the split train is empty; left out: 16 records \({reason}\)"):
        build_dataset(one)
    assert not one.output_dir.exists()


def test_a_split_that_loses_its_chunks_says_why(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    stops = "TAATTAATTAACTAACTAGCTAGATAG" * 40  # a stop in all six frames
    plain = write_source(path, split="train").read_text()
    path.write_text(plain + f">a label=viral split=test\n{stops}\n>b label=other split=test\nG{stops}\n")
    with pytest.raises(InputError, match=r"the split test is empty; left out: .*chunks \(no stop free frame\)"):
        build_dataset(settings(tmp_path, path, split_by=None))


def test_no_record_left(tmp_path: Path) -> None:
    path = write_source(tmp_path / "x.fa", split="none")
    for split_by in (None, "taxon"):
        with pytest.raises(InputError, match=r"; left out: 96 records \(split none\)"):
            build_dataset(settings(tmp_path, path, split_by=split_by))


def test_names_in_two_splits_are_counted(tmp_path: Path, source: Path) -> None:
    """Genomes are apart; what else the splits share decides what a test says, and is in the manifest."""
    assert build_dataset(settings(tmp_path, source))["in_two_splits"]["taxon"] == 0
    of_genomes = replace(settings(tmp_path, source, split_by="genome"), output_dir=tmp_path / "genomes")
    shared = build_dataset(of_genomes)["in_two_splits"]
    assert shared["family"] > 0
    assert shared["study"] == 0
    assert "families (no genome)" in "\n".join(
        summary_lines(json.loads((tmp_path / "genomes/dataset.json").read_text()))
    )


def test_nothing_foreign_is_ever_replaced(tmp_path: Path, source: Path) -> None:
    one = settings(tmp_path, source)
    build_dataset(one)
    with pytest.raises(UsageError, match="exists already"):
        build_dataset(one)
    (one.output_dir / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds notes\.txt, which is no part of a dataset"):
        build_dataset(replace(one, force=True))
    file = tmp_path / "file"
    file.write_text("x")
    for place in (file, file / "below"):
        with pytest.raises(UsageError):
            build_dataset(replace(one, output_dir=place, force=True))
    empty = tmp_path / "empty"
    empty.mkdir()
    build_dataset(replace(one, output_dir=empty))


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = settings(tmp_path, source)
    build_dataset(one)
    before = {path.name: path.read_bytes() for path in one.output_dir.iterdir()}

    def full(self: object, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(dataset_folder.gzip.GzipFile, "write", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        build_dataset(replace(one, force=True, seed=3))
    assert {path.name: path.read_bytes() for path in one.output_dir.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source.fa"]


def test_a_killed_build_leaves_nothing_under_its_name(tmp_path: Path, source: Path) -> None:
    """Killed within the writing; the next build removes what it left."""
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from seqassay.train import dataset_build\n"
        "write = dataset_build.write_gzip\n"
        "def slow(path, pieces):\n"
        "    digest = write(path, pieces)\n"
        "    print('written', flush=True)\n"
        "    time.sleep(60)\n"
        "dataset_build.write_gzip = slow\n"
        "S = dataset_build.BuildSettings\n"
        f"dataset_build.build_dataset(S(({str(source)!r},), Path({str(tmp_path / 'out')!r}), split_by='taxon'))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"written\n"
    assert (tmp_path / ".out.partial" / "train.fa.gz").is_file()
    with pytest.raises(UsageError, match="another build is writing there"):
        build_dataset(settings(tmp_path, source))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "out").exists()
    build_dataset(settings(tmp_path, source))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source.fa"]


def test_genbank_records_to_annotated_chunks(tmp_path: Path) -> None:
    pytest.importorskip("Bio")
    from test_dataset_genbank import genbank_text  # type: ignore[import-not-found]

    rng = random.Random(6)
    texts = []
    for i in range(12):
        gene = "ATG" + "".join(rng.choices(["GCC", "AAA", "GAC", "CTG"], k=200)) + "TAA"
        bases = "".join(rng.choices("ACGT", k=300)) + gene + "".join(rng.choices("ACGT", k=300))
        lineage = "Viruses; Riboviria; Someviridae." if i % 2 else "Bacteria; Bacillati; Someaceae."
        feature = "" if i == 11 else f"     CDS             301..{300 + len(gene)}\n"
        texts.append(
            genbank_text(f"NC_{i}.1", bases=bases, organism=f"Organism {i}\n            {lineage}", features=feature)
        )
    path = tmp_path / "x.gbff"
    path.write_text("".join(texts))
    fractions = {"train": 0.5, "valid": 0.0, "test": 0.5}
    one = settings(tmp_path, path, fractions=fractions, rule=ChunkRule(100), split_by="genome")
    with pytest.raises(InputError, match=r"x\.gbff, record 12 \(NC_11\.1\): has no annotated protein"):
        build_dataset(one)
    manifest = build_dataset(replace(one, skips_unannotated=True))
    check_sums(manifest)
    assert manifest["left_out_records"]["unannotated"]["records"] == 1
    text = gzip.decompress((one.output_dir / "train.fa.gz").read_bytes()).decode()
    headers = [line for line in text.splitlines() if line.startswith(">")]
    assert all("frames=" in header for header in headers)
    # a gene of 606 bases holds 4 to 6 of the chunks of 100, the intergenic ones are left out
    assert 15 < len(headers) < 45
    assert manifest["left_out_chunks"]["no_stop_free_frame"]["chunks"] > 10
