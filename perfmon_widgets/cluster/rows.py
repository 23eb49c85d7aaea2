"""Row: what one process of many reports at a moment, split into its own numbers and those of its machine."""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from perfmon_widgets.core.monitor import PerformanceMonitor
from perfmon_widgets.metrics import Sample
from perfmon_widgets.views.columns import group_of

# The columns of the default collectors that are about a whole machine, and those about the process. Not by
# their beginnings: a program may record a network_loss or a process_reward.
_OF_MACHINE = frozenset(
    {
        *("cpu_percent", "cpu_throttled_percent", "cpu_pressure_percent", "host_cpu_percent"),
        *("ram_percent", "ram_used_bytes", "ram_limit_bytes", "ram_unreclaimable_bytes"),
        *("host_ram_percent", "host_ram_used_bytes", "host_ram_limit_bytes"),
        *("swap_percent", "swap_used_bytes", "swap_limit_bytes", "memory_pressure_percent"),
        *("disk_percent", "disk_used_bytes", "disk_limit_bytes", "io_pressure_percent"),
        *("disk_read_bytes_per_second", "disk_write_bytes_per_second"),
        *("network_received_bytes_per_second", "network_sent_bytes_per_second"),
    }
)
_OWN_NAMES = {
    "process_cpu_percent": "cpu_percent",
    "process_ram_bytes": "ram_used_bytes",
    "process_ram_peak_bytes": "ram_peak_bytes",
    "process_ram_limit_bytes": "ram_limit_bytes",
    "process_read_bytes_per_second": "read_bytes_per_second",
    "process_write_bytes_per_second": "write_bytes_per_second",
}
_MEASURED = {*_OWN_NAMES.values(), "ram_percent"}


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

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Row:
        """Return the row that was sent as ``row._asdict()``; what else is in the message is ignored.

        A scheduler may have added a field, and later versions of this package may. Raises KeyError or
        TypeError if it is no row.
        """
        return cls(*(message[field] for field in cls._fields))


def row_of(
    monitor: PerformanceMonitor, sample: Sample, key: str, name: str, more: Mapping[str, float] = {}
) -> Row:
    """Return the row of a sample that this machine's monitor has taken for a member.

    ``key`` and ``name`` are those of the member, ``more`` has values that come before those of the sample.
    """
    own, machine = split({**sample.values, **more})
    metrics, reasons = monitor.metrics, {}
    if any(math.isnan(value) for value in (*own.values(), *machine.values())):
        errors = dict(monitor.errors)
        errors["cpu_percent"] = errors.pop("host_cpu_percent", errors.get("cpu_percent", ""))  # as in split()
        reasons = {own_name(column): text for column, text in errors.items() if text}
    devices = {metric.where: metric.device for metric in metrics if metric.device}
    return Row(key, name, socket.gethostname(), monitor.interval, own, machine, devices, reasons)


def share_of(percent: float, capacity: float, cpus: float) -> float:
    """Return a share of ``capacity`` CPUs as one of ``cpus``, in percent; NaN stays NaN.

    A worker with one thread on 32 CPUs is full at 100 %, too.
    """
    return min(percent * capacity / min(cpus, capacity), 100.0)  # min(100.0, nan) would be 100


def split(values: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the values of a monitor's row that belong to its process, and those about the whole machine.

    ``process_cpu_percent`` becomes ``cpu_percent``, ``process_ram_bytes`` becomes ``ram_used_bytes``. Single
    CPUs are left out, and GPUs that are not in use. The machine's ``cpu_percent`` is that of all its CPUs,
    also where this process may use some only: the members of one machine may be bound to different ones.
    """
    own: dict[str, float] = {}
    machine: dict[str, float] = {}
    for column, value in values.items():
        if "/" in column and (group_of(column) == "cpu" or math.isnan(value)):
            continue
        if column in _OF_MACHINE:
            machine[column] = value
        else:
            own[own_name(column)] = value
    if "host_cpu_percent" in machine:
        machine["cpu_percent"] = machine.pop("host_cpu_percent")
    limit = own.setdefault("ram_limit_bytes", machine.get("ram_limit_bytes", math.nan))
    if limit > 0 and "ram_used_bytes" in own:
        own["ram_percent"] = min(100 * own["ram_used_bytes"] / limit, 100.0)  # min(100.0, nan) would be 100
    else:
        del own["ram_limit_bytes"]
    return own, machine


def is_measured(column: str) -> bool:
    """Return whether a column of a row is one of the package's own, whose values can be checked.

    A program may record what it likes under any other name: a ``gain_percent`` may be negative.
    """
    return column in _OF_MACHINE or column in _MEASURED or ("/" in column and group_of(column) == "gpu")


def own_name(column: str) -> str:
    """Return what a column of a process's own monitor is called behind the place of a member."""
    return _OWN_NAMES.get(column, column)
