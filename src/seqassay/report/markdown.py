"""An evaluation's record (``metrics.json``) as a markdown report, and as the summary on the terminal.

Views only: every number here stands in the record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seqassay.report.layout import escaped, labelled, provenance_rows, table, verdict

NAMES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "roc_auc": "ROC-AUC",
    "specificity": "specificity",
    "mcc": "Matthews correlation",
    "average_precision": "average precision",
}
REASONS = {
    "no_frame": "without a stop-free frame",
    "too_short": "too short",
    "no_bases": "without a base",
    "classified": "classified",
    "not_given": "not in the predictions",
}
UNDEFINED = "–"
_MAIN = ("accuracy", "precision", "recall", "f1", "roc_auc")


def validation_summary(record: Mapping[str, Any], folder: str) -> str:
    """What the terminal shows of a finished evaluation."""
    scored, gate = record["scored"], record["gate"]
    rows = [
        ("test set", _set_line(record["test_set"])),
        ("scored", _scored_line(scored)),
        ("scores", record["method"]["scores"]),
        ("bundle", _model(record["identity"]["bundle"])),
    ]
    if record["comparison"] is not None:
        rows.append(("baseline", _model(record["comparison"]["baseline"])))
        rows += _compared_rows(record["comparison"])
    else:
        rows += [(NAMES[name], _or_why(record["values"][name])) for name in _MAIN]
    rows.append(("majority class", f"{record['majority_accuracy']:.4f} accuracy without looking"))
    rows += _confusion_rows(record["confusion_matrix"])
    rows.append(("calibration error", _value(record["calibration"]["expected_calibration_error"])))
    rows.append(("gate", f"{gate['verdict']}: {gate['reason']}"))
    rows += [("mind that", caveat) for caveat in gate["caveats"]]
    rows += [("record", f"{folder}/metrics.json"), ("report", f"{folder}/reports/validation_report.md")]
    return "\n".join(labelled(rows))


def drop_line(gate: Mapping[str, Any]) -> str:
    """The drop of accuracy with its interval, beside its limit."""
    if gate["drop"] is None:
        return "no drop to speak of: no baseline"
    interval = _interval(gate["interval_95"], "+.4f")
    return f"accuracy drops by {gate['drop']:+.4f}{interval}; it has to drop by less than {gate['limit']:g}"


def validation_report(record: Mapping[str, Any], plots: str | None = None, why_no_plots: str = "") -> str:
    """The whole report.

    Args:
        plots: name of the picture of the curves, beside the report; None where there is none.
        why_no_plots: what to say in its place.
    """
    parts = [
        "# Validation report",
        verdict(record["gate"], drop_line, record["gate"]["caveats"]),
        "## Figures",
        *_figures(record),
        "## Confusion matrix",
        _confusion(record["confusion_matrix"]),
        "## Test set",
        *_test_set(record),
        "## By group",
        _by_group(record),
        "## By length",
        _by_length(record["by_length"]),
        "## Calibration",
        *_calibration(record["calibration"], record["curves"]["calibration"]),
        "## Curves",
        *_curves(record["curves"], plots, why_no_plots),
        "## How this was measured",
        *_method(record),
    ]
    return "\n\n".join(parts) + "\n"


def _figures(record: Mapping[str, Any]) -> list[str]:
    scored, comparison = record["scored"], record["comparison"]
    without = "; the others have no score (see Test set)" if scored["unscored"] else ""
    about = (
        f"Scores are {record['method']['scores']}. "
        f"On {scored['scored']:,} of {record['test_set']['sequences']:,} sequences{without}. Always calling "
        f"the larger class would reach an accuracy of {record['majority_accuracy']:.4f}. "
        "Intervals are 95% bootstrap intervals."
    )
    values = record["values"]
    rows = [(NAMES[name], _value(entry), _only_interval(entry)) for name, entry in values.items()]
    parts = [about, table(("figure", escaped(record["identity"]["bundle"]["name"]), "95% interval"), rows)]
    whys = _whys(values)
    if whys:
        parts.append(whys)
    if comparison is not None:
        parts += _comparison(record["identity"]["bundle"]["name"], comparison)
    return parts


def _comparison(name: str, comparison: Mapping[str, Any]) -> list[str]:
    baseline = comparison["baseline"]
    rows = [
        (
            NAMES[key],
            _value(row["candidate"]),
            _value(row["baseline"]),
            UNDEFINED if row["difference"] is None else f"{row['difference']:+.4f}",
            _only_interval(row, "+.4f"),
        )
        for key, row in comparison["figures"].items()
    ]
    header = ("figure", f"candidate {name}", f"baseline {baseline['name']}", "difference", "95% interval")
    beside = table(tuple(map(escaped, header)), rows)
    if comparison["kind"] == "metrics":
        about = (
            "Beside the baseline's figures, which are taken as exact: of their own uncertainty nothing is known, so "
            "the intervals of the differences are the candidate's alone."
        )
        if baseline["ignored_keys"]:
            about += f" Keys that were not read: {escaped(', '.join(baseline['ignored_keys']))}."
        return ["### Beside the baseline", about, beside]
    alone = (comparison["scored_by_candidate_alone"], comparison["scored_by_baseline_alone"])
    about = f"On the {comparison['n']:,} sequences that both score, in the same bootstrap samples."
    if any(alone):
        about += f" {alone[0]:,} are scored by the candidate alone, {alone[1]:,} by the baseline alone."
    test = comparison["mcnemar"]
    paired = (
        f"Calls that differ: {test['only_candidate_right']:,} where only the candidate is right, "
        f"{test['only_baseline_right']:,} where only the baseline is. McNemar's test, which takes sequences as "
        f"independent: p = {_p(test['p_exact'])} exact, {_p(test['p_mid'])} mid-p."
    )
    return ["### Beside the baseline", about, beside, paired]


def _confusion(confusion: Mapping[str, Any]) -> str:
    classes, matrix = confusion["classes"], confusion["matrix"]
    header = ("truth", *(f"called {name}" for name in classes))
    return table(header, [(name, *(f"{n:,}" for n in row)) for name, row in zip(classes, matrix, strict=True)])


def _test_set(record: Mapping[str, Any]) -> list[str]:
    said, scored, identity = record["test_set"], record["scored"], record["identity"]["test_set"]
    length = said["length"]
    rows = [
        ("sequences", f"{said['sequences']:,}"),
        ("viral", f"{said['viral']:,} ({said['viral_share']:.1%})"),
        ("others", f"{said['others']:,}"),
        ("genomes", f"{said['genomes']:,}"),
        ("taxa", f"{said['taxa']:,}" + (f"; {n:,} sequences without one" if (n := said["without_taxon"]) else "")),
        ("bases", UNDEFINED if said["bases"] is None else f"{said['bases']:,}"),
        (
            "length",
            UNDEFINED if length is None else f"{length['min']:,} to {length['max']:,}, median {length['median']:,g}",
        ),
        ("scored", f"{scored['scored']:,}"),
        ("by nucleotides alone", f"{scored['by_nucleotides_alone']:,} of these"),
        ("without a score", f"{scored['unscored']:,}"),
        *(
            (REASONS[name], f"{n['sequences']:,} of these ({n['viral']:,} viral, {n['others']:,} others)")
            for name, n in scored["unscored_by_reason"].items()
        ),
        ("digest", f"`{identity['digest']}`"),
    ]
    parts = [table(("", ""), rows)]
    if record["notes"]:
        parts.append("\n".join(f"- {escaped(note)}" for note in record["notes"]))
    return parts


def _by_group(record: Mapping[str, Any]) -> str:
    rows = []
    for row in record["by_group"]:
        right = row.get("recall") or row["specificity"]
        rows.append(
            (
                escaped(row["group"]),
                "mixed" if "recall" in row and "specificity" in row else "viral" if "recall" in row else "other",
                f"{row['genomes']:,}",
                f"{row['scored']:,} of {row['sequences']:,}",
                UNDEFINED if "recall" in row and "specificity" in row else _with_interval(right),
                f"{_with_interval(row['roc_auc'])}, {row['roc_auc_against']}",
            )
        )
    header = ("group", "label", "genomes", "scored", "called right (95%)", "ROC-AUC (95%), against")
    return table(header, rows)


def _by_length(rows: Sequence[Mapping[str, Any]] | None) -> str:
    if rows is None:
        return "The lengths of the sequences are not known."
    shown = [
        (
            f"{row['from']:,}–{row['below'] - 1:,}" if row["below"] else f"from {row['from']:,}",
            f"{row['scored']:,} of {row['sequences']:,}",
            *(_with_interval(row[name]) for name in ("accuracy", "recall", "specificity", "roc_auc")),
        )
        for row in rows
    ]
    return table(("bases", "scored", "accuracy (95%)", "recall (95%)", "specificity (95%)", "ROC-AUC (95%)"), shown)


def _calibration(said: Mapping[str, Any], bins: Sequence[Mapping[str, Any]]) -> list[str]:
    error = said["expected_calibration_error"]
    resampled = _interval(error["resampled_95"], ".4f", "resampled ")
    claim = {
        True: f"The bundle holds a calibration for a sample with {said['prior'] or 0:.0%} viral sequences.",
        False: "The scores are not calibrated: they do not claim to be probabilities.",
        None: "Whether these scores claim to be probabilities is not known.",
    }[said["calibrated"]]
    about = (
        f"{claim} Of the scored sequences {said['viral_share']:.1%} are viral, and the figures hold for that share. "
        f"Expected calibration error {_value(error)}{resampled} in {error['bins']} bins of equal size, largest error "
        f"of a bin {_value(said['maximum_calibration_error'])}, Brier score {_value(said['brier_score'])}, log loss "
        f"{_value(said['log_loss'])}. Resampling only ever adds to a calibration error, so its samples lie above it."
    )
    rows = [
        (
            f"{row['lowest']:.3f}–{row['highest']:.3f}",
            f"{row['n']:,}",
            f"{row['mean_score']:.3f}",
            f"{row['viral_share']['value']:.3f}",
            _only_interval(row["viral_share"], ".3f"),
            _only_interval({"interval_95": row["wilson_95"]}, ".3f"),
        )
        for row in bins
    ]
    header = ("scores", "sequences", "mean score", "viral share", "95% over units", "95% over sequences (Wilson)")
    return [about, table(header, rows)]


def _curves(curves: Mapping[str, Any], plots: str | None, why_no_plots: str) -> list[str]:
    parts = []
    if plots is not None:
        alt = "ROC curve, precision-recall curve, calibration by bins, and histogram of scores by label"
        parts.append(f"![{alt}]({plots})")
    elif why_no_plots:
        parts.append(why_no_plots)
    roc, pr = curves["roc"], curves["precision_recall"]
    if "why_undefined" in roc:
        return [*parts, f"There is no ROC or precision-recall curve: {roc['why_undefined']}."]
    said = (
        f"`metrics.json` holds them: ROC ({roc['points']} points of {roc['n_thresholds']:,} thresholds; area "
        f"{roc['area']:.4f}, of these points {roc['area_of_points']:.4f}), precision-recall ({pr['points']} points; "
        f"{pr['area']:.4f} and {pr['area_of_points']:.4f}), the bins above, and the histogram of scores."
    )
    return [*parts, said]


def _method(record: Mapping[str, Any]) -> list[str]:
    method, said = record["method"], record["test_set"]
    bundle = record["identity"]["bundle"]
    digest = f"`{bundle['digest']}`" if bundle["digest"] else "(a table of scores: not known by which model)"
    rows = [
        ("bundle", f"{escaped(bundle['name'])} {digest}"),
        ("test set", f"{record['identity']['test_set']['kind']}, `{escaped(record['identity']['test_set']['path'])}`"),
        ("scores", method["scores"]),
        ("call", f"virus where {method['call']}"),
        (
            "intervals",
            f"{method['interval']}: {method['bootstrap_samples']:,} samples of {said['units']:,} units "
            f"({method['unit']}; {said['units_viral']:,} with viral sequences, {said['units_others']:,} with others), "
            f"seed {method['seed']}",
        ),
        ("gate", f"{record['gate']['rule']}, strictly, as fractions"),
        ("device", f"{escaped(record['device'])}, {record['precision']}"),
        *provenance_rows(record),
    ]
    if record["comparison"] is not None and record["comparison"]["baseline"]["digest"]:
        rows.insert(1, ("baseline", f"`{record['comparison']['baseline']['digest']}`"))
    return [table(("", ""), rows)]


def _compared_rows(comparison: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for name in _MAIN:
        row = comparison["figures"][name]
        text = f"{_value(row['candidate'])}, baseline {_value(row['baseline'])}"
        if row["difference"] is not None:
            text += f", difference {row['difference']:+.4f}{_interval(row['interval_95'], '+.4f')}"
        rows.append((NAMES[name], text))
    return rows


def _confusion_rows(confusion: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (label, ", ".join(f"{n:,} called {name}" for n, name in zip(row, confusion["classes"], strict=True)))
        for label, row in zip(confusion["classes"], confusion["matrix"], strict=True)
    ]


def _set_line(said: Mapping[str, Any]) -> str:
    return (
        f"{said['sequences']:,} sequences ({said['viral']:,} viral, {said['others']:,} others) "
        f"of {said['genomes']:,} genomes"
    )


def _scored_line(scored: Mapping[str, Any]) -> str:
    reasons = [f"{n['sequences']:,} {REASONS[name]}" for name, n in scored["unscored_by_reason"].items()]
    text = f"{scored['scored']:,}"
    if scored["by_nucleotides_alone"]:
        text += f" ({scored['by_nucleotides_alone']:,} by their nucleotides alone)"
    return text + (f"; no score: {', '.join(reasons)}" if reasons else "; none is without a score")


def _model(said: Mapping[str, Any]) -> str:
    text = f"{said['name']} {said['digest'][:12]}" if said["digest"] else str(said["name"])
    if "predictions" in said:
        return f"{text} ({said['predictions']['kind']} at hand, not scored again)"
    return text if said["digest"] else f"{text} (figures alone)"


def _whys(values: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        f"- {NAMES[name]}: {'undefined, ' if why == 'why_undefined' else 'no interval, '}{entry[why]}"
        for name, entry in values.items()
        for why in ("why_undefined", "why_no_interval")
        if why in entry
    ]
    return "\n".join(lines)


def _value(entry: Mapping[str, Any]) -> str:
    return UNDEFINED if entry["value"] is None else f"{entry['value']:.4f}"


def _or_why(entry: Mapping[str, Any]) -> str:
    return _with_interval(entry) if entry["value"] is not None else f"undefined: {entry['why_undefined']}"


def _with_interval(entry: Mapping[str, Any]) -> str:
    return _value(entry) + _interval(entry["interval_95"], ".4f")


def _only_interval(entry: Mapping[str, Any], form: str = ".4f") -> str:
    interval = entry["interval_95"]
    return UNDEFINED if interval is None else f"{interval[0]:{form}} to {interval[1]:{form}}"


def _interval(interval: Sequence[float] | None, form: str, word: str = "") -> str:
    return "" if interval is None else f" ({word}{interval[0]:{form}} to {interval[1]:{form}})"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"
