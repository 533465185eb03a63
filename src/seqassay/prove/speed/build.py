"""From times to the record: every figure with n and spread, and what a reader has to keep in mind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from seqassay.config import settings_as_json
from seqassay.measure.clock import PairedTimes, Ratio, ratio_of_pairs
from seqassay.measure.monitor import memory_record
from seqassay.measure.provenance import provenance, utc_now
from seqassay.prove.gate import SKIPPED, UNDECIDED
from seqassay.prove.speed.figures import figure, rates, ratio_figure, undefined
from seqassay.prove.speed.measuring import Measured, token_digest
from seqassay.prove.speed.peak import METHOD, Peak
from seqassay.prove.speed.record import FORMAT, VERSION
from seqassay.prove.speed.sequences import TRAINED_RESIDUES, Workload
from seqassay.prove.speed.settings import SpeedSettings
from seqassay.prove.speed.verdict import CANDIDATE_ONLY, FAILED, speed_gate
from seqassay.prove.speed.work import FLOP_METHOD

_BUSY_SHARE = 0.5  # of the cores, taken by others before the benchmark, above which the record says so


@dataclass(frozen=True, slots=True)
class Times:
    """All that was measured.

    Attributes:
        baseline: why there is none, where there is none.
        pairs: ``a`` is the candidate.
        load_before: the machine's load average over the minute before.
    """

    candidate: Measured
    baseline: Measured | str
    pairs: PairedTimes | None
    peaks: Sequence[Peak]
    load_before: float


def build_record(settings: SpeedSettings, workload: Workload, device: str, times: Times) -> dict[str, Any]:
    """The record but for ``wall_s``.

    Raises:
        SeqassayError: a figure that cannot be, such as more than the device's peak.
    """
    candidate, baseline, pairs = times.candidate, times.baseline, times.pairs
    peaks = {str(peak.dtype): peak for peak in times.peaks}
    record = _opening(settings, device, workload)
    record["identity"] = {
        "candidate": _identity(candidate),
        "baseline": _identity(baseline) if isinstance(baseline, Measured) else None,
        "sequences": record["sequences"]["digest"],
    }
    record["models"] = {
        "candidate": _model(candidate, peaks),
        "baseline": _model(baseline, peaks) if isinstance(baseline, Measured) else None,
    }
    record["baseline_status"] = _baseline_status(settings, baseline)
    record["same_work"] = _same_work(candidate, baseline, workload) if isinstance(baseline, Measured) else None
    record["peaks"] = [peak.as_record() for peak in times.peaks]
    ratio = None if pairs is None else ratio_of_pairs(pairs.b_s, pairs.a_s, seed=settings.seed)
    record["pairs"] = None if pairs is None or ratio is None else _pairs(pairs, ratio)
    record["values"] = _values(candidate, baseline, ratio)
    record["machine"] = {
        "load_average_1_min": {"before": times.load_before, "after": psutil.getloadavg()[0]},
        "memory": memory_record(candidate.opened.embedder.device),
    }
    record["notes"] = _notes(record, candidate, baseline)
    record["gate"] = speed_gate(
        record["values"]["speed_up"], settings.min_speedup, when_undefined=_when_undefined(settings, candidate)
    )
    record["verdict"] = record["gate"]["verdict"]
    return record


def _opening(settings: SpeedSettings, device: str, workload: Workload) -> dict[str, Any]:
    """What was measured, and how."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": "speed",
        "written_at": utc_now(),
        "settings": settings_as_json(settings),
        "method": {
            "run": "one run embeds all sequences: tokens from letters, batches, encoder, pooling, results on the host",
            "clock": "monotonic (perf_counter_ns), the device synchronised before and after every run",
            "classic": "each encoder alone: warm-ups, then timed runs; figures are of their mean",
            "paired": "both encoders side by side, in random order, each first in half the pairs, after the medians of "
            "two windows of 3 runs differ by under 2%; figures are of the median",
            "speed_up": "median over pairs of the baseline's seconds over the candidate's; 95% percentile bootstrap "
            "interval over pairs; the verdict stands on it",
            "flop": FLOP_METHOD,
            "share_of_peak": "operations a second over the best rate of plain matrix products of the same number "
            "format on this device in this run",
            "peak": METHOD,
            "load": "reading and checking files and hashing the tensors (random weights: making and hashing them)",
            "compile": "nothing is compiled ahead: the engine runs PyTorch's kernels as they are, and what libraries "
            "make for a shape at its first use is in the first call",
            "first_call": "the first run of each encoder; the candidate's is the first of the process, and has what "
            "both need in it",
        },
        "device": device,
        "provenance": provenance(),
        "sequences": workload.as_record(),
    }


def _identity(measured: Measured) -> dict[str, Any]:
    embedder = measured.opened.embedder
    return {
        "name": measured.opened.wanted.name,
        "digest": embedder.encoder.digest,
        "precision": embedder.precision.name,
    }


def _model(measured: Measured, peaks: dict[str, Peak]) -> dict[str, Any]:
    """Everything about one encoder."""
    opened, work = measured.opened, measured.work
    embedder = opened.embedder
    peak = peaks[str(embedder.precision.dtype)].flop_per_s
    steady = measured.steady
    return {
        **opened.as_record(),
        "load_s": opened.load_s,
        "place_s": opened.place_s,
        "compile_s": None,
        "first_call_s": measured.first_call_s,
        "work": asdict(work),
        "embeddings": {
            "d_model": measured.d_model,
            "finite": {"value": measured.finite_rows / work.sequences, "n": work.sequences},
        },
        "packing_efficiency": {"value": embedder.stats.packing_efficiency, "n": embedder.stats.batches},
        "classic": {"warm_up_s": measured.warm_up_s, **rates(measured.classic_s, work, peak, "mean")},
        "paired": None
        if measured.paired_s is None or steady is None
        else {
            "steady": steady.steady,
            "until_steady_s": list(steady.seconds),
            **rates(measured.paired_s, work, peak, "median"),
        },
    }


