"""A figure against a limit: the verdict, and why.

A limit is shown to be kept when the figure and its whole 95% interval are on its right side, and to be broken when all
of both are on its wrong side. Figure, interval and limit are compared as exact fractions, as ``evaluate``'s gate does.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from seqassay.errors import InputError, UsageError
from seqassay.prove.comparison import OF_HEADS
from seqassay.prove.gate import PASSED, UNDECIDED, exact
from seqassay.prove.gates.criteria import CRITERIA, Range
from seqassay.prove.gates.file import BOUNDS, Gate, GatesFile
from seqassay.prove.gates.records import Figure, Record, find

FAILED, MISSING = "FAILED", "MISSING"
BY_VALUE = "judged by its value: it has no interval"
_DECIMALS = 12  # of interval ends, which are sums of floating-point weights
_KEPT = {"at_least": operator.ge, "at_most": operator.le, "above": operator.gt, "below": operator.lt}


def judge_all(file: GatesFile, records: Sequence[Record]) -> list[dict[str, Any]]:
    """Every gate with its results, one for each record that holds its metric.

    Raises:
        InputError: a metric that is no figure of any record given, or a limit out of its range; names file and line.
    """
    return [_judge(gate, file, records) for gate in file.gates]


def overall(verdicts: Sequence[str]) -> str:
    """PASSED when all are, FAILED when one is or is missing, else UNDECIDED."""
    if FAILED in verdicts or MISSING in verdicts:
        return FAILED
    return PASSED if set(verdicts) == {PASSED} else UNDECIDED


def decide(figure: Figure, bound: str, limit: Fraction) -> tuple[str, str]:
    """Verdict and reason of one figure."""
    if figure.value is None:
        return UNDECIDED, f"the figure is undefined{_because(figure.why)}"
    keeps = _KEPT[bound]
    kept = keeps(Fraction(figure.exact) if figure.exact else exact(figure.value), limit)
    if figure.interval is None:
        if kept and figure.is_difference:  # as `evaluate` has it: without an interval no drop is shown to be small
            return UNDECIDED, f"the limit is kept, but the difference has no interval{_because(figure.why)}"
        return PASSED if kept else FAILED, BY_VALUE + _because(figure.why)
    ends = {keeps(Fraction(repr(round(end, _DECIMALS))), limit) for end in figure.interval}
    if ends == {kept}:
        side = "kept" if kept else "broken"
        return PASSED if kept else FAILED, f"the limit is {side} by the figure and its whole interval"
    return UNDECIDED, "the interval straddles the limit"


def _judge(gate: Gate, file: GatesFile, records: Sequence[Record]) -> dict[str, Any]:
    criterion = CRITERIA.get(gate.metric)
    path = gate.metric if criterion is None else criterion.path
    kind = gate.kind if criterion is None or criterion.kind is None else criterion.kind
    if criterion is not None:
        _check_limit(gate, file, criterion.range)
    candidates = [record for record in records if kind in (None, record.kind)]
    results, why_missing = [], []
    for record in candidates:
        why_not = _why_not_held(gate.metric, record)
        try:
            figure = None if why_not else find(record, path)
        except InputError as error:
            raise InputError(f"gate {gate.name!r}: {error.message}", path=file.path, line=gate.line) from error
        if figure is None:
            why_missing.append(f"{record.path}: {why_not or 'holds no ' + gate.metric}")
            continue
        if criterion is None:
            _check_limit(gate, file, figure.range)
        results.append(_result(gate, record, figure))
    if not results and criterion is None and candidates:
        raise InputError(
            f"gate {gate.name!r}: no record given holds the metric {gate.metric!r}", path=file.path, line=gate.line,
            hint=f"a metric is a place in a record, as in values.roc_auc, or one of: {', '.join(CRITERIA)}",
        )  # fmt: skip
    reason = "" if results else "; ".join(why_missing) or f"no record of the kind {kind!r} was given"
    return {
        "name": gate.name,
        "metric": gate.metric,
        "path": path,
        "record_kind": kind,
        "bound": gate.bound,
        "limit": gate.limit,
        "rule": gate.rule,
        "verdict": overall([result["verdict"] for result in results]) if results else MISSING,
        "reason": reason,
        "results": results,
    }


def _result(gate: Gate, record: Record, figure: Figure) -> dict[str, Any]:
    verdict, reason = decide(figure, gate.bound, exact(gate.limit))
    if figure.is_difference and record.content.get("gate", {}).get("reason", "").startswith(OF_HEADS):
        verdict, reason = UNDECIDED, record.content["gate"]["reason"]  # no verdict of `evaluate` stands on those either
    return {
        "record": str(record.path),
        "value": figure.value,
        "interval_95": None if figure.interval is None else list(figure.interval),
        "n": figure.n,
        "verdict": verdict,
        "reason": reason,
    }


def _why_not_held(metric: str, record: Record) -> str:
    """Why a record does not hold what its place would say."""
    if metric in ("wall_time", "wall_s") and record.kind == "run" and record.content["resumed_sequences"]:
        return "the run was resumed, and its wall time is that of the last part alone"
    if metric in ("speed_up", "values.speed_up") and record.kind == "pipeline":
        return "" if record.content["values"]["speed_up"]["over"] else "it was measured without a baseline"
    return ""


def _check_limit(gate: Gate, file: GatesFile, possible: Range) -> None:
    """A limit that no figure can reach, or that every figure keeps, decides nothing."""
    low, high = possible
    never, always = {
        "at_least": (gate.limit > high, gate.limit <= low),
        "above": (gate.limit >= high, gate.limit < low),
        "at_most": (gate.limit < low, gate.limit >= high),
        "below": (gate.limit <= low, gate.limit > high),
    }[gate.bound]
    if never or always:
        what = "can never be kept" if never else "is kept by every figure"
        is_percent = possible == (0, 1) and 1 < gate.limit <= 100
        percent = f"for {gate.limit:g} percent give {gate.limit / 100:g}" if is_percent else ""
        raise InputError(
            f"gate {gate.name!r}: {BOUNDS[gate.bound]} {gate.limit:g} {what}: "
            f"{gate.metric} lies from {low:g} to {high:g}",
            path=file.path, line=gate.line, hint=percent,
        )  # fmt: skip


def _because(why: str) -> str:
    return f" ({why})" if why else ""


def only(file: GatesFile, wanted: Sequence[str]) -> GatesFile:
    """The file with the gates named alone; with all of them where none is.

    Raises:
        UsageError: a name that the file does not have.
    """
    known = [gate.name for gate in file.gates]
    for name in wanted:
        if name not in known:
            raise UsageError(f"{file.path} has no gate {name!r}", hint=f"it has: {', '.join(known)}")
    return GatesFile(file.path, file.sha256, tuple(g for g in file.gates if not wanted or g.name in wanted))
