"""Runs of cases, each in a process of its own, and what they left behind."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seqassay.errors import ResourceError, SeqassayError, UsageError
from seqassay.models.bundle import Bundle
from seqassay.predict.folder import RUN_RECORD
from seqassay.prove.child_process import child_process
from seqassay.prove.pipeline.cases import Setup
from seqassay.prove.pipeline.reference_files import ReferenceFiles
from seqassay.prove.pipeline.settings import PipelineSettings
from seqassay.prove.pipeline.workload import Workload

TABLE = "prediction_results.txt"
_LAST_LINES = 3  # of what a process said before it ended by itself


class Runner:
    """Runs setups in a scratch folder, one after the other."""

    def __init__(
        self,
        settings: PipelineSettings,
        bundle: Bundle,
        workload: Workload,
        scratch: Path,
        reference: ReferenceFiles | None,
    ) -> None:
        self._settings, self._bundle, self._workload = settings, bundle, workload
        self._scratch, self._reference = scratch, reference

        self._folders: dict[Setup, Path] = {}

    def table(self, setup: Setup) -> Path:
        """Frames' scores of the last run of a case."""
        return self._folder(setup) / TABLE

    def _folder(self, setup: Setup) -> Path:
        return self._folders.setdefault(setup, self._scratch / f"case-{len(self._folders)}")

    def run(self, setup: Setup, *, with_peak: bool) -> dict[str, Any]:
        """One run in a fresh process: seconds of its parts, and for `predict` its record.

        Raises:
            SeqassayError: the process failed; the message says how.
        """
        result_path = self._scratch / "result.json"
        result_path.unlink(missing_ok=True)
        job = self._job(setup, with_peak) | {"result": str(result_path)}
        job_path = self._scratch / "job.json"
        job_path.write_text(json.dumps(job), encoding="utf-8")
        began = time.perf_counter()
        said_path = self._scratch / "said.txt"
        with said_path.open("wb") as said, child_process("seqassay.prove.pipeline.child", job_path, said) as process:
            process.wait()
        process_s = time.perf_counter() - began
        if not result_path.is_file():
            lines = said_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            last = " | ".join(lines[-_LAST_LINES:]) or "it said nothing"
            raise SeqassayError(f"its process ended with {_ending(process.returncode)}: {last}")
        result: dict[str, Any] = json.loads(result_path.read_text(encoding="utf-8"))
        if "error" in result:
            raise error_of(result)
        result["process_s"] = process_s
        result["record"] = None if setup.kind == "reference" else self._record(setup)
        return result

    def _record(self, setup: Setup) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self._folder(setup) / RUN_RECORD).read_bytes())
        if record["input_digest"] != self._workload.digest:
            raise SeqassayError("the input has changed since the benchmark began", hint="run it again")
        return record

    def _job(self, setup: Setup, with_peak: bool) -> dict[str, Any]:
        job = {"kind": setup.kind, "cores": setup.workers, "peak": with_peak, "few": str(self._workload.few)}
        if self._reference is not None and setup.kind == "reference":
            folder = self._folder(setup)
            folder.mkdir(exist_ok=True)
            files = asdict(self._reference)
            return job | {
                "dnabert_heads": files.pop("dnabert_heads"),
                "paths": {name: str(path) for name, path in files.items()},
                "folder": str(folder),
                "fasta": str(self._workload.fasta),
                "threads": setup.threads,
                "chunk_length": self._bundle.chunk_length,
                "chunk_rule": self._bundle.chunk_rule,
            }
        settings = {name: getattr(self._settings, name) for name in ("pairing", "device", "precision", "shard_size")}
        settings |= {
            "inputs": list(self._settings.inputs),
            "output_dir": str(self._folder(setup)),
            "model": self._settings.model,
            "threads": setup.threads,
            "batch": setup.batch,
            "prefetch": setup.prefetch,
            "force": True,
        }
        return job | {"settings": settings}


def error_of(failure: Mapping[str, Any]) -> SeqassayError:
    """The error that ended a run, of the class that its exit code stands for."""
    classes = {error.exit_code: error for error in (SeqassayError, UsageError, ResourceError)}
    return classes.get(failure["exit_code"], SeqassayError)(failure["error"], hint=failure["hint"])


def _ending(status: int) -> str:
    return f"exit code {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"
