"""`lm compare`: columns, order and marks on tables of a few runs; whole commands on real records."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Run, in_process

from seqassay.errors import UsageError
from seqassay.prove.lm_compare.settings import LmCompareSettings
from seqassay.prove.lm_compare.sources import ComparedRun
from seqassay.prove.lm_compare.table import make_table

TEXT = "The cat sat on the mat.\nIt saw the hat and the bat.\n" * 20
LATIN = {"valid": {"tokenizer": "a", "text": "t", "windows": "w"}, "latency": {"shape": "1x8", "machine": "m"}}


def a_run(name: str, basis: dict[str, dict[str, str]] | None = None, **figures: float | str | None) -> ComparedRun:
    return ComparedRun(name, "evaluation", f"runs/{name}", figures, LATIN if basis is None else basis)


def table(runs: list[ComparedRun], **options: object):  # type: ignore[no-untyped-def]
    return make_table(runs, LmCompareSettings(runs=("any",), **options))  # type: ignore[arg-type]


class TestOrder:
    runs = (a_run("b", valid_loss=2.0), a_run("a", valid_loss=None), a_run("c", valid_loss=1.5), a_run("d", seed=1))

    @pytest.mark.parametrize(
        ("options", "order"),
        [
            ({"sort": "valid_loss"}, "cbad"),
            ({"sort": "valid_loss", "descending": True}, "bcad"),  # what lacks it stays last
            ({"sort": "name"}, "abcd"),
            ({"sort": "name", "descending": True}, "dcba"),
            ({"columns": ("valid_loss",)}, "cbad"),
        ],
    )
    def test_by(self, options, order):
        assert "".join(row.name for row in table(self.runs, **options).rows) == order

    def test_a_metric_that_no_run_has(self):
        with pytest.raises(UsageError, match="no run has a metric 'valid_los'\ndid you mean valid_loss"):
            table(self.runs, sort="valid_los")

    def test_other_names_of_a_metric_are_understood(self):
        assert table([a_run("a", valid_token_perplexity=9.0)], sort="valid_perplexity").sort == "valid_token_perplexity"

    def test_what_runs_are_ordered_by_is_shown(self):
        assert table(self.runs, sort="seed", columns=("valid_loss",)).columns == ["seed", "valid_loss"]

    def test_all_columns_and_the_usual_ones(self):
        run = a_run("a", d_model=64, valid_bits_per_byte=1.2, parameters=9)
        assert table([run], columns=("all",)).columns == ["d_model", "valid_bits_per_byte", "parameters"]
        assert table([run]).columns == ["parameters", "valid_bits_per_byte"]
        assert table([run]).sort == "valid_bits_per_byte"

    def test_status_is_shown_where_a_run_was_not_finished(self):
        done, killed = a_run("a", status="done", seed=1), a_run("b", status="killed", seed=1)
        assert table([done, done]).columns == ["seed"]
        assert table([done, killed]).columns == ["status", "seed"]


class TestMarks:
    def marks(self, other: dict[str, dict[str, str]], column: str) -> list[str]:
        figures = {"valid_token_perplexity": 9.0, "valid_bits_per_byte": 1.0, "latency_mean_ms": 3.0}
        runs = [a_run("a", **figures), a_run("b", **figures), a_run("c", other, **figures)]
        return [row.marks.get(column, "") for row in table(runs, sort="name").rows]

    @pytest.mark.parametrize(
        ("change", "per_token", "per_byte"),
        [
            ({"tokenizer": "b"}, "†", ""),
            ({"text": "u"}, "‡", "‡"),
            ({"windows": "v"}, "§", "§"),
            ({"tokenizer": "b", "text": "u"}, "†‡", "‡"),
        ],
    )
    def test_of_a_split(self, change, per_token, per_byte):
        other = {"valid": LATIN["valid"] | change}
        assert self.marks(other, "valid_token_perplexity") == ["", "", per_token]
        assert self.marks(other, "valid_bits_per_byte") == ["", "", per_byte]

    def test_of_speed(self):
        assert self.marks({"latency": {"shape": "1x9", "machine": "n"}}, "latency_mean_ms") == ["", "", "*¶"]

    def test_what_is_not_known_is_not_marked(self):
        assert self.marks({"valid": {"tokenizer": "a"}}, "valid_token_perplexity") == ["", "", ""]

    def test_another_text_is_not_said_to_compare_by_bytes(self):
        other = {"valid": {"tokenizer": "b", "text": "u", "windows": "w"}}
        figures = {"valid_token_perplexity": 9.0, "valid_bits_per_byte": 1.0}
        (note,) = table([a_run("a", **figures), a_run("b", other, **figures)]).notes
        assert note == "valid_token_perplexity does not rank models with different tokenizers"

    def test_an_order_over_two_tokenizers_says_what_would_do(self):
        other = {"valid": LATIN["valid"] | {"tokenizer": "b"}}
        runs = [
            a_run("a", valid_token_perplexity=9.0, valid_bits_per_byte=1.0),
            a_run("b", other, valid_token_perplexity=8.0),
        ]
        (note,) = table(runs).notes
        assert note.endswith("valid_bits_per_byte does (--sort valid_bits_per_byte)")


class TestSettings:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"html": Path("metrics.json")}, "--html is metrics.json; its name ends in .html or .htm"),
            ({"markdown": Path("a.txt")}, "--markdown is a.txt"),
            ({"runs": ()}, "no run"),
        ],
    )
    def test_are_refused(self, options, message):
        with pytest.raises(UsageError, match=re.escape(message)):
            LmCompareSettings(**{"runs": ("a",), **options})


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two evaluations with tokenizers of their own, and a training."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("train.txt").write_text(TEXT)
        Path("valid.txt").write_text(TEXT[:200])
        run = in_process(patch, _NoCapture())
        shape = ["--d-model", 16, "--n-layers", 1, "--n-heads", 2]
        for name, how in (("small", ["--vocab-size", 260]), ("large", ["--vocab-size", 268])):
            assert run("lm", "data", "build", "train=train.txt", "valid=valid.txt", *how, "-o", name)[0] == 0
            words = ["--tokenizer", f"{name}/tokenizer.json", *shape, "--context", 16, "-o", f"{name}-model"]
            assert run("lm", "build", *words)[0] == 0
            assert (
                run(
                    "lm",
                    "evaluate",
                    f"{name}-model",
                    name,
                    "-o",
                    f"{name}-scored",
                    "--device",
                    "cpu",
                    "--skip-profiling",
                )[0]
                == 0
            )
        steps = ["--context", 16, "--batch", 4, "--steps", 4, "--evaluate-every", 2, "--device", "cpu"]
        assert run("lm", "train", "small", "-o", "trained", *shape, *steps)[0] == 0
    return folder


class _NoCapture:
    """Stands for ``capsys`` in a fixture of a module."""

    def readouterr(self) -> tuple[str, str]:
        return "", ""


@pytest.fixture
def run(evaluated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(evaluated)
    return in_process(monkeypatch, capsys)


class TestCommand:
    def test_evaluations_and_a_training_in_every_form(self, run: Run, tmp_path: Path) -> None:
        files = [tmp_path / f"runs.{ending}" for ending in ("md", "html", "csv")]
        options = ["--markdown", files[0], "--html", files[1], "--csv", files[2]]
        runs = ["large-scored", "small-scored", "trained/training.json"]
        code, shown, errors = run("lm", "compare", *runs, "--sort", "valid_bits_per_byte", *options)
        assert code == 0, errors
        lines = shown.splitlines()
        assert "valid_bits_per_byte ▲" in lines[0]
        assert lines[3].startswith("trained ")  # has no bits per byte
        with files[2].open(newline="") as file:
            rows = list(csv.DictReader(file))
        said = {name: json.loads(Path(f"{name}/metrics.json").read_text())["standard"] for name in runs[:2]}
        assert [row["name"] for row in rows] == [
            *sorted(said, key=lambda name: said[name]["valid_bits_per_byte"]), "trained",
        ]  # fmt: skip
        for row in rows[:2]:
            assert float(row["valid_token_perplexity"]) == said[row["name"]]["valid_perplexity"]
        assert rows[2]["valid_bits_per_byte"] == "" and float(rows[2]["training_dev_perplexity"]) > 1
        marked = next(row for row in rows if row["name"] == "small-scored")
        assert marked["not_comparable"].startswith("valid_token_perplexity: another tokenizer than most")
        assert "valid_bits_per_byte:" not in marked["not_comparable"]
        assert "| trained |" in files[0].read_text()
        page = files[1].read_text()
        script = re.search("<script>(.*)</script>", page, re.DOTALL)
        assert script is not None
        digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in page  # the browser runs no other
        assert 'data-key=""' in page

    def test_files_that_are_there_are_kept(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "runs.csv"
        path.write_text("mine")
        code, _, errors = run("lm", "compare", "trained", "--csv", path)
        assert code == 2 and "is there already" in errors and path.read_text() == "mine"
        assert run("lm", "compare", "trained", "--csv", path, "--force")[0] == 0
        assert path.read_text().startswith("name,kind,place,parameters,")

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["trained", "trained"], "trained: is the same record as trained"),
            (["nowhere"], "nowhere: cannot be read"),
            (["small"], "small: holds none of metrics.json"),
            (["train.txt"], "train.txt: is no whole record"),
            (["small/manifest.json"], "is no record of a known kind"),
            (["trained", "--columns", "loss"], "no run has a metric 'loss'"),
        ],
    )
    def test_what_is_refused(self, run: Run, words: list[str], message: str) -> None:
        code, _, errors = run("lm", "compare", *words)
        assert (code, message in errors) == (2, True), errors

    def test_a_record_with_an_impossible_figure(self, run: Run, tmp_path: Path, edit: Callable[..., Path]) -> None:
        path = edit(
            "small-scored/metrics.json", lambda said: said["splits"]["valid"]["values"]["loss"].update(value=-1)
        )
        code, _, errors = run("lm", "compare", path)
        assert code == 2 and "metrics.json: splits.valid.values.loss" in errors

    def test_a_record_that_was_cut_short(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "metrics.json"
        path.write_bytes(Path("small-scored/metrics.json").read_bytes()[:900])
        code, _, errors = run("lm", "compare", path)
        assert code == 2 and "is no whole record" in errors

    def test_runs_of_one_name_are_told_apart_by_their_place(
        self, run: Run, tmp_path: Path, edit: Callable[..., Path]
    ) -> None:
        other = edit("trained/training.json", lambda said: said["training"].update(wall_s=1.0))
        (tmp_path / "trained").mkdir()
        other.rename(tmp_path / "trained" / "training.json")
        _, shown, _ = run("lm", "compare", "trained", tmp_path / "trained")
        names = [line.split("  ")[0] for line in shown.splitlines()[1:3]]
        assert sorted(names) == sorted(["trained", f"{tmp_path.name}/trained"])


@pytest.fixture
def edit(evaluated: Path, tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, change: Callable[[dict[str, object]], object]) -> Path:
        said = json.loads((evaluated / name).read_text())
        change(said)
        path = tmp_path / Path(name).name
        path.write_text(json.dumps(said))
        return path

    return write
