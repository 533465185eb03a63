"""What a sweep shows: tables, pictures, REPORT.md, page and summary; all of it the record's own figures."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
from sweep_support import AXES, BASELINE, a_grid, a_record, a_run, finals

from seqassay.errors import SeqassayError
from seqassay.prove.sweep import outputs
from seqassay.prove.sweep.outputs import OUTPUTS, PICTURES, write_outputs
from seqassay.prove.sweep.record import check_record
from seqassay.prove.sweep.results import FIGURES, Run
from seqassay.prove.sweep.tables import summarise
from seqassay.report.sweep import sweep_report, sweep_summary
from seqassay.report.sweep_points import groups_along, places
from seqassay.report.sweep_words import change, ranked, spread

BETTER, KILLED, FAILED = "er0.25_glu2.66", "er0.45_glu2.0", "er0.45_glu2.66"


def the_runs(**final: Any) -> list[Run]:
    """The baseline first; one experiment is better, one was killed, one failed."""
    ranking = sorted(a_grid({BETTER: 0.9}), key=lambda run: run.experiment != BASELINE)
    changed = {
        KILLED: {"status": "killed", "why": "kill rule after 1,000,000 tokens"},
        FAILED: {"status": "failed", "why": "step 3: the loss is nan", "figures": {}, "curve": ()},
    }
    ranking = [dataclasses.replace(run, **changed.get(run.experiment, {})) for run in ranking]
    axes = {run.experiment: run.axes for run in ranking}
    return [*ranking, *(dataclasses.replace(run, axes=axes[run.experiment]) for run in finals({BETTER: 0.9}, **final))]


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    found = a_record(the_runs())
    check_record(found)
    return found


class TestSummary:
    def test_mean_and_standard_deviation_of_finished_runs(self) -> None:
        runs = [a_run("a", perplexity=p, seed=s) for s, p in enumerate((40.0, 42.0, 50.0))]
        runs[2] = dataclasses.replace(runs[2], status="killed", why="worse")
        (row,) = summarise(runs)
        assert (row["done"], row["killed"], row["seeds"], row["why"]) == (2, 1, [0, 1], "worse")
        assert row["figures"]["valid_token_perplexity"] == {
            "value": 41.0, "sd": pytest.approx(2**0.5), "min": 40.0, "max": 42.0, "n": 2,
        }  # fmt: skip
        assert row["figures"]["test_loss"] is None

    def test_one_seed_has_no_standard_deviation(self) -> None:
        (row,) = summarise([a_run("a")])
        assert row["figures"]["latency_ms"] == {"value": 5.0, "sd": None, "min": 5.0, "max": 5.0, "n": 1}

    @pytest.mark.parametrize(
        ("value", "sd", "name", "text"),
        [
            (41.234, 0.3217, "valid_token_perplexity", "41.23 ± 0.32"),
            (41.234, None, "valid_token_perplexity", "41.23"),
            (41.234, 12.3, "valid_token_perplexity", "41 ± 12"),
            (3.2e8, 1.24e6, "peak_memory_bytes", "320.0 ± 1.2"),
            (1_000_123.0, None, "parameters", "1,000,123"),
            (8.51e12, 0.0, "training_flop", "8.51"),
            (2.0e7, None, "training_flop", "0.000020"),
        ],
    )
    def test_spread(self, value: float, sd: float | None, name: str, text: str) -> None:
        assert spread({"value": value, "sd": sd, "n": 3}, name) == text

    @pytest.mark.parametrize(
        ("ratio", "text"),
        [(0.92, "8.0% lower"), (1.005, "0.50% higher"), (1.00001, "the same"), (2.0, "100.0% higher")],
    )
    def test_change(self, ratio: float, text: str) -> None:
        assert change(ratio) == text

    def test_a_record_whose_summary_is_not_that_of_its_runs_is_refused(self, record: dict[str, Any]) -> None:
        changed = json.loads(json.dumps(record))
        check_record(changed)
        changed["summary"][0]["figures"]["valid_loss"]["value"] += 0.1
        with pytest.raises(SeqassayError, match="the summary is not that of the runs"):
            check_record(changed)


class TestPoints:
    def test_groups_differ_in_one_axis_alone(self, record: dict[str, Any]) -> None:
        groups = groups_along(record, "embedding_ratio", "ranking")
        assert [(group.name, group.number) for group in groups] == [("glu expansion 2.0", 0), ("glu expansion 2.66", 1)]
        assert [mean[0] for mean in groups[0].means] == [0.25, 0.35]  # 0.45 was killed
        (final,) = groups_along(record, "embedding_ratio", "final")
        assert final.number == 1 and len(final.runs) == 6

    def test_values_that_are_words_stand_one_after_another(self) -> None:
        runs = [a_run(norm, stage="ranking", axes={"norm": norm}, seed=0) for norm in ("rmsnorm", "layernorm")]
        (group,) = groups_along(a_record(runs), "norm", "ranking")
        assert [mean[0] for mean in group.means] == [0.0, 1.0]

    def test_the_front_is_what_nothing_beats_in_both(self) -> None:
        cheap, best, beaten, equal = (
            a_run(name, stage="ranking", perplexity=p, training_flop=flop)
            for name, p, flop in (("cheap", 50, 1e9), ("best", 40, 3e9), ("beaten", 45, 4e9), ("equal", 50, 2e9))
        )
        found = places(a_record([cheap, best, beaten, equal]), "training_flop", "ranking")
        assert [place.experiment for place in found if place.is_on_front] == ["cheap", "best"]

    def test_the_ranking_puts_what_has_no_figure_last(self, record: dict[str, Any]) -> None:
        assert ranked(record)[0]["experiment"] == BETTER
        assert {row["experiment"] for row in ranked(record)[-2:]} == {KILLED, FAILED}


@pytest.fixture(scope="module")
def folder(record: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    write_outputs(record, folder)
    return folder


class TestOutputs:
    def test_all_files_are_there(self, folder: Path) -> None:
        assert {path.name for path in folder.iterdir()} == OUTPUTS
        for name in PICTURES:
            assert (folder / name).read_bytes().startswith(b"\x89PNG")

    def test_results_have_every_run_and_figure(self, folder: Path, record: dict[str, Any]) -> None:
        with (folder / "results.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(record["runs"]) == 12
        assert {*AXES, *FIGURES, "why"} <= set(rows[0])
        for row, run in zip(rows, record["runs"], strict=True):
            found = {name: None if row[name] == "" else float(row[name]) for name in FIGURES}
            assert found == run["figures"] and float(row["glu_expansion"]) == run["axes"]["glu_expansion"]

    def test_the_summary_has_mean_sd_and_n(self, folder: Path, record: dict[str, Any]) -> None:
        with (folder / "summary.csv").open(newline="") as file:
            rows = {(row["stage"], row["experiment"]): row for row in csv.DictReader(file)}
        row, figures = rows["final", BETTER], record["summary"][-1]["figures"]
        assert float(row["valid_token_perplexity_mean"]) == figures["valid_token_perplexity"]["value"]
        assert float(row["valid_token_perplexity_sd"]) == figures["valid_token_perplexity"]["sd"]
        assert (row["valid_token_perplexity_n"], row["test_loss_mean"], row["test_loss_n"]) == ("3", "", "0")
        assert rows["ranking", KILLED]["killed"] == "1"

    def test_the_report_says_what_was_asked_what_ran_and_what_is_decided(
        self, folder: Path, record: dict[str, Any]
    ) -> None:
        text = (folder / "REPORT.md").read_text()
        assert text.startswith(
            f"# Sweep of language models\n\n**{BETTER} replaces the baseline {BASELINE}: perplexity "
        )
        for heading in (
            "What was asked",
            "What ran",
            "Ranking",
            "Why these finalists",
            "Final",
            "Decision",
            "Pictures",
        ):
            assert f"\n## {heading}\n" in text
        assert f"- {FAILED} (ranking, seed 0): failed, step 3: the loss is nan" in text
        assert f"- {KILLED} (ranking, seed 0): killed, kill rule after" in text
        assert "| seeds | 0 (ranking), 1, 2, 3 (final) |" in text
        for digest in ("c0" * 32, "f1" * 32, "bb" * 32):
            assert digest in text
        assert record["provenance"]["command"] in text and "total_params: 1000" in text
        assert all(f"]({name})" in text for name in PICTURES)
        assert not re.search(r"\bnan\b(?!$)|None|inf\b", text.replace("the loss is nan", ""))

    def test_the_page_draws_every_picture_and_its_table(self, folder: Path, record: dict[str, Any]) -> None:
        page = (folder / "report.html").read_text()
        assert page.count("<svg viewBox") > 5 and "Perplexity along embedding ratio, final" in page
        assert record["decision"]["reason"] in page
        assert "Latency (ms) against perplexity, final" in page
        assert "None" not in page and not re.search(r">nan<|\bnan\b ±", page)

    def test_the_summary_on_the_terminal(self, record: dict[str, Any]) -> None:
        text = sweep_summary(record, "out")
        assert f"decision: {record['decision']['reason']}" in text
        assert "ranking: 6 runs (4 done, 1 killed, 1 failed); final: 6 runs (6 done)" in text
        assert f"note: {FAILED} (ranking, seed 0): failed" in text

    def test_without_matplotlib_the_report_says_so(
        self, record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_outputs(record, tmp_path)
        find = importlib.util.find_spec
        monkeypatch.setattr("seqassay.errors.util.find_spec", lambda name: None if name == "matplotlib" else find(name))
        write_outputs(record, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == OUTPUTS - set(PICTURES)
        assert "Not drawn: drawing a sweep needs the package 'matplotlib'" in (tmp_path / "REPORT.md").read_text()

    def test_a_sweep_that_is_running(self, tmp_path: Path) -> None:
        record = a_record([run for run in the_runs() if run.stage == "ranking"], is_finished=False)
        check_record(record)
        write_outputs(record, tmp_path)
        report = (tmp_path / "REPORT.md").read_text()
        assert f"**Not decided yet: the final of {BASELINE}, {BETTER} is to come.**" in report
        assert "\n## Decision\n" not in report
        assert "This sweep is not finished" in (tmp_path / "report.html").read_text()

    def test_a_sweep_in_which_all_but_the_baseline_failed(self, tmp_path: Path) -> None:
        runs = [
            run if run.experiment == BASELINE else dataclasses.replace(run, status="failed", why="out of memory")
            for run in the_runs()
        ]
        record = a_record(runs)
        check_record(record)
        write_outputs(record, tmp_path)
        assert "Nothing is decided" in (tmp_path / "REPORT.md").read_text()
        assert {path.name for path in tmp_path.iterdir()} >= OUTPUTS - set(PICTURES)

    def test_a_full_disk_leaves_no_half_file(
        self, record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(path: Path, pieces: Any) -> int:
            if path.name == "REPORT.md":
                raise OSError(28, "No space left on device", str(path))
            return write(path, pieces)

        write = outputs.write_durably
        monkeypatch.setattr(outputs, "write_durably", full)
        with pytest.raises(OSError, match="No space left"):
            write_outputs(record, tmp_path)
        assert not (tmp_path / "REPORT.md").exists()

    def test_names_are_text_whatever_they_look_like(self, tmp_path: Path) -> None:
        odd = "<b>a|b</b>"
        runs = [dataclasses.replace(r, experiment=odd) if r.experiment == BETTER else r for r in the_runs()]
        record = a_record(runs)
        write_outputs(record, tmp_path)
        assert odd not in (tmp_path / "report.html").read_text()
        assert "<b>a\\|b</b>" in sweep_report(record, [])
