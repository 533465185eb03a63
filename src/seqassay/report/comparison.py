"""A comparison's record (``metrics.json``) as a markdown report, and as the summary on the terminal.

Views only: every number here stands in the record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seqassay.report.layout import escaped, labelled, provenance_rows, sentence, table, verdict

UNDEFINED = "–"
_KINDS = {
    "flip": "other label",
    "called_in_a_alone": "called in A alone",
    "called_in_b_alone": "called in B alone",
    "only_in_a": "in A alone",
    "only_in_b": "in B alone",
}
_FIGURES = {
    "mean_absolute": "mean",
    "median_absolute": "median",
    "p95_absolute": "95th percentile",
    "max_absolute": "largest",
    "mean_signed": "mean, signed (B − A)",
    "sd_signed": "standard deviation, signed",
}


def comparison_summary(record: Mapping[str, Any], folder: str) -> str:
    """What the terminal shows of a finished comparison."""
    identity = record["identity"]
    rows = [("A", _side(identity["a"])), ("B", _side(identity["b"]))]
    rows.append(("identity", ", ".join(f"{thing} {found}" for thing, found in identity["found"].items())))
    if identity["other_settings"]:
        rows.append(("also different", _other_settings(identity["other_settings"])))
    for level in record["levels"]:
        rows += _level_rows(level)
    rows += [("mind that", note) for note in record["notes"]]
    rows.append(("gate", f"{record['gate']['verdict']}: {record['gate']['reason']}"))
    rows += [
        ("record", f"{folder}/metrics.json"),
        ("report", f"{folder}/reports/comparison_report.md"),
        ("mismatches", f"{folder}/mismatches.tsv ({_listed_line(record['mismatches'])})"),
    ]
    return "\n".join(labelled(rows))


def gate_line(gate: Mapping[str, Any]) -> str:
    """The agreement at every level with its interval, beside the limit."""
    levels = ", ".join(f"{level['level']} {_with_interval(level, _percent)}" for level in gate["levels"])
    return f"agreement counting missing rows: {levels}; it has to be at least {_percent(gate['limit'])}"


def comparison_report(record: Mapping[str, Any]) -> str:
    """The whole report."""
    parts = [
        "# Comparison report",
        verdict(record["gate"], gate_line, record["notes"]),
        "## What was compared",
        *_identity(record),
    ]
    for level in record["levels"]:
        parts.append(f"## {level['level'].capitalize()}")
        parts += _embeddings(level) if "cosine" in level else _level(level)
    parts += ["## Rows that differ", _mismatches(record), "## How this was measured", _method(record)]
    return "\n\n".join(parts) + "\n"


def _level_rows(level: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = level["rows"]
    counted = f"{rows['in_both']:,} in both, {rows['only_a']:,} in A alone, {rows['only_b']:,} in B alone"
    shown = [(level["level"], counted)]
    if "cosine" in level:
        cosine, apart = level["cosine"], level["differences"]
        shown.append(("  cosine", f"mean {_cosine(cosine['mean']['value'])}, min {_cosine(cosine['min']['value'])}"))
        mean, largest = (_small(apart[name]["value"]) for name in ("mean_absolute", "max_absolute"))
        shown.append(("  difference", f"mean {mean}, max {largest}"))
        return [*shown, ("  alike", _alike(level))]
    flips = level["flips"]
    shown.append(("  same label", f"{_with_interval(level['labels']['agreement'], _percent)} of those both call"))
    if flips.get("near_boundary"):
        near = ", ".join(f"{entry['count']:,} within {entry['within']:g}" for entry in flips["near_boundary"])
        largest = f"the farthest at {flips['largest_distance']:.4f}"
        shown.append(("  other label", f"{flips['n']:,}: {near} of the decision boundary, {largest}"))
    elif flips["n"]:
        shown.append(("  other label", f"{flips['n']:,}"))
    scores = level["scores"]
    if not scores["compared"]:
        return [*shown, ("  scores", f"not compared: {scores['why_not']}")]
    for name, figures in scores["differences"].items():
        parts = [f"{word} {_small(figures[key]['value'])}" for key, word in _SHORT.items()]
        shown.append((f"  {name}", f"differs by {', '.join(parts)}"))
    return [*shown, ("  alike", _alike(scores))]


_SHORT = {"mean_absolute": "mean", "median_absolute": "median", "p95_absolute": "p95", "max_absolute": "max",
          "sd_signed": "sd"}  # fmt: skip


def _identity(record: Mapping[str, Any]) -> list[str]:
    identity = record["identity"]
    rows = []
    for label, key in (("model", "model"), ("chunk length", "chunk_length"), ("input digest", "input_digest")):
        shown = [_model(identity[side]) if key == "model" else _known(identity[side][key]) for side in ("a", "b")]
        rows.append((label, *shown))
    for thing in ("precision", "device", "seqassay", "token_budgets", "pooling", "kind"):
        shown = [_known(identity[side]["other"].get(thing)) for side in ("a", "b")]
        if any(text != UNDEFINED for text in shown):
            rows.append((thing.replace("_", " "), *shown))
    paths = [("path", *(f"`{escaped(identity[side]['path'])}`" for side in ("a", "b")))]
    kinds = [("kind of side", *(identity[side]["kind"] for side in ("a", "b")))]
    found = "; ".join(f"{thing}: {said}" for thing, said in identity["found"].items())
    files = [
        (file["side"], file["level"], f"{file['rows']:,}", f"`{escaped(file['path'])}`", f"`{file['sha256'][:16]}…`")
        for file in record["files"]
    ]
    return [
        table(("", "A", "B"), [*paths, *kinds, *rows]),
        f"The same on both sides? {sentence(found)}.",
        table(("side", "what", "rows", "file", "SHA-256"), files),
    ]


def _level(level: Mapping[str, Any]) -> list[str]:
    labels, scores = level["labels"], level["scores"]
    parts = [
        _rows(level["rows"]),
        f"Same label on {_with_interval(labels['agreement'], _percent)} of the {labels['agreement']['n']:,} rows that "
        f"both sides call; {_with_interval(labels['agreement_with_missing'], _percent)} when rows that one side lacks, "
        "or does not call, count as rows that differ.",
        table(
            ("", "virus in B", "others in B"),
            [
                ("virus in A", f"{labels['virus_in_both']:,}", f"{labels['virus_in_a_others_in_b']:,}"),
                ("others in A", f"{labels['others_in_a_virus_in_b']:,}", f"{labels['others_in_both']:,}"),
            ],
        ),
        _flips(level["flips"]),
    ]
    if level.get("statuses_changed"):
        rows = [(row["a"], row["b"], f"{row['n']:,}") for row in level["statuses_changed"]]
        parts += ["Sequences with another status:", table(("status in A", "status in B", "sequences"), rows)]
    if not scores["compared"]:
        return [*parts, f"Scores were not compared: {scores['why_not']}."]
    parts.append(f"Scores: {_alike(scores)}. Differences by column:")
    parts += [_spread(name, figures) for name, figures in scores["differences"].items()]
    return parts


def _embeddings(level: Mapping[str, Any]) -> list[str]:
    names = {"mean": "mean", "median": "median", "p5": "5th percentile", "p1": "1st percentile", "min": "smallest"}
    cosines = [
        (words, _cosine(level["cosine"][key]["value"]), _interval(level["cosine"][key], _cosine))
        for key, words in names.items()
    ]
    without = f" {level['without_cosine']:,} pairs have none: a side is all zeros." if level["without_cosine"] else ""
    return [
        _rows(level["rows"]),
        f"Cosine of the two embeddings of a sequence ({level['d_model']:,} values each).{without}",
        table(("cosine", "", "95% interval"), cosines),
        f"Values: {_alike(level)}. The mean of a sequence's absolute differences, over sequences, and the largest "
        "difference of all:",
        _spread("values", level["differences"]),
    ]


def _rows(rows: Mapping[str, Any]) -> str:
    text = (
        f"{rows['a']:,} rows in A and {rows['b']:,} in B: {rows['in_both']:,} in both, {rows['only_a']:,} in A alone, "
        f"{rows['only_b']:,} in B alone."
    )
    if any(rows["repeated_ids"].values()):
        text += f" Rows whose id came before: {rows['repeated_ids']['a']:,} in A, {rows['repeated_ids']['b']:,} in B."
    return text if rows["same_order"] else f"{text} They stand in another order."


def _flips(flips: Mapping[str, Any]) -> str:
    if not flips["n"]:
        return "Rows with another label: none."
    if not flips.get("near_boundary"):
        return (
            f"Rows with another label: {flips['n']:,}; without scores nobody knows how far from the boundary they are."
        )
    near = ", ".join(
        f"{entry['count']:,} within {entry['within']:g} ({_with_interval(entry, _percent)})"
        for entry in flips["near_boundary"]
    )
    return (
        f"Rows with another label: {flips['n']:,}. Their distance from the decision boundary, of the side that lies "
        f"farther from it: {near}; median {flips['median_distance']:.4f}, largest {flips['largest_distance']:.4f}."
    )


def _spread(name: str, figures: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        (words, _small(figures[key]["value"]), _interval(figures[key], _small), f"{figures[key]['n']:,}")
        for key, words in _FIGURES.items()
        if key in figures
    ]
    return table((f"{name}, difference", "", "95% interval", "n"), rows)


def _mismatches(record: Mapping[str, Any]) -> str:
    rows = [
        (entry["level"], _KINDS[entry["kind"]], f"{entry['n']:,}", f"{entry['listed']:,}")
        for entry in record["mismatches"]
        if entry["n"]
    ]
    if not rows:
        return "There are none."
    about = "`mismatches.tsv` lists them; of the flips those farthest from the decision boundary come first."
    return f"{about}\n\n{table(('level', 'kind', 'rows', 'listed'), rows)}"


def _method(record: Mapping[str, Any]) -> str:
    method, settings = record["method"], record["settings"]
    gate = record["gate"]
    rows = [
        ("pairs", method["pairs"]),
        ("difference", method["difference"]),
        ("decision boundary", f"{method['boundary']}; distance {method['boundary_distance']}"),
        ("intervals", f"{method['interval']}; shares: Wilson 1927"),
        ("tolerance", f"{settings['tolerance']:g}; a row is alike when all its values are"),
        ("gate", gate.get("rule", gate["reason"])),
        *provenance_rows(record),
    ]
    return table(("", ""), rows)


def _side(side: Mapping[str, Any]) -> str:
    precision = side["other"].get("precision")
    chunks = f"{side['chunk_length']}-bp chunks" if side["chunk_length"] else ""
    model = _model(side) if side["known"] else "identity unknown"
    return f"{side['path']} ({', '.join(filter(None, (side['kind'], model, chunks, precision)))})"


def _model(side: Mapping[str, Any]) -> str:
    model = side["bundle"] or side["encoder"]
    return "unknown" if model is None else f"{model['name']} {model['digest'][:12]}"


def _other_settings(settings: Mapping[str, Mapping[str, Any]]) -> str:
    return ", ".join(f"{name} ({sides['a']} and {sides['b']})" for name, sides in settings.items())


def _alike(part: Mapping[str, Any]) -> str:
    within = _with_interval(part["within_tolerance"], _percent)
    return f"{within} within {part['tolerance']:g}, {_value(part['identical'], _percent)} identical"


def _listed_line(mismatches: Sequence[Mapping[str, int]]) -> str:
    n, listed = sum(entry["n"] for entry in mismatches), sum(entry["listed"] for entry in mismatches)
    return f"{listed:,} rows" if listed == n else f"{listed:,} of {n:,} rows; --mismatch-limit lists more"


def _known(value: object) -> str:
    if isinstance(value, str) and len(value) == 64:
        return f"{value[:16]}…"
    return UNDEFINED if value is None else escaped(str(value))


def _percent(value: float) -> str:
    """As many decimals as it takes not to call 99.9999% "100%"."""
    for decimals in (2, 4, 6):
        text = f"{value:.{decimals}%}"
        if value == 1 or not text.startswith("100."):
            break
    return text


def _small(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.3g}"


def _cosine(value: float | None) -> str:
    """To nine decimals, more where it would read as 1 and is not."""
    if value is None:
        return UNDEFINED
    text = f"{value:.9f}"
    return text if value >= 1 or not text.startswith("1.") else f"{value:.16f}"


def _value(entry: Mapping[str, Any], form: Any) -> str:
    return UNDEFINED if entry["value"] is None else form(entry["value"])


def _interval(entry: Mapping[str, Any], form: Any) -> str:
    interval = entry["interval_95"]
    return UNDEFINED if interval is None else f"{form(interval[0])} to {form(interval[1])}"


def _with_interval(entry: Mapping[str, Any], form: Any) -> str:
    interval = "" if entry["interval_95"] is None else f" ({_interval(entry, form)})"
    return _value(entry, form) + interval
