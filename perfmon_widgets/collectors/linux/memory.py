"""Memory: usage against the tightest limit, usage of the machine, and swap."""

from __future__ import annotations

import contextlib
import errno
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from perfmon_widgets.collectors.linux import jupyterhub
from perfmon_widgets.collectors.linux.limits import Allowed
from perfmon_widgets.collectors.linux.memory_limit import MemoryLimit, WorkingSet
from perfmon_widgets.collectors.linux.system_file import SystemFile
from perfmon_widgets.collectors.linux.tree import Tree
from perfmon_widgets.collectors.plausible import impossible
from perfmon_widgets.collectors.rate import percent
from perfmon_widgets.metrics import Metric

METRICS = (
    Metric(
        name="ram_percent",
        unit="percent",
        group="memory",
        label="RAM",
        role="headline",
        help="Memory in use, of the tightest limit on it: the machine's size, or a container's limit. In a"
        " container part of it may be file cache: see ram_unreclaimable_bytes.",
        source="as the next two columns",
    ),
    Metric(
        name="ram_used_bytes",
        unit="bytes",
        group="memory",
        label="RAM in use",
        role="headline",
        limit="ram_limit_bytes",
        help="Memory in use. On a machine, what cannot be given back at once, as free prints it. In a"
        " container with a limit, its working set as docker stats prints it: with file cache that was read"
        " more than once, which is given back when a program needs memory.",
        source="/proc/meminfo, MemTotal less MemAvailable; with a limit, memory.current less inactive_file",
    ),
    Metric(
        name="ram_limit_bytes",
        unit="bytes",
        group="memory",
        label="RAM limit",
        role="limit",
        help="The tightest limit on memory: the machine's size, that of a control group, or the point from"
        " which a group is slowed down.",
        source="/proc/meminfo, MemTotal; with a limit, memory.max or memory.high of the control group",
    ),
    Metric(
        name="swap_percent",
        unit="percent",
        group="memory",
        label="swap",
        help="Swap space in use.",
        source="/proc/meminfo",
    ),
    Metric(
        name="swap_used_bytes",
        unit="bytes",
        group="memory",
        label="swap in use",
        limit="swap_limit_bytes",
        help="Swap space in use.",
        source="/proc/meminfo, SwapTotal less SwapFree",
    ),
    Metric(
        name="swap_limit_bytes",
        unit="bytes",
        group="memory",
        label="swap size",
        role="limit",
        help="Size of the swap space.",
        source="/proc/meminfo, SwapTotal",
    ),
)
_HOST = (
    Metric(
        name="host_ram_percent",
        unit="percent",
        group="memory",
        label="RAM of the machine",
        help="Memory in use on the whole machine; only where a limit is below its size.",
        source="as the next two columns",
    ),
    Metric(
        name="host_ram_used_bytes",
        unit="bytes",
        group="memory",
        label="RAM in use on the machine",
        limit="host_ram_limit_bytes",
        help="Memory in use on the whole machine that cannot be given back at once; only where a limit is"
        " below its size.",
        source="/proc/meminfo, MemTotal less MemAvailable",
    ),
    Metric(
        name="host_ram_limit_bytes",
        unit="bytes",
        group="memory",
        label="RAM size of the machine",
        role="limit",
        help="Memory of the whole machine; only where a limit is below its size.",
        source="/proc/meminfo, MemTotal",
    ),
)
_UNRECLAIMABLE = Metric(
    name="ram_unreclaimable_bytes",
    unit="bytes",
    group="memory",
    label="RAM that cannot be given back",
    limit="ram_limit_bytes",
    help="The part of ram_used_bytes that is not file cache, and stays when a program needs memory; only"
    " where a container has a limit.",
    source="memory.current less inactive_file, active_file and slab_reclaimable in memory.stat",
)
OPTIONAL_METRICS = (_UNRECLAIMABLE, *_HOST)
# What set the limit where that of a container may be hidden.
_UNSEEN = "machine; own limit hidden"