def _baseline_status(settings: SpeedSettings, baseline: Measured | str) -> dict[str, Any]:
    if isinstance(baseline, Measured):
        return {"name": baseline.opened.wanted.name, "status": "measured", "reason": ""}
    if settings.candidate_only:
        return {"name": None, "status": "not wanted", "reason": baseline}
    return {"name": settings.baseline, "status": "skipped", "reason": baseline}


def _same_work(candidate: Measured, baseline: Measured, workload: Workload) -> dict[str, Any]:
    """Whether both encoders were given the same tokens of the same sequences, and what each made of them."""
    digests = [token_digest(measured.opened, workload.residues) for measured in (candidate, baseline)]
    return {
        "same_sequences": candidate.work.sequences == baseline.work.sequences,
        "same_tokens": digests[0] == digests[1],
        "token_digests": {"candidate": digests[0], "baseline": digests[1]},
        "flop_ratio": baseline.work.flop / candidate.work.flop,
    }


def _pairs(pairs: PairedTimes, ratio: Ratio) -> dict[str, Any]:
    return {
        "first": ["candidate" if first else "baseline" for first in pairs.a_first.tolist()],
        "ratios": ratio.ratios.tolist(),
    }


def _values(candidate: Measured, baseline: Measured | str, ratio: Ratio | None) -> dict[str, Any]:
    """The speed-up by pairs, which the verdict stands on, and by the classic protocol."""
    if ratio is None or not isinstance(baseline, Measured):
        why = baseline if isinstance(baseline, str) else ""
        why = why if why == CANDIDATE_ONLY else f"the baseline was skipped: {why}"
        return {"speed_up": undefined(why), "classic_speed_up": undefined(why)}
    for name, measured in (("candidate", candidate), ("baseline", baseline)):
        if not measured.all_finite:
            n = measured.work.sequences - measured.finite_rows
            why = f"{n} of the {name}'s {measured.work.sequences} embeddings hold values that are no numbers"
            return {"speed_up": undefined(why), "classic_speed_up": undefined(why)}
    classic = sum(baseline.classic_s) / sum(candidate.classic_s)
    by_run = [b / a for a, b in zip(candidate.classic_s, baseline.classic_s, strict=True)]
    return {
        "speed_up": ratio_figure(ratio),
        "classic_speed_up": {
            **figure([*by_run], classic),
            "interval_95": None,
            "why_no_interval": "the encoders ran one after the other: their runs are no pairs",
        },
    }


def _when_undefined(settings: SpeedSettings, candidate: Measured) -> str:
    """The verdict where there is no speed-up."""
    if settings.candidate_only:
        return SKIPPED
    return UNDECIDED if candidate.all_finite else FAILED


def _notes(record: dict[str, Any], candidate: Measured, baseline: Measured | str) -> list[str]:
    """What a reader has to keep in mind."""
    notes = []
    sequences, hardware = record["sequences"], record["provenance"]["hardware"]
    load = record["machine"]["load_average_1_min"]["before"]
    if hardware["cores"] and load > _BUSY_SHARE * hardware["cores"]:
        notes.append(
            f"the machine was busy before the benchmark began (load average {load:.1f} on {hardware['cores']} cores): "
            "times are longer than on a quiet one, and the share of the peak says little"
        )
    if not isinstance(baseline, Measured) and record["baseline_status"]["status"] == "skipped":
        notes.append(f"the baseline {record['baseline_status']['name']} was skipped: {baseline}")
    if sequences["n"] < record["settings"]["n_sequences"]:
        notes.append(
            f"there are {sequences['n']:,} distinct sequences, fewer than the {record['settings']['n_sequences']:,} "
            "asked for"
        )
    if sequences["longer_than_trained"]:
        notes.append(
            f"{sequences['longer_than_trained']:,} sequences are longer than the {TRAINED_RESIDUES:,} residues that "
            "ESM-2 was trained with; they were computed whole"
        )
    measured = [m for m in (candidate, baseline) if isinstance(m, Measured)]
    for m in measured:
        name, embedder = m.opened.wanted.name, m.opened.embedder
        if m.steady is not None and not m.steady.steady:
            notes.append(f"{name} never became steady: medians of its runs went on differing by 2% and more")
        if embedder.token_budget != m.opened.token_budget:
            notes.append(f"{name} ran short of memory: its token budget fell to {embedder.token_budget:,}")
        if not m.all_finite:
            notes.append(f"{name}: {m.work.sequences - m.finite_rows:,} embeddings hold values that are no numbers")
    digests = [m.opened.embedder.encoder.digest for m in measured]
    formats = [m.opened.embedder.precision.name for m in measured]
    if len(measured) == 2 and len(set(digests)) == len(set(formats)) == 1:
        notes.append(
            "candidate and baseline are the same model in the same number format: a speed-up of 1 is to be expected"
        )
    random = [m.opened.wanted.name for m in measured if m.opened.wanted.path is None]
    if random:
        notes.append(f"random weights ({', '.join(random)}): times are those of the shape, embeddings mean nothing")
    return notes
