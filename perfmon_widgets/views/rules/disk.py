"""Where disks hold the work up, and when they will be full."""

from __future__ import annotations

from collections.abc import Iterator

from perfmon_widgets.views.evidence import Evidence, Rule
from perfmon_widgets.views.rules.data import ONE_CPU, is_measured, pauses
from perfmon_widgets.views.rules.gpu import IDLE
from perfmon_widgets.views.rules.memory import full_soon
from perfmon_widgets.views.text import format_used, format_value

# About what one hard disk or a small cloud disk reads in a row, and half of what a gigabit network carries.
_MUCH = 50e6


def _waits(evidence: Evidence, column: str, place: str, verb: str) -> Iterator[tuple[str, str]]:
    """Much is read, while neither one of this kernel's CPUs nor a GPU is busy."""
    read = evidence.mean(column)
    if not read >= _MUCH or not evidence.cpus_busy < ONE_CPU or is_measured(evidence):
        return
    reading = f"{verb} {format_value(read, 'bytes_per_second')}"
    cpus = f"keeps {evidence.cpus_busy:.1f} of {evidence.cpus:.0f} CPUs busy"
    for gpu, busy in pauses(evidence):
        yield (
            f"{evidence.gpus[gpu]} waits for the {place}",
            f"it is busy {format_value(busy, 'percent')} of the time, while this kernel {reading} and {cpus}",
        )
    if not any(evidence.mean(f"{gpu}/utilization_percent") >= IDLE for gpu in evidence.gpus):
        yield f"This kernel waits for the {place}", f"it {reading} and {cpus}"


def _waits_for_disk(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """This kernel reads what a small disk can give, while neither one of its CPUs nor a GPU is busy."""
    return _waits(evidence, "process_read_bytes_per_second", "disk", "reads")


def _waits_for_network(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Half of what a gigabit network carries arrives, while neither one of its CPUs nor a GPU is busy.

    The network is that of the container or the machine: who receives is not measured. Network file systems
    count, too.
    """
    return _waits(evidence, "network_received_bytes_per_second", "network", "receives")


def _disk_full_soon(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The space in use grows steadily, as with checkpoints, and will be used up within 15 minutes."""
    return full_soon(evidence, "disk", "Disk")


# What a checkpoint may take at once is not known. From here on the rest is of little use.
_DISK_FULL = 98.0


def _disk_full(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """At most 2 % of the file system is free: little in proportion, and on most disks a few GiB."""
    if evidence.newest("disk_percent") >= _DISK_FULL and not any(_disk_full_soon(evidence)):
        used, limit = evidence.newest("disk_used_bytes"), evidence.newest("disk_limit_bytes")
        yield "The disk is nearly full", f"{format_used(used, limit, 'bytes')} in use"


_MEASURE = "monitor.steps(loader) measures whether it is the data"
WAITS_FOR_DISK = Rule(
    "warning", f"keep the data on a faster disk or in memory, in few large files; {_MEASURE}", _waits_for_disk
)
WAITS_FOR_NETWORK = Rule(
    "warning",
    f"copy the data to a local disk first, or receive it in several workers; {_MEASURE}",
    _waits_for_network,
)
FULL_SOON = Rule("critical", "delete old checkpoints, or write elsewhere", _disk_full_soon)
FULL = Rule("warning", "delete old checkpoints, or write elsewhere", _disk_full)
