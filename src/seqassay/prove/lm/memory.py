"""Peak memory of a language model, of fresh processes: nothing that this one did before is in it.

``python -m seqassay.prove.lm.memory JOB.json`` is such a process: it loads the model, makes one scoring pass, and
writes what that took beside the job. Its standard input ends when its parent does, however that ends; then it ends as
well.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from seqassay.errors import ResourceError, SeqassayError, is_out_of_memory
from seqassay.measure.metrics_log import MetricsLog
from seqassay.measure.monitor import peak_memory_bytes
from seqassay.measure.progress import RunProgress
from seqassay.models.causal_lm import CausalLm
from seqassay.models.lm_files import load_lm
from seqassay.prove.child_process import child_process, end_with_parent
from seqassay.prove.lm.profiling import LmBench, check_shape_fits
from seqassay.prove.lm.settings import LmEvaluateSettings, Shape, shape_name

_MODULE = "seqassay.prove.lm.memory"  # `__name__` is another where it runs as the child
_LAST_LINES = 3  # of what a process said before it ended by itself


def measure_memory(
    checkpoint: Path,
    model: CausalLm,
    settings: LmEvaluateSettings,
    shape: Shape,
    device: torch.device,
    log: MetricsLog,
    progress: RunProgress,
) -> dict[str, Any]:
    """Peak memory of loading the model and scoring one batch, over some fresh processes.

    Returns:
        Resident memory of the process on the host; on CUDA also what tensors held and what PyTorch reserved.

    Raises:
        ResourceError: the shape does not fit.
        SeqassayError: a process ended by itself; says what it said.
    """
    check_shape_fits(model, shape, device)
    name = shape_name(shape)
    progress.begin_part(f"memory of {name}", "processes", settings.memory_runs)
    job = {
        "checkpoint": str(checkpoint.absolute()),
        "shape": list(shape),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }
    for _ in range(settings.memory_runs):
        log.add(_run(job), part="memory", shape=name, phase="timed")
        progress.done_sequences += 1
    found = {"shape": name, "batch": shape[0], "length_tokens": shape[1]}
    figures = log.summary(by=("part", "shape"))
    of_memory = next(group for group in figures if group["part"] == "memory")
    return found | {key: of_memory.get(key) for key in _FIGURES}


_FIGURES = (
    "peak_bytes", "before_model_bytes", "loaded_bytes", "cuda_peak_allocated_bytes", "cuda_peak_reserved_bytes",
    "cuda_allocated_bytes", "cuda_reserved_bytes",
)  # fmt: skip


def _run(job: Mapping[str, Any]) -> dict[str, float]:
    """What one process measured."""
    with tempfile.TemporaryDirectory(prefix="seqassay-") as folder:
        path, result_path, said_path = (Path(folder) / name for name in ("job.json", "result.json", "said.txt"))
        path.write_text(json.dumps({**job, "result": str(result_path)}), encoding="utf-8")
        with said_path.open("wb") as said_file, child_process(_MODULE, path, said_file) as process:
            process.wait()
        if not result_path.is_file():
            lines = said_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            if process.returncode == -9:
                raise ResourceError(
                    "the process that measures memory was killed, as the system does when memory runs out",
                    hint="measure a smaller --memory-shape, or --skip-memory",
                )
            said = " | ".join(lines[-_LAST_LINES:]) or "it said nothing"
            raise SeqassayError(f"the process that measures memory ended with {process.returncode}: {said}")
        result: dict[str, Any] = json.loads(result_path.read_text(encoding="utf-8"))
    if "out_of_memory" in result:
        raise ResourceError(result["out_of_memory"], hint="measure a smaller --memory-shape, or --skip-memory")
    return result


def main() -> None:
    """Load, run once, and write down what it took."""
    end_with_parent()
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Path(job["result"]).write_text(json.dumps(_result(job)), encoding="utf-8")


def _result(job: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured, or that memory ran out."""
    try:
        return dict(_measured(job))
    except (RuntimeError, MemoryError, ResourceError) as error:
        if not (isinstance(error, ResourceError) or is_out_of_memory(error)):
            raise
        batch, length = job["shape"]
        return {"out_of_memory": f"out of memory with {batch:,} sequences of {length:,} tokens"}


def _measured(job: Mapping[str, Any]) -> dict[str, float]:
    torch.set_num_threads(job["threads"])
    device = torch.device(job["device"])
    before_model = peak_memory_bytes()
    model = load_lm(Path(job["checkpoint"])).model.to(device)
    loaded = peak_memory_bytes()
    bench = LmBench(model, device, RunProgress(unit="runs"))
    batch, length = job["shape"]
    bench.run_of((batch, length))()
    bench.clock.synchronize()
    found: dict[str, float] = {
        "peak_bytes": peak_memory_bytes(),
        "before_model_bytes": before_model,
        "loaded_bytes": loaded,
    }
    if device.type == "cuda":
        found |= {
            "cuda_peak_allocated_bytes": torch.cuda.max_memory_allocated(device),
            "cuda_peak_reserved_bytes": torch.cuda.max_memory_reserved(device),
            "cuda_allocated_bytes": torch.cuda.memory_allocated(device),
            "cuda_reserved_bytes": torch.cuda.memory_reserved(device),
        }
    return found


if __name__ == "__main__":
    main()
