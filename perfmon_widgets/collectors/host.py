"""CPU, RAM, swap and disk that the model may use, read from Linux's own counters."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from perfmon_widgets.collectors import scope
from perfmon_widgets.collectors.rate import Rate
from perfmon_widgets.collectors.system_file import SystemFile
from perfmon_widgets.metrics import Metric

SYS = Path("/sys")

L = TypeVar("L")
R = TypeVar("R")

# Limits and affinity change while a program runs, but seldom: read again after this many seconds.
_LIMITS_EVERY = 10.0
# The unit in which the OS kernel counts disk traffic, whatever the device's own sectors are.
_SECTOR = 512

METRICS = (
    Metric("cpu_percent", "percent", "cpu", "Busy share of the CPU time that this kernel may use."),
    Metric("ram_percent", "percent", "memory", "Memory in use, against the tightest limit on it."),
    Metric(
        "ram_used_bytes",
        "bytes",
        "memory",
        "Memory in use that cannot be given back at once.",
        limit="ram_limit_bytes",
    ),
    Metric("ram_limit_bytes", "bytes", "memory", "The tightest limit on memory: machine or container."),
    Metric("swap_percent", "percent", "memory", "Swap space in use.", source="/proc/meminfo"),
    Metric("swap_used_bytes", "bytes", "memory", "Swap space in use.", "swap_limit_bytes", "/proc/meminfo"),
    Metric("swap_limit_bytes", "bytes", "memory", "Size of the swap space.", source="/proc/meminfo"),
    Metric("disk_percent", "percent", "disk", "Space in use where the working directory lies, as df counts."),
    Metric("disk_used_bytes", "bytes", "disk", "Space in use.", "disk_limit_bytes"),
    Metric("disk_limit_bytes", "bytes", "disk", "Space that is used or free for an ordinary user."),
    Metric("disk_read_bytes_per_second", "bytes_per_second", "disk", "Read from the disk underneath."),
    Metric("disk_write_bytes_per_second", "bytes_per_second", "disk", "Written to the disk underneath."),
)


class HostCollector:
    """CPU, RAM, swap and disk of the scope: what this process may use of the machine.

    CPU is the busy time of the allowed CPUs from /proc/stat, or the container's CPU time against its quota;
    RAM is MemTotal − MemAvailable as ``free`` prints it, or the container's working set against its limit.
    Raises OSError where there is no /proc of Linux.
    """

    def __init__(self, proc: Path = scope.PROC, sys: Path = SYS) -> None:
        self._proc, self._sys = proc, sys
        self._stat = SystemFile(proc / "stat")
        self._meminfo = SystemFile(proc / "meminfo")
        self._cores = {number: Rate() for number in scope.cpus()}
        self._cpu = Rate()
        self._quota: scope.CpuQuota | None = None
        self._quota_usage: SystemFile | None = None
        self._memory: scope.MemoryLimit | None = None
        self._working_set: scope.WorkingSet | None = None
        self._limits_at = -math.inf
        self._device = -1
        self._device_statistics: SystemFile | None = None
        self._read, self._written = Rate(), Rate()
        self._reasons: dict[str, str] = {}  # by column: it cannot be had
        self._failed: dict[str, str] = {}  # by group: it could not be read this time
        self._allowed: frozenset[int] = frozenset()
        self._found: tuple[frozenset[int], scope.CpuQuota | None] | None = None  # readable or not
        core = Metric("cpu_percent", "percent", "cpu", "Busy share of this CPU's time.", source="/proc/stat")
        self._static = (*METRICS, *(replace(core, name=f"core{n}/cpu_percent") for n in self._cores))
        self.metrics: Sequence[Metric] = self._static
        self._limits(time.monotonic())

    def collect(self) -> Mapping[str, float]:
        """One reading of every column; rates and shares are NaN in the first."""
        now = time.monotonic()
        if now - self._limits_at >= _LIMITS_EVERY:
            self._limits(now)
        values: dict[str, float] = {}
        for group, part in (
            ("cpu", self._collect_cpu),
            ("memory", self._collect_memory),
            ("disk", self._collect_disk),
        ):
            try:
                part(values)
            except OSError as error:  # a dead file server, a control group that was removed
                self._failed[group] = str(error)
                self._limits_at = -math.inf
            else:
                self._failed.pop(group, None)
        return values

    @property
    def errors(self) -> dict[str, str]:
        """By column, why a number is missing now."""
        failed = dict(self._failed)  # it may change meanwhile
        return {
            **self._reasons,
            **{metric.name: failed[metric.group] for metric in self.metrics if metric.group in failed},
        }

    def _limits(self, now: float) -> None:
        """Read the limits again, and say in the metrics where each comes from."""
        self._limits_at = now
        allowed = frozenset(scope.cpus())
        quota = scope.cpu_quota(self._proc)
        if quota is not None and quota.cpus >= len(allowed):
            quota = None  # the CPUs themselves are the tighter limit
        if (allowed, quota) != self._found:
            self._cpu = Rate()  # another counter from here on: its first reading has no past
            self._found, self._allowed = (allowed, quota), allowed
            self._quota, self._quota_usage = _readable(quota, lambda quota: quota.counter())
        memory = scope.memory_limit(self._proc)
        if memory is not None and memory.limit >= _bytes(self._meminfo.read(), b"MemTotal:"):
            memory = None
        if memory != self._memory:
            self._memory, self._working_set = _readable(memory, lambda memory: memory.usage())
        self._name_sources()

    def _name_sources(self) -> None:
        cpu = self._quota.source if self._quota else f"{self._proc}/stat, {len(self._allowed)} CPUs"
        ram = self._memory.source if self._memory else f"{self._proc}/meminfo"
        sources = {"cpu_percent": cpu, "ram_percent": ram, "ram_used_bytes": ram, "ram_limit_bytes": ram}
        self.metrics = tuple(
            replace(metric, source=sources[metric.name]) if metric.name in sources else metric
            for metric in self._static
        )

    def _collect_cpu(self, values: dict[str, float]) -> None:
        content = self._stat.read()
        clock = time.monotonic()
        busy_all = total_all = 0
        for line in content[: content.find(b"\nintr")].split(b"\n")[1:]:
            name, *fields = line.split(None, 9)
            number = int(name[3:])
            rate = self._cores.get(number)
            if rate is None and number not in self._allowed:
                continue
            # Guest time, in the fields after these eight, is contained in the first two.
            user, nice, system, idle, waiting, interrupt, soft_interrupt, stolen = map(int, fields[:8])
            busy = user + nice + system + interrupt + soft_interrupt + stolen
            total = busy + idle + waiting
            if rate is not None:
                values[f"core{number}/cpu_percent"] = 100 * rate.update(busy, total)
            if number in self._allowed:
                busy_all += busy
                total_all += total
        if self._quota is None or self._quota_usage is None:
            values["cpu_percent"] = 100 * self._cpu.update(busy_all, total_all)
            return
        values["cpu_percent"] = (
            100 * self._cpu.update(_cpu_seconds(self._quota_usage.read()), clock) / self._quota.cpus
        )

    def _collect_memory(self, values: dict[str, float]) -> None:
        content = self._meminfo.read()
        if self._memory is not None and self._working_set is not None:
            limit, used = float(self._memory.limit), self._working_set.read()
        else:
            limit = _bytes(content, b"MemTotal:")
            used = limit - _bytes(content, b"MemAvailable:")
            if used < 0:  # where a container shows its own total beside the machine's rest (lxcfs)
                used = limit - _bytes(content, b"MemFree:")
        values["ram_used_bytes"] = used
        values["ram_limit_bytes"] = limit
        values["ram_percent"] = 100 * used / limit
        swap = _bytes(content, b"SwapTotal:")
        used = swap - _bytes(content, b"SwapFree:")
        values["swap_used_bytes"] = used
        values["swap_limit_bytes"] = swap
        if swap:
            values["swap_percent"] = 100 * used / swap
            self._reasons.pop("swap_percent", None)
        else:
            self._reasons["swap_percent"] = "this machine has no swap space"

    def _collect_disk(self, values: dict[str, float]) -> None:
        space = os.statvfs(".")
        used = float(space.f_blocks - space.f_bfree) * space.f_frsize
        limit = used + float(space.f_bavail) * space.f_frsize
        values["disk_used_bytes"] = used
        values["disk_limit_bytes"] = limit
        if limit:  # file systems that exist only in memory may have no size
            values["disk_percent"] = 100 * used / limit
        device = os.stat(".").st_dev  # noqa: PTH116 - a Path would cost ten times as much
        if device != self._device:
            self._device = device
            self._open_device(device)
        if self._device_statistics is not None:
            fields = self._device_statistics.read().split(None, 7)
            clock = time.monotonic()
            values["disk_read_bytes_per_second"] = self._read.update(int(fields[2]) * _SECTOR, clock)
            values["disk_write_bytes_per_second"] = self._written.update(int(fields[6]) * _SECTOR, clock)

    def _open_device(self, device: int) -> None:
        """Find the counters of the disk below the working directory."""
        self._read, self._written = Rate(), Rate()
        self._device_statistics = None
        names = ("disk_read_bytes_per_second", "disk_write_bytes_per_second")
        try:
            block = f"{os.major(device)}:{os.minor(device)}"
            if os.major(device) == 0:
                block = _device_behind(self._proc, block)
            self._device_statistics = SystemFile(self._sys / "dev" / "block" / block / "stat")
        except OSError as error:
            reason = f"no disk counters for the file system of the working directory ({error})"
            self._reasons.update(dict.fromkeys(names, reason))
        else:
            for name in names:
                self._reasons.pop(name, None)


def _device_behind(proc: Path, anonymous: str) -> str:
    """The block device ``major:minor`` that a file system without a number of its own (btrfs) lies on.

    Raises OSError where there is none: overlays, network and memory file systems.
    """
    mount = _mount_of_working_directory(proc)
    # From the end, since the mounts made last lie above the others.
    for line in reversed((proc / "self" / "mountinfo").read_text().splitlines()):
        head, _, tail = line.partition(" - ")
        kind, source, _ = tail.split(" ", 2)
        found, _, device = head.split()[:3]
        if mount == found if mount else device == anonymous:
            if source.startswith("/dev/"):
                number = Path(source).stat().st_rdev
                return f"{os.major(number)}:{os.minor(number)}"
            raise FileNotFoundError(f"{kind} has no block device")
    raise FileNotFoundError(f"device {anonymous} is not in mountinfo")


def _mount_of_working_directory(proc: Path) -> str | None:
    """The number of its mount; btrfs shows another device number in mountinfo than stat does."""
    directory = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        text = (proc / "self" / "fdinfo" / str(directory)).read_text()
    except OSError:
        return None
    finally:
        os.close(directory)
    return next((line.split()[1] for line in text.splitlines() if line.startswith("mnt_id:")), None)


def _readable(limit: L | None, reader: Callable[[L], R]) -> tuple[L, R] | tuple[None, None]:
    """A limit and what its use is read from; neither if that cannot be opened (sandboxes hide files)."""
    if limit is None:
        return None, None
    try:
        return limit, reader(limit)
    except OSError:
        return None, None


def _cpu_seconds(content: bytes) -> float:
    """The CPU time of a control group: ``cpu.stat`` counts µs beside a name, ``cpuacct.usage`` bare ns."""
    if content.startswith(b"usage_usec"):
        return int(content.split(None, 2)[1]) / 1e6
    return int(content) / 1e9


def _bytes(meminfo: bytes, name: bytes) -> float:
    """A line of /proc/meminfo, which counts in KiB, as bytes."""
    start = meminfo.index(name) + len(name)
    return float(meminfo[start : meminfo.index(b"kB", start)]) * 1024
