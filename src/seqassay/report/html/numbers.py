"""Numbers as a page shows them: thousands apart, shares in percent, units named, "undefined" for what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNDEFINED = "undefined"
_BYTE_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def count(value: int | None) -> str:
    """``1,234,567``."""
    return UNDEFINED if value is None else f"{value:,}"


def share(value: float | None, digits: int = 1) -> str:
    """A fraction in percent; what is not quite nothing is never shown as nothing, nor what is not quite all as all."""
    if value is None:
        return UNDEFINED
    smallest = 10.0**-digits
    percent = 100 * value
    if 0 < percent < smallest / 2:
        return f"< {smallest:g}%"
    if 100 - smallest / 2 <= percent < 100:
        return f"> {100 - smallest:g}%"
    return f"{percent:.{digits}f}%"


def share_of(part: int, whole: int) -> str:
    """``part / whole`` in percent."""
    return share(part / whole) if whole else UNDEFINED


def decimal(value: float | None, digits: int = 4) -> str:
    """With so many decimals, and at least as many significant digits as a small number needs."""
    if value is None:
        return UNDEFINED
    if value and abs(value) < 10.0 ** (1 - digits):
        return f"{value:.3g}"
    return f"{value:,.{digits}f}"


def plain(value: float | None) -> str:
    """A number of unknown kind, with up to five significant digits."""
    if value is None:
        return UNDEFINED
    if isinstance(value, int):
        return count(value)
    if value and (abs(value) < 1e-4 or abs(value) >= 1e15):
        return f"{value:.4g}"
    digits = 0 if abs(value) >= 10_000 else 2 if abs(value) >= 100 else 4
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def rate(value: float | None) -> str:
    """A number a second: whole from 100 on, three digits below."""
    if value is None:
        return UNDEFINED
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def seconds(value: float | None) -> str:
    """``0.42 s``, ``12.3 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if value is None:
        return UNDEFINED
    if value < 10:
        return f"{value:.3g} s"
    if value < 100:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{int(value) // 60} min {int(value) % 60} s"
    return f"{int(value) // 3600} h {int(value) % 3600 // 60} min"


def n_bytes(value: int | None) -> str:
    """In powers of 1000."""
    if value is None:
        return UNDEFINED
    size, unit = float(value), 0
    while size >= 1000 and unit < len(_BYTE_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{value:,} bytes" if unit == 0 else f"{size:.3g} {_BYTE_UNITS[unit]}"


def interval(pair: Any, form: str = "decimal") -> str:
    """``0.61 to 0.73``; a dash where there is none."""
    if not pair or None in pair:
        return "–"
    low, high = pair
    return f"{formatted(low, form)} to {formatted(high, form)}"


def figure(entry: Mapping[str, Any] | None, form: str = "decimal") -> str:
    """Value or difference of a record's figure; why it has none, where the record says so."""
    if entry is None:
        return UNDEFINED
    value = entry.get("value", entry.get("difference"))
    if value is None:
        why = entry.get("why_undefined")
        return f"{UNDEFINED}: {why}" if why else UNDEFINED
    return formatted(value, form)


def formatted(value: float | None, form: str) -> str:
    """As decimal, share, seconds, or a plain number."""
    return {"decimal": decimal, "share": share, "seconds": seconds, "plain": plain}[form](value)
