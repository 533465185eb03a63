"""The page: views of records in one template, as one string of HTML."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

import seqassay
from seqassay.report.html.blocks import View, bounded
from seqassay.report.html.comparison_view import comparison_view
from seqassay.report.html.evaluation_view import evaluation_view
from seqassay.report.html.gate_view import gate_view
from seqassay.report.html.generic_view import generic_view
from seqassay.report.html.records import Record
from seqassay.report.html.run_view import run_view
from seqassay.report.html.scan_view import scan_view
from seqassay.report.html.speed_view import speed_view

_VIEWS: dict[str, Callable[[Record], View]] = {
    "run": run_view,
    "evaluation": evaluation_view,
    "comparison": comparison_view,
    "gate": gate_view,
    "scan": scan_view,
    "speed": speed_view,
}


def record_page(records: Sequence[Record]) -> str:
    """One record, or several: first those of one kind side by side, then each by itself.

    Raises:
        InputError: a table that belongs to a record was changed.
    """
    views = [_VIEWS.get(record.kind, generic_view)(record) for record in records]
    title = views[0].title if len(views) == 1 else f"{len(records)} records of seqassay"
    return render(title, views)


def render(title: str, views: Sequence[View]) -> str:
    """The views as HTML; everything in them is escaped."""
    environment = Environment(
        loader=PackageLoader("seqassay.report.html"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["bounded"] = bounded
    environment.globals["next_id"] = itertools.count(1).__next__
    return environment.get_template("page.html.j2").render(
        title=bounded(title, 200), views=views, version=seqassay.__version__
    )
