"""The main path of ``seqassay scan``: contigs in; scores along them, and viral regions, out."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqassay.durable import publish, stage, unstage, write_durably
from seqassay.engine.precision import resolve, resolve_device
from seqassay.measure.monitor import give_back_free_memory
from seqassay.measure.progress import RunProgress
from seqassay.measure.stages import StageClock
from seqassay.models.bundle import Bundle, load_bundle
from seqassay.predict.consensus import VIRUS_THRESHOLD
from seqassay.predict.counts import count_shard
from seqassay.predict.folder import RUN_LOG
from seqassay.predict.pipeline import ReadAhead
from seqassay.predict.prepare import Model, PreparedShard
from seqassay.predict.record import run_guard
from seqassay.predict.regions import RegionCaller
from seqassay.predict.resume import CommittedShard, check_input_end, committed_shard
from seqassay.predict.runlog import RunLog
from seqassay.predict.scan_outputs import (
    CONTIGS_TABLE,
    PLOTS,
    REGIONS_BED,
    REGIONS_GFF,
    ROWS_PART,
    TRACK_HEADER,
    TRACK_TABLE,
    ContigTrack,
    Findings,
    bed_rows,
    contig_tracks,
    gff_rows,
    plot_name,
    window_rows,
)
from seqassay.predict.scan_record import PLOTS_STAGE, REGIONS_STAGE, ScanFolder, ScanTally
from seqassay.predict.scan_settings import ScanSettings, Windows, resume_command
from seqassay.predict.scan_windows import WindowCount, window_shards
from seqassay.predict.scoring import call_sequences
from seqassay.predict.shards import ShardMeta
from seqassay.report.html.command import write_own_page
from seqassay.report.track_plot import check_matplotlib, draw_track
from seqassay.sequences.reading import InputSettings, Shard, read_shards

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScanResult:
    """A finished scan.

    Attributes:
        folder: where its outputs are.
        record: what ``run.json`` says.
        was_done: ``--resume`` found the scan finished, and nothing was computed.
    """

    folder: Path
    record: dict[str, Any]
    was_done: bool = False


def scan(settings: ScanSettings, *, log: RunLog | None = None, progress: RunProgress | None = None) -> ScanResult:
    """Score windows along every contig of the inputs, call viral regions, write the outputs.

    Args:
        settings: what to read, with which bundle, and where to write.
        log: opens ``run.log`` in the output folder once that exists.
        progress: kept up to date for whoever shows it; its sequences are windows.

    Raises:
        UsageError, InputError, ModelError: nothing was written, or what was is resumable.
        ResourceError: out of memory or disk; resumable.
        StoppedError: SIGTERM or Ctrl-C under ``stop_on_signals``; resumable.
    """
    progress = progress or RunProgress(unit="windows")
    tally = ScanTally(settings, progress)
    folder = ScanFolder(settings)
    with run_guard(folder, tally, resume_command(settings), first="window", smaller="--batch"):
        check_tools(settings)
        bundle = load_bundle(settings.model)
        windows = settings.for_chunks_of(bundle.chunk_length)
        caller = RegionCaller(windows, settings.min_region)
        with WindowCount(settings.inputs, windows, progress):
            shards = first_shard_checked(settings, windows, tally)
            model = load_model(settings, bundle, tally.clock, progress)
            tally.know_model(bundle, model, windows, caller)
            done = folder.open(tally.identity)
            if done is None:
                if log is not None:
                    log.open(folder.path / RUN_LOG)
                folder.write_record(tally.record("running"))
                score_windows(shards, model, folder, tally)
                record = finish(folder, caller, tally)
        folder.store.remove()
    return ScanResult(folder.path, done or record, was_done=done is not None)


def check_tools(settings: ScanSettings) -> None:
    """What is missing on this machine is said before anything is read or loaded."""
    resolve(resolve_device(settings.device), settings.precision or "float32")
    RegionCaller.check_library()
    if settings.plots and settings.max_plots:
        check_matplotlib()


def first_shard_checked(settings: ScanSettings, windows: Windows, tally: ScanTally) -> Iterator[Shard]:
    """All shards of windows; the first is read at once: a bad input ends before models load and folders are made."""
    contigs = tally.records_read.watch(read_shards(InputSettings(paths=settings.inputs)))
    shards = window_shards(contigs, windows)

    def timed() -> Iterator[Shard]:
        while True:
            with tally.clock.measure("reading"):
                shard = next(shards, None)
            if shard is None:
                return
            yield shard

    timed_shards = timed()
    first = list(itertools.islice(timed_shards, 1))
    return itertools.chain(first, timed_shards)


def load_model(settings: ScanSettings, bundle: Bundle, clock: StageClock, progress: RunProgress) -> Model:
    """The bundle on its device."""
    progress.stage = "loading models"
    return Model(
        bundle,
        device=settings.device,
        precision=settings.precision,
        token_budget=settings.batch,
        threads=settings.threads,
        clock=clock,
    )


def score_windows(shards: Iterator[Shard], model: Model, folder: ScanFolder, tally: ScanTally) -> None:
    """Score one shard of windows while the next is prepared, and commit it; one that is there already is counted."""
    progress = tally.progress

    def prepared_or_committed() -> Iterator[PreparedShard | CommittedShard]:
        n_shards = 0
        for shard in shards:
            yield committed_shard(folder.store, shard) or model.prepare(shard)
            n_shards += 1
        check_input_end(folder.store, n_shards)

    progress.begin_work()
    with ReadAhead(prepared_or_committed()) as ahead:
        for item in ahead:
            if isinstance(item, CommittedShard):
                progress.skip_shard(item.meta.counts.sequences)
                tally.add(item.meta)
            else:
                progress.begin_shard(len(item.shard.ids), item.n_tokens)
                meta, rows = score_shard(item, model, tally)
                with tally.clock.measure("writing"):
                    folder.store.commit(meta, {ROWS_PART: rows})
                tally.add(meta)
                progress.end_shard(len(item.shard.ids))
            give_back_free_memory()


def score_shard(prepared: PreparedShard, model: Model, tally: ScanTally) -> tuple[ShardMeta, bytes]:
    """The scores of a shard's windows, by the calibration of tracks, and its part of the track."""
    scored, calibration = model.score(prepared, tally.progress), model.bundle.calibration
    shard = scored.shard
    with tally.clock.measure("consensus"):
        chunks, calls = call_sequences(
            scored, None if calibration is None else calibration.for_tracks(), model.bundle.thresholds
        )
    frame_is_virus = scored.scores_F2[:, 1] > scored.scores_F2[:, 0]
    counts = count_shard(
        calls, shard.bases.lengths, chunks, frame_is_virus, scored.n_distinct_nucleotide, scored.n_distinct_protein
    )
    return ShardMeta(shard.index, shard.first_record, shard.digest(), False, counts), window_rows(shard, calls)


