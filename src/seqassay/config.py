"""Frozen typed settings: the YAML file first, then the command line; the resolved settings go into every output.

A settings class is a keyword-only frozen dataclass. ``resolve_settings`` fills one from a YAML mapping and from the
command line, names every key it doesn't know and every value of the wrong type, and converts paths.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from seqassay.errors import UsageError

Pairing = Literal["none", "two-files", "interleaved"]
ChunkRule = Literal["even", "reference"]
Ambiguity = Literal["drop", "X"]
PrecisionName = Literal["float32", "bf16", "fp16", "exact"]

DEFAULT_SHARD_SIZE_SEQUENCES = 8192
SettingsT = TypeVar("SettingsT")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """Everything ``seqassay predict`` can be told; the names are those of the command's options.

    Raises:
        UsageError: a value out of its range, or two settings that exclude each other.
    """

    inputs: tuple[str, ...]  # FASTA or FASTQ files; "-" is standard input
    output_dir: Path
    model: str = "mini"  # a bundle's name, or the path of a bundle folder
    pairing: Pairing = "none"
    chunk_rule: ChunkRule | None = None  # None: the bundle's, as for the two below
    genetic_code: int | None = None  # NCBI table number
    ambiguity: Ambiguity | None = None  # what becomes of a codon with an ambiguous base
    resume: bool = False
    force: bool = False
    keep_intermediate: bool = False
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    precision: PrecisionName | None = None  # None: the one that the bundle names
    threads: int | None = None  # None: what the machine gives
    batch: int | None = None  # token budget of a batch, in tokens; None: what suits the device
    fdr: float | None = None  # call virus by q-value, at this false discovery rate; None: by score
    threshold: float | None = None  # call virus from this score on; None: as the bundle says
    prefetch: int = 1  # shards that are prepared ahead of the device
    shard_size: int = DEFAULT_SHARD_SIZE_SEQUENCES  # sequences in a shard: the unit of work and of durability
    progress: bool = True
    verbose: bool = False
    quiet: bool = False
    log_file: Path | None = None  # None: run.log in the output folder

    def __post_init__(self) -> None:
        if not self.inputs:
            raise UsageError("no input file", hint="name FASTA or FASTQ files, or - for standard input")
        check_at_least(self, threads=1, batch=1, prefetch=1, shard_size=1)
        if self.fdr is not None and not 0 < self.fdr < 1:
            raise UsageError(f"--fdr is {self.fdr:g}; a false discovery rate lies between 0 and 1, as in --fdr 0.05")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UsageError(
                f"--threshold is {self.threshold:g}; a score lies above 0 and up to 1, as in --threshold 0.5"
            )
        if self.fdr is not None and self.threshold is not None:
            raise UsageError(
                "--fdr and --threshold exclude each other: each says which sequences are called virus",
                hint="leave one of them out",
            )
        for first, second in (("resume", "force"), ("verbose", "quiet")):
            if getattr(self, first) and getattr(self, second):
                raise UsageError(f"--{first} and --{second} exclude each other")
        if self.pairing == "two-files" and len(self.inputs) % 2:
            raise UsageError(
                f"--pairing two-files takes an even number of files; these are {len(self.inputs)}",
                hint="give the forward and the reverse file of each pair, one after the other",
            )


def option_name(field: str) -> str:
    """The command-line option of a settings field: ``shard_size`` is ``--shard-size``; inputs are given without one."""
    return "INPUT" if field == "inputs" else "--" + field.replace("_", "-")


def check_at_least(settings: object, **least: int) -> None:
    """Fields of these names are at least so large, and numbers of 64 bits, where they are given.

    Raises:
        UsageError: names the option and its value.
    """
    for name, smallest in least.items():
        value = getattr(settings, name)
        if value is not None and value < smallest:
            raise UsageError(f"{option_name(name)} is {value}; it has to be at least {smallest}")
        if value is not None and value >= 2**63:
            raise UsageError(f"{option_name(name)} is {value}; no number may be so large")


def read_settings_file(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; keys may be written with ``-`` or ``_``.

    Raises:
        UsageError: the file can't be read, isn't YAML, or holds anything but one flat mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot read the settings file: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path}: a settings file is a list of 'name: value' lines; this one holds a {_kind(content)}")
    return {str(key).replace("-", "_"): value for key, value in content.items()}


def resolve_settings(
    settings_class: type[SettingsT], from_file: Mapping[str, Any], from_command_line: Mapping[str, Any]
) -> SettingsT:
    """Settings from a YAML mapping, overridden by the command line, where ``None`` means "not given".

    Raises:
        UsageError: an unknown key (named, with the nearest known one), a missing one, a value of another type.
    """
    hints = get_type_hints(settings_class)
    given = {**from_file, **{key: value for key, value in from_command_line.items() if value is not None}}
    unknown = [key for key in given if key not in hints]
    if unknown:
        near = difflib.get_close_matches(unknown[0], hints, n=1)
        guess = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"unknown setting: {', '.join(unknown)}", hint=f"{guess}known: {', '.join(sorted(hints))}")
    fields = dataclasses.fields(settings_class)  # type: ignore[arg-type]
    missing = [field.name for field in fields if field.default is dataclasses.MISSING and field.name not in given]
    if missing:
        raise UsageError(f"not given: {', '.join(map(option_name, missing))}")
    return settings_class(**{key: _convert(key, value, hints[key]) for key, value in given.items()})


def settings_as_json(settings: object) -> dict[str, Any]:
    """A settings object as JSON types, for the records that outputs carry."""
    fields = dataclasses.fields(settings)  # type: ignore[arg-type]
    values = {field.name: getattr(settings, field.name) for field in fields}
    return {
        name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
    }


def _convert(name: str, value: Any, wanted: Any) -> Any:
    """``value`` as the field's type, or a UsageError that names the field, the value and what would do."""
    origin, args = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        (wanted,) = (arg for arg in args if arg is not type(None))
        return _convert(name, value, wanted)
    if origin is Literal:
        if value not in args:
            raise UsageError(f"{option_name(name)} is {value!r}; it has to be one of: {', '.join(map(str, args))}")
        return value
    if origin is tuple:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)):
            raise _wrong_type(name, value, "a list")
        return tuple(_convert(name, item, args[0]) for item in items)
    if wanted is Path:
        if not isinstance(value, (str, Path)):
            raise _wrong_type(name, value, "a path")
        return Path(value)
    if wanted is float and type(value) is int:
        return float(value)
    # bool is an int to Python, and "threads: yes" is not a number of threads
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise _wrong_type(
            name, value, {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[wanted]
        )
    return value


def _wrong_type(name: str, value: Any, wanted: str) -> UsageError:
    return UsageError(f"{option_name(name)} is {value!r}, a {_kind(value)}; it has to be {wanted}")


def _kind(value: Any) -> str:
    names = {bool: "truth value", int: "whole number", float: "number", str: "text", list: "list", dict: "mapping"}
    return names.get(type(value), type(value).__name__)
