"""Sources of readings: the Collector protocol and the ones this machine has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from perfmon_widgets.metrics import Metric


@runtime_checkable
class Collector(Protocol):
    """A source of readings: anything with these two members, no base class needed.

    A collector is called by one thread at a time, and may keep what it needs between calls. It may also have
    ``errors``, a mapping from column to the reason why that single number is missing now; a source that fails
    as a whole raises.
    """

    @property
    def metrics(self) -> Sequence[Metric]:
        """The columns it fills: the same names for as long as it lives; source and device may change."""
        ...

    def collect(self) -> Mapping[str, float]:
        """One reading, a value per column name in that metric's unit; a column left out is missing (NaN)."""
        ...


def default_collectors(gpus: Sequence[int | str] | None = None) -> list[Collector]:
    """The sources this machine has: the host, this process, and its GPUs if there are any.

    ``gpus`` (indices or UUIDs) overrules the search for the GPUs in use. Raises ValueError if one of them
    does not exist.
    """
    # Imported here: these modules import this package for the names above, and each is for some machines.
    collectors: list[Collector] = []
    if Path("/proc/self/statm").exists():
        from perfmon_widgets.collectors.host import HostCollector  # noqa: PLC0415
        from perfmon_widgets.collectors.process import ProcessCollector  # noqa: PLC0415

        collectors += [HostCollector(), ProcessCollector()]
    else:
        from perfmon_widgets.collectors.portable import PortableCollector  # noqa: PLC0415

        collectors.append(PortableCollector())
    return collectors
