"""Everything `seqassay scan` can be told, and the command that goes on with an interrupted scan."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from seqassay.config import PrecisionName, PredictSettings, check_at_least
from seqassay.errors import UsageError
from seqassay.predict.stop import command_to_resume

DEFAULT_WINDOW_CHUNKS = 10  # of the bundle's chunk length: 3,000 bases with chunks of 300
DEFAULT_STEP_CHUNKS = 5
DEFAULT_MIN_REGION_BASES = 3_000
DEFAULT_MAX_PLOTS = 50


@dataclass(frozen=True, kw_only=True)
class ScanSettings:
    """The names are those of the command's options.

    Raises:
        UsageError: a value out of its range, or two settings that exclude each other.
    """

    inputs: tuple[str, ...]  # FASTA or FASTQ files; "-" is standard input
    output_dir: Path
    model: str = "mini"  # a bundle's name, or the path of a bundle folder
    window: int | None = None  # bases; None: 10 chunks of the bundle
    step: int | None = None  # bases from one window to the next; None: 5 chunks, or the window if that is less
    min_region: int = DEFAULT_MIN_REGION_BASES  # bases; shorter regions are counted and left out
    plots: bool = True
    max_plots: int = DEFAULT_MAX_PLOTS  # contigs that get a plot; those with regions first
    resume: bool = False
    force: bool = False
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    precision: PrecisionName | None = None  # None: the one that the bundle names
    threads: int | None = None  # None: what the machine gives
    batch: int | None = None  # token budget of a batch, in tokens; None: what suits the device

    def __post_init__(self) -> None:
        if not self.inputs:
            raise UsageError("no input file", hint="name FASTA or FASTQ files, or - for standard input")
        check_at_least(self, window=1, step=1, min_region=1, threads=1, batch=1, max_plots=0)
        if self.resume and self.force:
            raise UsageError("--resume and --force exclude each other")
        if self.window is not None and self.step is not None and self.step > self.window:
            raise _gaps(self.window, self.step)

    def for_chunks_of(self, chunk_length: int) -> Windows:
        """Window and step in bases, for a bundle's chunk length.

        Raises:
            UsageError: a step that is longer than the window.
        """
        window = self.window or DEFAULT_WINDOW_CHUNKS * chunk_length
        step = self.step or min(DEFAULT_STEP_CHUNKS * chunk_length, window)
        if step > window:
            raise _gaps(window, step)
        return Windows(window, step)

    def as_predict(self) -> PredictSettings:
        """What a scan shares with a prediction: input, output folder, bundle, device."""
        shared = {field.name for field in fields(PredictSettings)}
        return PredictSettings(**{f.name: getattr(self, f.name) for f in fields(self) if f.name in shared})


@dataclass(frozen=True, slots=True)
class Windows:
    """Length of a window, and from one to the next; in bases."""

    length: int
    step: int


def resume_command(settings: ScanSettings) -> str:
    """The command line that goes on with a scan of these settings, for the shell, on one line."""
    return command_to_resume("scan", settings, settings.inputs)


def _gaps(window: int, step: int) -> UsageError:
    return UsageError(
        f"--step is {step} and --window {window}: the bases between two windows would never be looked at",
        hint="choose a step that is at most the window",
    )
