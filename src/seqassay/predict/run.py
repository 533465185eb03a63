"""The main path of ``seqassay predict``: reads in, a viral call for every one of them out."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seqassay.config import PredictSettings
from seqassay.engine.precision import resolve, resolve_device
from seqassay.errors import UsageError
from seqassay.measure.monitor import give_back_free_memory
from seqassay.measure.progress import RunProgress
from seqassay.measure.stages import StageClock
from seqassay.models.bundle import Bundle, load_bundle
from seqassay.models.thresholds import CallThresholds
from seqassay.predict.calls import decide
from seqassay.predict.count_input import BackgroundCount
from seqassay.predict.counts import count_shard
from seqassay.predict.folder import RUN_LOG, OutputFolder
from seqassay.predict.outputs import check_rows, counts_by_tick, shard_parts, write_outputs
from seqassay.predict.pipeline import ReadAhead, WriteBehind
from seqassay.predict.prepare import Model, PreparedShard, ScoredShard
from seqassay.predict.record import RunTally, run_guard
from seqassay.predict.resume import CommittedShard, check_input_end, committed_shard
from seqassay.predict.runlog import RunLog
from seqassay.predict.scoring import call_sequences
from seqassay.predict.shards import ShardMeta
from seqassay.predict.stop import resume_command
from seqassay.report.html.command import write_own_page
from seqassay.sequences.genetic_codes import codon_table
from seqassay.sequences.reading import InputSettings, Shard, read_shards

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictResult:
    """A finished run.

    Attributes:
        folder: where its outputs are.
        record: what ``run.json`` says.
        was_done: ``--resume`` found the run finished, and nothing was computed.
    """

    folder: Path
    record: dict[str, Any]
    was_done: bool = False


def predict(
    settings: PredictSettings, *, log: RunLog | None = None, progress: RunProgress | None = None
) -> PredictResult:
    """Score every sequence of the inputs and write the outputs; see ``docs/architecture.md`` for the shards.

    Args:
        settings: what to read, with which bundle, and where to write.
        log: opens ``run.log`` in the output folder once that exists.
        progress: kept up to date for whoever shows it.

    Raises:
        UsageError, InputError, ModelError: nothing was written, or what was is resumable.
        ResourceError: out of memory or disk; resumable.
        StoppedError: SIGTERM or Ctrl-C under ``stop_on_signals``; resumable.
    """
    progress = progress or RunProgress()
    tally = RunTally(settings, progress, StageClock())
    folder = OutputFolder(settings)
    with run_guard(folder, tally, resume_command(settings)), BackgroundCount(settings.inputs, progress):
        resolve(resolve_device(settings.device), settings.precision or "float32")  # a missing device is said at once
        bundle = with_settings(load_bundle(settings.model), settings)
        if settings.fdr is not None and bundle.calibration is None:
            raise UsageError(
                f"--fdr needs calibrated probabilities; the bundle {bundle.name} has no calibration",
                hint="leave --fdr out, or choose a bundle that `seqassay models list` shows as calibrated",
            )
        shards = first_shard_checked(settings, tally)
        model = load_model(settings, bundle, tally)
        done = folder.open(tally.identity)
        if done is None:
            if log is not None and settings.log_file is None:
                log.open(folder.path / RUN_LOG)
            folder.write_record(tally.record("running"))
            with tally.watch_utilisation():
                score_shards(shards, model, folder, tally)
                record = finish(folder, bundle, tally)
        if not settings.keep_intermediate:
            folder.store.remove()
    return PredictResult(folder.path, done or record, was_done=done is not None)


def first_shard_checked(settings: PredictSettings, tally: RunTally) -> Iterator[Shard]:
    """All shards; the first is read at once, so that a bad input ends before models load and folders are made."""
    inputs = InputSettings(paths=settings.inputs, pairing=settings.pairing)
    shards = tally.records_read.watch(read_shards(inputs, max_sequences=settings.shard_size))
    shards = timed(shards, tally.clock)
    first = list(itertools.islice(shards, 1))
    return itertools.chain(first, shards)


def timed(shards: Iterator[Shard], clock: StageClock) -> Iterator[Shard]:
    """The shards, with the time that reading them takes."""
    while True:
        with clock.measure("reading"):
            shard = next(shards, None)
        if shard is None:
            return
        yield shard


def with_settings(bundle: Bundle, settings: PredictSettings) -> Bundle:
    """The bundle with the settings' chunk rule, genetic code, ambiguity rule and threshold where they name one."""
    codon_table(bundle.genetic_code if settings.genetic_code is None else settings.genetic_code)
    names = ("chunk_rule", "genetic_code", "ambiguity")
    given = {name: getattr(settings, name) for name in names if getattr(settings, name) is not None}
    if settings.threshold is not None:
        given["thresholds"] = CallThresholds.at(settings.threshold)
    return replace(bundle, **given)


