"""Where disks hold the work up, and when they will be full."""

from __future__ import annotations

from collections.abc import Iterator

from perfmon_widgets.views.evidence import Evidence, Rule
from perfmon_widgets.views.rules.data import ONE_CPU, is_measured, pauses
from perfmon_widgets.views.rules.gpu import IDLE
from perfmon_widgets.views.rules.memory import full_soon
from perfmon_widgets.views.text import format_used, format_value

# About what one hard disk or a small cloud disk reads in a row.
_MUCH_READ = 50e6


def _waits(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """This kernel reads what a small disk can give, while neither one of its CPUs nor a GPU is busy."""
    read = evidence.mean("process_read_bytes_per_second")
    if not read >= _MUCH_READ or not evidence.cpus_busy < ONE_CPU or is_measured(evidence):
        return
    reading = f"this kernel reads {format_value(read, 'bytes_per_second')}"
    cpus = f"keeps {evidence.cpus_busy:.1f} of {evidence.cpus:.0f} CPUs busy"
    for place, busy in pauses(evidence):
        yield (
            f"{evidence.gpus[place]} waits for the disk",
            f"it is busy {format_value(busy, 'percent')} of the time, while {reading} and {cpus}",
        )
    if not any(evidence.mean(f"{place}/utilization_percent") >= IDLE for place in evidence.gpus):
        yield "This kernel waits for the disk", f"{reading} and {cpus}"


def _disk_full_soon(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The space in use grows steadily, as with checkpoints, and will be used up within 15 minutes."""
    return full_soon(evidence, "disk", "Disk")


# What a checkpoint may take at once is not known. Below this nobody can do much with the rest.
_DISK_FULL = 98.0


def _disk_full(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """At most 2 % of the file system is free: little in proportion, and on most disks a few GiB."""
    if evidence.newest("disk_percent") >= _DISK_FULL and not any(_disk_full_soon(evidence)):
        used, limit = evidence.newest("disk_used_bytes"), evidence.newest("disk_limit_bytes")
        yield "The disk is nearly full", f"{format_used(used, limit, 'bytes')} in use"


WAITS = Rule(
    "warning",
    "keep the data on a faster disk or in memory, in few large files; "
    "monitor.steps(loader) measures whether it is the data",
    _waits,
)
FULL_SOON = Rule("critical", "delete old checkpoints, or write elsewhere", _disk_full_soon)
FULL = Rule("warning", "delete old checkpoints, or write elsewhere", _disk_full)
