"""What a number means: Metric, Sample and the units."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# The longest first: "bytes_per_second" also ends in a unit.
_UNITS = ("bytes_per_second", "bytes", "hertz", "percent", "watts", "seconds", "celsius")
PER_SECOND = "_per_second"
"""The end of the unit of a rate."""

ROLES = ("headline", "part", "limit", "")
"""What a column is to the others; see ``Metric.role``."""

RECORDED = "recorded"
"""The group of the series that the user records."""

# What the history has beside its columns: its index, and in its attrs what is told of no single column.
_OF_THE_HISTORY = ("time", "devices", "gaps")


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
    role: str = ""
    """``headline``: among the first in every table and report. ``part``: one of many that another column sums
    up, such as a single CPU. ``limit``: the most that another column can be, so it is not drawn. Or empty.
    """
    label: str = ""
    """What a person reads: ``RAM in use``, ``core 0``, ``GPU 1 power``; by default made from the name."""

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
        if self.role not in ROLES:
            raise ValueError(
                f"metric {self.name!r}: role must be one of {', '.join(filter(None, ROLES))}, or empty"
            )
        if not self.label:
            object.__setattr__(self, "label", label_of(self.name, self.unit))

    @property
    def where(self) -> str:
        """What precedes the last slash: ``gpu0`` of ``gpu0/power_watts``; empty for the whole machine."""
        return self.name.rpartition("/")[0]

    @property
    def what(self) -> str:
        """What follows the last slash, unit included: ``power_watts`` of ``gpu0/power_watts``."""
        return self.name.rpartition("/")[2]


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
    counted = what.removesuffix(PER_SECOND).rpartition("_")[2]
    return f"{counted}{PER_SECOND}" if what.endswith(PER_SECOND) and counted else ""


def label_of(name: str, unit: str) -> str:
    """The words that a column's name makes: ``GPU 0 memory used`` of ``gpu0/memory_used_bytes``.

    The unit is left out, since it is printed beside each number.
    """
    where, _, what = name.rpartition("/")
    words = what.removesuffix(unit).rstrip("_") or what
    return " ".join(filter(None, [place_label(where), words.replace("_", " ")]))


def place_label(where: str) -> str:
    """The words for what precedes the slash: ``GPU 0``; ``worker 2 GPU 0`` of ``worker2/gpu0``."""
    parts = (re.sub(r"(?<=[A-Za-z])(?=\d+$)", " ", part) for part in where.split("/"))
    return " ".join(re.sub(r"^gpu\b", "GPU", part) for part in parts)
