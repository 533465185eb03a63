"""The known acceptance criteria, where records hold them, and in which range a figure of a record can lie."""

from __future__ import annotations

import math
from dataclasses import dataclass

from seqassay.predict.record import RECORD_FORMAT
from seqassay.prove import record as evaluation
from seqassay.prove.compare import record as comparison
from seqassay.prove.lm import record as lm_evaluation
from seqassay.prove.lm.standard import range_of as standard_range_of
from seqassay.prove.pipeline import record as pipeline
from seqassay.prove.speed import record as speed

Range = tuple[float, float]

# Kind of a record, as a gates file names it: its format and the versions that are read here.
KINDS = {
    "evaluation": (evaluation.FORMAT, ("2.0",)),
    "comparison": (comparison.FORMAT, ("1.0",)),
    "run": (RECORD_FORMAT, ("1.2", "1.3", "1.4", "1.5")),
    "speed": (speed.FORMAT, (speed.VERSION,)),
    "pipeline": (pipeline.FORMAT, (pipeline.VERSION,)),
    "lm_evaluation": (lm_evaluation.FORMAT, (lm_evaluation.VERSION,)),
}
SHARE: Range = (0.0, 1.0)
AMOUNT: Range = (0.0, math.inf)  # counts, seconds, rates
PERPLEXITY: Range = (1.0, math.inf)


@dataclass(frozen=True, slots=True)
class Criterion:
    """A figure by its known name, and where it stands; ``kind`` is None where records of several kinds hold it."""

    kind: str | None
    path: str
    range: Range


CRITERIA = {
    "wall_time": Criterion("run", "wall_s", AMOUNT),  # seconds
    "consensus_agreement": Criterion("comparison", "levels.sequences.labels.agreement_with_missing", SHARE),
    "gpu_utilisation": Criterion("run", "utilisation.by_stage.embedding.gpu", SHARE),
    "packing_efficiency": Criterion("run", "packing.efficiency", SHARE),
    "scaling": Criterion("pipeline", "scaling.on_two", AMOUNT),
    "speed_up": Criterion(None, "values.speed_up", AMOUNT),
    "accuracy_drop": Criterion("evaluation", "comparison.accuracy_drop", (-1.0, 1.0)),
    "valid_perplexity": Criterion("lm_evaluation", "splits.valid.values.token_perplexity", PERPLEXITY),
    "test_perplexity": Criterion("lm_evaluation", "splits.test.values.token_perplexity", PERPLEXITY),
    "valid_bits_per_byte": Criterion("lm_evaluation", "splits.valid.values.bits_per_byte", AMOUNT),
    "test_bits_per_byte": Criterion("lm_evaluation", "splits.test.values.bits_per_byte", AMOUNT),
    "smallbench_accuracy": Criterion("lm_evaluation", "smallbench.average.by_average", SHARE),
    "latency_ms": Criterion("lm_evaluation", "profiling.latency.0.latency_ms", AMOUNT),
    "latency_p95_ms": Criterion("lm_evaluation", "profiling.latency.0.p95_ms", AMOUNT),
    "throughput_tokens_per_s": Criterion("lm_evaluation", "profiling.throughput.tokens_per_s", AMOUNT),
    "peak_memory_bytes": Criterion("lm_evaluation", "profiling.memory.peak_bytes", AMOUNT),
}

# What says how something was measured; there is no figure in it.
NOT_FIGURES = ("identity", "settings", "method", "provenance", "files", "inputs", "outputs")
# Plain numbers that are shares; every other plain number is a count, seconds or a rate.
_SHARES = ("share", "viral_share", "majority_accuracy", "efficiency", "of_calls", "wanted", "p_exact", "p_mid", "prior")


def range_of(kind: str, path: str, form: str) -> Range:
    """The range in which the figure at a place of a record can lie.

    Args:
        form: ``value`` for a figure with a value, ``difference`` for a difference of two figures, ``number`` for a
            plain number.
    """
    names = path.split(".")
    if kind == "lm_evaluation" and names[0] == "standard":
        return standard_range_of(names[-1])
    if form == "number":
        return SHARE if names[-1] in _SHARES else AMOUNT
    if kind == "comparison":
        return comparison.range_of(path)
    if kind == "speed":
        return speed.range_of(path)
    if kind == "pipeline":
        return pipeline.range_of(path)
    if kind == "lm_evaluation":
        return lm_evaluation.range_of(path)
    low, high = evaluation.range_of(path)
    return (low - high, high - low) if form == "difference" else (low, high)
