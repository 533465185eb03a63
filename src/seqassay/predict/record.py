"""What is known of a run, as ``run.json`` keeps it, and what becomes of a run that doesn't reach its end."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

import seqassay
from seqassay.config import PredictSettings, settings_as_json
from seqassay.durable import disk_errors
from seqassay.errors import InputError, ResourceError, StoppedError
from seqassay.measure.monitor import memory_record
from seqassay.measure.progress import RunProgress
from seqassay.measure.provenance import device_name, provenance, utc_now
from seqassay.measure.schema import check_schema
from seqassay.measure.stages import StageClock, WaitStatistics
from seqassay.measure.utilisation import UtilisationSampler
from seqassay.models.bundle import Bundle
from seqassay.predict.calls import SampleCalls
from seqassay.predict.counts import Counts, expect_equal
from seqassay.predict.folder import OutputFolder
from seqassay.predict.pipeline import QueueState
from seqassay.predict.prepare import Model
from seqassay.predict.shards import ShardMeta
from seqassay.predict.stop import StopRequested
from seqassay.sequences.reading import RecordsDigest

RECORD_FORMAT = "seqassay-run"
RECORD_VERSION = "1.5"
# What utilisation is told of: by group, stages of the progress.
EMBEDDING = ("nucleotide embedding", "protein embedding")
STAGE_GROUPS = {"embedding": EMBEDDING, **{stage: (stage,) for stage in EMBEDDING}}

logger = logging.getLogger(__name__)
T = TypeVar("T")


class RunTally:
    """Adds up a run while it goes: identity, counts, times, tokens."""

    def __init__(self, settings: PredictSettings, progress: RunProgress, clock: StageClock) -> None:
        self.settings, self.progress, self.clock = settings, progress, clock
        self.counts, self.n_shards = Counts(), 0
        self.has_qualities = False
        self._calls: dict[str, Any] | None = None  # known at the end
        self._waits = WaitStatistics()
        self._queues: dict[str, QueueState] = {}
        self._sampler: UtilisationSampler | None = None
        self.records_read = RecordsDigest()
        self._started_at, self._started = utc_now(), time.monotonic()

    def know_model(self, bundle: Bundle, model: Model) -> None:
        """Bundle and device are there: the identity is complete."""
        self._bundle, self._model = bundle, model
        self._provenance = provenance()
        self.progress.tokens = model.tokens_embedded

    def know_queues(self, ready: QueueState, to_write: QueueState) -> None:
        """Both queues of the work, whose state the record tells."""
        self._queues = {"ready": ready, "to_write": to_write}

    @contextlib.contextmanager
    def watch_utilisation(self) -> Iterator[None]:
        """Measure how busy processor and device are while the block runs."""
        with UtilisationSampler(self._model.device, self.progress, STAGE_GROUPS) as self._sampler:
            yield

    @property
    def identity(self) -> dict[str, Any]:
        """Everything besides the records that the outputs' bytes depend on; two runs with one identity can be mixed.

        Inputs count by their names: their content is checked shard by shard. The number of threads is left out: it
        may move a score's last digit.
        """
        return {
            "seqassay": seqassay.__version__,
            "bundle": self._bundle.digest,
            "inputs": [Path(path).name for path in self.settings.inputs],
            "pairing": self.settings.pairing,
            "chunk_rule": self._bundle.chunk_rule,
            "genetic_code": self._bundle.genetic_code,
            "ambiguity": self._bundle.ambiguity,
            "shard_size": self.settings.shard_size,
            "fdr": self.settings.fdr,
            "threshold": self.settings.threshold,
            "device": self._model.device.type,
            "precision": self._model.precision,
            "token_budgets": self._model.token_budgets,
        }

    def add(self, meta: ShardMeta) -> None:
        """Count a committed shard; shards come in order."""
        self.counts += meta.counts
        self.n_shards += 1
        self.has_qualities = meta.has_qualities

    def know_calls(
        self, calls: SampleCalls, by_tick: npt.NDArray[np.int64], called_by_tick: npt.NDArray[np.int64]
    ) -> None:
        """Calls of the whole sample, which replace those that were counted shard by shard.

        Args:
            by_tick, called_by_tick: sequences at every score, and those of them that are called virus.
        """
        n_virus = int(called_by_tick.sum())
        expect_equal("scored sequences", self.counts.scored, int(by_tick.sum()))
        self.counts = replace(self.counts, virus=n_virus, others=self.counts.scored - n_virus)
        self._calls = calls.as_record(called_by_tick)

    def waits_for(self, items: Iterable[T]) -> Iterator[T]:
        """The items, with the time that the device waits for each."""
        iterator = iter(items)
        while True:
            self.progress.begin_stage("waiting for input")
            started = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self._waits.add(time.perf_counter() - started)
            yield item

    @property
    def amount(self) -> str:
        """Sequences of the committed shards, in words."""
        return f"{self.counts.sequences:,} sequences"

    def record(
        self, status: str, *, outputs: Iterable[dict[str, Any]] = (), error: str | None = None
    ) -> dict[str, Any]:
        """The run as JSON types; times, rates and peaks are those of this process, counts those of the whole run."""
        work_s = self.progress.elapsed_s
        n_here = self.counts.sequences - self.progress.resumed_sequences
        record = {
            "format": RECORD_FORMAT,
            "version": RECORD_VERSION,
            "status": status,
            "error": error,
            "identity": self.identity,
            "settings": settings_as_json(self.settings),
            "output_dir": str(self.settings.output_dir),
            "inputs": input_records(self.settings.inputs),
            "input_digest": self.records_read.hexdigest() if status == "done" else None,
            "bundle": {
                "name": self._bundle.name,
                "digest": self._bundle.digest,
                "chunk_length": self._bundle.chunk_length,
            },
            "device": device_name(self._model.device),
            "precision": self._model.precision,
            "counts": self.counts.as_record(),
            "calls": self._calls,
            "shards": self.n_shards,
            "resumed_sequences": self.progress.resumed_sequences,
            "started_at": self._started_at,
            "written_at": utc_now(),
            "wall_s": round(time.monotonic() - self._started, 3),
            "stages": self.clock.as_records(),
            "loader_wait": self._waits.as_record(),
            "queues": {name: asdict(state) for name, state in self._queues.items()} or None,
            "throughput": {
                "work_s": round(work_s, 3),
                "sequences_per_s": round(n_here / work_s, 3),
                "tokens_per_s": round(self._model.tokens_embedded() / work_s, 3),
            },
            "packing": self._packing(),
            "flop": self._model.flops(),
            "utilisation": None if self._sampler is None else self._sampler.as_record(),
            "timeline": [] if self._sampler is None else self._sampler.timeline(),
            "memory": memory_record(self._model.device),
            "outputs": list(outputs),
            "provenance": self._provenance,
        }
        if status == "done":  # of others, what ended the run matters more than how its record is written
            check_schema(record, "run")
        return record

    def _packing(self) -> dict[str, Any]:
        sides = {"nucleotide": self._model.nucleotide.stats, "protein": self._model.protein.stats}
        real = sum(stats.real_tokens for stats in sides.values())
        capacity = sum(stats.capacity_tokens for stats in sides.values())
        return {
            "real_tokens": real,
            "capacity_tokens": capacity,
            "efficiency": round(real / capacity, 6) if capacity else None,
            **{
                name: {
                    "real_tokens": stats.real_tokens,
                    "capacity_tokens": stats.capacity_tokens,
                    "batches": stats.batches,
                }
                for name, stats in sides.items()
            },
        }


def input_records(paths: Iterable[str]) -> list[dict[str, Any]]:
    """Name and size of every input; standard input and pipes have no size."""
    return [{"name": path, "bytes": Path(path).stat().st_size if Path(path).is_file() else None} for path in paths]


class Tally(Protocol):
    """What the guard asks of a run's tally."""

    n_shards: int

    @property
    def amount(self) -> str:
        """How much was committed, in words."""

    def record(self, status: str, *, error: str | None = None) -> dict[str, Any]:
        """The run as JSON types."""


