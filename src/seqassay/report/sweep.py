"""A sweep's record as the summary on the terminal and as REPORT.md; views only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from seqassay.report import sweep_words as words
from seqassay.report.layout import aligned, escaped, labelled, provenance_rows, table
from seqassay.report.sweep_points import perplexity_of

_PICTURES = {
    "perplexity_by_axis.png": "Perplexity along every axis",
    "pareto_front.png": "Cost against perplexity; the front is what no other experiment beats in both",
    "training_curves.png": "Dev loss while training",
}


def sweep_summary(record: Mapping[str, Any], folder: str) -> str:
    """What the terminal shows of a sweep."""
    lines = labelled([("runs", words.progress(record)), ("baseline", record["baseline"])])
    lines += ["", "ranking, one seed", *_aligned(*_ranking(record))]
    if words.finals(record):
        lines += ["", "final, mean ± sd of the seeds", *_aligned(*_finals(record))]
    decision = record["decision"]
    if decision is not None and decision["comparisons"]:
        lines += ["", f"against the baseline {decision['baseline']}", *_aligned(*_comparisons(decision))]
    lines += ["", f"decision: {words.decided(record)}"]
    lines += [f"note: {note}" for note in [*words.unfinished(record), *words.notes(record)]]
    files = [("record", "sweep.json"), ("report", "REPORT.md"), ("page", "report.html"), ("tables", "results.csv")]
    return "\n".join([*lines, "", *labelled([(name, f"{folder}/{file}") for name, file in files])])


def sweep_report(record: Mapping[str, Any], pictures: Sequence[str], why_no_pictures: str = "") -> str:
    """The report in markdown.

    Args:
        pictures: names of the files beside it.
        why_no_pictures: where they could not be drawn.
    """
    unfinished = [f"- {escaped(line)}" for line in words.unfinished(record)]
    parts = [
        "# Sweep of language models",
        f"**{escaped(words.decided(record))}**",
        *_if("\n".join(f"- Mind: {note}." for note in words.notes(record))),
        "## What was asked",
        table(("", ""), [(name, escaped(text)) for name, text in words.asked(record)]),
        "## What ran",
        f"{words.progress(record)}; {record['wall_s']:,.0f} s {words.wall_of(record)}.",
        "\n".join(unfinished) if unfinished else "None was killed, and none failed.",
        "## Ranking",
        "One seed: no difference here is known to be more than noise. It chooses finalists, and decides nothing.",
        table(*_escaped(_ranking(record))),
    ]
    if record["selection"] is not None:
        choices = record["selection"]["choices"]
        parts += [
            "## Why these finalists",
            "\n".join(f"- `{c['experiment']}`: {escaped(c['reason'])}." for c in choices),
        ]
        parts.append(f"Rule: {record['selection']['rule']}.")
    if words.finals(record):
        parts += ["## Final", "Mean ± standard deviation over n seeds.", table(*_escaped(_finals(record)))]
    if record["decision"] is not None:
        parts += _decision(record["decision"])
    parts += ["## Pictures", *(f"![{_PICTURES[name]}]({name})" for name in pictures)] if pictures else []
    parts += ["## Pictures", f"Not drawn: {why_no_pictures}"] if why_no_pictures else []
    parts += _about(record)
    return "\n\n".join(parts) + "\n"


def _decision(decision: Mapping[str, Any]) -> list[str]:
    verdicts = {c["verdict"] for c in decision["comparisons"]}
    meanings = [f"- **{name}**: {said}." for name, said in decision["verdicts"].items() if name in verdicts]
    return [
        "## Decision",
        escaped(decision["reason"]),
        *_if(table(*_escaped(_comparisons(decision))) if decision["comparisons"] else ""),
        *_if("\n".join(f"- `{c['finalist']}`: {escaped(c['reason'])}." for c in decision["comparisons"])),
        f"Perplexity is {decision['figure']}: {decision['method']}.",
        *_if("\n".join(meanings)),
    ]


def _about(record: Mapping[str, Any]) -> list[str]:
    made, config, identity = record["provenance"], record["config"], record["identity"]
    digests = [(f"tokens of {split}", f"`{digest}`") for split, digest in identity["tokens"].items()]
    protocol = config["protocol"]
    resolved = {
        **protocol, "evaluate": config["evaluate"], "baseline": record["baseline"],
        "axes": record["axes"],
        "experiments": [{"name": one["name"], "settings": one["settings"]} for one in record["experiments"]],
    }  # fmt: skip
    return [
        "## How to reproduce",
        f"```\n{made['command']}\n```",
        table(
            ("", ""),
            [
                ("configuration", f"`{escaped(config['path'])}`, SHA-256 `{config['sha256']}`"),
                ("tokenizer", f"`{identity['tokenizer']}`"),
                *digests,
                (
                    "seeds",
                    f"{protocol['ranking_seed']} (ranking), {', '.join(map(str, protocol['final_seeds']))} (final)",
                ),
                ("device", escaped(record["device"])),
                *provenance_rows(record),
            ],
        ),
        "## Full configuration",
        f"Resolved: what every experiment inherits is written out.\n\n```yaml\n{_yaml(resolved)}```",
    ]


def _ranking(record: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    rows = words.ranked(record)
    shown = words.shown_columns(rows, words.OF_RANKING)
    perplexity = perplexity_of(record, "ranking")
    header = ["", "experiment", *(words.COLUMNS[name][0] for name in shown), "status"]
    lines = []
    for rank, row in enumerate(rows, 1):
        place = str(rank) if row["figures"][perplexity] is not None else ""
        figures = [words.spread(row["figures"][name], name) for name in shown]
        lines.append([place, row["experiment"], *figures, words.state(row)])
    return header, lines


def _finals(record: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    rows = words.finals(record)
    shown = words.shown_columns(rows, words.OF_FINAL)
    header = ["experiment", "n", *(words.COLUMNS[name][0] for name in shown), "status"]
    lines = [
        [
            row["experiment"],
            str(row["done"]),
            *(words.spread(row["figures"][name], name) for name in shown),
            words.state(row),
        ]
        for row in rows
    ]
    return header, lines


def _comparisons(decision: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    header = ["finalist", "verdict", "perplexity (95% interval)", "latency", "memory", "seeds"]
    lines = [
        [
            c["finalist"], c["verdict"], words.ratio_in_words(c["perplexity"], together=True),
            words.ratio_in_words(c["latency"], together=False), words.ratio_in_words(c["memory"], together=False),
            str(len(c["seeds"])),
        ]
        for c in decision["comparisons"]
    ]  # fmt: skip
    return header, lines


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return aligned([header, *rows])


def _escaped(said: tuple[list[str], list[list[str]]]) -> tuple[list[str], list[list[str]]]:
    header, rows = said
    return [name or " " for name in header], [[escaped(cell) for cell in row] for row in rows]


def _yaml(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


def _if(text: str) -> list[str]:
    return [text] if text else []
