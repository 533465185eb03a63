"""The YAML file of a sweep: experiments, what they inherit, and how they are ranked; every complaint names its line.

    tokens: w2-4k                       # token files of `lm data build`
    ranking_tokens: 5_000_000           # every experiment trains on so many, one seed
    final_tokens: 50_000_000            # the finalists, every seed of final_seeds
    defaults: {total_params: 10_000_000, context: 512, learning_rate: 1e-3}
    axes:                               # a grid: every combination is an experiment
      embedding_ratio: [0.25, 0.35]
      glu_expansion: [2.66, 4.0]
    baseline: {embedding_ratio: 0.35, glu_expansion: 2.66}
    experiments:                        # beside the grid, or in its place
      - {name: untied, overrides: {tied: false}}
      - {name: untied-small-steps, inherit: untied, overrides: {learning_rate: 5e-4}}

Keys of ``defaults``, ``axes`` and ``overrides`` are options of `lm build` and `lm train`, with underscores; those of
``evaluate`` are options of `lm evaluate`. A sweep's axes are the keys in which its experiments differ.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from seqassay.config import check_at_least, resolve_settings, settings_as_json
from seqassay.errors import InputError, UsageError
from seqassay.models.lm_plan import BudgetSettings, ShapeSettings
from seqassay.prove.lm.settings import LmEvaluateSettings
from seqassay.prove.sweep.results import AxisValue
from seqassay.prove.yaml_lines import YamlLines

MODEL_KEYS = frozenset(field.name for c in (BudgetSettings, ShapeSettings) for field in fields(c)) - {"vocab_size"}
# The sweep sets the rest itself: budgets, seeds, kill rule, places.
TRAIN_KEYS = frozenset(
    {
        "batch", "accumulate", "order", "learning_rate", "min_lr_ratio", "warmup_steps", "weight_decay", "beta1",
        "beta2", "clip", "dropout", "precision", "evaluate_every", "eval_windows", "checkpoint_steps",
        "checkpoint_minutes", "log_every",
    }
)  # fmt: skip
EVALUATE_KEYS = frozenset(field.name for field in fields(LmEvaluateSettings)) - {
    "checkpoint", "inputs", "output_dir", "documents", "skip_perplexity", "run_id", "device", "threads", "force",
    "resume",
}  # fmt: skip
_SECTIONS = ("defaults", "axes", "experiments", "baseline", "evaluate")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,-]{0,99}")
_NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+")  # YAML 1.1 reads 1e-3 as text
_SHAPE = re.compile(r"[0-9]{1,18}x[0-9]{1,18}")
_SHAPES = frozenset({"latency_shapes", "throughput_shape", "memory_shape"})
_DEEPEST = 2  # lists of shapes
_LARGEST_WHOLE = 2**53  # below it every whole number is a float of its own
_HINT = "docs/lm_sweep.md shows a whole file"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How experiments are ranked, chosen, trained again and judged.

    Raises:
        UsageError: a value out of its range.
    """

    tokens: Path | None = None
    ranking_tokens: int = 5_000_000  # of every experiment
    final_tokens: int  # of every finalist and seed
    ranking_seed: int = 0
    final_seeds: tuple[int, ...] = (1, 2, 3)
    kill_margin: float = 0.5  # of dev perplexity, against the baseline's ranking
    kill_tokens: int = 1_000_000
    margin: float = 0.05  # of perplexity: how much better is better

    def __post_init__(self) -> None:
        check_at_least(self, ranking_tokens=1, final_tokens=1, ranking_seed=0, kill_margin=0, kill_tokens=1)
        if not self.final_seeds or min(self.final_seeds) < 0 or len(set(self.final_seeds)) < len(self.final_seeds):
            raise UsageError(f"final_seeds is {list(self.final_seeds)}; it is different numbers from 0 on")
        if not 0 < self.margin < 1:
            raise UsageError(f"margin is {self.margin:g}; it lies between 0 and 1, as in 0.05")


