"""Memory: what is in use of the tightest limit, what the machine has left, and who waits for it."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from perfmon_widgets.collectors.linux import jupyterhub as hub
from perfmon_widgets.collectors.linux import limits as scope
from perfmon_widgets.collectors.linux.system_file import ShortFile
from perfmon_widgets.collectors.linux.tree import Tree
from perfmon_widgets.collectors.rate import Rate
from perfmon_widgets.metrics import Metric

METRICS = (
    Metric("ram_percent", "percent", "memory", "Memory in use, against the tightest limit on it."),
    Metric(
        "ram_used_bytes",
        "bytes",
        "memory",
        "Memory in use that cannot be given back at once.",
        limit="ram_limit_bytes",
    ),
    Metric("ram_limit_bytes", "bytes", "memory", "The tightest limit on memory: machine or container."),
    Metric("swap_percent", "percent", "memory", "Swap space in use."),
    Metric("swap_used_bytes", "bytes", "memory", "Swap space in use.", "swap_limit_bytes"),
    Metric("swap_limit_bytes", "bytes", "memory", "Size of the swap space."),
)
_HOST = (
    Metric("host_ram_percent", "percent", "memory", "Memory in use on the whole machine."),
    Metric(
        "host_ram_used_bytes",
        "bytes",
        "memory",
        "Memory in use on the whole machine that cannot be given back at once.",
        limit="host_ram_limit_bytes",
    ),
    Metric("host_ram_limit_bytes", "bytes", "memory", "Memory of the whole machine."),
)
_PRESSURE = Metric(
    "memory_pressure_percent",
    "percent",
    "memory",
    "Share of the time in which a program had to wait because memory was short.",
)
OPTIONAL_METRICS = (*_HOST, _PRESSURE)


class Memory:
    """The memory columns of HostCollector.

    ``ram_*`` is MemTotal − MemAvailable as ``free`` prints it; where a control group has a limit below that,
    it is the working set of that group against its limit. ``host_ram_*`` is there if the limit is not the
    machine's when this is made, ``memory_pressure_percent`` if the OS kernel counts it (PSI). Raises OSError
    if there is no /proc/meminfo.
    """

    def __init__(
        self, proc: Path, allowed: scope.Allowed, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._proc, self._environment = proc, environment
        self._meminfo = ShortFile(proc / "meminfo", proc)
        self._limit: scope.MemoryLimit | None = None
        self._by_hub = math.inf
        self._used: scope.WorkingSet | Tree | None = None
        self._pressure: ShortFile | None = None
        self._waiting = Rate()
        self.errors: dict[str, str] = {}
        self.metrics: Sequence[Metric] = ()
        self.refresh(allowed)
        self._columns = [*METRICS]
        if self._used is not None:
            self._columns += _HOST
        if self._pressure is not None:
            self._columns.append(_PRESSURE)
        self._names = {metric.name for metric in self._columns}
        self._describe()

    def refresh(self, allowed: scope.Allowed) -> None:
        """Go by other limits from here on, and say in the metrics where each comes from."""
        self._allowed = allowed
        total = self._total = _bytes(self._meminfo.read(), b"MemTotal:")
        limit = allowed.memory
        by_hub = hub.limit(hub.MEMORY, self._environment) if limit is None else math.inf
        if limit is not None and limit.limit >= total:
            limit = None
        if by_hub >= total:
            by_hub = math.inf
        if (limit, by_hub) != (self._limit, self._by_hub):
            self._limit, self._by_hub = limit, by_hub
            self._used = None
            with contextlib.suppress(OSError):  # without its use a limit tells nothing: the machine then
                if limit is not None:
                    self._used = limit.usage()
                elif by_hub < math.inf:
                    self._used = Tree(hub.server(hub.MEMORY, self._proc, self._environment), self._proc)
        self._open_pressure()
        if self.metrics:
            self._describe()

    def _open_pressure(self) -> None:
        """Pressure is counted for every group of version 2, and for the machine."""
        files = [self._proc / "pressure" / "memory"]
        if self._limit is not None:
            files.insert(0, self._limit.directory / "memory.pressure")
        for file in files:
            if self._pressure is not None and self._pressure.path == file:
                return
            try:
                pressure = ShortFile(file, self._proc)
                told = pressure.read()  # where it is switched off, this is what fails
            except OSError:
                continue
            if b"total=" not in told:
                continue
            self._pressure, self._waiting = pressure, Rate()
            return

    def _describe(self) -> None:
        meminfo = f"{self._proc}/meminfo"
        limit = used = meminfo
        if self._used is None:
            pass
        elif self._limit is not None:
            limit, used = self._limit.source, self._limit.usage_source
        else:
            limit, used = hub.MEMORY, "processes of the notebook server"
        sources = {
            "ram_limit_bytes": limit,
            "ram_used_bytes": used,
            "ram_percent": limit if limit == used else f"{used} against {limit}",
            _PRESSURE.name: f"{self._pressure.path}, some" if self._pressure is not None else "",
        }
        self.metrics = tuple(
            replace(metric, source=sources.get(metric.name, meminfo)) for metric in self._columns
        )

    def collect(self) -> dict[str, float]:
        """One reading of its columns; the pressure is NaN in the first."""
        content = self._meminfo.read()
        total, available = _bytes(content, b"MemTotal:"), _bytes(content, b"MemAvailable:")
        if total != self._total:  # a limit may now be below it, or above
            self.refresh(self._allowed)
        if available > total:  # an old lxcfs, which tells the container's total but not what is available
            available = _bytes(content, b"MemFree:")
        host = total - available
        limit, used = total, host
        if self._used is not None:
            limit = float(self._limit.limit) if self._limit is not None else self._by_hub
            used = self._used.read()[1] if isinstance(self._used, Tree) else self._used.read()
        values = {"ram_percent": scope.percent(used, limit), "ram_used_bytes": used, "ram_limit_bytes": limit}
        if _HOST[0].name in self._names:
            values.update(
                zip((metric.name for metric in _HOST), (100 * host / total, host, total), strict=True)
            )
        if self._pressure is not None and _PRESSURE.name in self._names:
            # "some avg10=… avg60=… avg300=… total=<microseconds>"
            microseconds = int(self._pressure.read().partition(b"total=")[2].split(None, 1)[0])
            waited = self._waiting.update(microseconds / 1e6, time.monotonic())
            values[_PRESSURE.name] = scope.percent(waited, 1.0)
        swap = _bytes(content, b"SwapTotal:")
        used = swap - _bytes(content, b"SwapFree:")
        values["swap_used_bytes"] = used
        values["swap_limit_bytes"] = swap
        if swap:
            values["swap_percent"] = 100 * used / swap
            self.errors.pop("swap_percent", None)
        else:
            self.errors["swap_percent"] = "this machine has no swap space"
        return values


def _bytes(meminfo: bytes, name: bytes) -> float:
    """A line of /proc/meminfo, which counts in KiB, as bytes; raises OSError if there is none."""
    _, found, following = meminfo.partition(name)
    if not found:
        raise OSError(errno.ENODATA, f"no {name.decode()} in /proc/meminfo")
    return int(following.split(None, 1)[0]) * 1024.0
