"""A run of `predict`: what a virus hunter looks for first, then how the run went."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seqassay.report.html import numbers
from seqassay.report.html.blocks import Block, Cell, Column, Drawing, Row, Section, Table, Text, Tiles, View, bounded
from seqassay.report.html.chart import histogram
from seqassay.report.html.records import Record
from seqassay.report.html.sample import (
    LENGTH_STEPS,
    LONGEST_EXACT,
    MOST_TOP,
    N_SCORE_BINS,
    Q_LIMITS,
    SCORE_BANDS,
    TABLE,
    Lengths,
    Sample,
    read_sample,
)
from seqassay.report.html.shared import about_sections, inputs_in_words, stage_drawing, status_banner, timeline_drawing

_NAME_CHARACTERS = 120
_MOST_LENGTH_BINS = 40
_STATUSES = {
    "classified": "at least one frame without a stop codon was scored",
    "no_frame": "every frame of every chunk has a stop codon, or nothing but ambiguous codons",
    "too_short": "fewer than three bases: no codon",
    "no_bases": "not one A, C, G or T among its letters",
}


def run_view(record: Record) -> View:
    """The page of a run; of one that is not done, what is known of it."""
    run = record.content
    banner = status_banner(run, "run")
    sample, why = None, ""
    if not banner:
        sample, why = sample_of(record)
    return View(
        title=f"seqassay predict: {inputs_in_words(run)}",
        lead=_lead(run),
        banner=banner,
        sections=[
            Section("How many are viral", _how_many(run))
            if run["calls"]
            else Section("How far it came", _how_far(run)),
            *(_sample_sections(run, sample) if sample else []),
            *([Section("Scores and lengths", [Text(why, "unsure")])] if why else []),
            Section("What was not classified, and why", _not_classified(run, sample)),
            Section("How the run went", _how_it_went(run)),
            *about_sections(run, bundle=run["bundle"]),
        ],
    )


def sample_of(record: Record) -> tuple[Sample | None, str]:
    """The run's sequences added up; or none, and why.

    Raises:
        InputError: there is a table, and it is not the run's.
    """
    path = record.folder / TABLE
    output = next((output for output in record.content["outputs"] if output["name"] == TABLE), None)
    if output is None or not path.is_file():
        return None, (
            f"{TABLE} is not beside the record: score distribution, best-scoring sequences and lengths are left out."
        )
    return read_sample(path, output["sha256"], record.content["counts"]["sequences"]), ""


def _lead(run: Mapping[str, Any]) -> str:
    counts = run["counts"]
    if run["calls"] is None:
        return f"{counts['sequences']:,} sequences were scored so far; nothing is called before the run is done."
    share = numbers.share_of(counts["virus"], counts["sequences"])
    return (
        f"{counts['virus']:,} of {counts['sequences']:,} sequences ({share}) were called virus, by the rule "
        f"{run['calls']['rule'].replace('>=', '≥').replace('<=', '≤')}, with the bundle {run['bundle']['name']}."
    )


def _how_many(run: Mapping[str, Any]) -> list[Block]:
    """Tiles, and what has to be known about them."""
    counts, calls = run["counts"], run["calls"]
    composition, rate = calls.get("composition"), calls.get("false_discovery_rate")
    of_scored = " of those with a score"
    tiles = [
        (f"called {name}", numbers.count(counts[name]), numbers.share_of(counts[name], counts["scored"]) + of_scored)
        for name in ("virus", "others")
    ]
    n_without = counts["sequences"] - counts["scored"]
    tiles.append(("without a score", numbers.count(n_without), f"of {counts['sequences']:,} sequences"))
    blocks: list[Block] = []
    if composition is not None:
        interval = numbers.interval(composition["interval_95"], "share")
        tiles.append(("estimated viral share", numbers.share(composition["viral_share"]), f"95% interval {interval}"))
    if rate is not None:
        tiles.append(
            ("expected false calls", numbers.share(rate["of_calls"]), "of those called virus (false discovery rate)")
        )
        if rate["can_tell"]:
            said = f"The calibration can vouch for a false discovery rate of {rate['wanted']:g} in this sample."
            blocks.append(Text(said, "good"))
        else:
            said = (
                f"The calibration cannot vouch for a false discovery rate of {rate['wanted']:g} here: {rate['reason']}."
            )
            blocks.append(Text(f"{said} Take the expected false calls as a rough guide.", "unsure"))
    else:
        blocks.append(
            Text(
                "The bundle has no calibration: its scores are no probabilities, and there is no estimate of the viral "
                "share or of the false calls.",
                "unsure",
            )
        )
    if composition is not None:
        blocks.append(
            Text(
                "The viral share is estimated from all scores, not by counting calls: it makes up for false and missed "
                "calls, as far as this sample is like those that the calibration was fitted on. Its interval knows of "
                "sampling noise alone.",
                "quiet",
            )
        )
    return [Tiles(tiles), *blocks]


def _how_far(run: Mapping[str, Any]) -> list[Block]:
    """What is known of a run that is not done; calls are made at its end."""
    counts = run["counts"]
    return [
        Tiles(
            [
                ("sequences so far", numbers.count(counts["sequences"]), f"in {run['shards']:,} shards"),
                ("with a score", numbers.count(counts["scored"]), "calls are made at the end"),
            ]
        )
    ]


def _sample_sections(run: Mapping[str, Any], sample: Sample) -> list[Section]:
    return [
        Section("How sure the calls are", _how_sure(run, sample)),
        Section("Which sequences are viral", _which(run, sample)),
        Section("How long they are", _how_long(sample)),
    ]


def _how_sure(run: Mapping[str, Any], sample: Sample) -> list[Block]:
    """Score distribution, and counts by score and by q-value."""
    n_scored = int(sample.virus_by_score.sum() + sample.others_by_score.sum())
    if not n_scored:
        return [Text("No sequence has a score.", "unsure")]
    edges = [f"{i / N_SCORE_BINS:g}" for i in range(N_SCORE_BINS + 1)]
    bins = [f"{low} to {high}" for low, high in itertools.pairwise(edges)]
    columns = [Column("score"), *_counted_columns()]
    series = [("virus", _listed(sample.virus_by_score)), ("others", _listed(sample.others_by_score))]
    sure = int(sample.virus_by_band[0])
    chart = histogram(
        "Scores of all sequences",
        f"{n_scored:,} sequences with a score, in bins of {1 / N_SCORE_BINS:g}; {sure:,} called virus have a score of "
        f"{SCORE_BANDS[0]:g} or more.",
        bins,
        series,
        edges=[edge if i % 5 == 0 else "" for i, edge in enumerate(edges)],
        x_label="score" if run["calls"].get("composition") is None else "score (probability of virus)",
        y_label="sequences",
    )
    rows = _counted_rows(bins, sample.virus_by_score, sample.others_by_score)
    bands = [f"{SCORE_BANDS[0]:g} and more"]
    bands += [f"{low:g} to below {high:g}" for high, low in itertools.pairwise(SCORE_BANDS)]
    by_band = _counted_rows(bands, sample.virus_by_band, sample.others_by_band)
    blocks: list[Block] = [
        Row(
            [
                Drawing(chart, Table("Sequences by score", columns, rows)),
                Table("Sequences by range of scores", columns, by_band),
            ]
        )
    ]
    if sample.by_q_limit is not None:
        rate = run["calls"]["false_discovery_rate"]
        blocks.append(
            Table(
                "Sequences by q-value: how many could be called virus at which false discovery rate",
                [Column("q-value at most"), Column("sequences", True), Column("share of those with a score", True)],
                [
                    [f"{limit:g}", numbers.count(n), numbers.share_of(n, n_scored)]
                    for limit, n in zip(Q_LIMITS, sample.by_q_limit.tolist(), strict=True)
                ],
                note="" if rate["can_tell"] else f"Mind that {rate['reason']}.",
            )
        )
    return blocks


def _which(run: Mapping[str, Any], sample: Sample) -> list[Block]:
    """The best-scoring sequences called virus."""
    if not sample.top:
        return [Text("No sequence was called virus.", "quiet")]
    has_q = sample.top[0].q_value is not None
    columns = [
        Column("sequence"), Column("score", True), *([Column("q-value", True)] if has_q else []),
        Column("length (bases)", True), Column("stop-free frames", True),
    ]  # fmt: skip
    rows = [
        [
            bounded(sequence.name, _NAME_CHARACTERS), f"{sequence.score:.6f}",
            *([f"{sequence.q_value:.6f}" if sequence.q_value is not None else "–"] if has_q else []),
            numbers.count(sequence.length), numbers.count(sequence.n_frames),
        ]
        for sequence in sample.top
    ]  # fmt: skip
    files = [str(output["name"]) for output in run["outputs"] if str(output["name"]).startswith("viral.")]
    every = f"All are in {TABLE}" + (f"; their bases are in {files[0]}." if files else ".")
    which = (
        f"All {sample.n_virus:,} sequences called virus, best score first."
        if sample.n_virus <= MOST_TOP
        else f"The {len(sample.top)} best-scoring of {sample.n_virus:,} sequences called virus."
    )
    return [Text(f"{which} {every}"), Table("Sequences called virus, by score", columns, rows)]


def _how_long(sample: Sample) -> list[Block]:
    """Length distribution of all sequences and of the viral ones."""
    everything, viral = sample.lengths, sample.viral_lengths
    if not everything.n:
        return [Text("There are no sequences.", "quiet")]
    bins, edges, of_all, of_viral = _length_bins(everything, viral)
    rest = [n - v for n, v in zip(of_all, of_viral, strict=True)]
    chart = histogram(
        "Lengths of all sequences",
        f"{everything.n:,} sequences of {everything.shortest:,} to {everything.longest:,} bases; those called virus "
        "stand at the bottom of each bar.",
        bins,
        [("called virus", of_viral), ("all other sequences", rest)],
        edges=edges,
        x_label="length (bases)",
        y_label="sequences",
    )
    columns = [Column("length (bases)"), Column("all", True), Column("called virus", True), Column("share", True)]
    rows = [
        [name, numbers.count(n), numbers.count(v), numbers.share_of(v, n) if n else "–"]
        for name, n, v in zip(bins, of_all, of_viral, strict=True)
    ]
    summary = []
    for name, one in (("all", everything), ("called virus", viral)):
        mean = round(one.total / one.n) if one.n else 0
        figures = [numbers.count(value) if one.n else "–" for value in (one.total, one.shortest, mean, one.longest)]
        summary.append([name, numbers.count(one.n), *figures])
    names = ("number", "bases", "shortest", "mean", "longest")
    lengths = Table("Lengths in bases", [Column("sequences"), *(Column(name, True) for name in names)], summary)
    if everything.shortest == everything.longest:
        return [Text(f"All sequences are {everything.longest:,} bases long."), lengths]
    return [Row([Drawing(chart, Table("Sequences by length", columns, rows)), lengths])]


def _length_bins(everything: Lengths, viral: Lengths) -> tuple[list[str], list[str], list[int], list[int]]:
    """Bins in words, labels of their edges, and counts of all and of viral sequences.

    Short sequences have bins of one width, others bins of 1, 2, 5, 10, …
    """
    if everything.longest <= LONGEST_EXACT:
        low, high = everything.shortest, everything.longest + 1
        width = next(w for w in (1, 2, 5, 10, 20, 25, 50, 100) if (high - low) / w <= _MOST_LENGTH_BINS)
        first = low // width * width
        places = list(range(first, max(high, first + width * 5) + width - 1, width))
        edges = [*places, places[-1] + width] if places[-1] < high else places

        def counted(lengths: Lengths) -> list[int]:
            running = np.concatenate([[0], np.cumsum(lengths.exact)])
            at = running[np.minimum(edges, len(running) - 1)]
            return _listed(np.diff(at))

        bins = [f"{a:,}" if width == 1 else f"{a:,} to {b - 1:,}" for a, b in itertools.pairwise(edges)]
        return bins, [f"{edge:,}" for edge in edges], counted(everything), counted(viral)
    used = np.flatnonzero(everything.by_step)
    first_step, last_step = int(used[0]), int(used[-1]) + 1
    limits = [0, *LENGTH_STEPS]
    edge_values = limits[first_step : last_step + 1]
    bins = [f"{a:,} to {b - 1:,}" for a, b in itertools.pairwise(edge_values)]
    labels = [f"{edge:,}" for edge in edge_values]
    return (
        bins,
        labels,
        _listed(everything.by_step[first_step:last_step]),
        _listed(viral.by_step[first_step:last_step]),
    )


def _not_classified(run: Mapping[str, Any], sample: Sample | None) -> list[Block]:
    counts = run["counts"]
    columns = [Column("status"), Column("sequences", True), Column("share", True)]
    if sample is not None:
        columns += [Column("with a score", True), Column("called virus", True)]
    columns.append(Column("meaning"))
    rows: list[list[str | Cell]] = []
    for status, meaning in _STATUSES.items():
        n = counts[status]
        row: list[str | Cell] = [status, numbers.count(n), numbers.share_of(n, counts["sequences"])]
        if sample is not None:
            _, scored, virus = sample.by_status.get(status, [0, 0, 0])
            row += [numbers.count(scored), numbers.count(virus)]
        rows.append([*row, meaning])
    n_not = counts["sequences"] - counts["classified"]
    said = (
        "Every sequence was classified by its frames."
        if not n_not
        else f"{n_not:,} of {counts['sequences']:,} sequences have no stop-free frame; "
        f"{counts['scored'] - counts['classified']:,} of them have a score from their nucleotides alone, and "
        f"{counts['sequences'] - counts['scored']:,} have none."
    )
    return [Text(said), Table("Sequences by status", columns, rows)]


def _how_it_went(run: Mapping[str, Any]) -> list[Block]:
    """Stages, throughput, packing, memory."""
    throughput, packing, memory, waits = (run[name] for name in ("throughput", "packing", "memory", "loader_wait"))
    tiles = [
        ("wall time", numbers.seconds(run["wall_s"]), "of this process"),
        (
            "throughput",
            f"{numbers.rate(throughput['sequences_per_s'])} / s",
            "sequences, since the models were loaded",
        ),
        ("tokens", f"{numbers.rate(throughput['tokens_per_s'])} / s", "of both encoders"),
        ("packing", numbers.share(packing["efficiency"]), "real tokens over the batches' capacity"),
        ("peak memory", numbers.n_bytes(memory["peak_host_bytes"]), "of the process"),
    ]
    if memory["peak_device_bytes"] is not None:
        tiles.append(("peak device memory", numbers.n_bytes(memory["peak_device_bytes"]), run["device"]))
    drawings = [stage_drawing(run["stages"]), *timeline_drawing(run.get("timeline"))]
    rows = [
        [name, *(numbers.count(packing[name][key]) for key in ("batches", "real_tokens", "capacity_tokens"))]
        for name in ("nucleotide", "protein")
    ]
    columns = [Column("encoder"), *(Column(name, True) for name in ("batches", "real tokens", "capacity in tokens"))]
    blocks: list[Block] = [Tiles(tiles), Row(drawings), Table("Packing of the batches", columns, rows)]
    if run["resumed_sequences"]:
        taken = f"{run['resumed_sequences']:,} sequences were taken over from an earlier, interrupted process."
        blocks.insert(1, Text(f"{taken} Times, rates and peaks are of the last process alone."))
    waited = [numbers.count(waits["count"]), *(numbers.seconds(waits[key]) for key in ("total_s", "mean_s", "max_s"))]
    names = [Column(name, True) for name in ("waits", "total", "mean", "longest")]
    return [*blocks, Table("Waits of the device for its next shard", names, [waited], row_heads=False)]


def _counted_columns() -> list[Column]:
    return [Column(name, True) for name in ("called virus", "called others", "both", "share of all")]


def _counted_rows(names: Sequence[str], virus: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> list[list[str]]:
    total = int(virus.sum() + others.sum())
    return [
        [name, numbers.count(v), numbers.count(o), numbers.count(v + o), numbers.share_of(v + o, total)]
        for name, v, o in zip(names, virus.tolist(), others.tolist(), strict=True)
    ]


def _listed(values: npt.NDArray[np.int64]) -> list[int]:
    return [int(value) for value in values]
