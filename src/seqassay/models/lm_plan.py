"""From a parameter budget to a shape: how wide, how many layers, and where the parameters go.

The embedding ratio fixes the width: a token table (twice, where the head is not tied), and learned positions, grow with
``d_model`` alone. Layers and ``d_ff`` share what is left. Both are whole numbers, so with few layers the expansion
``d_ff / d_model`` can be had on a coarse grid only: one layer more or less moves it by ``(4 + 3e) / 3`` of a layer's
share. A plan meets the budget within 0.5%, and bends ratio and expansion by no more than their tolerances; what would
need more is refused, with the nearest settings that do have a plan. Among the plans that keep all three, the one with
the least sum of squared deviations (each in units of its tolerance) is taken; a head width and a ``d_ff`` that are
multiples of 8, which matrix units like, count a quarter each, and so does every factor of 2 between a head's width and
the usual one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from seqassay.config import check_at_least, option_name
from seqassay.errors import UsageError
from seqassay.models.causal_lm import CausalLmConfig, Norm, Positions

BUDGET_TOLERANCE = 0.005  # of total_params
_GRANULARITY = 8  # of widths, where nothing is lost by it
_ODDITY_COST = 0.25
_MOST_TRIED = 256  # widths, and numbers of layers: above what a model of this kind has
_HEAD_WIDTHS = range(16, 129)  # of heads whose number is left to the plan


@dataclass(frozen=True, kw_only=True)
class BudgetSettings:
    """What a model is planned from.

    Raises:
        UsageError: a value out of its range, or settings that exclude each other.
    """

    vocab_size: int  # tokens
    total_params: int
    embedding_ratio: float = 0.35  # embeddings, learned positions and an untied head, as a share of all parameters
    glu_expansion: float = 2.66  # d_ff / d_model
    n_heads: int | None = None  # None: so that heads are about 32 wide where d_model is below 512, else 64
    head_width: int | None = None  # instead of n_heads, or with it
    context: int = 512  # tokens
    tied: bool = True
    norm: Norm = "rmsnorm"
    positions: Positions = "rotary"
    ratio_tolerance: float = 0.02  # relative
    expansion_tolerance: float = 0.06  # relative; above it, 2.66 and 3.0 could become one and the same model

    def __post_init__(self) -> None:
        check_at_least(self, vocab_size=1, total_params=1, context=1, n_heads=1, head_width=1)
        if not 0 < self.embedding_ratio < 1:
            raise UsageError(
                f"--embedding-ratio is {self.embedding_ratio:g}; it is a share of the parameters, between 0 and 1",
                hint="for 35% give --embedding-ratio 0.35",
            )
        if not 0 < self.glu_expansion < math.inf:
            raise UsageError(f"--glu-expansion is {self.glu_expansion:g}; it has to be above 0, as in 2.66")
        for name in ("ratio_tolerance", "expansion_tolerance"):
            if not 0 < getattr(self, name) < 1:
                raise UsageError(f"{option_name(name)} is {getattr(self, name):g}; it lies between 0 and 1, as in 0.05")
        if self.positions == "rotary" and self.head_width is not None and self.head_width % 2:
            raise UsageError(
                f"--head-width is {self.head_width}; rotary positions turn pairs of values, so it has to be even",
                hint=f"give --head-width {self.head_width + 1}, or --positions learned",
            )

    @property
    def params_per_width(self) -> int:
        """Embedding parameters that one more of ``d_model`` brings."""
        return self.vocab_size * (1 if self.tied else 2) + (self.context if self.positions == "learned" else 0)


@dataclass(frozen=True, kw_only=True)
class ShapeSettings:
    """A shape that is given instead of planned, such as 4 layers, 4 heads, 128 wide."""

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int | None = None  # or a head width; None: as in BudgetSettings
    head_width: int | None = None
    d_ff: int | None = None  # None: the multiple of 8 nearest to glu_expansion · d_model
    glu_expansion: float | None = None  # None: 8/3, with which SwiGLU has as many parameters as a plain block of 4
    context: int = 512
    tied: bool = True
    norm: Norm = "rmsnorm"
    positions: Positions = "rotary"


@dataclass(frozen=True)
class LmPlan:
    """A shape, and where its parameters are.

    Attributes:
        budget: what it was planned from; None for a shape that was given as such.
    """

    config: CausalLmConfig
    budget: BudgetSettings | None = None

    @property
    def blocks(self) -> dict[str, int]:
        """Parameters by block; a tied head counts once, as the token embedding."""
        c = self.config
        norms = (2 * c.n_layers + 1) * c.d_model * (1 if c.norm == "rmsnorm" else 2)
        return {
            "token_embedding": c.vocab_size * c.d_model,
            "position_embedding": c.context * c.d_model if c.positions == "learned" else 0,
            "head": 0 if c.tied else c.vocab_size * c.d_model,
            "attention": 4 * c.d_model**2 * c.n_layers,
            "feed_forward": 3 * c.d_model * c.d_ff * c.n_layers,
            "norms": norms,
        }

    @property
    def n_params(self) -> int:
        """All parameters."""
        return sum(self.blocks.values())

    @property
    def embedding_ratio(self) -> float:
        """Share of token embedding, position embedding and untied head in all parameters."""
        blocks = self.blocks
        return (blocks["token_embedding"] + blocks["position_embedding"] + blocks["head"]) / self.n_params

    @property
    def glu_expansion(self) -> float:
        """``d_ff / d_model``."""
        return self.config.d_ff / self.config.d_model

    @property
    def deviations(self) -> dict[str, float]:
        """Relative deviations from the budget, the ratio and the expansion asked for; empty without a budget."""
        if self.budget is None:
            return {}
        return {
            "total_params": self.n_params / self.budget.total_params - 1,
            "embedding_ratio": self.embedding_ratio / self.budget.embedding_ratio - 1,
            "glu_expansion": self.glu_expansion / self.budget.glu_expansion - 1,
        }

    def as_json(self) -> dict[str, Any]:
        """Everything about the plan, as JSON types."""
        return {
            "budget": None if self.budget is None else dataclasses.asdict(self.budget),
            "config": dataclasses.asdict(self.config),
            "head_width": self.config.head_width,
            "params": self.n_params,
            "blocks": self.blocks,
            "embedding_ratio": self.embedding_ratio,
            "glu_expansion": self.glu_expansion,
            "deviations": self.deviations or None,
        }


class NoPlanError(UsageError):
    """No shape keeps the settings; ``nearest`` are settings that have a plan, each with one value changed."""

    def __init__(self, reason: str, nearest: tuple[BudgetSettings, ...]) -> None:
        lines = "\n".join(f"  seqassay lm build {command_line(settings)}" for settings in nearest)
        hint = f"the nearest that have a plan, one setting changed in each:\n{lines}" if nearest else ""
        super().__init__(reason, hint=hint)
        self.nearest = nearest


def plan_lm(settings: BudgetSettings) -> LmPlan:
    """The shape that keeps the budget within 0.5%, and ratio and expansion within their tolerances.

    Raises:
        NoPlanError: there is none; names the nearest settings that have one.
    """
    config = _best(settings)
    if config is None:
        raise NoPlanError(_why_not(settings), tuple(_nearest(settings)))
    return LmPlan(config, settings)


def plan_of_shape(s: ShapeSettings) -> LmPlan:
    """The plan of a given shape.

    Raises:
        UsageError: widths that don't go together, or two settings for one thing.
    """
    for one, other in (("n_heads", "head_width"), ("d_ff", "glu_expansion")):
        if getattr(s, one) is not None and getattr(s, other) is not None:
            raise UsageError(
                f"{option_name(one)} and {option_name(other)} exclude each other beside {option_name('d_model')}"
            )
    expansion = 8 / 3 if s.glu_expansion is None else s.glu_expansion
    n_heads, d_ff = s.n_heads, s.d_ff
    if s.head_width is not None:
        if s.head_width < 1 or s.d_model % s.head_width:
            raise UsageError(f"--d-model {s.d_model} does not divide into heads that are {s.head_width} wide")
        n_heads = s.d_model // s.head_width
    elif n_heads is None:
        n_heads = _usual_heads(s.d_model, s.positions) if s.d_model > 0 else 1
        if n_heads is None:
            raise UsageError(f"--d-model {s.d_model} has no usual number of heads", hint="give --n-heads")
    if d_ff is None:
        if not 0 < expansion < math.inf:
            raise UsageError(f"--glu-expansion is {expansion:g}; it has to be above 0, as in 2.66")
        d_ff = max(1, round(expansion * s.d_model / _GRANULARITY)) * _GRANULARITY
    try:
        config = CausalLmConfig(
            vocab_size=s.vocab_size, d_model=s.d_model, n_layers=s.n_layers, n_heads=n_heads, d_ff=d_ff,
            context=s.context, tied=s.tied, norm=s.norm, positions=s.positions,
        )  # fmt: skip
    except ValueError as error:
        raise UsageError(str(error)) from error
    return LmPlan(config)


def command_line(settings: BudgetSettings) -> str:
    """The options of `lm build` that give these settings; those at their default are left out."""
    words = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        always = field.name in ("embedding_ratio", "glu_expansion")
        if value == field.default and not always:
            continue
        if field.name == "tied":
            words.append("--untied")
        else:
            words.append(f"{option_name(field.name)} {value}")
    return " ".join(words)


def _best(s: BudgetSettings) -> CausalLmConfig | None:
    """The shape of least cost, or None."""
    best: tuple[float, CausalLmConfig] | None = None
    for d_model in _widths(s):
        if _fixed(s, d_model, 1) > s.total_params * (1 + BUDGET_TOLERANCE):
            break  # as it is of every width above
        layer_counts = _layer_counts(s, d_model)
        n_heads = _heads(s, d_model) if layer_counts else None
        if n_heads is None:
            continue
        for n_layers in layer_counts:
            for d_ff in _inner_widths(s, d_model, n_layers):
                cost = _cost(s, d_model, n_heads, n_layers, d_ff)
                if cost is not None and (best is None or cost < best[0]):
                    best = cost, _config(s, d_model, n_heads, n_layers, d_ff)
    return None if best is None else best[1]


def _config(s: BudgetSettings, d_model: int, n_heads: int, n_layers: int, d_ff: int) -> CausalLmConfig:
    return CausalLmConfig(
        vocab_size=s.vocab_size,
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        d_ff=d_ff,
        context=s.context,
        tied=s.tied,
        norm=s.norm,
        positions=s.positions,
    )


def _cost(s: BudgetSettings, d_model: int, n_heads: int, n_layers: int, d_ff: int) -> float | None:
    """Squared deviations in units of their tolerances, and what odd widths cost; None beyond a tolerance."""
    total = _fixed(s, d_model, n_layers) + 3 * n_layers * d_model * d_ff
    deviations = (
        (total / s.total_params - 1) / BUDGET_TOLERANCE,
        (s.params_per_width * d_model / total / s.embedding_ratio - 1) / s.ratio_tolerance,
        (d_ff / d_model / s.glu_expansion - 1) / s.expansion_tolerance,
    )
    if max(map(abs, deviations)) > 1:
        return None
    head_width = d_model // n_heads
    oddity: float = bool(d_ff % _GRANULARITY) + bool(head_width % _GRANULARITY)
    if s.n_heads is None and s.head_width is None:
        oddity += abs(math.log2(head_width / _usual_head_width(d_model)))
    return sum(x * x for x in deviations) + _ODDITY_COST * oddity


def _fixed(s: BudgetSettings, d_model: int, n_layers: int) -> int:
    """Parameters of everything but the feed-forward blocks."""
    norm = d_model * (1 if s.norm == "rmsnorm" else 2)
    return s.params_per_width * d_model + norm + n_layers * (4 * d_model**2 + 2 * norm)


def _wanted_width(s: BudgetSettings) -> float:
    return s.embedding_ratio * s.total_params / s.params_per_width


def _width_step(s: BudgetSettings) -> int:
    """What ``d_model`` has to be a multiple of."""
    pair = 2 if s.positions == "rotary" else 1
    return (s.n_heads or 1) * (s.head_width or pair)


def _widths(s: BudgetSettings) -> range:
    """Widths whose ratio can be within its tolerance; of very many those that powers of 2 divide best."""
    wanted, step = _wanted_width(s), _width_step(s)
    least = wanted * (1 - s.ratio_tolerance) * (1 - BUDGET_TOLERANCE)
    most = wanted * (1 + s.ratio_tolerance) * (1 + BUDGET_TOLERANCE)
    while (most - least) / step > _MOST_TRIED:
        step *= 2
    return range(max(1, math.ceil(least / step)) * step, math.floor(most / step) * step + 1, step)


def _heads(s: BudgetSettings, d_model: int) -> int | None:
    if s.n_heads is not None and s.head_width is not None:
        return s.n_heads if d_model == s.n_heads * s.head_width else None
    if s.n_heads is not None:
        return s.n_heads
    if s.head_width is not None:
        return d_model // s.head_width
    return _usual_heads(d_model, s.positions)


def _usual_heads(d_model: int, positions: Positions) -> int | None:
    """The number of heads whose width is nearest to the usual one; None where no allowed width divides."""
    pair = 2 if positions == "rotary" else 1
    widths = [width for width in _divisors(d_model) if width % pair == 0 and width in _HEAD_WIDTHS]
    if d_model < _HEAD_WIDTHS.start:
        widths = [d_model] if d_model % pair == 0 else []
    best = min(widths, key=lambda width: (abs(math.log2(width / _usual_head_width(d_model))), width), default=None)
    return None if best is None else d_model // best


def _usual_head_width(d_model: int) -> int:
    return 32 if d_model < 512 else 64


def _divisors(number: int) -> list[int]:
    small = [i for i in range(1, math.isqrt(number) + 1) if number % i == 0]
    return sorted({*small, *(number // i for i in small)})


def _layer_counts(s: BudgetSettings, d_model: int) -> range:
    """Numbers of layers with which the expansion can be within its tolerance."""
    least, most = (s.glu_expansion * (1 + sign * s.expansion_tolerance) for sign in (-1, 1))
    none = _fixed(s, d_model, 0)
    fewest = (s.total_params * (1 - BUDGET_TOLERANCE) - none) / (_fixed(s, d_model, 1) - none + 3 * d_model**2 * most)
    greatest = (s.total_params * (1 + BUDGET_TOLERANCE) - none) / (
        _fixed(s, d_model, 1) - none + 3 * d_model**2 * least
    )
    counts = range(max(1, math.ceil(fewest)), math.floor(greatest) + 1)
    return counts[:: 1 + len(counts) // _MOST_TRIED]


def _inner_widths(s: BudgetSettings, d_model: int, n_layers: int) -> set[int]:
    """Candidates for ``d_ff``: about the compromise of budget and expansion, and at the budget's two ends."""
    slope = 3 * n_layers * d_model
    by_budget = (s.total_params - _fixed(s, d_model, n_layers)) / slope
    half_span = BUDGET_TOLERANCE * s.total_params / slope
    by_expansion = s.glu_expansion * d_model
    weights = 1 / half_span**2, 1 / (s.expansion_tolerance * by_expansion) ** 2
    compromise = (weights[0] * by_budget + weights[1] * by_expansion) / sum(weights)
    found = set()
    for step in (_GRANULARITY, 1):
        for about in (compromise, by_budget - half_span, by_budget + half_span):
            found |= {math.floor(about / step) * step, math.ceil(about / step) * step}
    return {width for width in found if width >= 1}


