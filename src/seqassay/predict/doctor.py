"""Self-test of an installation: each check says what it found, and when it fails, what fixes it.

The known answer: scores of four made-up sequences with the embedded bundle, stored beside it. Every device here
computes them again, on the fast path and (CPU) on the exact one; wrong arithmetic, a wrong build of a library or a
damaged bundle shows as another number.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from seqassay import __version__
from seqassay.errors import ModelError, SeqassayError
from seqassay.measure.progress import RunProgress
from seqassay.measure.provenance import processor_name
from seqassay.measure.stages import StageClock
from seqassay.models.attention import choose_kernel
from seqassay.models.bundle import Bundle, load_bundle
from seqassay.models.checkpoint import read_json_object
from seqassay.models.registry import DEFAULT_BUNDLE, cache_folder, embedded_bundle_folder, installed_bundles
from seqassay.models.weights import write_text_atomically
from seqassay.predict.prepare import Model
from seqassay.sequences.ragged import Ragged
from seqassay.sequences.reading import Shard

Status = Literal["ok", "note", "failed"]
Score = npt.NDArray[np.float32]

SUPPORTED_PYTHONS = ((3, 10), (3, 13))
LIBRARIES = ("torch", "numpy", "numba", "xopen", "safetensors", "tokenizers", "huggingface_hub")
EXTRAS = {
    "gpu": ("pynvml",),
    "h5": ("h5py",),
    "train": ("lightning", "sklearn", "Bio"),
    "text": ("pyarrow",),
    "tracking": ("tensorboard", "wandb", "mlflow"),
    "generation": ("sacrebleu", "rouge_score"),
    "harness": ("lm_eval",),
    "sweep": ("ray", "lightning", "matplotlib"),
    "report": ("matplotlib",),
    "scan": ("ruptures", "matplotlib"),
    "reference": ("esm", "transformers", "Bio"),
}
KNOWN_ANSWER_FILE = "known_answer.json"  # beside the bundle's folder, which a new training replaces whole
TOLERANCE = 1e-3  # of a probability; devices and library versions differ by about 1e-6
MIN_FREE_BYTES = 1_000_000_000

# Made-up coding sequences of 7, 25, 33 and 100 codons: short ones keep several frames, one is cut into chunks or not.
SEQUENCES = (
    b"CTATGGGATTGCTTGTATCTC",
    b"CTAGAATGCGCCATAAGTTCCGAACTGGGAGCTTCAAGTACGCTACATAGCACCGAGTCCTGTGTAGGAAAGGCG",
    b"CGCCTAGGCGTTGCTGGCAGGGCTAAATCTGACACAAATAAGATATGTATTGCGAACTATCTCCCACTAGCCTCTATAGACATGGGACAGCTTAAAGGG",
    b"ACCCTCGGCCACCGGGATTTGTCTACCGTCCAACCATACATGGAACAGAACACAGCATATACGCGCACGTGCCAGCGAACAAACTGCGGTAAAATCATCTTGTTCAATCT"
    b"GCGAGTCCGCCGGACAGCAGGAATATATGGTCACCCCACCCATCCCAAACGGTACTTGACTAGAATTGTCACGAAAAATCTCTCCCTTAGTGGTGATATACTAGAAATAG"
    b"TGTATAGACGGGGCCGAACTCGCCGGATCAAACACTGGTCCGCCCATTGTAACATCAGTCGCTGCGCGGGCGCAACGAAG",
)


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; ``hint`` says what fixes a failed one."""

    name: str
    status: Status
    detail: str
    hint: str = ""


def examine(bundle_name: str = DEFAULT_BUNDLE) -> list[Check]:
    """Run every check; none raises, and a failing one does not stop the others."""
    checks = [check_python(), *check_libraries(), *check_devices(), *check_kernels(), check_cache()]
    checks += check_bundle(bundle_name)
    checks += check_other_bundles(bundle_name)
    return checks + check_extras()


def check_python() -> Check:
    """The interpreter is one of those supported."""
    version = tuple(map(int, platform.python_version_tuple()[:2]))
    first, last = SUPPORTED_PYTHONS
    detail = f"{platform.python_version()}, seqassay {__version__}, {platform.platform()}"
    if first <= version <= last:
        return Check("python", "ok", detail)
    return Check("python", "failed", detail, hint="install into Python 3.10 to 3.13")


