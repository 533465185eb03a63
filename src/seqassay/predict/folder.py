"""The output folder: what may be there before a run, what a run leaves, and what ``--force`` may remove."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Mapping
from typing import Any, Literal

from seqassay.config import PredictSettings
from seqassay.durable import TEMPORARY_SUFFIX, disk_errors, write_durably
from seqassay.errors import UsageError
from seqassay.predict.outputs import OUTPUT_NAMES
from seqassay.predict.shards import ShardStore, check_identity
from seqassay.report.html.command import REPORT

RUN_RECORD = "run.json"
RUN_LOG = "run.log"
SHARDS = "shards"

logger = logging.getLogger(__name__)


class OutputFolder:
    """One run's folder. Nothing is written before ``open``; only files that a run makes are ever removed."""

    def __init__(self, settings: PredictSettings) -> None:
        """Check the place without touching it.

        Raises:
            UsageError: something is in the way, or nobody may write there.
        """
        self.path = settings.output_dir
        self.store = ShardStore(self.path / SHARDS)
        self.state: Literal["untouched", "open", "done"] = "untouched"
        self._resume, self._force = settings.resume, settings.force
        self._lock: int | None = None
        self._check_place()

    def open(self, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """Create the folder, lock it, and make it ready for this run or for going on with it.

        Returns:
            The record of a run that is already done, when ``--resume`` finds one; else None.

        Raises:
            UsageError: another run works there, or left shards of other settings there.
        """
        with disk_errors():
            self.path.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            if self._resume:
                done = self._finished(identity)
                if done is None and not self._continued(identity):
                    self.store.begin(identity)
                self.state = "open" if done is None else "done"
                return done
            if self._force:
                self._remove_ours()
            self.store.begin(identity)
        self.state = "open"
        return None

    def close(self) -> None:
        """Let another run in."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write ``run.json``, whole or not at all; with the status "done" the run is over, whatever comes."""
        write_durably(self.path / RUN_RECORD, [(json.dumps(record, indent=2) + "\n").encode()])
        if record["status"] == "done":
            self.state = "done"

    def read_record(self) -> dict[str, Any]:
        """What ``run.json`` says; empty when there is none that can be read."""
        with contextlib.suppress(OSError, ValueError):
            record = json.loads((self.path / RUN_RECORD).read_bytes())
            if isinstance(record, dict):
                return record
        return {}

    def _check_place(self) -> None:
        if self.path.is_dir():
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise UsageError(f"{self.path}: cannot write there", hint="choose another --output-dir")
            content = sorted(entry.name for entry in self.path.iterdir())
            if content and not (self._resume or self._force):
                raise UsageError(
                    f"{self.path}: the output folder is not empty (it holds {content[0]})",
                    hint="go on with the run in it (--resume), replace it (--force), or choose another --output-dir",
                )
            return
        nearest = next(place for place in (self.path, *self.path.absolute().parents) if os.path.lexists(place))
        if not nearest.is_dir():
            raise UsageError(
                f"{nearest}: a file is in the way of the output folder", hint="choose another --output-dir"
            )
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise UsageError(f"{self.path}: cannot create it in {nearest}", hint="choose another --output-dir")

    def _take_lock(self) -> None:
        """Keep a second run out until this process ends, however it ends."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise UsageError(f"{self.path}: another run is working there", hint="wait for it, or stop it") from None
        except OSError as error:  # some network file systems have no locks
            logger.info("%s: cannot be locked (%s)", self.path, error.strerror)
        self._lock = descriptor

    def _finished(self, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """The record of the finished run in this folder, its outputs checked to be there."""
        record = self.read_record()
        if record.get("status") != "done":
            return None
        check_identity(record["identity"], identity, self.path)
        for output in record["outputs"]:
            path = self.path / output["name"]
            if not path.is_file() or path.stat().st_size != output["bytes"]:
                if self.store.identity() is not None:
                    return None  # its shards were kept: make the outputs again
                raise UsageError(
                    f"{path}: an output of the finished run is gone or was changed",
                    hint="make all of it again with --force",
                )
        return record

    def _continued(self, identity: Mapping[str, Any]) -> bool:
        """Whether there are shards to go on from; refuses those of another run, and folders that are no run's."""
        found = self.store.identity()
        if found is not None:
            check_identity(found, identity, self.path)
            return True
        foreign = sorted(entry.name for entry in self.path.iterdir() if entry.name not in _ours())
        if foreign:
            raise UsageError(
                f"{self.path}: there is no run to resume (it holds {foreign[0]})",
                hint="choose the folder of an interrupted run, or leave --resume out",
            )
        logger.info("%s: nothing to resume yet; starting from the first record", self.path)
        return False

    def _remove_ours(self) -> None:
        for name in (RUN_RECORD, *sorted(_ours() - {RUN_RECORD, SHARDS})):  # run.json first: nothing says "done" now
            (self.path / name).unlink(missing_ok=True)
        self.store.remove()


def _ours() -> set[str]:
    names = {*OUTPUT_NAMES, REPORT, RUN_RECORD, RUN_LOG}
    return {SHARDS, *names, *(name + TEMPORARY_SUFFIX for name in names)}