def finish(folder: ScanFolder, caller: RegionCaller, tally: ScanTally) -> dict[str, Any]:
    """Call regions, draw plots, write the tables; ``run.json`` with the status "done" comes last."""
    max_plots = tally.settings.max_plots if tally.settings.plots else 0
    findings = Findings(caller, tally.windows.length, max_plots)
    names = (TRACK_TABLE, REGIONS_BED, REGIONS_GFF, CONTIGS_TABLE)
    paths = [folder.path / name for name in names]
    try:
        tally.progress.stage = REGIONS_STAGE
        with tally.clock.measure(REGIONS_STAGE):
            tracks = contig_tracks(folder.store, tally.n_shards)
            rows = (findings.take(track) for track in tracks)
            outputs = [staged(paths[0], itertools.chain([TRACK_HEADER.encode()], rows))]
        tally.progress.stage = PLOTS_STAGE
        with tally.clock.measure(PLOTS_STAGE):
            plots = write_plots(folder, findings, tally.n_shards)
        tally.progress.stage = "writing the outputs"
        findings.counts.plots = len(plots)
        findings.counts.plots_left_out = findings.counts.contigs - len(plots)
        tally.know_findings(findings.counts)
        plot_names = {number: output["name"] for number, output in plots.items()}
        with tally.clock.measure("writing"):
            outputs.append(staged(paths[1], bed_rows(findings.regions)))
            outputs.append(staged(paths[2], gff_rows(findings.regions)))
            outputs.append(staged(paths[3], findings.contig_rows(plot_names)))
    except BaseException:
        unstage(paths)
        raise
    publish(paths)
    record = tally.record("done", outputs=[*outputs, *plots.values()])
    write_own_page(folder.path, "scan", record)
    folder.write_record(record)
    logger.info("done: %d contigs, %d viral regions", findings.counts.contigs, findings.counts.regions)
    return record


def write_plots(folder: ScanFolder, findings: Findings, n_shards: int) -> dict[int, dict[str, Any]]:
    """Draw the contigs that were chosen; by contig number, the plot's name under the folder, size and SHA-256."""
    wanted = findings.to_plot()
    taken: set[str] = set()
    plots: dict[int, dict[str, Any]] = {}
    if wanted:
        (folder.path / PLOTS).mkdir(exist_ok=True)
        for track in contig_tracks(folder.store, n_shards):
            if track.number in wanted:
                path = folder.path / PLOTS / plot_name(track.name, taken)
                picture = draw(track, findings)
                write_durably(path, [picture])
                plots[track.number] = _output(f"{PLOTS}/{path.name}", len(picture), hashlib.sha256(picture))
    return plots


def draw(track: ContigTrack, findings: Findings) -> bytes:
    """The picture of one contig."""
    regions = [(placed.region.start, placed.region.end) for placed in findings.regions if placed.number == track.number]
    middle = (track.start + track.end).astype(np.float64) / 2
    return draw_track(track.name, track.length, middle, track.score, regions, VIRUS_THRESHOLD)


def staged(path: Path, pieces: Iterable[bytes]) -> dict[str, Any]:
    """Write an output under its temporary name; its name, size and SHA-256."""
    sha256 = hashlib.sha256()

    def watched() -> Iterator[bytes]:
        for piece in pieces:
            sha256.update(piece)
            yield piece

    return _output(path.name, stage(path, watched()), sha256)


def _output(name: str, n_bytes: int, sha256: hashlib._Hash) -> dict[str, Any]:
    return {"name": name, "bytes": n_bytes, "sha256": sha256.hexdigest()}
