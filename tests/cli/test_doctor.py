"""`seqassay doctor`: passes on this machine, and names what is wrong on a broken one."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import exit_code

from seqassay.models.bundle import load_bundle
from seqassay.predict import doctor
from seqassay.predict.doctor import (
    KNOWN_ANSWER_FILE,
    as_record,
    check_known_answer,
    examine,
    read_known_answer,
    record_known_answer,
)


@pytest.fixture
def installed(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle with its known answer beside it, and an empty cache."""
    monkeypatch.setenv("SEQASSAY_HOME", str(tmp_path / "cache"))
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundles" / "tiny")
    assert record_known_answer(load_bundle(folder)) == tmp_path / "bundles" / KNOWN_ANSWER_FILE
    return folder


def failed(checks: list[doctor.Check]) -> list[str]:
    return [check.name for check in checks if check.status == "failed"]


def test_all_is_well_here(installed: Path) -> None:
    checks = examine(str(installed))
    assert failed(checks) == []
    names = [check.name for check in checks]
    for expected in ("python", "libraries", "cpu", "kernels on cpu", "cache", "known answer on cpu, exact"):
        assert expected in names
    record = as_record(checks)
    assert record["ok"] is True
    assert json.loads(json.dumps(record)) == record


def test_the_embedded_bundle_has_its_known_answer() -> None:
    """After a new training: python -c 'from seqassay.predict.doctor import *; record_known_answer()'."""
    bundle = load_bundle("mini")
    scores = read_known_answer(bundle)
    assert len(scores) > 5
    assert scores.std() > 0.01, "an answer that is the same for every frame would show nothing"
    assert "within" in check_known_answer(bundle, "cpu", "float32")


def test_another_number_fails(installed: Path) -> None:
    path = installed.parent / KNOWN_ANSWER_FILE
    said = json.loads(path.read_text())
    said["scores"][3][1] += 0.01
    path.write_text(json.dumps(said))
    checks = examine(str(installed))
    assert failed(checks)[:2] == ["known answer on cpu, float32", "known answer on cpu, exact"]
    assert "differ by up to 0.01" in next(check.detail for check in checks if check.status == "failed")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said.update(digest="0" * 64), "is for the bundle 000"),
        (lambda said: said["scores"].pop(), "frames were found"),
        (lambda said: said.pop("scores"), "holds no scores"),
        (lambda said: said.update(scores=[[float("nan")] * 2] * len(said["scores"])), "differ by up to nan"),
    ],
)
def test_a_known_answer_of_something_else_fails(
    installed: Path, change: Callable[[dict[str, object]], object], message: str
) -> None:
    path = installed.parent / KNOWN_ANSWER_FILE
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))
    details = [check.detail for check in examine(str(installed)) if check.status == "failed"]
    assert details
    assert all(message in detail for detail in details)


def test_a_missing_known_answer_fails(installed: Path) -> None:
    (installed.parent / KNOWN_ANSWER_FILE).unlink()
    assert failed(examine(str(installed)))


def test_a_flipped_byte_in_the_bundle_fails(installed: Path) -> None:
    path = installed / "head.safetensors"
    data = bytearray(path.read_bytes())
    data[-2] ^= 4
    path.write_bytes(data)
    checks = examine(str(installed))
    assert failed(checks) == [f"bundle {installed}"]
    assert "head.safetensors" in next(check.detail for check in checks if check.status == "failed")


def test_a_cache_that_cannot_be_written_fails(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("seqassay.predict.doctor.tempfile.TemporaryFile", refuse)
    checks = examine(str(installed))
    assert failed(checks) == ["cache"]
    assert "SEQASSAY_HOME" in next(check.hint for check in checks if check.name == "cache")


def test_the_cache_check_leaves_nothing_behind(installed: Path, tmp_path: Path) -> None:
    examine(str(installed))
    assert not (tmp_path / "cache").exists()


def test_missing_packages(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LIBRARIES", (*doctor.LIBRARIES, "no-such-library"))
    monkeypatch.setattr(doctor, "EXTRAS", {"h5": ("no_such_module",)})
    checks = {check.name: check for check in examine(str(installed))}
    assert checks["libraries"].status == "failed"
    assert "no-such-library" in checks["libraries"].detail
    assert checks["extra h5"].status == "note"
    assert checks["extra h5"].hint == "pip install 'seqassay[h5]'"


def test_every_extra_but_that_for_development_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = set(importlib.metadata.metadata("seqassay").get_all("Provides-Extra") or ())
    assert set(doctor.EXTRAS) == declared - {"dev"}


def test_a_missing_scan_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    original = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ruptures" else original(name))
    scan = next(check for check in doctor.check_extras() if check.name == "extra scan")
    assert (scan.status, scan.detail) == ("note", "not installed: ruptures")
    assert scan.hint == "pip install 'seqassay[scan]'"


def test_an_unsupported_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.python_version_tuple", lambda: ("3", "9", "1"))
    assert doctor.check_python().status == "failed"


def test_a_broken_imported_bundle_is_reported(installed: Path, tmp_path: Path) -> None:
    broken = tmp_path / "cache" / "bundles" / "broken"
    broken.mkdir(parents=True)
    (broken / "bundle.json").write_text("{}")
    assert failed(examine(str(installed))) == ["bundle broken"]


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_prints_its_findings_and_fails_with_1(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("SEQASSAY_HOME", str(tmp_path))
    findings = [doctor.Check("python", "ok", "3.11"), doctor.Check("cache", "failed", "[no] room", "buy a disk")]
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    assert exit_code(monkeypatch, "doctor", *(["--json"] if as_json else [])) == 1
    out, err = capsys.readouterr()
    assert "1 of 2 checks failed: cache" in err
    if as_json:
        assert json.loads(out)["ok"] is False
    else:
        assert "FAILED cache: [no] room" in out
        assert "buy a disk" in out
