"""Sources of readings: the Collector protocol and the ones this machine has."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from perfmon_widgets.metrics import Metric

_logger = logging.getLogger(__name__)


@runtime_checkable
class Collector(Protocol):
    """A source of readings: anything with these two members, no base class needed.

    A collector is called by one thread at a time, and may keep what it needs between calls. It may also have
    ``errors``, a mapping from column to the reason why that single number is missing now (a source that fails
    as a whole raises), and ``close()``, which is called when the monitor stops; it may be asked again later.
    """

    @property
    def metrics(self) -> Sequence[Metric]:
        """The columns it fills: the same names for as long as it lives; source and device may change."""
        ...

    def collect(self) -> Mapping[str, float]:
        """One reading, a value per column name in that metric's unit; a column left out is missing (NaN)."""
        ...


def default_collectors(
    gpus: Sequence[int | str] | None = None, *, root: int | None = None
) -> list[Collector]:
    """The sources this machine has: the host, this process, and its GPUs if there are any.

    ``gpus`` (indices or UUIDs) overrules the search for the GPUs in use. ``root`` is the id of another
    process to watch, with its children, instead of this one; Linux only. Raises ValueError if one of the GPUs
    does not exist, OSError if that process does not.
    """
    if root is not None:
        from perfmon_widgets.collectors.linux.tree import number_of  # noqa: PLC0415 - as below

        root = number_of(root)
    return [*_host(root), *_gpus(gpus, root)]


class Broken:
    """Stands for a source that is there but does not work: it has no columns, and says why."""

    metrics: Sequence[Metric] = ()

    def __init__(self, name: str, reason: str) -> None:
        self.errors = {name: reason}

    def collect(self) -> Mapping[str, float]:
        """Nothing."""
        return {}


def _host(root: int | None) -> list[Collector]:
    # Imported here, as below: each is for some machines only.
    if Path("/proc/self/statm").exists():
        from perfmon_widgets.collectors.linux.host import HostCollector  # noqa: PLC0415
        from perfmon_widgets.collectors.linux.limits import Limits  # noqa: PLC0415
        from perfmon_widgets.collectors.linux.process import ProcessCollector  # noqa: PLC0415

        limits = Limits()  # looked up once for both
        return [HostCollector(limits=limits), ProcessCollector(root=root, limits=limits)]
    if root is not None:
        raise OSError("another process can be watched on Linux only")
    from perfmon_widgets.collectors.portable import PortableCollector  # noqa: PLC0415

    return [PortableCollector()]


def _gpus(gpus: Sequence[int | str] | None, root: int | None) -> list[Collector]:
    from perfmon_widgets.collectors.amd.collector import among  # noqa: PLC0415
    from perfmon_widgets.collectors.nvidia.in_use import known_gpus  # noqa: PLC0415

    first_amd = len(known_gpus())  # NVIDIA's have the numbers below
    if gpus is None:
        return [*_nvidia(None, root), *_amd(None, first_amd, root)]
    amd = among(gpus, first_amd)
    nvidia = [gpu for gpu in gpus if gpu not in amd]
    return [
        *(_nvidia(nvidia, root) if nvidia or not amd else []),
        *(_amd(amd, first_amd, root) if amd else []),
    ]


def _nvidia(gpus: Sequence[int | str] | None, root: int | None) -> list[Collector]:
    from perfmon_widgets.collectors.nvidia.collector import NvidiaCollector, NvidiaUnavailable  # noqa: PLC0415

    try:
        return [NvidiaCollector(gpus, root=root)]
    except NvidiaUnavailable as error:
        if gpus is not None:
            raise ValueError(f"there are no GPUs to choose from: {error}") from None
        _logger.log(logging.WARNING if error.broken else logging.INFO, "%s", error)
        return [Broken("gpu", str(error))] if error.broken else []


def _amd(gpus: Sequence[int | str] | None, first: int, root: int | None) -> list[Collector]:
    from perfmon_widgets.collectors.amd.collector import AmdCollector  # noqa: PLC0415

    try:
        return [AmdCollector(gpus, first=first, root=root)]
    except FileNotFoundError as error:
        _logger.info("%s", error)
        return []
