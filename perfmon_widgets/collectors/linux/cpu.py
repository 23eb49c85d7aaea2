"""CPU time: how busy the CPUs of this process are, and how often its quota throttles it."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from perfmon_widgets.clocks import time
from perfmon_widgets.collectors.linux import jupyterhub
from perfmon_widgets.collectors.linux.limits import Allowed, CpuQuota
from perfmon_widgets.collectors.linux.system_file import SystemFile
from perfmon_widgets.collectors.linux.tree import Tree
from perfmon_widgets.collectors.rate import Rate, percent
from perfmon_widgets.metrics import Metric

_SHARE = Metric(
    name="cpu_percent",
    unit="percent",
    group="cpu",
    label="CPU",
    role="headline",
    help="Busy share of the CPU time that this process may use: of its CPUs, or of its CPU quota if that is"
    " less.",
    source="/proc/stat over the CPUs in the affinity; with a CPU quota, the CPU time of its control group",
)
_HOST = Metric(
    name="host_cpu_percent",
    unit="percent",
    group="cpu",
    label="CPU of the machine",
    help="Busy share of all CPUs of the machine; only where this process may not use them all.",
    source="/proc/stat",
)
_THROTTLED = Metric(
    name="cpu_throttled_percent",
    unit="percent",
    group="cpu",
    label="throttled by the CPU quota",
    help="Share of the CPU quota's periods in which it was used up and the container had to wait; only where"
    " there is a quota.",
    source="cpu.stat of the control group with the quota",
)
METRICS = (_SHARE,)
OPTIONAL_METRICS = (_HOST, _THROTTLED)


def core_metric(number: int, source: str = "/proc/stat") -> Metric:
    """Return the column of one CPU."""
    return Metric(
        name=f"core{number}/cpu_percent",
        unit="percent",
        group="cpu",
        label=f"core {number}",
        role="part",
        help="Busy share of this CPU's time.",
        source=source,
    )


class Cpu:
    """The CPU columns of HostCollector.

    ``cpu_percent`` is the busy time of the allowed CPUs from /proc/stat. Where a quota allows less than these
    have, it is the CPU time of the control group that carries the quota, against the quota.
    ``host_cpu_percent`` and ``cpu_throttled_percent`` exist if this process may use less than the machine,
    or has a quota, when this is made. Raises OSError if there is no /proc/stat.
    """

    def __init__(self, proc: Path, allowed: Allowed, environment: Mapping[str, str] = os.environ) -> None:
        self._proc, self._environment = proc, environment
        self._stat = SystemFile(proc / "stat")
        self._find_lines()
        self._allowed = self._find_allowed(allowed)
        numbers = sorted(int(name[3:]) for name in self._allowed)
        self._cores = {b"cpu%d" % n: (f"core{n}/cpu_percent", Rate()) for n in numbers}
        self._busy, self._host, self._throttled = Rate(), Rate(), Rate()
        self._online = 0  # how many of the allowed CPUs the last reading had
        self._total: int | None = None  # the time of the allowed CPUs in the last reading, in clock ticks
        self._explained_at: int | None = None  # the same, when reasons were last given
        self._quota: CpuQuota | None = None
        self._unseen = ""
        self._used: Callable[[], float] | None = None
        self._capacity = 1.0  # the CPUs of the quota, or all of what the allowed CPUs count
        self._statistics: SystemFile | None = None
        self.errors: dict[str, str] = {}
        self.metrics: Sequence[Metric] = ()
        self.refresh(allowed)
        self._columns = [_SHARE]
        if self._used is not None or len(self._cores) < len(self._listed):
            self._columns.append(_HOST)
        if self._statistics is not None:
            self._columns.append(_THROTTLED)
        self._columns += map(core_metric, numbers)
        self._names = {metric.name for metric in self._columns}
        self._describe()

    def refresh(self, allowed: Allowed) -> None:
        """Use these limits from now on, and update the sources in ``metrics``."""
        self._find_lines()
        cpus, quota = self._find_allowed(allowed), self._find_quota(allowed)
        if cpus != self._allowed or quota != self._quota:
            self._busy = Rate()  # the counter is another one now: its first reading gives no rate
        self._allowed, self._counted = cpus, self._lines_of(cpus)
        self._unseen = allowed.quota_unseen
        if quota != self._quota:
            self._quota = quota
            self._open(quota)
        if self.metrics:
            self._describe()

    def _find_lines(self) -> None:
        """Find which CPUs are online, and where in /proc/stat the fields of each stand.

        Raises OSError if there are none.
        """
        # One line for all CPUs, then one for each that is online. The latter may have more fields, where a
        # program like lxcfs writes the first. The lines behind them are long, and are not split.
        lines = self._stat.read().split(b"\n")
        names = [line.split(None, 1)[0] for line in lines[1:] if line.startswith(b"cpu")]
        if not names:
            raise _empty(self._stat)
        self._listed = frozenset(names)
        self._start, self._width = len(lines[0].split()), len(lines[1].split())
        most = max(int(names[-1][3:]) + 1, os.sysconf("SC_NPROCESSORS_CONF"))  # including those offline
        self._end = self._start + self._width * most

    def _find_allowed(self, allowed: Allowed) -> frozenset[bytes]:
        """Return the names in /proc/stat of the CPUs that this process may use.

        A /proc/stat that lacks some of them was made for this container (lxcfs) and numbers its CPUs from 0:
        then all of its CPUs are allowed.
        """
        cpus = frozenset(b"cpu%d" % number for number in allowed.cpus)
        return cpus if cpus <= self._listed else self._listed

    def _lines_of(self, allowed: frozenset[bytes]) -> dict[bytes, tuple[str, Rate, bool]]:
        """Map each line to its column (or "") with its rate, and to whether it counts for ``cpu_percent``."""
        none = "", Rate()
        return {
            name: (*self._cores.get(name, none), name in allowed) for name in allowed | self._cores.keys()
        }

    def _find_quota(self, allowed: Allowed) -> CpuQuota | None:
        """Return the quota, if it allows less than the CPUs have."""
        quota = allowed.quota
        if quota is None:
            quota = CpuQuota(jupyterhub.limit(jupyterhub.CPU, self._environment), jupyterhub.CPU, usage=None)
        return quota if quota.cpus < len(allowed.cpus) else None

    def _open(self, quota: CpuQuota | None) -> None:
        """Open what counts the CPU time that the quota limits, and its throttled periods."""
        self._used = self._statistics = None
        self._capacity = 1.0
        self._throttled = Rate()
        if quota is None:
            return
        try:
            if quota.source == jupyterhub.CPU:
                server = jupyterhub.server(jupyterhub.CPU, self._proc, self._environment)
                tree = Tree(server, self._proc)
                self._used = lambda: tree.read()[0]
            else:
                usage = quota.counter()
                self._used = lambda: self._busy.update(_cpu_seconds(usage.read()), time.monotonic())
            if quota.statistics is not None:
                statistics = SystemFile(quota.statistics)
                self._statistics = statistics if b"nr_periods" in statistics.read() else None
        except OSError:
            pass  # without a counter, cpu_percent is the share of the CPUs themselves
        if self._used is not None:
            self._capacity = quota.cpus

    def _describe(self) -> None:
        stat = f"{self._proc}/stat"
        if self._quota is None or self._used is None:
            used = f"{stat}, {len(self._allowed)} CPUs"
            if self._unseen:
                used += f"; a CPU quota may be hidden: {self._unseen}"
        elif self._quota.source != jupyterhub.CPU:
            used = f"{self._quota.usage} against {self._quota.source}"
        else:
            used = f"processes of the notebook server against {self._quota.source}"
        throttled = str(self._statistics.path) if self._statistics is not None else ""
        sources = {_SHARE.name: used, _THROTTLED.name: throttled}
        self.metrics = tuple(
            replace(metric, source=sources.get(metric.name, stat)) for metric in self._columns
        )

    def collect(self) -> dict[str, float]:
        """Return a value in percent for each column, NaN in the first reading.

        Raises OSError if /proc/stat, or the control group with the quota, cannot be read.
        """
        content = self._stat.read()
        if not content:
            raise _empty(self._stat)
        values: dict[str, float] = {}
        busy_allowed = total_allowed = online = 0
        fields = content.split(None, self._end)
        for start in range(self._start, min(self._end, len(fields)), self._width):
            if fields[start] not in self._counted:
                continue
            column, rate, allowed = self._counted[fields[start]]
            busy, total = _times(fields, start)
            if column:
                values[column] = percent(rate.update(busy, total), 1.0)
            if allowed:
                busy_allowed += busy
                total_allowed += total
                online += 1
        if online != self._online or not online:
            self._reset(online)
        if _HOST.name in self._names:
            share = self._host.update(*_times(fields, 0))
            values[_HOST.name] = percent(share, 1.0)
        share = self._busy.update(busy_allowed, total_allowed) if self._used is None else self._used()
        values[_SHARE.name] = percent(share, self._capacity)
        if _THROTTLED.name in self._names:
            self._collect_throttled(values)
        before, self._total = self._total, total_allowed
        # A sum is NaN if one of its numbers is. While the clock stands still, nothing changes.
        if total_allowed != self._explained_at and (
            self.errors or len(values) < len(self._names) or math.isnan(sum(values.values()))
        ):
            self._explain(values, before)
        return values

    def _explain(self, values: Mapping[str, float], before: int | None) -> None:
        """Give a reason for each missing number, except in the first reading, and clear what is outdated.

        ``before`` is the time of the allowed CPUs in the last reading.
        """
        missing = {name for name in self._names if math.isnan(values.get(name, math.nan))}
        for name in self._names - missing:
            self.errors.pop(name, None)
        if before is None:
            return
        self._explained_at = self._total
        if not self._total:
            reason = f"{self._stat.path} counts no CPU time here: every number is 0"
        elif self._total == before:
            reason = f"no CPU time was counted in {self._stat.path} since the last reading"
        else:
            reason = "a counter began anew; the next reading has a number again"
        for name in missing - {_THROTTLED.name}:
            self.errors[name] = reason if name in values else "this CPU is switched off"

    def _reset(self, online: int) -> None:
        """Reset the rate when CPUs go on or off line: the sum of their counters jumps."""
        self._online, self._busy = online, Rate()
        if not online:
            self._find_lines()  # the fields have moved, or there are other CPUs now

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
    return OSError(errno.ENODATA, f"{file.path} lists no CPU")


def _times(fields: list[bytes], start: int) -> tuple[int, int]:
    """Return the busy and the total time of a line of /proc/stat, in clock ticks."""
    # Guest time, in the fields behind these eight, is contained in the first two.
    user, nice, system, idle, waiting, interrupt, soft_interrupt, stolen = map(
        int, fields[start + 1 : start + 9]
    )
    busy = user + nice + system + interrupt + soft_interrupt + stolen
    return busy, busy + idle + waiting


def _cpu_seconds(content: bytes) -> float:
    """Return the CPU time of a group, from ``cpu.stat`` (a name, then µs) or ``cpuacct.usage`` (ns)."""
    if content.startswith(b"usage_usec"):
        return int(content.split(None, 2)[1]) / 1e6
    return int(content) / 1e9