def check_libraries() -> list[Check]:
    """The libraries that every command needs are installed."""
    missing = [name for name in LIBRARIES if _version(name) is None]
    found = ", ".join(f"{name} {_version(name)}" for name in LIBRARIES if name not in missing)
    if missing:
        return [Check("libraries", "failed", f"missing: {', '.join(missing)}", hint="install seqassay again with pip")]
    return [Check("libraries", "ok", found)]


def check_devices() -> list[Check]:
    """Processor threads, and every CUDA device with its memory after a small product on it."""
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()}, {processor_name()}"
    checks = [Check("cpu", "ok", threads)]
    if cuda := cuda_devices():
        return checks + [_guarded(str(device), partial(_try_cuda, device)) for device in cuda]
    if torch.version.cuda is None and shutil.which("nvidia-smi"):
        hint = "install a CUDA build of torch to use it"
        return [*checks, Check("cuda", "note", "there is an NVIDIA driver, but this torch is built without CUDA", hint)]
    if torch.version.cuda is not None:
        return [*checks, Check("cuda", "note", f"torch is built for CUDA {torch.version.cuda} and sees no device")]
    return [*checks, Check("cuda", "note", "none; everything runs on the CPU")]


def cuda_devices() -> list[torch.device]:
    """The CUDA devices this process may use."""
    return [torch.device("cuda", i) for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)]


def check_kernels() -> list[Check]:
    """Which attention kernel each encoder takes on each device in each precision."""
    checks = []
    for device in (torch.device("cpu"), *cuda_devices()):
        taken = []
        for model, alibi in (("ESM-2", False), ("DNABERT-S", True)):
            for dtype in (torch.float32, torch.bfloat16):
                kernel = choose_kernel(device, dtype, alibi=alibi, exact=False)
                taken.append(f"{model} {str(dtype).removeprefix('torch.')}: {kernel}")
        checks.append(Check(f"kernels on {device}", "ok", ", ".join(taken)))
    return checks


def check_cache() -> Check:
    """The cache folder, or the nearest folder above it that exists, can be written, and its disk has room."""
    folder = cache_folder()
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            free_bytes = shutil.disk_usage(nearest).free
    except OSError as error:
        hint = "name another folder in SEQASSAY_HOME"
        return Check("cache", "failed", f"{folder}: cannot be written: {error.strerror or error}", hint)
    detail = f"{folder}: writable, {free_bytes / 1e9:.1f} GB free"
    if free_bytes < MIN_FREE_BYTES:
        return Check("cache", "note", detail, hint="little room for models: name another folder in SEQASSAY_HOME")
    return Check("cache", "ok", detail)


def check_bundle(name: str) -> list[Check]:
    """The bundle's files have their digests, and it gives its known answer on every device."""
    try:
        bundle = load_bundle(name)
    except SeqassayError as error:
        return [Check(f"bundle {name}", "failed", error.message, error.hint or "install seqassay again")]
    checks = [Check(f"bundle {name}", "ok", f"{len(bundle.files)} files, digest {bundle.digest}")]
    paths = [("cpu", "float32"), ("cpu", "exact"), *((str(device), "float32") for device in cuda_devices())]
    return checks + [
        _guarded(f"known answer on {device}, {precision}", partial(check_known_answer, bundle, device, precision))
        for device, precision in paths
    ]


def check_known_answer(bundle: Bundle, device: str, precision: str) -> str:
    """Largest difference from the stored scores; a ModelError when it is beyond the tolerance."""
    expected_F2 = read_known_answer(bundle)
    found_F2 = score_known_sequences(bundle, device, precision)
    if found_F2.shape != expected_F2.shape:
        raise ModelError(f"{len(found_F2)} frames were found, {len(expected_F2)} expected", hint=_REINSTALL)
    difference = float(np.abs(found_F2 - expected_F2).max())
    if not difference <= TOLERANCE:
        raise ModelError(f"scores differ by up to {difference:.2g} from the stored ones", hint=_REINSTALL)
    return f"{len(found_F2)} frames, scores within {difference:.1g} of the stored ones"


