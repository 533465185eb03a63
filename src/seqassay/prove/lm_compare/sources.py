"""Runs from the records of `lm evaluate`, `lm train` and `lm sweep`: their figures, and what those were measured on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqassay.errors import InputError, SeqassayError, UsageError
from seqassay.measure.record_files import read_record_file
from seqassay.measure.schema import check_schema, schema
from seqassay.prove.lm.record import check_record
from seqassay.prove.sweep.results import Run as SweepRun
from seqassay.report.lm_runs import Figure

SWEEP, METRICS, TRAINING = "sweep.json", "metrics.json", "training.json"
_KINDS = {
    "seqassay-lm-evaluation": "lm_evaluation",
    "seqassay-lm-training": "lm_training",
    "seqassay-lm-sweep": "lm_sweep",
}
_COMMANDS = {"lm_evaluation": "lm evaluate", "lm_training": "lm train", "lm_sweep": "lm sweep"}
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
        basis: by family of figures (a split, ``smallbench``, ``latency``, …): what they were measured on, by aspect.
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
        path, content, digest = read_record_file(_record_of(Path(place)))
        if digest in seen:
            raise UsageError(f"{place}: is the same record as {seen[digest]}", hint="name every run once")
        seen[digest] = place
        kind = _checked(content, path)
        read = {"lm_evaluation": _evaluation, "lm_training": _training, "lm_sweep": _sweep}[kind]
        try:
            found += read(content, place)
        except (KeyError, TypeError, AttributeError) as error:  # in parts that a schema leaves open
            raise InputError(f"is no whole record of {_COMMANDS[kind]}: {error!r}", path=path) from error
    return _named_apart(found)


def _record_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    held = [name for name in (SWEEP, METRICS, TRAINING) if (path / name).is_file()]
    if len(held) > 1:
        raise InputError(f"holds {' and '.join(held)}: name the record itself", path=path)
    if not held:
        raise InputError(
            f"holds none of {METRICS}, {TRAINING} and {SWEEP}",
            path=path,
            hint="name what lm evaluate, lm train or lm sweep wrote",
        )
    return path / held[0]


def _checked(content: Any, path: Path) -> str:
    """The kind of a record that is as its schema has it."""
    said = content.get("format") if isinstance(content, dict) else None
    kind = _KINDS.get(str(said))
    if kind is None:
        raise InputError(f"is no record of a language model (its format is {said!r})", path=path)
    versions = schema(kind)["properties"]["version"]["enum"]
    if content.get("version") not in versions:
        raise InputError(
            f"is of version {content.get('version')!r}; read here: {', '.join(versions)}",
            path=path,
            hint="make it again",
        )
    try:
        if kind == "lm_evaluation":
            check_record(content)
        else:
            check_schema(content, kind)
    except SeqassayError as error:
        raise InputError(error.message, path=path, hint="make it again, or name another") from error
    return kind


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
        windows = {name: method[name] for name in ("windows", "context_tokens", "stride_tokens", "prefix")}
        basis[split] = {
            "tokenizer": model["tokenizer"],
            "text": _digest(sources or text["tokens"].get(split)),
            "windows": _digest([windows, said["scope"], said["scored_share"]]),
        }
    if content["smallbench"] is not None:
        tasks = {name: [task["n"], task["rows"]] for name, task in content["smallbench"]["tasks"].items()}
        basis["smallbench"] = {"probes": _digest([content["smallbench"]["method"], tasks])}
    for family in ("latency", "throughput", "memory"):
        machine = [standard[name] for name in ("device", "processor", "cores", "cuda_devices")]
        basis[family] = {"shape": _digest(standard[f"{family}_shape"]), "machine": _digest(machine)}
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
    hardware = content["provenance"]["hardware"]
    machine = [content["device"], hardware["processor"], hardware["cores"], hardware["cuda_devices"]]
    dev = {name: content["data"]["dev"][name] for name in ("windows", "context_tokens", "stride_tokens", "prefix")}
    basis = {
        "training_dev": {"tokenizer": content["data"]["tokenizer_digest"], "windows": _digest(dev)},
        "training": {"machine": _digest(machine)},
    }
    yield ComparedRun(_name(place), "training", place, figures, basis)


def _sweep(content: Mapping[str, Any], place: str) -> Iterator[ComparedRun]:
    for said in content["runs"]:
        run = SweepRun.from_json(said)
        figures: dict[str, Figure] = {ALIASES.get(name, name): value for name, value in run.figures.items()}
        axes = {name: value if isinstance(value, str) else float(value) for name, value in run.axes.items()}
        more: dict[str, Figure] = {"stage": run.stage, "seed": run.seed, "status": run.status}
        name = f"{_name(place)}/{run.experiment}, {run.stage}, seed {run.seed}"
        yield ComparedRun(name, "sweep", f"{place}/{run.folder}", {**axes, **figures, **more}, {})


def _name(place: str) -> str:
    path = Path(place)
    return (path.parent if path.name in (SWEEP, METRICS, TRAINING) and path.parent.name else path).name or place


def _named_apart(runs: list[ComparedRun]) -> list[ComparedRun]:
    """Runs of one name by the place that they are in."""
    names = [run.name for run in runs]
    return [
        run if names.count(run.name) == 1 else ComparedRun(run.place, run.kind, run.place, run.figures, run.basis)
        for run in runs
    ]


def _digest(said: Any) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
