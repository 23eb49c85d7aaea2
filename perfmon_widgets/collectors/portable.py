"""The same columns where there is no /proc of Linux (macOS, Windows), asked of psutil."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import psutil

from perfmon_widgets.collectors import host, process, scope
from perfmon_widgets.collectors.rate import Rate
from perfmon_widgets.metrics import Metric

# Who is asked for each column; columns of the Linux collectors that are not named here do not exist.
_SOURCES = {
    "cpu_percent": "psutil.cpu_times",
    "ram_percent": "psutil.virtual_memory",
    "ram_used_bytes": "psutil.virtual_memory",
    "ram_limit_bytes": "psutil.virtual_memory",
    "swap_percent": "psutil.swap_memory",
    "swap_used_bytes": "psutil.swap_memory",
    "swap_limit_bytes": "psutil.swap_memory",
    "disk_percent": "psutil.disk_usage",
    "disk_used_bytes": "psutil.disk_usage",
    "disk_limit_bytes": "psutil.disk_usage",
    "process_cpu_percent": "process CPU clock",
    "process_ram_bytes": "psutil.Process.memory_info",
}


class PortableCollector:
    """CPU, RAM, swap and disk space of the machine, and CPU and RAM of this process, through psutil."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._cpu, self._own = Rate(), Rate()
        self._cores = [Rate() for _ in psutil.cpu_times(percpu=True)]
        known = [*host.METRICS, *process.METRICS]
        core = next(metric for metric in known if metric.name == "cpu_percent")
        self.metrics: Sequence[Metric] = (
            *(replace(metric, source=_SOURCES[metric.name]) for metric in known if metric.name in _SOURCES),
            *(
                replace(core, name=f"core{number}/cpu_percent", source="psutil.cpu_times")
                for number in range(len(self._cores))
            ),
        )

    def collect(self) -> Mapping[str, float]:
        """One reading of every column; shares of CPU time are NaN in the first."""
        memory, swap, disk = psutil.virtual_memory(), psutil.swap_memory(), psutil.disk_usage(".")
        seconds, clock = time.process_time(), time.monotonic()
        values = {
            "cpu_percent": 100 * _busy_share(self._cpu, psutil.cpu_times()),
            "ram_percent": memory.percent,
            "ram_used_bytes": memory.total - memory.available,
            "ram_limit_bytes": memory.total,
            "swap_percent": 100 * swap.used / swap.total if swap.total else math.nan,
            "swap_used_bytes": swap.used,
            "swap_limit_bytes": swap.total,
            "disk_percent": 100 * disk.used / (disk.used + disk.free),
            "disk_used_bytes": disk.used,
            "disk_limit_bytes": disk.used + disk.free,
            "process_cpu_percent": 100 * self._own.update(seconds, clock) / len(scope.cpus()),
            "process_ram_bytes": self._process.memory_info().rss,
        }
        for number, (rate, times) in enumerate(zip(self._cores, psutil.cpu_times(percpu=True), strict=True)):
            values[f"core{number}/cpu_percent"] = 100 * _busy_share(rate, times)
        return values


def _busy_share(rate: Rate, times: tuple[float, ...]) -> float:
    """The busy share of the CPU time since the last call, from psutil's named times."""
    by_name = times._asdict()  # type: ignore[attr-defined]  # psutil's named tuples differ by system
    waiting = by_name.pop("idle") + by_name.pop("iowait", 0.0)
    # Guest time is contained in user time. Added up, and not what idle time leaves of all: rounding would
    # have the busy time of an idle CPU shrink.
    busy = sum(value for name, value in by_name.items() if not name.startswith("guest"))
    return rate.update(busy, busy + waiting)
