"""How summaries on the terminal and reports in markdown are laid out; what they say is each report's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


def labelled(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Lines of a summary: labels in a column, what is said of each beside it."""
    width = max(len(label) for label, _ in rows)
    return [f"{label:<{width}}  {text}" for label, text in rows]


def aligned(rows: Sequence[Sequence[str]], *, to_the_right: Iterable[int] = ()) -> list[str]:
    """Lines of a table on the terminal.

    Args:
        to_the_right: columns that are set flush right, from 0.
    """
    right = set(to_the_right)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in markdown; cells from outside go through `escaped`."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(text: str) -> str:
    """Text that stays in its cell: no bars, no line ends."""
    return " ".join(text.replace("|", "\\|").split())


def sentence(text: str) -> str:
    """With a capital letter."""
    return text[0].upper() + text[1:]


def verdict(gate: Mapping[str, Any], against_limit: Callable[[Mapping[str, Any]], str], notes: Iterable[str]) -> str:
    """A gate's verdict in markdown: its reason, the figure beside its limit, what to mind, what to do next.

    Args:
        against_limit: words for the figure and its limit; a gate that was skipped has none.
    """
    reason = escaped(gate["reason"])
    if gate["verdict"] == "SKIPPED":
        lines = [f"**Gate skipped**: {reason}."]
    else:
        lines = [f"**{gate['verdict']}**: {reason}. {sentence(against_limit(gate))}."]
    mind = [f"- Mind that {escaped(note)}." for note in notes]
    steps = [f"{i}. {step}" for i, step in enumerate(gate["next_steps"], 1)]
    if mind:
        lines += ["", *mind]
    if steps:
        lines += ["", "Next steps:", "", *steps]
    return "\n".join(lines)


def provenance_rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What made a record, and when."""
    made = record["provenance"]
    hardware = made["hardware"]
    libraries = ", ".join(f"{name} {version}" for name, version in made["libraries"].items() if version)
    cuda = ", ".join(hardware["cuda_devices"]) or "no CUDA device"
    return [
        ("seqassay", f"{made['seqassay']}, commit {made['git_commit'] or 'not known'}"),
        ("libraries", f"Python {made['python']}, {libraries}"),
        (
            "hardware",
            f"{escaped(hardware['processor'])}, {hardware['cores'] or 'an unknown number of'} cores, "
            f"{hardware['memory_bytes'] / 2**30:.1f} GiB, "
            f"{hardware['torch_threads']} threads of PyTorch, {cuda}",
        ),
        ("written", f"{record['written_at']}, after {record['wall_s']:,.1f} s"),
        ("command", f"`{escaped(made['command'])}`"),
    ]
