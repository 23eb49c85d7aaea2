"""Values and their units in words, for people: ``43%``, ``5.2 GiB``, ``7.9 s``."""

from __future__ import annotations

import math
from datetime import timedelta

from perfmon_widgets.metrics import PER_SECOND

# Where a unit is printed with a prefix: the step between prefixes, then the prefixes from 1 upwards.
_BINARY = (1024.0, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))
_DECIMAL = (1000.0, ("B/s", "kB/s", "MB/s", "GB/s", "TB/s"))
_HERTZ = (1000.0, ("Hz", "kHz", "MHz", "GHz"))
_PREFIXED = {"bytes": _BINARY, "bytes_per_second": _DECIMAL, "hertz": _HERTZ}
_SUFFIX = {"percent": "%", "watts": " W", "seconds": " s", "celsius": " °C"}

MISSING = "–"
"""What is printed for a number that is not there."""


def scale_for(unit: str, largest: float) -> tuple[float, str]:
    """What to divide values of this unit by so that the largest reads well, and the text that follows them.

    ``scale_for("bytes", 6e9)`` is ``(1073741824.0, "GiB")``; a unit without prefixes is divided by 1.
    """
    if unit not in _PREFIXED:
        return 1.0, _suffix(unit).strip()
    step, labels = _PREFIXED[unit]
    power = 0
    if math.isfinite(largest) and largest > 0:
        while power < len(labels) - 1 and largest >= step ** (power + 1):
            power += 1
    return step**power, labels[power]


def format_value(value: float, unit: str) -> str:
    """The value for a person to read: ``43%``, ``5.2 GiB``, ``12 MB/s``; a dash if it is missing."""
    if not math.isfinite(value):
        return MISSING
    if unit in _PREFIXED:
        divisor, _ = scale_for(unit, abs(value))
        # What would round up to the next prefix is printed with that.
        divisor, label = scale_for(unit, abs(value) + 0.5 * divisor)
        return f"{_three_digits(value / divisor)} {label}"
    # A number without unit may be of any size: a loss, a learning rate.
    return f"{_three_digits(value)}{_suffix(unit)}" if unit else f"{value:.4g}"


def _suffix(unit: str) -> str:
    """What follows a number in this unit: ``%``, `` W``, `` tokens/s``; nothing where there is no unit."""
    if unit in _SUFFIX:
        return _SUFFIX[unit]
    counted = unit.removesuffix(PER_SECOND)
    return f" {counted}/s" if counted != unit else f" {unit}".rstrip()


def format_duration(seconds: float) -> str:
    """A length of time for a person to read: ``52 ms``, ``7.9 s``, ``2:05:03``; a dash if it is missing."""
    if not math.isfinite(seconds):
        return MISSING
    if seconds >= 99.5:
        return str(timedelta(seconds=round(seconds)))
    if seconds >= 0.0995 or not seconds:
        return f"{seconds:.2g} s"
    return f"{seconds * 1e3:.2g} ms" if seconds >= 0.0000995 else f"{seconds * 1e6:.2g} µs"


def format_change(change: float, unit: str) -> str:
    """A difference with its sign: ``+512 MiB``; a dash if it is missing."""
    if not math.isfinite(change):
        return MISSING
    return f"{'−' if change < 0 else '+'}{format_value(abs(change), unit)}"


def format_used(used: float, limit: float, unit: str) -> str:
    """An amount beside its limit, both in the limit's prefix: ``5.2 of 16 GiB``."""
    if not (math.isfinite(used) and math.isfinite(limit)):
        return format_value(used, unit)
    divisor, label = scale_for(unit, limit)
    return f"{_three_digits(used / divisor)} of {_three_digits(limit / divisor)} {label}"


def _three_digits(value: float) -> str:
    """A number as short as a gauge wants it: one decimal below ten, none from there."""
    if abs(value) >= 9.95 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}"
