"""Runs from the records of `lm evaluate`, `lm train` and `lm sweep`: their figures, and what those were measured on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seqassay.errors import InputError, UsageError
from seqassay.measure.record_files import FILE_NAMES
from seqassay.prove.record_checks import check_content
from seqassay.prove.sweep.results import Run as SweepRun
from seqassay.report.html.records import read_record
from seqassay.report.lm_runs import Figure

# One name a figure, whichever record it is from; the others are understood as well.
ALIASES = {
    **{f"{split}_perplexity": f"{split}_token_perplexity" for split in ("train", "valid", "test")},
    "smallbench_by_average": "smallbench_average_accuracy",
    "latency_ms": "latency_mean_ms",
    "tokens_seen": "training_tokens",
    "embedding_ratio_achieved": "embedding_ratio",
    "glu_expansion_achieved": "glu_expansion",
}
_NO_FIGURES = ("run_id", "written_at", "model_path", "weights_sha256", "tokenizer_sha256")


@dataclass(frozen=True)
class ComparedRun:
    """A run as its record has it.

    Attributes:
        basis: by family of figures (a split, ``smallbench``, ``latency``, …): what they were measured on, by aspect, as
            far as the record says.
    """

    name: str
    kind: str
    place: str
    figures: Mapping[str, Figure]
    basis: Mapping[str, Mapping[str, str]]


def read_runs(places: Sequence[str]) -> list[ComparedRun]:
    """The runs of all places in their order; a sweep stands for all of its runs.

    Raises:
        InputError: no record there, or one that is not whole.
        UsageError: a record that was given twice.
    """
    found: list[ComparedRun] = []
    seen: dict[str, str] = {}
    for place in places:
        record = read_record(Path(place), check_content)
        if record.sha256 in seen:
            raise UsageError(f"{place}: is the same record as {seen[record.sha256]}", hint="name every run once")
        seen[record.sha256] = place
        if record.kind not in _READERS:
            raise InputError(f"is of the kind {record.kind}; compared are {', '.join(_READERS)}", path=record.path)
        try:
            found += _READERS[record.kind](record.content, place)
        except (KeyError, TypeError, AttributeError) as error:  # in parts that a schema leaves open
            raise InputError(f"is no whole record of the kind {record.kind}: {error!r}", path=record.path) from error
    return _named_apart(found)


def _evaluation(content: Mapping[str, Any], place: str) -> Iterator[ComparedRun]:
    standard = content["standard"]
    figures: dict[str, Figure] = {
        ALIASES.get(name, name): value
        for name, value in standard.items()
        if name not in _NO_FIGURES and value is not None and not isinstance(value, bool)
    }
    model, text, method = content["identity"]["checkpoint"], content["identity"]["text"], content["method"]
    basis: dict[str, Mapping[str, str]] = {}
    for split, said in content["splits"].items():
        figures |= {f"{split}_{name}": figure["value"] for name, figure in said["values"].items()}
        sources = sorted(source["sha256"] for source in text["sources"] if source["split"] == split)
        windows = {name: method[name] for name in ("windows", "context_tokens", "stride_tokens")}
        windows["prefix"] = method["prefix"] is not None  # which token it is, is the tokenizer's
        basis[split] = {
            "tokenizer": model["tokenizer"],
            "text": _digest(sources or text["tokens"].get(split)),
            "windows": _digest([windows, said["scope"], said["scored_share"]]),
        }
    if content["smallbench"] is not None:
        tasks = {name: [task["n"], task["rows"]] for name, task in content["smallbench"]["tasks"].items()}
        basis["smallbench"] = {"probes": _digest([content["smallbench"]["method"], tasks])}
    for family in ("latency", "throughput", "memory"):
        basis[family] = {"shape": _digest(standard[f"{family}_shape"]), "machine": _machine(content)}
    yield ComparedRun(_name(place), "evaluation", place, figures, basis)


def _training(content: Mapping[str, Any], place: str) -> Iterator[ComparedRun]:
    training, model = content["training"], content["model"]
    config: Mapping[str, Figure] = model["config"]
    names = ("vocab_size", "d_model", "n_layers", "n_heads", "d_ff")
    figures: dict[str, Figure] = {
        "parameters": model["params"],
        **{name: config[name] for name in names},
        "context_tokens": config["context"],
        "training_dev_loss": training["best"]["dev_loss"],
        "training_dev_perplexity": training["best"]["dev_perplexity"],
        "training_steps": training["steps"],
        "training_tokens": training["tokens_seen"],
        "training_epochs": training["epochs"],
        "training_wall_s": training["wall_s"],
        "training_tokens_per_s": training["tokens_per_s"],
        "seed": content["settings"]["seed"],
        "status": content["status"],
    }
    dev = {name: content["data"]["dev"][name] for name in ("windows", "context_tokens", "stride_tokens", "prefix")}
    basis = {
        "training_dev": {"tokenizer": content["data"]["tokenizer_digest"], "windows": _digest(dev)},
        "training": {"machine": _machine(content)},
    }
    yield ComparedRun(_name(place), "training", place, figures, basis)


def _sweep(content: Mapping[str, Any], place: str) -> Iterator[ComparedRun]:
    tokenizer, machine = {"tokenizer": content["identity"]["tokenizer"]}, {"machine": _machine(content)}
    basis = {
        **dict.fromkeys(("valid", "test"), tokenizer),
        **dict.fromkeys(("training", "latency", "throughput", "memory"), machine),
    }
    for said in content["runs"]:
        run = SweepRun.from_json(said)
        figures: dict[str, Figure] = {ALIASES.get(name, name): value for name, value in run.figures.items()}
        axes = {name: value if isinstance(value, str) else float(value) for name, value in run.axes.items()}
        more: dict[str, Figure] = {"stage": run.stage, "seed": run.seed, "status": run.status}
        name = f"{_name(place)}/{run.experiment}, {run.stage}, seed {run.seed}"
        yield ComparedRun(name, "sweep", f"{place}/{run.folder}", {**axes, **figures, **more}, basis)


_READERS: Mapping[str, Callable[[Mapping[str, Any], str], Iterator[ComparedRun]]] = {
    "lm_evaluation": _evaluation, "lm_training": _training, "lm_sweep": _sweep,
}  # fmt: skip


def _name(place: str) -> str:
    return _parts(place)[-1]


def _parts(place: str) -> tuple[str, ...]:
    """A place in pieces; a record's own name is none of them, where it has one that all records have."""
    path = Path(place)
    return (path.parent if path.name in FILE_NAMES and path.parent.name else path).parts or (place,)


def _named_apart(runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """Runs of one name by as much of their places as tells them apart."""
    found = []
    for run in runs:
        name, mine = run.name, _parts(run.place)
        same = [_parts(other.place) for other in runs if other is not run and other.name == run.name]
        for n in range(2, len(mine) + 1):
            if not same:
                break
            name = str(Path(*mine[-n:]))
            same = [theirs for theirs in same if theirs[-n:] == mine[-n:]]
        found.append(replace(run, name=name))
    return found


def _machine(content: Mapping[str, Any]) -> str:
    hardware = content["provenance"]["hardware"]
    return _digest([content["device"], hardware["processor"], hardware["cores"], hardware["cuda_devices"]])


def _digest(said: Any) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
