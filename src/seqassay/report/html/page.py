"""The page: views of records in one template, as one string of HTML."""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import seqassay
from seqassay.errors import InputError
from seqassay.report.html.blocks import View, bounded
from seqassay.report.html.comparison_view import comparison_view
from seqassay.report.html.evaluation_view import evaluation_view
from seqassay.report.html.gate_view import gate_view
from seqassay.report.html.generic_view import generic_view
from seqassay.report.html.lm_evaluation_view import lm_evaluation_view
from seqassay.report.html.lm_training_view import lm_training_view
from seqassay.report.html.pipeline_view import pipeline_view
from seqassay.report.html.records import Record
from seqassay.report.html.run_view import run_view
from seqassay.report.html.scan_view import scan_view
from seqassay.report.html.side_by_side import side_by_side
from seqassay.report.html.speed_view import speed_view
from seqassay.report.html.sweep_view import sweep_view

_VIEWS: dict[str, Callable[[Record], View]] = {
    "run": run_view,
    "evaluation": evaluation_view,
    "comparison": comparison_view,
    "gate": gate_view,
    "scan": scan_view,
    "pipeline": pipeline_view,
    "speed": speed_view,
    "lm_sweep": sweep_view,
    "lm_evaluation": lm_evaluation_view,
    "lm_training": lm_training_view,
}


def record_page(records: Sequence[Record]) -> str:
    """One record, or several: first those of one kind side by side, then each by itself.

    Raises:
        InputError: a record lacks what its page shows, or a table that belongs to it was changed.
    """
    views = [_view(record) for record in records]
    if len(views) == 1:
        return render(views[0].title, views)
    labels = [f"{letters(i)} · {record.name}" for i, record in enumerate(records)]
    kinds = dict.fromkeys(record.kind for record in records)
    groups = [[pair for pair in zip(labels, records, strict=True) if pair[1].kind == kind] for kind in kinds]
    together = [side_by_side(group) for group in groups if len(group) > 1]
    alone = [replace(view, title=f"{label}: {view.title}") for label, view in zip(labels, views, strict=True)]
    return render(f"{len(records)} records of seqassay", [*together, *alone])


def _view(record: Record) -> View:
    try:
        return _VIEWS.get(record.kind, generic_view)(record)
    except (KeyError, TypeError, ValueError, IndexError) as error:  # in parts of a record that its schema leaves open
        raise InputError(f"is no whole record of the kind {record.kind!r}: {error!r}", path=record.path) from error


def letters(number: int) -> str:
    """A, B, …, Z, AA, AB, …"""
    return (letters(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)


def render(title: str, views: Sequence[View]) -> str:
    """The views as HTML; everything in them is escaped."""
    environment = Environment(
        loader=PackageLoader("seqassay.report.html"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    script = environment.get_template("sort.js").render().strip() if any(map(_sorts, views)) else ""
    environment.filters["bounded"] = bounded
    environment.globals["next_id"] = itertools.count(1).__next__
    return environment.get_template("page.html.j2").render(
        title=bounded(title, 200),
        views=views,
        version=seqassay.__version__,
        script=Markup(script),  # the package's own, and the only one that the page's policy lets run
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _sorts(view: View) -> bool:
    return any(getattr(block, "is_sortable", False) for section in view.sections for block in section.blocks)
