"""Values with their units as text, the same in every user interface: ``43%``, ``5.2 GiB``, ``7.9 s``."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Sequence
from datetime import timedelta
from itertools import pairwise

from perfmon_widgets.metrics import PER_SECOND

MISSING = "–"
"""Printed in place of a number that is missing."""

# The units that are printed with a prefix: for each prefix what a value is divided by, and the text after it.
_PREFIXED = {
    unit: [(factor**power, text) for power, text in enumerate(texts)]
    for unit, factor, texts in (
        ("bytes", 1024.0, ("B", "KiB", "MiB", "GiB", "TiB", "PiB")),
        ("bytes_per_second", 1000.0, ("B/s", "kB/s", "MB/s", "GB/s", "TB/s")),
        ("hertz", 1000.0, ("Hz", "kHz", "MHz", "GHz")),
    )
}
# From how much on each next prefix is printed. 1023.9 KiB would be rounded to 1024 KiB: that is 1 MiB.
_ROUNDED_UP = {
    unit: [divisor - 0.5 * smaller for (smaller, _), (divisor, _) in pairwise(prefixes)]
    for unit, prefixes in _PREFIXED.items()
}
# What follows a number in the units that are printed as they are.
_SUFFIXES = {"percent": "%", "watts": " W", "seconds": " s", "celsius": " °C"}


def scale_for(unit: str, largest: float) -> tuple[float, str]:
    """Return a divisor for values of this unit that lets the largest read well, and the text after a number.

    ``scale_for("bytes", 6e9)`` is ``(1073741824.0, "GiB")``. The divisor is 1 for a unit without prefixes.
    """
    if unit not in _PREFIXED:
        return 1.0, _suffix(unit).strip()
    prefixes = _PREFIXED[unit]
    fitting = [each for each in prefixes if each[0] <= largest < math.inf]
    return fitting[-1] if fitting else prefixes[0]


def format_value(value: float, unit: str) -> str:
    """Return the value with its unit: ``43%``, ``5.2 GiB``, ``12 MB/s``; a dash if it is missing."""
    if not math.isfinite(value):
        return MISSING
    if unit in _SUFFIXES:
        return _short(value) + _SUFFIXES[unit]
    if not unit:
        return f"{value:.4g}"  # of any size: a loss, a learning rate
    if unit not in _PREFIXED:
        return _short(value) + _suffix(unit)
    divisor, text = _PREFIXED[unit][bisect_right(_ROUNDED_UP[unit], abs(value))]
    return f"{_short(value / divisor)} {text}"


def format_change(change: float, unit: str) -> str:
    """Return a difference with its sign: ``+512 MiB``, ``−3%``; a dash if it is missing."""
    if not math.isfinite(change):
        return MISSING
    return f"{'−' if change < 0 else '+'}{format_value(abs(change), unit)}"


def format_used(used: float, limit: float, unit: str) -> str:
    """Return an amount and its limit, both with the limit's prefix: ``5.2 of 16 GiB``."""
    if not (math.isfinite(used) and math.isfinite(limit)):
        return format_value(used, unit)
    divisor, text = scale_for(unit, limit)
    return f"{_short(used / divisor)} of {_short(limit / divisor)} {text}"


def format_duration(seconds: float) -> str:
    """Return a duration of at least 0 seconds: ``52 ms``, ``7.9 s``, ``2:05:03``; a dash if it is missing."""
    if not math.isfinite(seconds):
        return MISSING
    if seconds >= 99.5:
        return str(timedelta(seconds=round(seconds)))
    if seconds >= 0.0995 or not seconds:
        return f"{seconds:.2g} s"
    return f"{seconds * 1e3:.2g} ms" if seconds >= 0.0000995 else f"{seconds * 1e6:.2g} µs"


def align(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Return rows of texts as lines with aligned columns; those with a place in ``left`` begin together."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            f"{text:{'<' if place in left else '>'}{width}}"
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _suffix(unit: str) -> str:
    """Return what follows a number: ``%``, `` W``, `` tokens/s``; nothing for a number without a unit."""
    if unit in _SUFFIXES:
        return _SUFFIXES[unit]
    counted = unit.removesuffix(PER_SECOND)
    return f" {counted}/s" if counted != unit else f" {unit}".rstrip()


def _short(value: float) -> str:
    """Return the number with one decimal if it is below ten and no integer, else with none."""
    if abs(value) >= 9.95 or value == int(value):
        return str(round(value))
    return f"{value:.1f}"
