from __future__ import annotations

import dataclasses
import random

import pytest
from sweep_support import AXES, BASELINE, a_grid, a_run, finals

from seqassay.errors import SeqassayError
from seqassay.prove.sweep.decide import MEANINGS, decide
from seqassay.prove.sweep.selection import select_finalists


def only(runs, **kwargs):
    """The comparison of a sweep with one finalist."""
    (comparison,) = decide(runs, BASELINE, **kwargs).comparisons
    return comparison


class TestSelection:
    def test_the_baseline_the_best_along_every_axis_and_the_best_of_all(self):
        gains = {"er0.25_glu2.66": 0.95, "er0.35_glu2.0": 0.98, "er0.45_glu2.0": 0.9}
        selection = select_finalists(a_grid(gains), AXES, BASELINE)
        assert selection.finalists == (BASELINE, "er0.25_glu2.66", "er0.35_glu2.0", "er0.45_glu2.0")
        axes = [(choice.axis, choice.value, choice.among) for choice in selection.choices]
        assert axes == [(None, None, 6), ("embedding_ratio", 0.25, 3), ("glu_expansion", 2.0, 2), (None, None, 6)]

    def test_where_the_baseline_is_the_best_of_all_the_next_goes_with_it(self):
        gains = {BASELINE: 0.9, "er0.45_glu2.0": 0.95}
        selection = select_finalists(a_grid(gains), AXES, BASELINE)
        assert selection.finalists == (BASELINE, "er0.45_glu2.0")
        assert "the baseline's own" in selection.choices[1].reason
        assert "beside the baseline" in selection.choices[-1].reason

    @pytest.mark.parametrize("status", ["killed", "failed", "stopped"])
    def test_what_was_not_finished_is_never_chosen(self, status):
        gains = {"er0.25_glu2.66": 0.5, "er0.45_glu2.66": 0.95}
        runs = [
            dataclasses.replace(run, status=status, why="step 3: NaN") if run.experiment == "er0.25_glu2.66" else run
            for run in a_grid(gains)
        ]
        assert select_finalists(runs, AXES, BASELINE).finalists == (BASELINE, "er0.45_glu2.66")

    def test_ties_go_to_the_faster(self):
        gains = {"er0.25_glu2.66": 0.9, "er0.45_glu2.66": 0.9003}
        runs = [
            dataclasses.replace(run, figures={**run.figures, "latency_ms": 4.0 if "0.45" in run.experiment else 5.0})
            for run in a_grid(gains)
        ]
        selection = select_finalists(runs, AXES, BASELINE)
        assert selection.finalists == (BASELINE, "er0.45_glu2.66")
        assert "tied with er0.25_glu2.66" in selection.choices[1].reason

    def test_without_experiments_along_one_axis_alone_all_that_move_it_are_candidates(self):
        runs = [
            a_run("base", stage="ranking", axes={"x": 1, "y": 1}),
            a_run("a", stage="ranking", axes={"x": 2, "y": 2}, perplexity=39),
            a_run("b", stage="ranking", axes={"x": 3, "y": 3}, perplexity=38),
        ]
        selection = select_finalists(runs, {"x": (1, 2, 3), "y": (1, 2, 3)}, "base")
        assert selection.finalists == ("base", "b")

    def test_a_run_without_a_perplexity_and_a_sweep_without_axes(self):
        runs = [a_run("base", stage="ranking"), a_run("a", stage="ranking", perplexity=None)]
        assert select_finalists(runs, {}, "base").finalists == ("base",)

    def test_a_ranking_without_the_baseline_is_an_error(self):
        with pytest.raises(SeqassayError, match="no run of the baseline 'other'"):
            select_finalists(a_grid(), AXES, "other")