def score_known_sequences(bundle: Bundle, device: str, precision: str) -> Score:
    """P(others), P(virus) of every frame of the made-up sequences, ``[F, 2]``, along the path `predict` takes."""
    names = [f"known{i}" for i in range(len(SEQUENCES))]
    shard = Shard(0, 0, names, names, Ragged.from_bytes(SEQUENCES), None)
    model = Model(bundle, device=device, precision=precision, token_budget=None, threads=None, clock=StageClock())
    return model.score(model.prepare(shard), RunProgress()).scores_F2


def read_known_answer(bundle: Bundle) -> Score:
    """The stored scores; a ModelError when there are none for this very bundle."""
    path = bundle.path.parent / KNOWN_ANSWER_FILE
    if not path.is_file():
        raise ModelError(f"{path}: is missing: no scores are stored to compare with", hint=_REINSTALL)
    said = read_json_object(path)
    if said.get("digest") != bundle.digest:
        raise ModelError(f"{path}: is for the bundle {said.get('digest')}, not for {bundle.digest}", hint=_REINSTALL)
    try:
        return np.array(said["scores"], np.float32).reshape(-1, 2)
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: holds no scores: {error}", hint=_REINSTALL) from error


def record_known_answer(bundle: Bundle | None = None) -> Path:
    """Store the exact path's scores beside a bundle; run once after training, before the bundle ships."""
    bundle = bundle or load_bundle(str(embedded_bundle_folder()))
    scores_F2 = score_known_sequences(bundle, "cpu", "exact")
    path = bundle.path.parent / KNOWN_ANSWER_FILE
    content = {"digest": bundle.digest, "scores": [[float(f"{score:.7g}") for score in pair] for pair in scores_F2]}
    write_text_atomically(path, json.dumps(content, indent=1) + "\n")
    return path


def check_other_bundles(but: str) -> list[Check]:
    """Imported bundles can be read; their files are not hashed, which can be gigabytes."""
    return [
        _guarded(f"bundle {name}", partial(_describe, folder))
        for name, folder in installed_bundles().items()
        if name != but
    ]


def check_extras() -> list[Check]:
    """Optional packages: there, or the command that installs them."""
    checks = []
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if missing:
            hint = f"pip install 'seqassay[{extra}]'"
            checks.append(Check(f"extra {extra}", "note", f"not installed: {', '.join(missing)}", hint))
        else:
            checks.append(Check(f"extra {extra}", "ok", ", ".join(modules)))
    return checks


def as_record(checks: list[Check]) -> dict[str, Any]:
    """The findings as JSON types."""
    return {
        "ok": not any(check.status == "failed" for check in checks),
        "checks": [
            {"name": check.name, "status": check.status, "detail": check.detail, "hint": check.hint} for check in checks
        ],
    }


_REINSTALL = "install seqassay again; if that repeats, report it with the output of `seqassay doctor --json`"


def _guarded(name: str, look: Callable[[], str]) -> Check:
    """Run one check; what goes wrong in it is its finding."""
    try:
        return Check(name, "ok", look())
    except SeqassayError as error:
        return Check(name, "failed", error.message, error.hint)
    except (RuntimeError, OSError, MemoryError) as error:  # CUDA and operating-system failures
        return Check(name, "failed", (str(error) or type(error).__name__).splitlines()[0])


def _try_cuda(device: torch.device) -> str:
    free_bytes, total_bytes = torch.cuda.mem_get_info(device)
    a = torch.arange(64 * 64, dtype=torch.float32).reshape(64, 64) / 4096
    if not torch.allclose((a.to(device) @ a.to(device)).cpu(), a @ a, atol=1e-2, rtol=1e-2):
        raise ModelError("a matrix product on it is wrong", hint="check the driver and the torch build")
    capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
    return (
        f"{torch.cuda.get_device_name(device)}, {free_bytes / 2**30:.1f} of {total_bytes / 2**30:.1f} GiB free, "
        f"compute capability {capability}, CUDA {torch.version.cuda}"
    )


def _describe(folder: Path) -> str:
    bundle = load_bundle(folder, verify=False)
    return f"{bundle.path}, digest {bundle.digest} (files not read)"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
