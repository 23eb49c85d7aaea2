"""Sources of readings: the Collector protocol and the ones this machine has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from perfmon_widgets.collectors.affinity import allowed_cpus
from perfmon_widgets.metrics import Metric


@runtime_checkable
class Collector(Protocol):
    """A source of readings: anything with these two members, no base class needed.

    A collector is called by one thread at a time, and may keep what it needs between calls. Two more members
    are optional. ``errors`` has the reason for each number that is missing now, by column, or by group if the
    collector has no columns; a source that fails as a whole raises. ``close()`` is called when the monitor
    stops; ``collect()`` may be called again after that.
    """

    @property
    def metrics(self) -> Sequence[Metric]:
        """The columns it fills: always the same names; limit, source and device may change.

        Those of a collector of this package that has the attribute ``grows`` may be followed by others later.
        """
        ...

    def collect(self) -> Mapping[str, float]:
        """Return a value for each column in the unit of its metric; a column left out is missing (NaN)."""
        ...


def default_collectors(
    gpus: Sequence[int | str] | None = None, *, root: int | None = None
) -> list[Collector]:
    """Return the sources this machine has: the host, this process, and its GPUs if there are any.

    ``gpus`` (numbers or UUIDs) replaces the search for the GPUs in use. ``root`` is the id of another process
    to watch, with its descendants, instead of this one; Linux only. Raises ValueError if one of the GPUs does
    not exist, OSError if that process does not.
    """
    from perfmon_widgets.collectors.gpus import gpu_collectors  # noqa: PLC0415 - imports this module

    if root is not None:
        from perfmon_widgets.collectors.linux.processes import number_of  # noqa: PLC0415 - as below

        root = number_of(root)
    host, members = _host(root)
    return [*host, *gpu_collectors(gpus, root, members)]


def capacity() -> float:
    """Return how many CPUs 100 % of ``process_cpu_percent`` are."""
    if Path("/proc/self/statm").exists():
        from perfmon_widgets.collectors.linux import jupyterhub  # noqa: PLC0415 - as below
        from perfmon_widgets.collectors.linux.limits import Limits  # noqa: PLC0415

        return jupyterhub.capacity(Limits().now())[0]
    return float(len(allowed_cpus()))


class Broken:
    """Stands for devices that are there but cannot be read: it has no columns, and says why."""

    metrics: Sequence[Metric] = ()

    def __init__(self, group: str, reason: str) -> None:
        self.errors = {group: reason}
        """The reason under the name of the group (``gpu``), since there are no columns."""

    def collect(self) -> Mapping[str, float]:
        """Return nothing."""
        return {}


def _host(root: int | None) -> tuple[list[Collector], Callable[[], Collection[int]]]:
    """Return the collectors of the machine and of the process, and what lists the known descendants of it."""
    # Imported here, since each is for some machines only.
    if Path("/proc/self/statm").exists():
        from perfmon_widgets.collectors.linux.host import HostCollector  # noqa: PLC0415
        from perfmon_widgets.collectors.linux.limits import Limits  # noqa: PLC0415
        from perfmon_widgets.collectors.linux.process import ProcessCollector  # noqa: PLC0415

        limits = Limits(root=root)  # shared, so that one search serves both
        process = ProcessCollector(root=root, limits=limits)
        return [HostCollector(limits=limits, root=root), process], process.members
    if root is not None:
        raise OSError("another process can be watched on Linux only")
    from perfmon_widgets.collectors.portable import PortableCollector  # noqa: PLC0415

    return [PortableCollector()], tuple