class Memory:
    """The memory columns of HostCollector.

    ``ram_*`` is MemTotal − MemAvailable as ``free`` prints it. Where a control group has a limit below that,
    it is the working set of that group against its limit, and ``ram_unreclaimable_bytes`` is what of it is
    not file cache. ``host_ram_*`` exists if the limit is not the machine's size when this is made. Raises
    OSError if there is no /proc/meminfo.
    """

    def __init__(self, proc: Path, allowed: Allowed, environment: Mapping[str, str] = os.environ) -> None:
        self._proc, self._environment = proc, environment
        self._meminfo = SystemFile(proc / "meminfo")
        self._allowed = allowed
        self._limit: MemoryLimit | None = None
        self._by_hub = math.inf
        self._used: WorkingSet | Tree | None = None
        self.errors: dict[str, str] = {}
        self.metrics: Sequence[Metric] = ()
        self.refresh(allowed)
        self._columns = [*METRICS]
        if isinstance(self._used, WorkingSet):
            self._columns.append(_UNRECLAIMABLE)
        if self._used is not None:
            self._columns += _HOST
        self._names = {metric.name for metric in self._columns}
        self._describe()

    def refresh(self, allowed: Allowed) -> None:
        """Use these limits from now on, and update the sources in ``metrics``."""
        self._allowed = allowed
        total = self._total = _bytes(self._meminfo.read(), b"MemTotal:")
        limit = allowed.memory
        by_hub = jupyterhub.limit(jupyterhub.MEMORY, self._environment) if limit is None else math.inf
        if limit is not None and limit.limit >= total:
            limit = None
        if by_hub >= total:
            by_hub = math.inf
        if (limit, by_hub) != (self._limit, self._by_hub):
            self._limit, self._by_hub = limit, by_hub
            self._used = None
            with contextlib.suppress(OSError):  # a limit without its usage says nothing: show the machine
                if limit is not None:
                    self._used = limit.usage()
                elif by_hub < math.inf:
                    server = jupyterhub.server(jupyterhub.MEMORY, self._proc, self._environment)
                    self._used = Tree(server, self._proc)
        if self.metrics:
            self._describe()

    def _describe(self) -> None:
        meminfo = f"{self._proc}/meminfo"
        limit = used = unreclaimable = meminfo
        set_by = ""
        if self._used is None:
            if self._allowed.memory_unseen:
                limit = f"{meminfo}; {self._allowed.memory_unseen}"
                set_by = _UNSEEN
        elif self._limit is not None:
            limit, used = self._limit.source, self._limit.usage_source
            unreclaimable = self._limit.unreclaimable_source
            set_by = self._limit.set_by
        else:
            limit, used, set_by = jupyterhub.MEMORY, "processes of the notebook server", "JupyterHub"
        sources = {
            "ram_limit_bytes": limit,
            "ram_used_bytes": used,
            _UNRECLAIMABLE.name: unreclaimable,
            "ram_percent": limit if used == meminfo else f"{used} against {limit}",
        }
        self.metrics = tuple(
            replace(
                metric,
                source=sources.get(metric.name, meminfo),
                set_by=set_by if metric.name == "ram_limit_bytes" else "",
            )
            for metric in self._columns
        )

    def collect(self) -> dict[str, float]:
        """Return a value for each column.

        Raises OSError if /proc/meminfo, or the control group with the limit, cannot be read.
        """
        content = self._meminfo.read()
        total, available = _bytes(content, b"MemTotal:"), _bytes(content, b"MemAvailable:")
        if total != self._total:  # the limit may now be below it, or above
            self.refresh(self._allowed)
        if available > total:  # an old lxcfs: the total is the container's, but not what is available
            available = _bytes(content, b"MemFree:")
        if not total or available > total:
            raise OSError(f"/proc/meminfo says that {available:g} of {total:g} bytes are free")
        host = total - available
        limit, used = total, host
        if self._used is not None:
            limit = float(self._limit.limit) if self._limit is not None else self._by_hub
            used = self._used.read()[1] if isinstance(self._used, Tree) else self._used.read()
        unreclaimable = self._used.unreclaimable if isinstance(self._used, WorkingSet) else used
        values = {"ram_percent": percent(used, limit), "ram_used_bytes": used, "ram_limit_bytes": limit}
        if _UNRECLAIMABLE.name in self._names:
            values[_UNRECLAIMABLE.name] = unreclaimable
        if _HOST[0].name in self._names:
            values.update(
                zip((metric.name for metric in _HOST), (100 * host / total, host, total), strict=True)
            )
        self._collect_swap(content, values)
        return values

    def _collect_swap(self, meminfo: bytes, values: dict[str, float]) -> None:
        swap = _bytes(meminfo, b"SwapTotal:")
        used = swap - _bytes(meminfo, b"SwapFree:")
        values["swap_limit_bytes"] = swap
        self.errors = {}
        if reason := impossible("bytes", used):  # lxcfs: more is free than there is
            values["swap_used_bytes"] = values["swap_percent"] = math.nan
            self.errors = dict.fromkeys(("swap_used_bytes", "swap_percent"), reason)
            return
        values["swap_used_bytes"] = used
        if swap:
            values["swap_percent"] = 100 * used / swap
        else:
            self.errors["swap_percent"] = "this machine has no swap space"


def _bytes(meminfo: bytes, name: bytes) -> float:
    """Return a line of /proc/meminfo, which counts in KiB, in bytes; raises OSError if it is not there."""
    start = meminfo.find(name)
    if start < 0:
        raise OSError(errno.ENODATA, f"no {name.decode()} in /proc/meminfo")
    start += len(name)
    return int(meminfo[start : meminfo.index(b"k", start)]) * 1024.0
