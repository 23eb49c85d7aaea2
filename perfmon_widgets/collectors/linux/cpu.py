"""CPU time: how busy the CPUs are that this process may use, and how often a quota stops it."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from perfmon_widgets.collectors.linux import jupyterhub as hub
from perfmon_widgets.collectors.linux import limits as scope
from perfmon_widgets.collectors.linux.system_file import ShortFile, SystemFile
from perfmon_widgets.collectors.linux.tree import Tree
from perfmon_widgets.collectors.rate import Rate
from perfmon_widgets.metrics import Metric

_SHARE = Metric("cpu_percent", "percent", "cpu", "Busy share of the CPU time that this kernel may use.")
_CORE = Metric("cpu_percent", "percent", "cpu", "Busy share of this CPU's time.")
_HOST = Metric("host_cpu_percent", "percent", "cpu", "Busy share of all CPUs of the machine.")
_THROTTLED = Metric(
    "cpu_throttled_percent",
    "percent",
    "cpu",
    "Share of the quota's periods in which it was used up and the container had to wait.",
)
METRICS = (_SHARE,)
OPTIONAL_METRICS = (_HOST, _THROTTLED)


class Cpu:
    """The CPU columns of HostCollector.

    ``cpu_percent`` is the busy time of the allowed CPUs from /proc/stat; where a quota allows less than they
    have, it is the CPU time of the control group that carries it, against the quota. ``host_cpu_percent`` is
    there if this process may use less than the machine when this is made, ``cpu_throttled_percent`` if a
    quota says so. Raises OSError if there is no /proc/stat.
    """

    def __init__(
        self, proc: Path, allowed: scope.Allowed, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._proc, self._environment = proc, environment
        self._stat = ShortFile(proc / "stat", proc)
        self._find_lines()
        self._allowed = self._find_allowed(allowed)
        numbers = sorted(int(name[3:]) for name in self._allowed)
        self._cores = {b"cpu%d" % n: (f"core{n}/cpu_percent", Rate()) for n in numbers}
        self._busy, self._host, self._throttled = Rate(), Rate(), Rate()
        self._on_line = 0  # how many of the allowed ones the last reading had
        self._quota: scope.CpuQuota | None = None
        self._used: Callable[[], float] | None = None
        self._statistics: SystemFile | None = None
        self.errors: dict[str, str] = {}
        self.metrics: Sequence[Metric] = ()
        self.refresh(allowed)
        self._columns = [_SHARE]
        if self._used is not None or len(self._cores) < len(self._listed):
            self._columns.append(_HOST)
        if self._statistics is not None:
            self._columns.append(_THROTTLED)
        self._columns += [replace(_CORE, name=name) for name, _ in self._cores.values()]
        self._names = {metric.name for metric in self._columns}
        self._describe()

    def refresh(self, allowed: scope.Allowed) -> None:
        """Go by other limits from here on, and say in the metrics where each comes from."""
        self._find_lines()
        cpus, quota = self._find_allowed(allowed), self._find_quota(allowed)
        if cpus != self._allowed or quota != self._quota:
            self._busy = Rate()  # another counter from here on: its first reading has no past
        self._allowed, self._counted = cpus, self._lines_of(cpus)
        if quota != self._quota:
            self._quota = quota
            self._open(quota)
        if self.metrics:
            self._describe()

    def _find_lines(self) -> None:
        """See which CPUs are on line, and where in /proc/stat the fields of each stand.

        Raises OSError if there are none.
        """
        # One line for all CPUs, then one for each that is on line (which may have more fields than the first,
        # where a program like lxcfs writes that one). What follows is long.
        lines = self._stat.read().split(b"\n")
        names = [line.split(None, 1)[0] for line in lines[1:] if line.startswith(b"cpu")]
        if not names:
            raise _empty(self._stat)
        self._listed = frozenset(names)
        self._start, self._width = len(lines[0].split()), len(lines[1].split())
        most = max(int(names[-1][3:]) + 1, os.sysconf("SC_NPROCESSORS_CONF"))  # with those that are off line
        self._end = self._start + self._width * most

    def _find_allowed(self, allowed: scope.Allowed) -> frozenset[bytes]:
        """Which of the CPUs that /proc/stat lists this process may use, by their names there.

        A list without some of them was made for this container (lxcfs) and counts anew from 0: all of it.
        """
        cpus = frozenset(b"cpu%d" % number for number in allowed.cpus)
        return cpus if cpus <= self._listed else self._listed

    def _lines_of(self, allowed: frozenset[bytes]) -> dict[bytes, tuple[str, Rate, bool]]:
        """What each line tells: a column (or none) with its rate, and whether it is a part of the scope."""
        none = "", Rate()
        return {
            name: (*self._cores.get(name, none), name in allowed) for name in allowed | self._cores.keys()
        }

    def _find_quota(self, allowed: scope.Allowed) -> scope.CpuQuota | None:
        """The quota, if it is less than the CPUs have, and if what is used of it is counted."""
        quota = allowed.quota
        if quota is None:
            quota = scope.CpuQuota(hub.limit(hub.CPU, self._environment), hub.CPU, None)
        return quota if quota.cpus < len(allowed.cpus) else None

    def _open(self, quota: scope.CpuQuota | None) -> None:
        """Find what counts how much of the quota is used, and how often it is used up."""
        self._used = self._statistics = None
        self._throttled = Rate()
        if quota is None:
            return
        try:
            if quota.source == hub.CPU:
                tree = Tree(hub.server(hub.CPU, self._proc, self._environment), self._proc)
                self._used = lambda: tree.read()[0]
            else:
                usage = quota.counter()
                self._used = lambda: self._busy.update(_cpu_seconds(usage.read()), time.monotonic())
            if quota.statistics is not None:
                statistics = SystemFile(quota.statistics)
                self._statistics = statistics if b"nr_periods" in statistics.read() else None
        except OSError:
            pass  # without a counter the share is that of the CPUs themselves

    def _describe(self) -> None:
        stat = f"{self._proc}/stat"
        if self._quota is None or self._used is None:
            used = f"{stat}, {len(self._allowed)} CPUs"
        elif self._quota.source != hub.CPU:
            used = f"{self._quota.usage} against {self._quota.source}"
        else:
            used = f"processes of the notebook server against {self._quota.source}"
        throttled = str(self._statistics.path) if self._statistics is not None else ""
        sources = {_SHARE.name: used, _THROTTLED.name: throttled}
        self.metrics = tuple(
            replace(metric, source=sources.get(metric.name, stat)) for metric in self._columns
        )

    def collect(self) -> dict[str, float]:
        """One reading of its columns in percent; NaN in the first."""
        content = self._stat.read()
        if not content:
            raise _empty(self._stat)
        values: dict[str, float] = {}
        busy_allowed = total_allowed = on_line = 0
        fields = content.split(None, self._end)
        for start in range(self._start, min(self._end, len(fields)), self._width):
            if fields[start] not in self._counted:
                continue
            column, rate, allowed = self._counted[fields[start]]
            busy, total = _times(fields, start)
            if column:
                values[column] = scope.percent(rate.update(busy, total), 1.0)
            if allowed:
                busy_allowed += busy
                total_allowed += total
                on_line += 1
        if on_line != self._on_line or not on_line:
            self._count_anew(on_line)
        if _HOST.name in self._names:
            share = self._host.update(*_times(fields, 0))
            values[_HOST.name] = scope.percent(share, 1.0)
        if self._quota is None or self._used is None:
            share = self._busy.update(busy_allowed, total_allowed)
            values[_SHARE.name] = scope.percent(share, 1.0)
        else:
            values[_SHARE.name] = scope.percent(self._used(), self._quota.cpus)
        if _THROTTLED.name in self._names:
            self._collect_throttled(values)
        return values

    def _count_anew(self, on_line: int) -> None:
        """CPUs came or went: all that one has ever done is no part of a share."""
        self._on_line, self._busy = on_line, Rate()
        if not on_line:
            self._find_lines()  # their fields stand elsewhere now, or there are others

    def _collect_throttled(self, values: dict[str, float]) -> None:
        if self._statistics is None:
            self.errors[_THROTTLED.name] = "the CPU quota was lifted: nothing is throttled any more"
            return
        fields = self._statistics.read().split()
        counts = dict(zip(fields[::2], fields[1::2], strict=True))
        periods, throttled = int(counts[b"nr_periods"]), int(counts[b"nr_throttled"])
        share = values[_THROTTLED.name] = 100 * self._throttled.update(throttled, periods)
        if math.isnan(share):
            self.errors[_THROTTLED.name] = "no period of the CPU quota has passed since the last reading"
        else:
            self.errors.pop(_THROTTLED.name, None)


def _empty(file: SystemFile) -> OSError:
    return OSError(errno.ENODATA, f"{file.path} is empty")


def _times(fields: list[bytes], start: int) -> tuple[int, int]:
    """The busy and the total time that a line of /proc/stat tells, in clock ticks."""
    # Guest time, in the fields after these eight, is contained in the first two.
    user, nice, system, idle, waiting, interrupt, soft_interrupt, stolen = map(
        int, fields[start + 1 : start + 9]
    )
    busy = user + nice + system + interrupt + soft_interrupt + stolen
    return busy, busy + idle + waiting


def _cpu_seconds(content: bytes) -> float:
    """The CPU time of a control group: ``cpu.stat`` counts µs beside a name, ``cpuacct.usage`` bare ns."""
    if content.startswith(b"usage_usec"):
        return int(content.split(None, 2)[1]) / 1e6
    return int(content) / 1e9
