"""The standard metrics of an evaluation: one flat, validated table that compares across runs, to and from JSON."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from seqassay.errors import InputError

TASKS = ("sentiment", "nli", "qa", "paraphrase")
SPLITS = ("train", "valid", "test")
_SLACK = 1e-9
_SHARES = ("embedding_ratio", "model_flop_utilisation")
_FROM_ONE = ("parameters", "vocab_size", "d_model", "n_layers", "n_heads", "d_ff", "context_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardMetrics:
    """Figures of one run; None is "not measured". Perplexity is per token; latency is of the first shape measured.

    Raises:
        InputError: a value that cannot be, or values that don't go together; names the field.
    """

    run_id: str
    written_at: str
    model_path: str
    weights_sha256: str  # of several files: over their digests in order of their names
    tokenizer_sha256: str

    parameters: int
    embedding_parameters: int  # tokens, learned positions and an untied head
    embedding_ratio: float
    glu_expansion: float
    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    d_ff: int
    context_tokens: int
    tied: bool
    norm: str
    positions: str

    train_loss: float | None  # nats per token
    train_perplexity: float | None
    train_bits_per_byte: float | None
    train_scored_share: float | None  # of the tokens; below 1: --max-batches
    valid_loss: float | None
    valid_perplexity: float | None
    valid_bits_per_byte: float | None
    valid_scored_share: float | None
    test_loss: float | None
    test_perplexity: float | None
    test_bits_per_byte: float | None
    test_scored_share: float | None

    smallbench_sentiment_accuracy: float | None  # by log-probability per token
    smallbench_nli_accuracy: float | None
    smallbench_qa_accuracy: float | None
    smallbench_paraphrase_accuracy: float | None
    smallbench_average_accuracy: float | None
    smallbench_items: int | None

    latency_shape: str | None  # sequences x tokens
    latency_runs: int | None
    latency_mean_ms: float | None
    latency_sd_ms: float | None
    latency_min_ms: float | None
    latency_median_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    latency_max_ms: float | None
    throughput_shape: str | None
    throughput_tokens_per_s: float | None
    throughput_sequences_per_s: float | None
    model_flop_utilisation: float | None  # of the throughput, else of the latency
    memory_shape: str | None
    peak_memory_bytes: int | None  # of a fresh process: resident on the CPU, allocated on CUDA
    weight_bytes: int

    training_steps: int | None
    training_tokens: int | None
    training_epochs: float | None
    training_flop: int | None
    training_wall_s: float | None
    training_tokens_per_s: float | None
    training_dev_loss: float | None
    seed: int | None

    device: str
    processor: str
    cores: int | None
    host_memory_bytes: int
    cuda_devices: str
    python_version: str
    torch_version: str | None
    seqassay_version: str
    git_commit: str | None  # of the folder that the command was given in
    checkpoint_git_commit: str | None

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            _check_value(name, getattr(self, name), hint)
        for split in SPLITS:
            loss, found = getattr(self, f"{split}_loss"), getattr(self, f"{split}_perplexity")
            if (loss is None and found is not None) or (
                loss is not None and found is not None and not math.isclose(math.log(found), loss, abs_tol=1e-9)
            ):
                raise InputError(f"{split}_perplexity is {found}, which is not the exponential of {split}_loss, {loss}")
        if not math.isclose(self.embedding_ratio, self.embedding_parameters / self.parameters, rel_tol=_SLACK):
            raise InputError(f"embedding_ratio is {self.embedding_ratio}, not that of the parameters")
        figures = ("min", "median", "p95", "p99", "max")
        in_order = [x for x in (getattr(self, f"latency_{name}_ms") for name in figures) if x is not None]
        if in_order != sorted(in_order):
            raise InputError(f"latency_min_ms to latency_max_ms are not in order: {in_order}")
        mean = self.latency_mean_ms
        if mean is not None and in_order and not in_order[0] * (1 - _SLACK) <= mean <= in_order[-1] * (1 + _SLACK):
            raise InputError(f"latency_mean_ms is {mean}, outside {in_order[0]} to {in_order[-1]}")
        asked = [x for x in (getattr(self, f"smallbench_{task}_accuracy") for task in TASKS) if x is not None]
        average = self.smallbench_average_accuracy
        if (average is None) == bool(asked) or (
            average is not None and not math.isclose(average, sum(asked) / len(asked), rel_tol=_SLACK)
        ):
            raise InputError(f"smallbench_average_accuracy is {average}, not the mean of {asked}")

    def to_json(self) -> dict[str, Any]:
        """All fields, in their order, as JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> StandardMetrics:
        """The metrics in a JSON object, which has every field and no other.

        Raises:
            InputError: names the field.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if missing := [name for name in names if name not in content]:
            raise InputError(f"standard metrics lack {', '.join(missing)}")
        if strange := [name for name in content if name not in names]:
            raise InputError(f"standard metrics have no {', '.join(strange)}")
        return cls(**content)


def _check_value(name: str, value: Any, hint: Any) -> None:
    allowed = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    wanted = float if float in allowed else next(kind for kind in allowed if kind is not types.NoneType)
    if value is None:
        if types.NoneType not in allowed:
            raise InputError(f"{name} is null")
        return
    is_right = type(value) in (int, float) if wanted is float else type(value) is wanted
    if not is_right or (wanted in (int, float) and not math.isfinite(value)):
        raise InputError(f"{name} is {value!r}, not {'a finite number' if wanted is float else wanted.__name__}")
    if wanted is str:
        if not value and name != "cuda_devices":
            raise InputError(f"{name} is empty")
        if name.endswith("_sha256") and not (len(value) == 64 and set(value) <= set("0123456789abcdef")):
            raise InputError(f"{name} is {value!r}, no SHA-256")
    elif wanted is not bool:
        low, high = range_of(name)
        if not low - _SLACK <= value <= high + _SLACK:
            raise InputError(f"{name} is {value}, outside {low:g} to {high:g}")


def range_of(name: str) -> tuple[float, float]:
    """The range that a field's number lies in."""
    if name.endswith(("_accuracy", "_share")) or name in _SHARES:
        return 0.0, 1.0
    return (1.0 if name.endswith("_perplexity") or name in _FROM_ONE else 0.0), math.inf