@dataclass(frozen=True)
class Experiment:
    """One set of settings.

    Attributes:
        overrides: what it changes of the defaults, what it inherits included.
        settings: all of it.
        line: where it stands in the file, from 1.
        axes: its values of the sweep's axes.
    """

    name: str
    overrides: Mapping[str, Any]
    settings: Mapping[str, Any]
    line: int
    axes: Mapping[str, AxisValue] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepConfig:
    """A sweep's file.

    Attributes:
        evaluate: settings of `lm evaluate` for the finalists.
        evaluate_line: where they stand in the file.
        axes: name → its values, in the order in which they stand in the file; at least two.
        experiments: at least two.
    """

    path: Path
    sha256: str
    protocol: Protocol
    evaluate: Mapping[str, Any]
    evaluate_line: int | None
    baseline: str
    axes: Mapping[str, tuple[AxisValue, ...]]
    experiments: tuple[Experiment, ...]

    def as_json(self) -> dict[str, Any]:
        """The file with its inheritance resolved, as JSON types."""
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "protocol": settings_as_json(self.protocol),
            "evaluate": dict(self.evaluate),
        }


def read_config(path: Path) -> SweepConfig:
    """Read and check a sweep's file; nothing but the file is looked at.

    Raises:
        InputError: names the file and the line.
    """
    reader = _Reader(path, _HINT)
    content, root = reader.compose("the sweep's file")
    if root is None:
        raise InputError("is empty", path=path, hint=_HINT)
    top = dict(reader.items(root, "the file"))
    known = (*(f.name for f in fields(Protocol)), *_SECTIONS)
    for key, node in top.items():
        if key not in known:
            raise reader.unknown(key, sorted(known), "the file", node)
    given = {key: reader.value(node, key) for key, node in top.items() if key not in _SECTIONS}
    protocol = reader.checked(lambda: resolve_settings(Protocol, given, {}), root)
    defaults = reader.settings(top.get("defaults"), "defaults", MODEL_KEYS | TRAIN_KEYS)
    evaluate = reader.evaluation(top.get("evaluate"))
    evaluate_line = top["evaluate"].start_mark.line + 1 if "evaluate" in top else None
    experiments = [
        *reader.grid(top.get("axes"), defaults),
        *reader.listed(top.get("experiments"), defaults),
    ]
    _check_experiments(reader, experiments, root)
    axes = _axes(experiments)
    experiments = [
        Experiment(e.name, e.overrides, e.settings, e.line, {name: e.settings[name] for name in axes
                                                             if name in e.settings})
        for e in experiments
    ]  # fmt: skip
    baseline = _baseline(reader, top.get("baseline"), experiments)
    sha256 = hashlib.sha256(content).hexdigest()
    return SweepConfig(path, sha256, protocol, evaluate, evaluate_line, baseline, axes, tuple(experiments))


def as_keys(message: str) -> str:
    """``--glu-expansion`` as it is written in the file: ``glu_expansion``."""
    return re.sub(r"--([a-z][a-z0-9-]+)", lambda match: match[1].replace("-", "_"), message)


