"""PortableCollector: the columns of Linux where there is no /proc (macOS, Windows), read through psutil."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import psutil

from perfmon_widgets.clocks import time
from perfmon_widgets.collectors.affinity import allowed_cpus
from perfmon_widgets.collectors.linux import host, process
from perfmon_widgets.collectors.linux.cpu import core_metric
from perfmon_widgets.collectors.plausible import checked
from perfmon_widgets.collectors.rate import Backlog, Rate
from perfmon_widgets.metrics import Metric, unit_of

# Where each column is read; the columns of Linux that are not listed here do not exist.
SOURCES = {
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
# psutil would have to walk through all processes of the machine to find the descendants.
_ALONE = {
    "process_cpu_percent": "CPU time of this process, without its children, of all that it may use.",
    "process_ram_bytes": "Memory of this process, without its children.",
}
EACH_CPU = "psutil.cpu_times(percpu=True)"


class PortableCollector:
    """CPU, RAM, swap and disk space of the machine, and CPU and RAM of this process, through psutil."""

    def __init__(self) -> None:
        self._cpu, self._own = Rate(), Rate()
        # Windows counts the time of a process in ticks of 15.6 ms: at full load some values exceed 100 %.
        self._backlog, self._own_at = Backlog(), math.nan
        self._cores = [Rate() for _ in psutil.cpu_times(percpu=True)]
        known = [*host.METRICS, *process.METRICS]
        self.metrics: Sequence[Metric] = (
            *(
                replace(metric, source=SOURCES[metric.name], help=_ALONE.get(metric.name, metric.help))
                for metric in known
                if metric.name in SOURCES
            ),
            *(core_metric(number, EACH_CPU) for number in range(len(self._cores))),
        )
        self._readers: Mapping[str, Callable[[], Mapping[str, float]]] = {
            "psutil.cpu_times": self._read_cpu,
            EACH_CPU: self._read_each_cpu,
            "psutil.virtual_memory": _read_ram,
            "psutil.swap_memory": _read_swap,
            "psutil.disk_usage": _read_disk,
            "process CPU clock": self._read_own_cpu,
            "psutil.Process.memory_info": self._read_own_ram,
        }
        self.errors: Mapping[str, str] = {}
        """Why numbers are missing, by column."""

    def collect(self) -> Mapping[str, float]:
        """Return a value for each column; shares of CPU time are NaN in the first reading.

        If a source cannot be read, only its own columns are missing. Raises OSError if nothing can be read.
        """
        values: dict[str, float] = {}
        errors: dict[str, str] = {}
        for source, read in self._readers.items():
            try:
                for name, value in read().items():
                    values[name], reason = checked(unit_of(name), float(value))
                    if reason:
                        errors[name] = reason
            except Exception as error:  # noqa: BLE001 - psutil has error classes of its own
                reason = str(error) or type(error).__name__
                errors.update({metric.name: reason for metric in self.metrics if metric.source == source})
        self.errors = errors
        if not values:
            raise OSError(f"nothing can be read: {min(errors.values())}")
        return values

    def _read_cpu(self) -> Mapping[str, float]:
        return {"cpu_percent": 100 * _busy_share(self._cpu, psutil.cpu_times())}

    def _read_each_cpu(self) -> Mapping[str, float]:
        now = psutil.cpu_times(percpu=True)
        if len(now) != len(self._cores):
            raise OSError(f"{len(now)} of {len(self._cores)} CPUs are online, and psutil does not say which")
        return {
            f"core{number}/cpu_percent": 100 * _busy_share(rate, times)
            for number, (rate, times) in enumerate(zip(self._cores, now, strict=True))
        }

    def _read_own_cpu(self) -> Mapping[str, float]:
        seconds, clock = time.process_time(), time.monotonic()
        passed, self._own_at = clock - self._own_at, clock
        busy = self._own.update(seconds, clock)
        return {"process_cpu_percent": self._backlog.percent(busy, passed, len(allowed_cpus()))}

    def _read_own_ram(self) -> Mapping[str, float]:
        return {"process_ram_bytes": psutil.Process().memory_info().rss}


def _read_ram() -> Mapping[str, float]:
    memory = psutil.virtual_memory()
    return {
        "ram_percent": memory.percent,
        "ram_used_bytes": memory.total - memory.available,
        "ram_limit_bytes": memory.total,
    }


def _read_swap() -> Mapping[str, float]:
    swap = psutil.swap_memory()
    return {
        "swap_percent": 100 * swap.used / swap.total if swap.total else math.nan,
        "swap_used_bytes": swap.used,
        "swap_limit_bytes": swap.total,
    }


def _read_disk() -> Mapping[str, float]:
    disk = psutil.disk_usage(".")
    return {
        "disk_percent": 100 * disk.used / (disk.used + disk.free),
        "disk_used_bytes": disk.used,
        "disk_limit_bytes": disk.used + disk.free,
    }


def _busy_share(rate: Rate, times: tuple[float, ...]) -> float:
    """Return the busy share of the CPU time since the last call, from psutil's named times."""
    by_name = times._asdict()  # type: ignore[attr-defined]  # psutil's named tuples differ by system
    waiting = by_name.pop("idle") + by_name.pop("iowait", 0.0)
    # Guest time is contained in user time. The busy times are added up, since the difference of total and
    # idle time would shrink by rounding on an idle CPU.
    busy = sum(value for name, value in by_name.items() if not name.startswith("guest"))
    return rate.update(busy, busy + waiting)
