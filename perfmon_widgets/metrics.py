"""Metric describes what a column means; Sample is one row of numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property

# Longer units come before those that they contain.
_UNITS = ("bytes_per_second", "bytes", "hertz", "percent", "watts", "seconds", "celsius")
PER_SECOND = "_per_second"
"""How the unit of a rate ends."""

ROLES = ("headline", "part", "limit", "")
"""The values of ``Metric.role``."""

RECORDED = "recorded"
"""The group of the series that the user records."""

_SURROGATE = re.compile("[\ud800-\udfff]")

# The name of the index of a history, and the keys of its attrs that are not columns.
_RESERVED = ("time", "devices", "gaps")


@dataclass(frozen=True)
class Metric:
    """What one column means.

    The name follows one rule, ``[where/]what_unit``: ``cpu_percent``, ``gpu0/memory_used_bytes``. The same
    string is the DataFrame column, the CSV header and the JSON key.

    Raises ValueError if the name does not end in the unit, is reserved or has a lone surrogate, and for an
    unknown role. In the other texts a lone surrogate is replaced by a question mark.
    """

    name: str
    unit: str
    """A base unit, as at the end of the name: percent (0–100), bytes, bytes_per_second, watts; or empty."""
    group: str
    """The section of the panel it belongs to: gpu, cpu, memory, disk, process, or one of your own."""
    help: str
    """One sentence: what is measured."""
    limit: float | str | None = None
    """The largest possible value: a number in the unit, or the name of the column that holds that number."""
    source: str = ""
    """Where the number is read: a file or a call."""
    device: str = ""
    """The name of the device it belongs to, where it has one."""
    role: str = ""
    """``headline``: among the first in every table and report. ``part``: one of many that another column sums
    up, such as a single CPU. ``limit``: the largest possible value of another column, so it is not drawn.
    Or empty.
    """
    set_by: str = ""
    """For a limit that is not simply the machine's own: what set it, such as ``container`` or ``JupyterHub``,
    or what it means. It stands in brackets behind an amount.
    """
    label: str = ""
    """The name for people: ``RAM in use``, ``core 0``, ``GPU 1 power``; by default made from the column's."""
    whole: float | None = None
    """For a percentage: what 100 % is, such as the number of CPUs; None if that is not known."""

    def __post_init__(self) -> None:
        if not _is_writable(self.name):
            raise ValueError(f"metric name {self.name!r} has characters that no UTF-8 file can hold")
        if self.name in _RESERVED:
            raise ValueError(f"{self.name!r} is reserved for the history itself; choose another name")
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
        for field in ("help", "source", "device", "label"):
            text = getattr(self, field)
            if not _is_writable(text):
                object.__setattr__(self, field, text.encode(errors="replace").decode())
        if not self.label:
            object.__setattr__(self, "label", label_of(self.name, self.unit))

    def __hash__(self) -> int:
        """Of the name only, since all the metrics of a monitor are looked up together for each live page."""
        return hash(self.name)

    @cached_property
    def where(self) -> str:
        """The part before the last slash: ``gpu0`` of ``gpu0/power_watts``; empty for the whole machine."""
        return self.name.rpartition("/")[0]

    @cached_property
    def what(self) -> str:
        """The part after the last slash, unit included: ``power_watts`` of ``gpu0/power_watts``."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True)
class Sample:
    """One row: the time of the reading, and a number for each column, NaN where it is missing."""

    time: float
    """Unix seconds (UTC) of the reading, not of when it was due."""
    values: Mapping[str, float]
    """By column, in the order of the columns."""

    def __repr__(self) -> str:
        """For people: the time, then a line for each column."""
        time = datetime.fromtimestamp(self.time, timezone.utc).isoformat(" ", "milliseconds")
        width = max(map(len, self.values), default=0)
        lines = [f"\n  {column:{width}}  {_readable(value)}" for column, value in self.values.items()]
        return f"<Sample of {time.removesuffix('+00:00')} UTC{''.join(lines)}>"


def _readable(value: float) -> str:
    """Return a number of any size with four digits at least: ``43.21``, ``2,899,102,924``; a dash for NaN."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if 1000 <= abs(value) < math.inf else f"{value:.4g}"


def _is_writable(text: str) -> bool:
    """Whether UTF-8 can encode it: lone surrogates stand for bytes of a file name that are not UTF-8."""
    return _SURROGATE.search(text) is None


def unit_of(name: str) -> str:
    """Return the unit at the end of a column's name; empty if there is no known unit.

    ``bytes`` of ``gpu0/memory_used_bytes``, ``tokens_per_second`` of ``train/tokens_per_second``.
    """
    what = name.rpartition("/")[2]
    for unit in _UNITS:
        if what == unit or what.endswith(f"_{unit}"):
            return unit
    counted = what.removesuffix(PER_SECOND).rpartition("_")[2]
    return f"{counted}{PER_SECOND}" if what.endswith(PER_SECOND) and counted else ""


def label_of(name: str, unit: str) -> str:
    """Return a column's name in words: ``GPU 0 memory used`` for ``gpu0/memory_used_bytes``.

    The unit is left out, since it is printed next to each number.
    """
    where, _, what = name.rpartition("/")
    words = what.removesuffix(unit).rstrip("_") or what
    return " ".join(filter(None, [place_label(where), words.replace("_", " ")]))


def place_label(where: str) -> str:
    """Return the part before the slash in words: ``GPU 0``; ``worker 2 GPU 0`` for ``worker2/gpu0``."""
    parts = (re.sub(r"(?<=[A-Za-z])(?=\d+$)", " ", part) for part in where.split("/"))
    return " ".join(re.sub(r"^gpu\b", "GPU", part) for part in parts)