class _Reader(YamlLines):
    """Values and sections of a file."""

    def checked(self, make: Any, node: yaml.Node | int, what: str = "") -> Any:
        """What a function makes; its complaint about a setting comes with the line."""
        try:
            return make()
        except UsageError as error:
            raise self.error(f"{what}{as_keys(error.message)}", node, error.hint) from error

    def value(self, node: yaml.Node, what: str, depth: int = 0) -> Any:
        """A number, a text, a truth value, or a list of such."""
        if isinstance(node, yaml.SequenceNode):
            if depth == _DEEPEST:  # or within itself, by an alias
                raise self.error(f"{what}: lists are nested too deeply", node, self.hint)
            return [self.value(item, f"{what}[{i}]", depth + 1) for i, item in enumerate(node.value)]
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(f"{what}: is not a value", node)
        if node.style is None and _NUMBER.fullmatch(node.value):
            number = float(node.value)
            return int(number) if number.is_integer() and abs(number) < _LARGEST_WHOLE else number
        try:
            value = yaml.SafeLoader("").construct_object(node)
        except (ValueError, yaml.YAMLError):
            value = node.value
        if value is not None and not isinstance(value, (bool, int, float, str)):
            raise self.error(f"{what}: {node.value!r} is no number, text or truth value", node, "put it in quotes")
        return value

    def settings(self, node: yaml.Node | None, what: str, known: frozenset[str]) -> dict[str, Any]:
        """A section of settings; none is an empty one."""
        if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
            return {}
        found = {}
        for key, value in self.items(node, what):
            if key not in known:
                raise self.unknown(key, sorted(known), what, value)
            found[key] = self.value(value, f"{what}.{key}")
        return found

    def evaluation(self, node: yaml.Node | None) -> dict[str, Any]:
        """The section ``evaluate``; shapes as on the command line, or as pairs."""
        found = self.settings(node, "evaluate", EVALUATE_KEYS)
        lines = {key.value: value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}
        for key in _SHAPES & set(found):
            value, is_many = found[key], key == "latency_shapes"
            if value is None:
                continue
            many = value if is_many and isinstance(value, list) else [value]
            shapes = [self._shape(one, f"evaluate.{key}", lines[key]) for one in many]
            found[key] = shapes if is_many else shapes[0]
        return found

    def _shape(self, value: Any, what: str, node: yaml.Node) -> list[int]:
        """``1x128``, or a pair of whole numbers."""
        if isinstance(value, str) and _SHAPE.fullmatch(value):
            return [int(part) for part in value.split("x")]
        if isinstance(value, list) and len(value) == 2 and all(type(part) is int for part in value):
            return value
        example = "[1x128, 1x512] or [[1, 128], [1, 512]]" if what.endswith("s") else "32x512 or [32, 512]"
        raise self.error(f"{what}: {value!r} is not sequences x tokens", node, f"write {example}")

    def grid(self, node: yaml.Node | None, defaults: Mapping[str, Any]) -> Iterator[Experiment]:
        """Every combination of the axes' values, the last axis running fastest."""
        if node is None:
            return
        axes: dict[str, list[AxisValue]] = {}
        for name, item in self.items(node, "axes"):
            if name not in MODEL_KEYS | TRAIN_KEYS:
                raise self.unknown(name, sorted(MODEL_KEYS | TRAIN_KEYS), "axes", item)
            values = self.value(item, f"axes.{name}")
            if not isinstance(values, list) or any(isinstance(value, list) or value is None for value in values):
                raise self.error(f"axes.{name}: is not a list of values", item, f"write {name}: [0.25, 0.35]")
            if len(set(values)) < 2:
                raise self.error(
                    f"axes.{name}: does not vary: it has {len(set(values))} value", item, "give it to defaults instead"
                )
            if len(set(values)) < len(values):
                raise self.error(f"axes.{name}: names a value twice", item)
            axes[name] = values
        for combination in itertools.product(*axes.values()):
            overrides = dict(zip(axes, combination, strict=True))
            name = ",".join(f"{axis}={value}" for axis, value in overrides.items())
            line = node.start_mark.line + 1
            yield Experiment(self.name(name, line), overrides, {**defaults, **overrides}, line)

    def listed(self, node: yaml.Node | None, defaults: Mapping[str, Any]) -> Iterator[Experiment]:
        """The experiments that are written out."""
        if node is None:
            return
        if not isinstance(node, yaml.SequenceNode):
            raise self.error("experiments: is not a list", node, "write '- name: …' lines below it")
        found: dict[str, Experiment] = {}
        for number, item in enumerate(node.value):
            what = f"experiments[{number}]"
            parts = dict(self.items(item, what))
            for key, value in parts.items():
                if key not in ("name", "inherit", "overrides"):
                    raise self.unknown(key, ("inherit", "name", "overrides"), what, value)
            if "name" not in parts:
                raise self.error(f"{what}: has no name", item)
            name = self.name(str(self.value(parts["name"], what)), parts["name"].start_mark.line + 1)
            if name in found:
                raise self.error(f"{what}: {name!r} stands there twice, at line {found[name].line} too", parts["name"])
            inherited: Mapping[str, Any] = {}
            if "inherit" in parts:
                parent = str(self.value(parts["inherit"], what))
                if parent not in found:
                    raise self.error(
                        f"{what}: inherits from {parent!r}, which is none of those above it", parts["inherit"]
                    )
                inherited = found[parent].overrides
            own = self.settings(parts.get("overrides"), f"{what}.overrides", MODEL_KEYS | TRAIN_KEYS)
            overrides = {**inherited, **own}
            found[name] = Experiment(name, overrides, {**defaults, **overrides}, item.start_mark.line + 1)
            yield found[name]

    def name(self, name: str, line: int) -> str:
        """A name that can be a folder's."""
        if not _NAME.fullmatch(name):
            raise self.error(
                f"{name!r} cannot be an experiment's name", line, "letters, digits and . _ + = , - from a letter on"
            )
        return name