class TestVerdicts:
    @pytest.mark.parametrize(
        ("gain", "noise", "verdict"),
        [
            (0.90, 0.004, "better"),
            (0.97, 0.002, "too small"),
            (1.00, 0.004, "no difference"),
            (0.90, 0.150, "no difference"),  # an observed gain in noise
            (1.10, 0.004, "worse"),
        ],
    )
    def test_by_perplexity(self, gain, noise, verdict):
        assert only(finals({"a": gain}, noise=noise)).verdict == verdict

    def test_the_figures_of_a_verdict(self):
        runs = [a_run(perplexity=p, seed=s) for s, p in enumerate((40, 41, 42))]
        runs += [a_run("a", perplexity=p, seed=s) for s, p in enumerate((36, 36.5, 38))]
        found = only(runs)
        # scipy.stats.ttest_1samp on the three differences of logarithms
        assert found.perplexity.value == pytest.approx(0.8983149, rel=1e-6)
        assert found.perplexity.interval_95 == pytest.approx((0.8800934, 0.9169137), rel=1e-6)
        assert (found.perplexity.n, found.seeds) == (3, (0, 1, 2))
        assert found.perplexity.interval_95_together == found.perplexity.interval_95  # one comparison
        assert "10.2% lower (12.0% lower to 8.3% lower) over 3 seeds" in found.reason

    def test_intervals_widen_with_the_number_of_finalists(self):
        one, three = (
            decide(finals(gains), BASELINE).comparisons[0] for gains in ({"a": 0.9}, dict.fromkeys("abc", 0.9))
        )
        assert one.perplexity.interval_95 == three.perplexity.interval_95
        wide, narrow = (c.perplexity.interval_95_together for c in (three, one))
        assert wide[0] < narrow[0] < narrow[1] < wide[1]

    @pytest.mark.parametrize("figure", [{"latency_ms": 6.0}, {"memory": 4e8}])
    def test_a_gain_at_a_cost_is_a_trade_off(self, figure):
        runs = [run for run in finals({"a": 0.9}) if run.experiment == BASELINE]
        runs += [run for run in finals({"a": 0.9}, **figure) if run.experiment == "a"]
        decision = decide(runs, BASELINE)
        assert decision.comparisons[0].verdict == "trade-off"
        assert (decision.outcome, decision.winner) == ("baseline stays", None)

    def test_a_latency_that_is_higher_within_its_noise_is_no_cost(self):
        runs = finals({"a": 0.9})
        noisy = {("a", 1): 4.0, ("a", 2): 7.5, ("a", 3): 5.0}
        runs = [
            dataclasses.replace(r, figures={**r.figures, "latency_ms": noisy.get((r.experiment, r.seed), 5.0)})
            for r in runs
        ]
        assert only(runs).verdict == "better"

    def test_a_tie_goes_to_the_faster(self):
        runs = finals({"a": 1.0, "b": 1.0})
        runs = [
            dataclasses.replace(
                r, figures={**r.figures, "latency_ms": (4.0 if r.experiment == "b" else 5.0) + r.seed / 100}
            )
            for r in runs
        ]
        decision = decide(runs, BASELINE)
        assert [c.verdict for c in decision.comparisons] == ["no difference", "faster"]
        assert decision.winner == "b"

    def test_of_two_that_are_better_and_tie_the_faster_wins(self):
        runs = [
            dataclasses.replace(
                r, figures={**r.figures, "latency_ms": (4.0 if r.experiment == "b" else 5.0) + r.seed / 100}
            )
            for r in finals({"a": 0.90, "b": 0.905})
        ]
        decision = decide(runs, BASELINE)
        assert [c.verdict for c in decision.comparisons] == ["better", "better"]
        assert decision.winner == "b"
        assert "ties with a" in decision.reason

    def test_of_two_that_are_better_the_one_that_is_better_than_the_other_wins(self):
        decision = decide(finals({"a": 0.80, "b": 0.90}), BASELINE)
        assert decision.winner == "a"

    @pytest.mark.parametrize(("seeds", "verdict"), [((1,), "cannot tell"), ((1, 2), "better")])
    def test_few_seeds(self, seeds, verdict):
        assert only(finals({"a": 0.9}, seeds=seeds, noise=0.001)).verdict == verdict

    def test_one_seed_says_why(self):
        decision = decide(finals({"a": 0.5}, seeds=(1,)), BASELINE)
        assert decision.outcome == "cannot tell"
        assert "one seed says nothing of the noise" in decision.reason

    def test_a_finalist_with_a_failed_seed_is_not_better_by_those_that_are_left(self):
        runs = finals({"a": 0.9})
        runs[-1] = a_run("a", seed=3, status="failed", why="step 20: the loss is nan", perplexity=None)
        found = only(runs)
        assert (found.verdict, found.seeds) == ("cannot tell", (1, 2))
        assert "seed 3 is failed (step 20: the loss is nan)" in found.reason

    def test_a_baseline_with_a_failed_seed_leaves_the_others(self):
        runs = finals({"a": 0.9}, noise=0.0005)
        runs[0] = a_run(seed=1, status="failed", why="out of memory", perplexity=None)
        found = only(runs)
        assert (found.verdict, found.seeds) == ("better", (2, 3))

    def test_a_finalist_that_the_kill_rule_ended_at_every_seed_is_worse(self):
        killed = [a_run("a", seed=s, status="killed", why="step 90: 0.6 worse", perplexity=None) for s in (1, 2, 3)]
        found = only([*finals({}), *killed])
        assert (found.verdict, found.perplexity) == ("worse", None)

    @pytest.mark.parametrize("lost", [BASELINE, "a"])
    def test_no_finished_run(self, lost):
        runs = [
            dataclasses.replace(run, status="failed", why="diverged") if run.experiment == lost else run
            for run in finals({"a": 0.9})
        ]
        decision = decide(runs, BASELINE)
        assert decision.outcome == "cannot tell"
        assert "no finished run: failed, diverged" in decision.reason

    def test_a_gain_is_not_called_better_where_latency_was_not_measured(self):
        found = only(finals({"a": 0.9}, latency_ms=None))
        assert found.verdict == "cannot tell"
        assert "latency of it or the baseline was not measured" in found.reason

    def test_seeds_that_move_nothing_say_nothing_of_noise(self):
        assert only(finals({"a": 0.9}, noise=0)).verdict == "cannot tell"
        assert only(finals({"a": 1.0}, noise=0)).verdict == "no difference"

    def test_the_test_split_decides_where_every_run_has_it(self):
        runs = finals({"a": 0.9})
        assert decide(runs, BASELINE).figure == "valid_token_perplexity"
        assert any("validation split chose" in note for note in decide(runs, BASELINE).notes)
        runs = [dataclasses.replace(r, figures={**r.figures, "test_token_perplexity": 40 + r.seed / 10}) for r in runs]
        decision = decide(runs, BASELINE)
        assert (decision.figure, decision.outcome) == ("test_token_perplexity", "no difference")

    def test_a_seed_of_the_ranking_in_the_final_is_said(self):
        notes = decide([*a_grid(seed=2), *finals({"er0.25_glu2.0": 1.0})], BASELINE).notes
        assert any(note.startswith("seed 2 of the final is one of the ranking's") for note in notes)

    def test_no_finalist(self):
        assert decide(finals({}), BASELINE).outcome == "cannot tell"

    @pytest.mark.parametrize(
        ("figures", "message"),
        [
            ({"perplexity": 0.5}, "perplexity is 0.5"),
            ({"latency_ms": 0.0}, "latency_ms is 0"),
            ({"memory": -1.0}, "is -1"),
        ],
    )
    def test_impossible_figures_are_errors(self, figures, message):
        with pytest.raises(SeqassayError, match=message):
            decide([a_run(**{"perplexity": 40.0, **figures})], BASELINE)

    def test_a_run_that_is_there_twice_and_a_margin_that_is_none(self):
        with pytest.raises(SeqassayError, match="there twice"):
            decide([a_run(), a_run()], BASELINE)
        with pytest.raises(SeqassayError, match="margin is 0"):
            decide([], BASELINE, margin=0)

    def test_as_json_has_every_comparison_and_no_objects(self):
        said = decide(finals({"a": 0.9, "b": 1.0}), BASELINE).as_json()
        assert {c["verdict"] for c in said["comparisons"]} <= set(MEANINGS)
        assert said["comparisons"][0]["perplexity"]["n"] == 3
        assert "2 finalists together" in said["method"]


class TestRates:
    """Of many made-up sweeps; the full tables are those of benchmarks/sweep_decision.py."""

    @pytest.mark.parametrize("noise", [0.01, 0.1])
    def test_equal_variants_have_a_winner_in_at_most_5_of_100(self, noise):
        rng = random.Random(7)
        n, winners = 400, 0
        for _ in range(n):
            runs = [
                dataclasses.replace(r, figures={**r.figures, "latency_ms": 5 * (1 + rng.gauss(0, 0.1))})
                for r in finals(dict.fromkeys("abc", 1.0), noise=noise, rng=rng)
            ]
            winners += decide(runs, BASELINE).winner is not None
        assert winners <= 0.05 * n

    def test_a_gain_of_8_in_100_is_found(self):
        rng = random.Random(7)
        found = sum(
            decide(finals({"a": 0.92, "b": 1.0}, noise=0.005, rng=rng), BASELINE).winner == "a" for _ in range(200)
        )
        assert found >= 190
