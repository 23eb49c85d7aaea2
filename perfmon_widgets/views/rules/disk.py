"""Where disks hold the work up, and when they will be full."""

from __future__ import annotations

from collections.abc import Iterator

from perfmon_widgets.views.evidence import Evidence, Rule
from perfmon_widgets.views.rules.data import ONE_CPU, is_measured, pauses
from perfmon_widgets.views.rules.memory import full_soon
from perfmon_widgets.views.stragglers import IDLE
from perfmon_widgets.views.text import format_used, format_value

# About what one hard disk or a small cloud disk reads in a row, and half of what a gigabit network carries.
_MUCH = 50e6
# A fifth of the time is lost. Who waits is not counted: this kernel must read or write, too. A hard disk
# finds about a hundred small files a second, which are 1 MB.
_PRESSURE, _SOME = 20.0, 1e6


def _waits(evidence: Evidence, place: str, what: str, more: str = "") -> Iterator[tuple[str, str]]:
    """What this kernel does there, if neither one of its CPUs nor a GPU is busy."""
    if not evidence.cpus_busy < ONE_CPU or is_measured(evidence):
        return
    what += f" and keeps {evidence.cpus_busy:.1f} of {evidence.cpus:g} CPUs busy{more}"
    for gpu, busy in pauses(evidence):
        yield (
            f"{evidence.gpus[gpu]} waits for the {place}",
            f"it is busy {format_value(busy, 'percent')} of the time, while this kernel {what}",
        )
    if not any(evidence.mean(f"{gpu}/utilization_percent") >= IDLE for gpu in evidence.gpus):
        yield f"This kernel waits for the {place}", f"it {what}"


def _pressure(evidence: Evidence) -> str:
    """How much programs wait for disks, in words; empty if it is little, or not counted."""
    pressure = evidence.mean("io_pressure_percent")
    if not pressure >= _PRESSURE:
        return ""
    return f"; programs wait for disks {format_value(pressure, 'percent')} of the time"


def _waits_for_disk(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """This kernel reads what a small disk can give, or reads and programs wait for disks.

    All the while neither one of its CPUs nor a GPU is busy. A network file system is a disk here.
    """
    read, more = evidence.mean("process_read_bytes_per_second"), _pressure(evidence)
    if read >= (_SOME if more else _MUCH):
        yield from _waits(evidence, "disk", f"reads {format_value(read, 'bytes_per_second')}", more)


def _waits_to_write(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """This kernel writes and programs wait for disks, while neither one of its CPUs nor a GPU is busy.

    What is written goes to memory first, and to the disk later: much of it alone is no reason to wait.
    """
    written, more = evidence.mean("process_write_bytes_per_second"), _pressure(evidence)
    if written >= _SOME and more and not any(_waits_for_disk(evidence)):
        yield from _waits(evidence, "disk", f"writes {format_value(written, 'bytes_per_second')}", more)


def _waits_for_network(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Half of what a gigabit network carries arrives, while neither one of its CPUs nor a GPU is busy.

    The network is that of the container or the machine: who receives is not measured. Network file systems
    count, too.
    """
    received = evidence.mean("network_received_bytes_per_second")
    if received >= _MUCH:
        yield from _waits(evidence, "network", f"receives {format_value(received, 'bytes_per_second')}")


def _disk_full_soon(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The space in use grows steadily, as with checkpoints, and will be used up within 15 minutes."""
    return full_soon(evidence, "disk_used_bytes", "disk_limit_bytes", "Disk")


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
WAITS_TO_WRITE = Rule("warning", "write less often, or to a faster disk", _waits_to_write)
WAITS_FOR_NETWORK = Rule(
    "warning",
    f"copy the data to a local disk first, or receive it in several workers; {_MEASURE}",
    _waits_for_network,
)
FULL_SOON = Rule("critical", "delete old checkpoints, or write elsewhere", _disk_full_soon)
FULL = Rule("warning", "delete old checkpoints, or write elsewhere", _disk_full)
