"""`seqassay models`: what it prints, what it makes, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support import Run, in_process, random_reads, write_fasta

from seqassay.engine.embed import load_encoder
from seqassay.models.bundle import load_bundle
from seqassay.models.registry import bundle_folder, encoder_folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call ``seqassay`` in this process with an empty cache; returns exit code, output, errors."""
    monkeypatch.setenv("SEQASSAY_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return in_process(monkeypatch, capsys)


def pickled_head(tiny_bundle: Path, folder: Path) -> Path:
    path = folder / "300_model.pth"
    torch.save(load_bundle(tiny_bundle).load_head().state_dict(), path)
    return path


def import_words(tiny_bundle: Path, head: Path, name: str = "mine") -> list[str]:
    return [
        "models", "import", "--name", name,
        "--nucleotide", str(tiny_bundle / "nucleotide"),
        "--protein", str(tiny_bundle / "protein"),
        "--head", str(head),
        "--chunk-length", "300",
    ]  # fmt: skip


def test_list_shows_bundles_and_encoders_and_where_they_are(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    assert run(*import_words(tiny_bundle, pickled_head(tiny_bundle, tmp_path)))[0] == 0
    code, out, _ = run("models", "list")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "cached" in lines["mine"]
    assert "not imported" in lines["virnucpro-300"]
    assert "not fetched" in lines["esm2_t36_3B_UR50D"]
    assert "2560" in lines["esm2_t36_3B_UR50D"]
    assert str(tmp_path / "cache") in lines["cache:"]

    code, out, _ = run("models", "list", "--json")
    rows = {row["name"]: row for row in json.loads(out)["models"]}
    assert code == 0
    assert rows["mine"]["where"] == "cached"
    assert rows["mine"]["d_model"] == 72
    assert rows["mine"]["size_bytes"] > 10_000
    assert rows["DNABERT-S"]["n_parameters"] == 116_476_416
    assert rows["DNABERT-S"]["size_bytes"] == 0


def test_list_survives_a_broken_bundle(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    run(*import_words(tiny_bundle, pickled_head(tiny_bundle, tmp_path)))
    (bundle_folder("mine") / "bundle.json").write_text("{}")
    code, out, _ = run("models", "list", "--json")
    assert code == 0
    row = next(row for row in json.loads(out)["models"] if row["name"] == "mine")
    assert "bundle.json" in row["note"]
    assert row["n_parameters"] is None


def test_info_of_a_bundle(run: Run, tiny_bundle: Path) -> None:
    code, out, _ = run("models", "info", str(tiny_bundle), "--json")
    info, bundle = json.loads(out), load_bundle(tiny_bundle)
    assert code == 0
    assert info["digest"] == bundle.digest
    assert (info["nucleotide"]["d_model"], info["protein"]["d_model"], info["head"]["input_dim"]) == (32, 40, 72)
    n_head = sum(parameter.numel() for parameter in bundle.load_head().parameters())
    assert info["n_parameters"] == info["nucleotide"]["n_parameters"] + info["protein"]["n_parameters"] + n_head
    assert info["files"] == dict(bundle.files)
    code, out, _ = run("models", "info", str(tiny_bundle))
    assert code == 0
    assert f"digest: {bundle.digest}" in out


def test_info_of_an_encoder_has_the_digest_that_embeddings_carry(run: Run, tiny_bundle: Path) -> None:
    folder = tiny_bundle / "protein"
    code, out, _ = run("models", "info", str(folder), "--json")
    info = json.loads(out)
    assert code == 0
    assert info["digest"] == load_encoder(folder).digest
    assert (info["class"], info["n_layers"], info["d_model"], info["n_heads"]) == ("esm2", 2, 40, 2)


def test_info_checks_every_byte(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    run(*import_words(tiny_bundle, pickled_head(tiny_bundle, tmp_path)), "--copy")
    path = bundle_folder("mine") / "protein" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    code, _, err = run("models", "info", "mine")
    assert code == 2
    assert str(path) in err
    assert "was changed" in err


def test_an_imported_bundle_scores_like_the_one_it_was_made_of(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    code, out, _ = run(*import_words(tiny_bundle, pickled_head(tiny_bundle, tmp_path)))
    assert code == 0
    assert "predict -m mine" in out
    assert load_bundle("mine").digest == load_bundle(tiny_bundle).digest
    write_fasta(tmp_path / "reads.fa", random_reads(20))
    for model, folder in (("mine", "a"), (str(tiny_bundle), "b")):
        assert run("predict", "-m", model, "--device", "cpu", "reads.fa", "-o", folder)[0] == 0
    assert (tmp_path / "a" / "sequences.tsv").read_bytes() == (tmp_path / "b" / "sequences.tsv").read_bytes()


def test_import_links_unless_told_to_copy(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    head = pickled_head(tiny_bundle, tmp_path)
    original = tiny_bundle / "protein" / "model.safetensors"
    run(*import_words(tiny_bundle, head))
    assert (bundle_folder("mine") / "protein" / "model.safetensors").samefile(original)
    assert run(*import_words(tiny_bundle, head))[0] == 2  # it exists
    assert run(*import_words(tiny_bundle, head), "--copy", "--force")[0] == 0
    assert not (bundle_folder("mine") / "protein" / "model.safetensors").samefile(original)


@pytest.mark.parametrize("name", ["../mine", "a/b", ".hidden", "", "mini", "DNABERT-S"])
def test_names_that_a_bundle_cannot_have(run: Run, tiny_bundle: Path, tmp_path: Path, name: str) -> None:
    code, _, err = run(*import_words(tiny_bundle, pickled_head(tiny_bundle, tmp_path), name))
    assert code == 2
    assert "name" in err
    assert not (tmp_path / "cache").exists()


def test_import_errors(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    head = pickled_head(tiny_bundle, tmp_path)
    words = import_words(tiny_bundle, head)

    def with_option(option: str, value: str) -> list[str]:
        changed = list(words)
        changed[changed.index(option) + 1] = value
        return changed

    for changed, expected in (
        (with_option("--nucleotide", "DNABERT-S"), "models fetch DNABERT-S"),
        (with_option("--protein", "nowhere"), "no such folder or file"),
        (with_option("--head", "nowhere.pth"), "nowhere.pth"),
        (with_option("--chunk-length", "2"), "chunk-length"),
        (with_option("--name", "virnucpro-500"), "chunks of 500 bases"),
        ([*words, "--ambiguity", "N"], "drop or X"),
        ([*words, "--chunk-rule", "odd"], "even or reference"),
        ([*words, "--genetic-code", "99"], "unknown genetic code 99"),
    ):
        code, _, err = run(*changed)
        assert code == 2, err
        assert expected in err
    assert not bundle_folder("mine").exists()


def test_fetch_errors_have_their_exit_codes(run: Run, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    code, _, err = run("models", "fetch", "nonesuch")
    assert (code, "known encoders" in err) == (2, True)
    code, _, err = run("models", "fetch", "virnucpro-300")
    assert (code, "300_model.pth" in err) == (2, True)
    code, _, err = run("models", "fetch", "esm2_t6_8M_UR50D", "--offline")
    assert (code, str(encoder_folder("esm2_t6_8M_UR50D")) in err) == (2, True)
    code, _, err = run("models", "fetch", "esm2_t6_8M_UR50D")
    assert (code, str(encoder_folder("esm2_t6_8M_UR50D")) in err) == (1, True)


def test_unknown_models(run: Run) -> None:
    code, _, err = run("models", "info", "nonesuch")
    assert (code, "no encoder named 'nonesuch'" in err) == (2, True)
    code, _, err = run("models", "info", "virnucpro-300")
    assert (code, "is not installed" in err) == (2, True)