def load_model(settings: PredictSettings, bundle: Bundle, tally: RunTally) -> Model:
    """The bundle on its device; from here on the run's identity is known."""
    tally.progress.stage = "loading models"
    model = Model(
        bundle,
        device=settings.device,
        precision=settings.precision,
        token_budget=settings.batch,
        threads=settings.threads,
        clock=tally.clock,
    )
    tally.know_model(bundle, model)
    return model


def score_shards(shards: Iterator[Shard], model: Model, folder: OutputFolder, tally: RunTally) -> None:
    """Embed one shard while the next is prepared and the one before is written."""
    progress = tally.progress
    # Preparing and writing take turns: both need some 10 MB for a moment, and the peak should not depend on chance.
    host_work = threading.Lock()

    def prepared_or_committed() -> Iterator[PreparedShard | CommittedShard]:
        n_shards = 0
        for shard in shards:
            with host_work:
                item = committed_shard(folder.store, shard) or model.prepare(shard)
            yield item
            n_shards += 1
        check_input_end(folder.store, n_shards)

    def commit(done: ScoredShard | CommittedShard) -> None:
        if isinstance(done, CommittedShard):
            tally.add(done.meta)
            return
        with host_work:
            meta, parts = call_shard(done, model.bundle, tally)
        with tally.clock.measure("writing"):
            folder.store.commit(meta, parts)
        tally.add(meta)
        give_back_free_memory()

    progress.begin_work()
    ahead, behind = ReadAhead(prepared_or_committed(), depth=tally.settings.prefetch), WriteBehind(commit)
    tally.know_queues(ahead.state, behind.state)
    with ahead, behind:
        for item in tally.waits_for(ahead):
            if isinstance(item, CommittedShard):
                progress.skip_shard(item.meta.counts.sequences)
                behind.put(item)
            else:
                progress.begin_shard(len(item.shard.ids), item.n_tokens)
                behind.put(model.score(item, progress))
                progress.end_shard(len(item.shard.ids))


def call_shard(scored: ScoredShard, bundle: Bundle, tally: RunTally) -> tuple[ShardMeta, dict[str, bytes]]:
    """Consensus over a shard's frames and chunks, and its part of every output."""
    shard = scored.shard
    with tally.clock.measure("consensus"):
        chunks, calls = call_sequences(scored, bundle.calibration, bundle.thresholds)
    frame_is_virus = scored.scores_F2[:, 1] > scored.scores_F2[:, 0]
    counts = count_shard(
        calls, shard.bases.lengths, chunks, frame_is_virus, scored.n_distinct_nucleotide, scored.n_distinct_protein
    )
    meta = ShardMeta(shard.index, shard.first_record, shard.digest(), shard.qualities is not None, counts)
    with tally.clock.measure("writing"):
        parts = shard_parts(scored, chunks, calls, by_sample=tally.settings.fdr is not None)
        check_rows(parts, counts)
    return meta, parts


def finish(folder: OutputFolder, bundle: Bundle, tally: RunTally) -> dict[str, Any]:
    """Make the calls that need the whole sample, write the outputs; ``run.json`` with the status "done" comes last."""
    tally.progress.begin_stage("writing the outputs")
    fdr = tally.settings.fdr
    with tally.clock.measure("writing"):
        by_tick = counts_by_tick(folder.store, tally.n_shards)
        calls = decide(by_tick, bundle.calibration, bundle.thresholds, fdr, mean_length=tally.counts.mean_scored_length)
        tally.know_calls(calls, by_tick, counts_by_tick(folder.store, tally.n_shards, calls))
        tally.counts.check()
        outputs = write_outputs(
            folder.path, folder.store, tally.n_shards, tally.counts, calls,
            fastq=tally.has_qualities, by_sample=fdr is not None,
        )  # fmt: skip
    record = tally.record("done", outputs=outputs)
    write_own_page(folder.path, "run", record)
    folder.write_record(record)
    logger.info("done: %d sequences, %d called virus", tally.counts.sequences, tally.counts.virus)
    return record
