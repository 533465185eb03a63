"""A gates file: named gates, each with a metric, one limit, and where wanted the kind of record."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import yaml

from seqassay.errors import InputError
from seqassay.prove.gates.criteria import CRITERIA, KINDS, NOT_FIGURES
from seqassay.prove.yaml_lines import YamlLines

BOUNDS = {"at_least": ">=", "at_most": "<=", "above": ">", "below": "<"}
_KEYS = ("metric", "record", *BOUNDS)
_EXAMPLE = "gates:\n  agreement:\n    metric: consensus_agreement\n    at_least: 0.99"


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate of a file, which stands at ``line``."""

    name: str
    metric: str  # a name of CRITERIA, or a path in a record
    bound: str  # of BOUNDS
    limit: float
    kind: str | None  # of KINDS; None: every record that holds the metric
    line: int

    @property
    def rule(self) -> str:
        """The limit as a person reads it."""
        return f"{BOUNDS[self.bound]} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class GatesFile:
    """The gates of a file, in its order."""

    path: Path
    sha256: str
    gates: tuple[Gate, ...]


def read_gates(path: Path) -> GatesFile:
    """Read and check a gates file.

    Raises:
        InputError: names the file and the line.
    """
    reader = _Reader(path, f"a gates file reads:\n{_EXAMPLE}")
    content, root = reader.compose("the gates file")
    if root is None:
        raise InputError("holds no gates", path=path, hint=reader.hint)
    top = dict(reader.items(root, "a gates file"))
    if list(top) != ["gates"]:
        stranger = next((name for name in top if name != "gates"), None)
        line = root.start_mark.line + 1 if stranger is None else top[stranger].start_mark.line + 1
        what = "has no list of gates" if stranger is None else f"{stranger!r} is not known"
        raise InputError(what, path=path, line=line, hint=reader.hint)
    gates = tuple(reader.gate(name, node) for name, node in reader.items(top["gates"], "gates"))
    if not gates:
        raise InputError("holds no gates", path=path, hint=reader.hint)
    return GatesFile(path, hashlib.sha256(content).hexdigest(), gates)


class _Reader(YamlLines):
    """Gates of a file."""

    def gate(self, name: str, node: yaml.Node) -> Gate:
        """One gate."""
        fields = dict(self.items(node, f"gate {name!r}"))
        for key, value in fields.items():
            if key not in _KEYS:
                raise self.unknown(key, _KEYS, f"gate {name!r}", value)
        bounds = [key for key in fields if key in BOUNDS]
        if len(bounds) != 1:
            found = " and ".join(bounds) or "none"
            raise self.error(f"gate {name!r}: takes one limit, of {', '.join(BOUNDS)}; it has {found}", node)
        if "metric" not in fields:
            raise self.error(f"gate {name!r}: names no metric", node)
        metric, kind = self._text(name, "metric", fields["metric"]), None
        self._check_metric(name, metric, fields["metric"])
        if "record" in fields:
            kind = self._text(name, "record", fields["record"])
            if kind not in KINDS:
                raise self.error(
                    f"gate {name!r}: record {kind!r} is not known", fields["record"], f"known: {', '.join(KINDS)}"
                )
            held_by = CRITERIA[metric].kind if metric in CRITERIA else None
            if held_by not in (None, kind):
                raise self.error(f"gate {name!r}: {metric} is held by a {held_by}, not a {kind}", fields["record"])
        limit = self._number(name, bounds[0], fields[bounds[0]])
        return Gate(name, metric, bounds[0], limit, kind, node.start_mark.line + 1)

    def _check_metric(self, name: str, metric: str, node: yaml.Node) -> None:
        root = metric.split(".")[0]
        if root in NOT_FIGURES:
            raise self.error(f"gate {name!r}: {root} says how something was measured; it holds no figure", node)

    def _text(self, name: str, key: str, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
            raise self.error(f"gate {name!r}: {key} is not a name", node)
        return str(node.value)

    def _number(self, name: str, key: str, node: yaml.Node) -> float:
        text = node.value if isinstance(node, yaml.ScalarNode) else "a list"
        try:
            # YAML reads 1e-3 as text: what Python takes for a number is one, unless it stands in quotes
            number = float(text) if isinstance(node, yaml.ScalarNode) and node.style is None else math.nan
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            hint = "give a fraction: 0.99 for 99%" if text.strip().endswith("%") else ""
            raise self.error(f"gate {name!r}: {key} is {text!r}, not a number", node, hint)
        return number
