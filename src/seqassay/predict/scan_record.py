"""What is known of a scan, as its ``run.json`` keeps it, and its output folder."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import seqassay
from seqassay.config import settings_as_json
from seqassay.durable import TEMPORARY_SUFFIX
from seqassay.measure.monitor import memory_record
from seqassay.measure.progress import RunProgress
from seqassay.measure.provenance import device_name, provenance, utc_now
from seqassay.measure.schema import check_schema
from seqassay.measure.stages import AROUND_STAGES, PREDICT_STAGES, StageClock
from seqassay.models.bundle import Bundle
from seqassay.predict.counts import expect_equal
from seqassay.predict.folder import OutputFolder
from seqassay.predict.prepare import Model
from seqassay.predict.record import input_records
from seqassay.predict.regions import RegionCaller
from seqassay.predict.scan_outputs import OUTPUT_NAMES, PLOTS, ScanCounts
from seqassay.predict.scan_settings import ScanSettings, Windows
from seqassay.predict.shards import ShardMeta
from seqassay.sequences.reading import RecordsDigest

RECORD_FORMAT = "seqassay-scan"
RECORD_VERSION = "1.1"
REGIONS_STAGE, PLOTS_STAGE = "calling regions", "plotting"


class ScanFolder(OutputFolder):
    """The output folder of a scan: `OutputFolder`'s rules, and ``--force`` removes what a scan makes."""

    def __init__(self, settings: ScanSettings) -> None:
        super().__init__(settings.as_predict())

    def _remove_ours(self) -> None:
        super()._remove_ours()
        plots = self.path / PLOTS
        for path in (*(self.path / name for name in OUTPUT_NAMES), *plots.glob("*.png")):
            path.unlink(missing_ok=True)
            path.with_name(path.name + TEMPORARY_SUFFIX).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody else's files are in it, or it isn't there
            plots.rmdir()


class ScanTally:
    """Adds up a scan while it goes: identity, counts, times."""

    def __init__(self, settings: ScanSettings, progress: RunProgress) -> None:
        self.settings, self.progress = settings, progress
        self.clock = StageClock((*PREDICT_STAGES, *AROUND_STAGES, REGIONS_STAGE, PLOTS_STAGE))
        self.counts = ScanCounts()
        self.n_shards = self.n_windows = 0
        self.records_read = RecordsDigest()
        self._started_at, self._started = utc_now(), time.monotonic()

    def know_model(self, bundle: Bundle, model: Model, windows: Windows, caller: RegionCaller) -> None:
        """Bundle and device are there: the identity is complete."""
        self._bundle, self._model, self.windows, self._caller = bundle, model, windows, caller
        self._provenance = provenance()
        self.progress.tokens = model.tokens_embedded

    @property
    def identity(self) -> dict[str, Any]:
        """Everything besides the records that the outputs depend on; two scans with one identity can be mixed."""
        return {
            "command": "scan",
            "seqassay": seqassay.__version__,
            "bundle": self._bundle.digest,
            "inputs": [Path(path).name for path in self.settings.inputs],
            "window": self.windows.length,
            "step": self.windows.step,
            "min_region": self.settings.min_region,
            "max_plots": self.settings.max_plots if self.settings.plots else 0,
            "device": self._model.device.type,
            "precision": self._model.precision,
            "token_budgets": self._model.token_budgets,
        }

    def add(self, meta: ShardMeta) -> None:
        """Count a committed shard; shards come in order."""
        self.n_shards += 1
        self.n_windows += meta.counts.sequences

    def know_findings(self, counts: ScanCounts) -> None:
        """Counts of the finished scan.

        Raises:
            SeqassayError: they don't add up.
        """
        expect_equal("windows", counts.windows, self.n_windows)
        expect_equal("windows by score", counts.windows, counts.windows_scored + counts.windows_without_score)
        expect_equal("contigs by status", counts.contigs, counts.scanned + counts.short + counts.no_score)
        expect_equal("contigs by plot", counts.contigs, counts.plots + counts.plots_left_out)
        self.counts = counts

    @property
    def amount(self) -> str:
        """Windows of the committed shards, in words."""
        return f"{self.n_windows:,} windows"

    def record(
        self, status: str, *, outputs: Iterable[dict[str, Any]] = (), error: str | None = None
    ) -> dict[str, Any]:
        """The scan as JSON types; times and peaks are those of this process, counts those of the whole scan."""
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
            "bundle": {"name": self._bundle.name, "digest": self._bundle.digest},
            "windows": {"length": self.windows.length, "step": self.windows.step},
            "regions": self._caller.as_record(),
            "device": device_name(self._model.device),
            "precision": self._model.precision,
            "counts": asdict(self.counts) | {"windows_in_shards": self.n_windows},
            "shards": self.n_shards,
            "resumed_windows": self.progress.resumed_sequences,
            "started_at": self._started_at,
            "written_at": utc_now(),
            "wall_s": round(time.monotonic() - self._started, 3),
            "stages": self.clock.as_records(),
            "memory": memory_record(self._model.device),
            "outputs": list(outputs),
            "provenance": self._provenance,
        }
        if status == "done":  # of others, what ended the scan matters more than how its record is written
            check_schema(record, "scan")
        return record
