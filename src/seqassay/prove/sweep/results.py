"""What one training of a sweep came to: the rows that selection, decision and every table are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from seqassay.errors import SeqassayError

Stage = Literal["ranking", "final"]
Status = Literal["done", "killed", "failed", "stopped"]
AxisValue = float | int | str | bool

# name → unit, "" for pure numbers; a run has all of them, None where one was not measured
FIGURES: Mapping[str, str] = {
    "valid_loss": "nats/token",
    "valid_token_perplexity": "",
    "valid_bits_per_byte": "bits/byte",
    "test_loss": "nats/token",
    "test_token_perplexity": "",
    "test_bits_per_byte": "bits/byte",
    "smallbench_by_average": "",  # mean accuracy over the tasks
    "parameters": "",
    "embedding_parameters": "",
    "embedding_ratio_achieved": "",
    "glu_expansion_achieved": "",
    "tokens_seen": "tokens",
    "training_flop": "FLOP",
    "training_wall_s": "s",
    "training_tokens_per_s": "tokens/s",
    "latency_ms": "ms",  # mean of the first (batch, length) pair
    "latency_sd_ms": "ms",
    "throughput_tokens_per_s": "tokens/s",
    "peak_memory_bytes": "bytes",
}


@dataclass(frozen=True, slots=True)
class Run:
    """One training with its evaluation.

    Attributes:
        experiment: its name in the YAML file.
        axes: values of the sweep's axes.
        why: of killed and failed: step, figure, error.
        folder: relative to the sweep's.
        figures: by the names of `FIGURES`; None for what was not measured.
        curve: (training tokens, dev loss in nats) of every evaluation while it trained.

    Raises:
        SeqassayError: a figure that is not finite, an unknown name, a status without its reason.
    """

    experiment: str
    axes: Mapping[str, AxisValue]
    stage: Stage
    seed: int
    status: Status
    why: str | None
    folder: str
    figures: Mapping[str, float | None] = field(default_factory=lambda: dict.fromkeys(FIGURES))
    curve: Sequence[tuple[int, float]] = ()

    def __post_init__(self) -> None:
        if self.stage not in get_args(Stage) or self.status not in get_args(Status):
            raise SeqassayError(f"run {self.name}: stage {self.stage!r}, status {self.status!r}")
        if self.status in ("killed", "failed") and not self.why:
            raise SeqassayError(f"run {self.name}: {self.status} without a reason")
        unknown = [name for name in self.figures if name not in FIGURES]
        if unknown:
            raise SeqassayError(f"run {self.name}: no figure is called {unknown[0]}")
        odd = [name for name, value in self.figures.items() if value is not None and not math.isfinite(value)]
        if odd or not all(math.isfinite(loss) for _, loss in self.curve):
            raise SeqassayError(f"run {self.name}: {odd[0] if odd else 'its curve'} is not finite")
        whole = {**dict.fromkeys(FIGURES), **self.figures}
        object.__setattr__(self, "figures", whole)

    @property
    def name(self) -> str:
        """``experiment, stage, seed`` in words."""
        return f"{self.experiment} ({self.stage}, seed {self.seed})"

    def as_json(self) -> dict[str, Any]:
        """Every field, as JSON types."""
        return {
            "experiment": self.experiment,
            "axes": dict(self.axes),
            "stage": self.stage,
            "seed": self.seed,
            "status": self.status,
            "why": self.why,
            "folder": self.folder,
            "figures": dict(self.figures),
            "curve": [list(point) for point in self.curve],
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Run:
        """The run that `as_json` wrote.

        Raises:
            SeqassayError: a field is missing or unknown, or as for the class.
        """
        try:
            return cls(**{**said, "curve": tuple((int(tokens), float(loss)) for tokens, loss in said["curve"])})
        except (KeyError, TypeError, ValueError) as error:
            raise SeqassayError(f"this is not the run of a sweep ({error})") from None
