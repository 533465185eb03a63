"""From a sweep's file to what is trained: a model's shape for every experiment, before anything is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqassay.config import resolve_settings
from seqassay.errors import InputError, UsageError
from seqassay.models.lm_plan import BudgetSettings, LmPlan, NoPlanError, ShapeSettings, plan_lm, plan_of_shape
from seqassay.prove.lm.command import check_method
from seqassay.prove.lm.inputs import chosen_splits
from seqassay.prove.lm.profiling import shapes_of
from seqassay.prove.lm.settings import LmEvaluateSettings
from seqassay.prove.lm.smallbench import check_probes
from seqassay.prove.sweep.config import MODEL_KEYS, TRAIN_KEYS, Experiment, SweepConfig, as_keys
from seqassay.prove.sweep.results import AxisValue, Stage
from seqassay.text.token_files import TokenFiles
from seqassay.text.windows import TrainingWindows
from seqassay.train.lm_settings import LmTrainSettings

_SHAPE, _BUDGET = ("d_model", "n_layers", "d_ff"), ("total_params", "embedding_ratio")
_SCORING = frozenset({"windows", "prefix", "context", "stride", "max_batches", "batch"})


@dataclass(frozen=True)
class Planned:
    """An experiment with its model's shape and the settings of its trainings."""

    experiment: Experiment
    model: LmPlan
    training: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Of the experiment."""
        return self.experiment.name

    @property
    def flop_per_token(self) -> int:
        """Arithmetic of training on one token: products with weights, forward and back, and those of attention.

        6 for every parameter of a matrix that is multiplied with (the head counts, tied or not, a table that is looked
        up does not), and 12 · layers · width · context for attention (Chowdhery et al. 2022, appendix B).
        """
        config, blocks = self.model.config, self.model.blocks
        matrices = blocks["attention"] + blocks["feed_forward"] + config.vocab_size * config.d_model
        return 6 * matrices + 12 * config.n_layers * config.d_model * config.context

    def as_json(self) -> dict[str, Any]:
        """The experiment and its plan, as JSON types."""
        return {
            "name": self.name,
            "overrides": dict(self.experiment.overrides),
            "settings": dict(self.experiment.settings),
            "axes": dict(self.experiment.axes),
            "line": self.experiment.line,
            "plan": self.model.as_json(),
            "training_flop_per_token": self.flop_per_token,
        }


@dataclass(frozen=True)
class Task:
    """One training with its evaluation.

    Attributes:
        folder: where all of it is written.
        name: of the folder, relative to the sweep's.
        baseline: of the kill rule: the experiment whose curve it is compared with; None where there is no rule.
        flop_per_token: see `Planned`.
    """

    experiment: str
    axes: Mapping[str, AxisValue]
    stage: Stage
    seed: int
    folder: Path
    name: str
    model: LmPlan
    train: LmTrainSettings
    evaluate: LmEvaluateSettings
    baseline: str | None
    flop_per_token: int

    @property
    def n_tokens(self) -> int:
        """Training tokens that were asked for."""
        return self.train.token_budget or 0


def plan_sweep(config: SweepConfig, files: TokenFiles) -> tuple[Planned, ...]:
    """Every experiment's model, and the settings of its training; checked against the tokens.

    Raises:
        InputError: an experiment has no plan (names the nearest settings that have one), settings that do not go
            together, two experiments that come to the same; names the line.
    """
    planned: list[Planned] = []
    without: list[tuple[Experiment, NoPlanError]] = []
    for experiment in config.experiments:
        try:
            planned.append(_planned(config, experiment, files))
        except NoPlanError as error:  # noqa: PERF203 - all of them are named, not the first alone
            without.append((experiment, error))
        except (UsageError, InputError) as error:
            raise _at(config, experiment, as_keys(error.message), error.hint) from error
    if without:
        raise _no_plans(config, without, files.vocab_size)
    _check_apart(config, planned)
    _check_evaluation(config, planned, files)
    return tuple(planned)


def evaluation_of(asked: Mapping[str, Any], tokens: Path, **more: Any) -> LmEvaluateSettings:
    """How models are evaluated and profiled, of which there is none yet.

    Args:
        asked: the file's section ``evaluate``.
        more: fields of `LmEvaluateSettings` in its place.
    """
    given = {**asked, "checkpoint": Path(), "inputs": [str(tokens)], "output_dir": Path(), **more}
    return resolve_settings(LmEvaluateSettings, given, {})


def task_of(
    config: SweepConfig, planned: Planned, stage: Stage, seed: int, tokens: Path, folder: Path, **more: Any
) -> Task:
    """One training of an experiment.

    Args:
        folder: the sweep's.
        more: fields of `LmTrainSettings`.
    """
    protocol = config.protocol
    name = f"{stage}/{planned.name}-seed{seed}"
    budget = protocol.ranking_tokens if stage == "ranking" else protocol.final_tokens
    is_ranked = stage == "ranking" and planned.name != config.baseline
    train = LmTrainSettings(
        tokens=tokens, output_dir=folder / name / "training", token_budget=budget, seed=seed,
        kill_margin=protocol.kill_margin, kill_tokens=protocol.kill_tokens, **planned.training, **more,
    )  # fmt: skip
    asked = dict(config.evaluate)
    if stage == "ranking":  # the same text in the same windows, and nothing beside it
        asked = {key: value for key, value in asked.items() if key in _SCORING} | {"splits": ["valid"], "top_k": []}
    evaluate = evaluation_of(
        asked, tokens, checkpoint=train.output_dir / "best", output_dir=folder / name / "evaluation",
        device=train.device, threads=train.threads, skip_profiling=True, force=True,
    )  # fmt: skip
    return Task(
        planned.name, planned.experiment.axes, stage, seed, folder / name, name, planned.model, train, evaluate,
        config.baseline if is_ranked else None, planned.flop_per_token,
    )  # fmt: skip


def _planned(config: SweepConfig, experiment: Experiment, files: TokenFiles) -> Planned:
    training = {key: value for key, value in experiment.settings.items() if key in TRAIN_KEYS}
    plan = _plan_model(_model_settings(experiment), files.vocab_size)
    checked = resolve_settings(
        LmTrainSettings,
        {**training, "tokens": files.folder, "output_dir": Path(), "token_budget": config.protocol.ranking_tokens},
        {},
    )
    TrainingWindows(files.split("train").tokens, plan.config.context, checked.batch, checked.seed, checked.order)
    return Planned(experiment, plan, {key: getattr(checked, key) for key in training})


def _plan_model(given: Mapping[str, Any], vocab_size: int) -> LmPlan:
    """From a budget, or from a shape that is given as such."""
    shape, budget = ([key for key in keys if key in given] for keys in (_SHAPE, _BUDGET))
    if shape and budget:
        raise UsageError(
            f"{', '.join(shape)} and {', '.join(budget)} exclude each other: a shape leaves nothing to plan",
            hint="give total_params, embedding_ratio and glu_expansion; or d_model, n_layers and n_heads",
        )
    if not shape and not budget:
        raise UsageError("no model: give total_params, or d_model and n_layers")
    if shape:
        return plan_of_shape(resolve_settings(ShapeSettings, {**given, "vocab_size": vocab_size}, {}))
    return plan_lm(_budget(given, vocab_size))


def _model_settings(experiment: Experiment) -> dict[str, Any]:
    return {key: value for key, value in experiment.settings.items() if key in MODEL_KEYS}


def _budget(given: Mapping[str, Any], vocab_size: int) -> BudgetSettings:
    return resolve_settings(BudgetSettings, {**given, "vocab_size": vocab_size}, {})


def _check_apart(config: SweepConfig, planned: Sequence[Planned]) -> None:
    """Two settings that come to one model and one training would be compared with themselves."""
    seen: dict[tuple[Any, ...], Planned] = {}
    for one in planned:
        key = (one.model.config, tuple(sorted(one.training.items())))
        same = seen.setdefault(key, one)
        if same is not one:
            raise _at(
                config, one.experiment, f"comes to the same model and training as {same.name!r}",
                "set them further apart, or lower expansion_tolerance or ratio_tolerance",
            )  # fmt: skip


def _check_evaluation(config: SweepConfig, planned: Sequence[Planned], files: TokenFiles) -> None:
    """What the finalists are evaluated on is there, before hours of training."""
    try:
        settings = evaluation_of(config.evaluate, files.folder)
        chosen_splits(files, settings.splits)
        for one in planned:
            check_method(settings, one.model.config)
            shapes_of(settings, one.model.config.context)
        check_probes(settings)
    except (UsageError, InputError) as error:
        message = f"evaluate: {as_keys(error.message)}"
        raise InputError(message, path=config.path, line=config.evaluate_line, hint=as_keys(error.hint)) from error


def _no_plans(config: SweepConfig, without: Sequence[tuple[Experiment, NoPlanError]], vocab_size: int) -> InputError:
    first, error = without[0]
    others = [experiment.name for experiment, _ in without[1:]]
    beside = f"; nor have {', '.join(others)}" if others else ""
    lines = []
    for experiment, refused in without:
        asked = _budget(_model_settings(experiment), vocab_size)
        near = " | ".join(_changed(asked, settings) for settings in refused.nearest)
        lines.append(f"  {experiment.name}: {near or 'none'}")
    hint = "the nearest settings that have a plan, one changed in each:\n" + "\n".join(lines) if lines else ""
    return _at(config, first, f"{error.message}{beside}", hint)


def _changed(asked: BudgetSettings, nearest: BudgetSettings) -> str:
    """``embedding_ratio: 0.267``."""
    names = [f.name for f in dataclasses.fields(nearest) if getattr(nearest, f.name) != getattr(asked, f.name)]
    return ", ".join(
        f"tokens with a vocabulary of {nearest.vocab_size:,}"
        if name == "vocab_size"
        else f"{name}: {_key(nearest, name)}"
        for name in names
    )


def _key(settings: BudgetSettings, name: str) -> str:
    value = getattr(settings, name)
    return "left out" if value is None else str(value)


def _at(config: SweepConfig, experiment: Experiment, message: str, hint: str) -> InputError:
    return InputError(f"experiment {experiment.name!r}: {message}", path=config.path, line=experiment.line, hint=hint)