def _why_not(s: BudgetSettings) -> str:
    """Which of the settings cannot be kept, in words and numbers."""
    asked = (
        f"{s.total_params:,} parameters, vocabulary {s.vocab_size:,}, embedding ratio {s.embedding_ratio:g}, "
        f"expansion {s.glu_expansion:g}: no plan"
    )
    wanted, step = _wanted_width(s), _width_step(s)
    if s.params_per_width * step >= s.total_params:
        return (
            f"{asked}: the vocabulary is too large for the budget; the narrowest embedding (d_model {step}) alone "
            f"takes {s.params_per_width * step:,} parameters"
        )
    below = math.floor(wanted / step) * step
    fixed_width = s.n_heads is not None and s.head_width is not None
    near = [d for d in ([step] if fixed_width else [below, below + step]) if d > 0]
    ratios = {d: s.params_per_width * d / s.total_params for d in near}
    if all(abs(ratio / s.embedding_ratio - 1) > s.ratio_tolerance + BUDGET_TOLERANCE for ratio in ratios.values()):
        made = " and ".join(f"{d} (ratio {ratio:.3f})" for d, ratio in ratios.items())
        return (
            f"{asked}: the ratio asks for a d_model of {wanted:.1f}; the nearest multiples of {step} "
            f"{'(heads × head width)' if fixed_width else '(heads × an even width)'} are {made}, "
            f"more than {s.ratio_tolerance:.0%} off"
        )
    d_model = min(near, key=lambda d: abs(d - wanted))
    left = s.total_params - _fixed(s, d_model, 0)
    least = _fixed(s, d_model, 1) - _fixed(s, d_model, 0)
    most_layers = (left - 1) // least
    if most_layers < 1:
        return (
            f"{asked}: d_model {d_model} leaves {left:,} parameters for the layers, and the attention of a single one "
            f"takes {least:,}"
        )
    wanted_layers = math.floor(left / (least + 3 * d_model**2 * s.glu_expansion))
    about = range(max(1, min(wanted_layers, most_layers) - 1), min(max(1, wanted_layers) + 2, most_layers) + 1)
    expansions = [((left - n * least) / (3 * n * d_model**2), n) for n in about]
    near_two = sorted(sorted(expansions, key=lambda pair: abs(pair[0] - s.glu_expansion))[:2])
    made = " and ".join(f"{expansion:.2f} ({n} layer{'s' * (n > 1)})" for expansion, n in near_two)
    return f"{asked}: d_model {d_model} leaves {left:,} parameters for the layers, which makes expansions of {made}"