@contextlib.contextmanager
def run_guard(
    folder: OutputFolder,
    tally: Tally,
    command: str,
    *,
    first: str = "record",
    smaller: str = "--shard-size or --batch",
) -> Iterator[None]:
    """However a run ends, ``run.json`` says so, and the user is told how to go on.

    Args:
        command: the command line that goes on.
        first: of what the first one is scored before anything is kept.
        smaller: the options that a run with too little memory may lower.

    Raises:
        StoppedError: for a stop by signal.
        ResourceError: for a full disk or too little memory.
    """
    try:
        with disk_errors(command):
            yield
    except StopRequested as stop:
        _leave_record(folder, tally, "stopped", f"stopped by {stop}")
        if folder.state == "untouched":
            raise StoppedError(f"stopped by {stop} before the first {first} was scored; nothing was written") from None
        if folder.state == "done":
            raise StoppedError(f"stopped by {stop}, but the outputs are complete") from None
        raise StoppedError(
            f"stopped by {stop} after {tally.n_shards:,} shards ({tally.amount}), which are kept",
            hint=f"go on with:\n  {command}",
        ) from None
    except InputError as error:
        _leave_record(folder, tally, "failed", str(error))
        if folder.state == "open":
            kept = f"the shards before it are kept; when the input is mended, go on with:\n  {command}"
            error.hint = f"{error.hint}\n{kept}" if error.hint else kept
        raise
    except MemoryError as error:
        _leave_record(folder, tally, "failed", "out of memory")
        raise ResourceError(
            "out of memory", hint=f"choose a smaller {smaller} and begin again, or go on with:\n  {command}"
        ) from error
    except BaseException as error:
        _leave_record(folder, tally, "failed", str(error) or type(error).__name__)
        raise
    finally:
        folder.close()


def _leave_record(folder: OutputFolder, tally: Tally, status: str, error: str) -> None:
    logger.info("%s: %s", status, error)
    if folder.state == "open":
        try:
            folder.write_record(tally.record(status, error=error))
        except OSError as failure:  # a full disk: what ended the run is about to be said
            logger.info("run.json cannot be written: %s", failure)