def _check_experiments(reader: _Reader, experiments: Sequence[Experiment], root: yaml.Node) -> None:
    if len(experiments) < 2:
        raise reader.error(
            f"has {len(experiments)} experiment{'s' * (len(experiments) != 1)}; a sweep compares at least two", root,
            "write axes or experiments",
        )  # fmt: skip
    by_name: dict[str, Experiment] = {}
    by_settings: dict[tuple[Any, ...], Experiment] = {}
    for e in experiments:
        same_name = by_name.setdefault(e.name, e)
        if same_name is not e:
            raise reader.error(f"{e.name!r} stands there twice, at line {same_name.line} too", e.line)
        # 2 and 2.0 are the same setting; true and 1 are not
        key = tuple(sorted((k, type(v) is bool, str(v) if isinstance(v, (list, str)) else v)
                           for k, v in e.settings.items()))  # fmt: skip
        same = by_settings.setdefault(key, e)
        if same is not e:
            raise reader.error(f"{e.name!r} has the settings of {same.name!r}", e.line, "leave one of them out")


def _axes(experiments: Sequence[Experiment]) -> dict[str, tuple[AxisValue, ...]]:
    """The keys in which experiments differ, with their values in order of appearance."""
    keys = dict.fromkeys(key for e in experiments for key in e.overrides)
    values = {key: tuple(dict.fromkeys(e.settings[key] for e in experiments if key in e.settings)) for key in keys}
    everywhere = {key: all(key in e.settings for e in experiments) for key in keys}
    return {key: found for key, found in values.items() if len(found) > 1 or not everywhere[key]}


def _baseline(reader: _Reader, node: yaml.Node | None, experiments: Sequence[Experiment]) -> str:
    """The experiment that the others are compared with: by name, by settings, or the first."""
    if node is None:
        return experiments[0].name
    if isinstance(node, yaml.MappingNode):
        asked = reader.settings(node, "baseline", MODEL_KEYS | TRAIN_KEYS)
        found = [e.name for e in experiments if all(e.settings.get(key) == value for key, value in asked.items())]
        alone = [e.name for e in experiments if e.overrides == asked]
        if len(alone) == 1:
            return alone[0]
        if len(found) != 1:
            what = ", ".join(f"{key} {value}" for key, value in asked.items())
            names = f": {', '.join(found[:3])}" if found else ""
            raise reader.error(f"baseline: {what} is that of {len(found)} experiments{names}", node, "it has to be one")
        return found[0]
    name = str(reader.value(node, "baseline"))
    if name not in {e.name for e in experiments}:
        known = ", ".join(e.name for e in experiments)
        raise reader.error(f"baseline: no experiment is called {name!r}", node, f"they are called: {known}")
    return name