def _nearest(s: BudgetSettings) -> Iterator[BudgetSettings]:
    """For each setting that can bring a plan by itself, its nearest value; the smallest change first."""
    found = []
    for name, values in _alternatives(s).items():
        for distance, value in values:
            try:
                changed = dataclasses.replace(s, **{name: value})
            except UsageError:
                continue
            if _best(changed) is not None:
                found.append((distance, changed))
                break
    yield from (changed for _, changed in sorted(found, key=lambda pair: pair[0]))


_STEPS = 300  # of 1% each: a factor of 20 up and down
_Values = Iterable[tuple[float, Any]]


def _alternatives(s: BudgetSettings) -> dict[str, _Values]:
    """Other values of each setting, nearest first, with how far they are (logarithm of the ratio)."""
    ratio, expansion = s.embedding_ratio, s.glu_expansion
    alternatives: dict[str, _Values] = {
        "embedding_ratio": _outward(ratio, lambda x: round(x, 3)),
        "glu_expansion": _outward(expansion, lambda x: round(x, 2)),
        "total_params": _outward(s.total_params, lambda x: int(float(f"{x:.3g}"))),
        "vocab_size": _outward(s.vocab_size, lambda x: max(1, round(x / 64)) * 64 if x >= 64 else round(x)),
    }
    for name in ("n_heads", "head_width"):
        if getattr(s, name) is not None:
            alternatives[name] = [(0.0, None)]  # left to the plan
    return alternatives


def _outward(value: float, rounded: Any) -> Iterator[tuple[float, Any]]:
    seen = {value}
    for step in range(1, _STEPS + 1):
        for sign in (-1, 1):
            other = rounded(value * math.exp(sign * step * 0.01))
            if other > 0 and other not in seen:
                seen.add(other)
                yield abs(math.log(other / value)), other
