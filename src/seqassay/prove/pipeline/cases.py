"""Which cases a benchmark runs: the main one, others over workers, others over settings, and the reference."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from seqassay.errors import UsageError
from seqassay.prove.pipeline.settings import PipelineSettings

Kind = Literal["predict", "reference"]


@dataclass(frozen=True, slots=True)
class Setup:
    """What tells one case from another.

    Attributes:
        workers: cores that the process may use; None: all.
        threads: CPU threads of the engine; None: what the machine gives.
        batch: token budget; None: what suits the device.
        prefetch: shards prepared ahead.
    """

    kind: Kind = "predict"
    workers: int | None = None
    threads: int | None = None
    batch: int | None = None
    prefetch: int = 1

    @property
    def name(self) -> str:
        """For people."""
        if self.kind == "reference":
            return "reference procedure"
        parts = [] if self.workers is None else [f"{self.workers} worker{'s' * (self.workers > 1)}"]
        parts += [f"{self.threads} threads"] if self.threads is not None and self.workers is None else []
        parts.append("batch by device" if self.batch is None else f"batch {self.batch}")
        return ", ".join([*parts, f"prefetch {self.prefetch}"])


@dataclass(slots=True)
class Case:
    """A setup with the runs it has had.

    Attributes:
        runs: by round; what `Runner` measured.
        failure: what ended its last run; it gets no more.
    """

    setup: Setup
    runs: dict[int, dict[str, Any]] = field(default_factory=dict)
    failure: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All cases of a benchmark, each once."""

    main: Setup
    scaling: tuple[Setup, ...]
    sweep: tuple[Setup, ...]
    reference: Setup | None

    @property
    def setups(self) -> list[Setup]:
        """Every case once, the main one first."""
        others = (*self.scaling, *self.sweep, *([self.reference] if self.reference else []))
        return list(dict.fromkeys((self.main, *others)))


def plan(settings: PipelineSettings, *, device_type: str, cores: int) -> Plan:
    """The cases that settings ask for.

    Raises:
        UsageError: more workers than the machine has, or a comparison that this device can't have.
    """
    if settings.workers and device_type != "cpu" and set(settings.workers) != {1}:
        raise UsageError(
            "predict runs on one CUDA device; workers beyond the first need several",
            hint="leave --workers out, or measure on --device cpu, where workers are cores",
        )
    too_many = max(settings.workers, default=1)
    if device_type == "cpu" and too_many > cores:
        raise UsageError(f"--workers {too_many}: this process may use {cores} cores")
    if settings.reference and device_type != "cpu":
        raise UsageError("the reference procedure is stated for the CPU", hint="compare on --device cpu")
    most = max(settings.workers, default=None)
    threads = settings.threads if most is None else most
    main = Setup(workers=most, threads=threads, batch=settings.batch, prefetch=settings.prefetch)
    scaling = tuple(replace(main, workers=n, threads=n) for n in sorted({1, *settings.workers})) if most else ()
    batches = settings.sweep_batch or (settings.batch,)
    depths = settings.sweep_prefetch or (settings.prefetch,)
    swept = [replace(main, batch=batch, prefetch=depth) for batch in batches for depth in depths]
    has_sweep = bool(settings.sweep_batch or settings.sweep_prefetch)
    reference = Setup(kind="reference", workers=most, threads=threads) if settings.reference else None
    return Plan(main, scaling, tuple(dict.fromkeys((main, *swept))) if has_sweep else (), reference)
