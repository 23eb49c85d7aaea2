"""Row: what one process of many reports at a moment, split into its own numbers and those of its machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from perfmon_widgets.views.columns import group_of

# The groups of the columns that are about a whole machine.
_OF_MACHINE = ("cpu", "memory", "disk", "network")


class Row(NamedTuple):
    """A row of one member, as it arrived."""

    key: str
    """Which member it is: the same after a restart."""
    name: str
    """What people know it by."""
    host: str
    """The name of its machine."""
    interval: float
    """Seconds until the next row."""
    own: Mapping[str, float]
    """What belongs to the process, by column."""
    machine: Mapping[str, float]
    """What is about the whole machine, by column."""
    devices: Mapping[str, str] = {}
    """The names of its devices, by place: ``gpu0``."""
    reasons: Mapping[str, str] = {}
    """Why values are NaN, by column."""


def split(values: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the values of a monitor's row that belong to its process, and those about the whole machine.

    ``process_cpu_percent`` becomes ``cpu_percent``, ``process_ram_bytes`` becomes ``ram_used_bytes``. Single
    CPUs are left out, and GPUs that are not in use.
    """
    own: dict[str, float] = {}
    machine: dict[str, float] = {}
    for column, value in values.items():
        group = group_of(column)
        if "/" in column and (group == "cpu" or math.isnan(value)):
            continue
        if group in _OF_MACHINE:
            machine[column] = value
        else:
            own[own_name(column)] = value
    limit = own.setdefault("ram_limit_bytes", machine.get("ram_limit_bytes", math.nan))
    if limit > 0 and "ram_used_bytes" in own:
        own["ram_percent"] = min(100.0, 100 * own["ram_used_bytes"] / limit)
    else:
        del own["ram_limit_bytes"]
    return own, machine


def own_name(column: str) -> str:
    """Return what a column of a process's own monitor is called behind the place of a member."""
    return "ram_used_bytes" if column == "process_ram_bytes" else column.removeprefix("process_")
