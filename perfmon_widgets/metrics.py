"""What a number means and how it is printed: Metric, Sample and the units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

# Where a unit is printed with a prefix: the step between prefixes, then the prefixes from 1 upwards.
_BINARY = (1024.0, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))
_DECIMAL = (1000.0, ("B/s", "kB/s", "MB/s", "GB/s", "TB/s"))
_HERTZ = (1000.0, ("Hz", "kHz", "MHz", "GHz"))
_PREFIXED = {"bytes": _BINARY, "bytes_per_second": _DECIMAL, "hertz": _HERTZ}
_SUFFIX = {"percent": "%", "watts": " W", "seconds": " s", "celsius": " °C"}
_UNITS = ("bytes_per_second", *_PREFIXED, *_SUFFIX)
_PER_SECOND = "_per_second"

RECORDED = "recorded"
"""The group of the series that the user records."""

# What the history has beside its columns: its index, and in its attrs what is told of no single column.
_OF_THE_HISTORY = ("time", "devices", "gaps")

MISSING = "–"
"""What is printed for a number that is not there."""


@dataclass(frozen=True)
class Metric:
    """What one column means; raises ValueError if the name does not end in its unit, or is the history's own.

    The name follows one rule, ``[where/]what_unit``: ``cpu_percent``, ``gpu0/memory_used_bytes``. The same
    string is the DataFrame column, the CSV header and the JSON key.
    """

    name: str
    unit: str
    """A base unit as it stands at the end of the name: percent (0–100), bytes, bytes_per_second, watts."""
    group: str
    """The section of the panel it belongs to: gpu, cpu, memory, disk, process, or one of your own."""
    help: str
    """One sentence: what is measured."""
    limit: float | str | None = None
    """The most it can be: a number in its unit, or the name of the column that holds that number."""
    source: str = ""
    """Where the number is read: a file, a call."""
    device: str = ""
    """The name of the device it belongs to, where it has one."""

    def __post_init__(self) -> None:
        if self.name in _OF_THE_HISTORY:
            raise ValueError(f"{self.name!r} is a name that the history uses itself; choose another")
        what = self.name.rpartition("/")[2]
        if not what:
            raise ValueError(f"metric name {self.name!r} is empty after the slash; use [where/]what_unit")
        if self.unit and what != self.unit and not what.endswith(f"_{self.unit}"):
            raise ValueError(
                f"metric name {self.name!r} must end in its unit: rename it to {self.name}_{self.unit}"
            )

    @property
    def where(self) -> str:
        """What precedes the last slash: ``gpu0`` of ``gpu0/power_watts``; empty for the whole machine."""
        return self.name.rpartition("/")[0]


@dataclass(frozen=True)
class Sample:
    """One row: the time it was read and a number for every column, NaN where there is none."""

    time: float
    """Unix seconds (UTC), the true time of the reading."""
    values: Mapping[str, float]


def unit_of(name: str) -> str:
    """The unit that the end of a column's name tells; empty if it is none that is known.

    ``bytes`` of ``gpu0/memory_used_bytes``, ``tokens_per_second`` of ``train/tokens_per_second``.
    """
    what = name.rpartition("/")[2]
    for unit in _UNITS:
        if what == unit or what.endswith(f"_{unit}"):
            return unit
    counted = what.removesuffix(_PER_SECOND).rpartition("_")[2]
    return f"{counted}{_PER_SECOND}" if what.endswith(_PER_SECOND) and counted else ""


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


def in_words(value: float, unit: str) -> str:
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
    counted = unit.removesuffix(_PER_SECOND)
    return f" {counted}/s" if counted != unit else f" {unit}".rstrip()


def duration_in_words(seconds: float) -> str:
    """A length of time for a person to read: ``52 ms``, ``7.9 s``, ``2:05:03``; a dash if it is missing."""
    if not math.isfinite(seconds):
        return MISSING
    if seconds >= 99.5:
        return str(timedelta(seconds=round(seconds)))
    if seconds >= 0.0995 or not seconds:
        return f"{seconds:.2g} s"
    return f"{seconds * 1e3:.2g} ms" if seconds >= 0.0000995 else f"{seconds * 1e6:.2g} µs"


def used_of_limit(used: float, limit: float, unit: str) -> str:
    """An amount beside its limit, both in the limit's prefix: ``5.2 of 16 GiB``."""
    if not (math.isfinite(used) and math.isfinite(limit)):
        return in_words(used, unit)
    divisor, label = scale_for(unit, limit)
    return f"{_three_digits(used / divisor)} of {_three_digits(limit / divisor)} {label}"


def _three_digits(value: float) -> str:
    """A number as short as a gauge wants it: one decimal below ten, none from there."""
    if abs(value) >= 9.95 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}"