def standard_metrics(record: Mapping[str, Any]) -> StandardMetrics:
    """The standard metrics of an evaluation's record."""
    model, config = record["identity"]["checkpoint"], record["model"]
    training = record["training"] or {}
    hardware = record["provenance"]["hardware"]
    return StandardMetrics(
        run_id=record["run"]["id"],
        written_at=record["written_at"],
        model_path=model["path"],
        weights_sha256=config["weights_sha256"],
        tokenizer_sha256=model["tokenizer"],
        parameters=model["parameters"],
        **{name: config[name] for name in _OF_MODEL},
        **_of_text(record["splits"]),
        **_of_probes(record["smallbench"]),
        **_of_profiling(record["profiling"]),
        weight_bytes=config["weight_bytes"],
        training_steps=training.get("steps"),
        training_tokens=training.get("tokens_seen"),
        training_epochs=training.get("epochs"),
        training_flop=training.get("flop"),
        training_wall_s=(training.get("whole_training") or {}).get("wall_s"),
        training_tokens_per_s=(training.get("whole_training") or {}).get("tokens_per_s"),
        training_dev_loss=training.get("dev_loss"),
        seed=config["seed"] if training.get("seed") is None else training["seed"],
        device=record["device"],
        processor=hardware["processor"],
        cores=hardware["cores"],
        host_memory_bytes=hardware["memory_bytes"],
        cuda_devices=", ".join(hardware["cuda_devices"]),
        python_version=record["provenance"]["python"],
        torch_version=record["provenance"]["libraries"].get("torch"),
        seqassay_version=record["provenance"]["seqassay"],
        git_commit=record["run"]["git_commit"],
        checkpoint_git_commit=record["run"]["checkpoint_git_commit"],
    )


_OF_MODEL = (
    "embedding_parameters", "embedding_ratio", "glu_expansion", "vocab_size", "d_model", "n_layers", "n_heads", "d_ff",
    "context_tokens", "tied", "norm", "positions",
)  # fmt: skip


def _of_text(splits: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for split in SPLITS:
        values = splits.get(split, {}).get("values", {})
        for name, figure in (("loss", "loss"), ("perplexity", "token_perplexity"), ("bits_per_byte", "bits_per_byte")):
            found[f"{split}_{name}"] = values[figure]["value"] if values else None
        found[f"{split}_scored_share"] = splits[split]["scored_share"] if split in splits else None
    return found


def _of_probes(smallbench: Mapping[str, Any] | None) -> dict[str, Any]:
    tasks = smallbench["tasks"] if smallbench else {}
    found: dict[str, Any] = {
        f"smallbench_{task}_accuracy": tasks[task]["by_average"]["value"] if task in tasks else None for task in TASKS
    }
    average = smallbench["average"]["by_average"] if smallbench else {"value": None, "n": None}
    return found | {"smallbench_average_accuracy": average["value"], "smallbench_items": average["n"]}


def _of_profiling(profiling: Mapping[str, Any] | None) -> dict[str, Any]:
    profiling = profiling or {}
    latency = (profiling.get("latency") or [None])[0]
    throughput, memory = profiling.get("throughput"), profiling.get("memory")
    ms = latency["latency_ms"] if latency else {}
    utilised = throughput or latency
    peak = (memory.get("cuda_peak_allocated_bytes") or memory["peak_bytes"]) if memory else None
    return {
        "latency_shape": latency["shape"] if latency else None,
        "latency_runs": ms.get("n"),
        "latency_mean_ms": ms.get("value"),
        "latency_sd_ms": ms.get("sd"),
        "latency_min_ms": ms.get("min"),
        "latency_median_ms": latency["median_ms"] if latency else None,
        "latency_p95_ms": latency["p95_ms"] if latency else None,
        "latency_p99_ms": latency["p99_ms"] if latency else None,
        "latency_max_ms": ms.get("max"),
        "throughput_shape": throughput["shape"] if throughput else None,
        "throughput_tokens_per_s": throughput["tokens_per_s"]["value"] if throughput else None,
        "throughput_sequences_per_s": throughput["sequences_per_s"]["value"] if throughput else None,
        "model_flop_utilisation": utilised["model_flop_utilisation"]["value"] if utilised else None,
        "memory_shape": memory["shape"] if memory else None,
        "peak_memory_bytes": round(peak["value"]) if peak else None,
    }
