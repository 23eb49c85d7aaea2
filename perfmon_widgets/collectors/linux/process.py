"""ProcessCollector: what this process and its descendants use together, one number for each column."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from perfmon_widgets.collectors.linux.jupyterhub import capacity
from perfmon_widgets.collectors.linux.limits import Allowed, Limits
from perfmon_widgets.collectors.linux.peak import Peak
from perfmon_widgets.collectors.linux.processes import PROC, own_number
from perfmon_widgets.collectors.linux.traffic import Traffic
from perfmon_widgets.collectors.linux.tree import Tree
from perfmon_widgets.collectors.rate import Backlog
from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.metrics import Metric

METRICS = (
    Metric(
        name="process_cpu_percent",
        unit="percent",
        group="process",
        label="CPU of this process",
        role="headline",
        help="CPU time of this process and its descendants, of all that it may use.",
        source="process CPU clock; /proc/<child>/stat",
    ),
    Metric(
        name="process_ram_bytes",
        unit="bytes",
        group="process",
        label="RAM of this process",
        role="headline",
        help="Memory of this process and its descendants; pages that they share count once.",
        source="/proc/self/statm, HugetlbPages in status; /proc/<child>/stat, statm and samples of pagemap",
    ),
    Metric(
        name="process_ram_peak_bytes",
        unit="bytes",
        group="process",
        label="peak RAM of this process",
        help="The most memory since the sample before; also between the two, if it is the most so far.",
        source="getrusage or VmHWM in /proc/<pid>/status for this process; its descendants as sampled",
    ),
    Metric(
        name="process_read_bytes_per_second",
        unit="bytes_per_second",
        group="process",
        label="read by this process",
        help="Read from disks by this process and its descendants.",
        source="/proc/self/io; /proc/<child>/io",
    ),
    Metric(
        name="process_write_bytes_per_second",
        unit="bytes_per_second",
        group="process",
        label="written by this process",
        help="Written to disks by this process and its descendants.",
        source="/proc/self/io; /proc/<child>/io",
    ),
)

_TRAFFIC = tuple(metric.name for metric in METRICS if metric.unit == "bytes_per_second")
_ENDED = "the process has ended"


class ProcessCollector:
    """CPU time, memory and disk traffic of this process, or of another one (``root``), and its descendants.

    The CPU share is of what this process may use by its ``limits``, which default to those found in ``proc``.
    In a forked child it is about the child. Raises OSError without /proc, or if there is no such process.
    """

    def __init__(self, proc: Path = PROC, root: int | None = None, *, limits: Limits | None = None) -> None:
        self._limits = limits or Limits(proc, root)
        self._proc = proc
        self._other = root
        self._open()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Open the files of the forked child before the next reading; most children never read."""
        self._forked = True

    def _open(self) -> None:
        """Begin with the process as it is now."""
        self._forked = False
        root = own_number(self._proc) if self._other is None else self._other
        self._tree = Tree(root, self._proc)
        self._peak: Peak | None = None
        self._traffic: Traffic | None = None
        self._uncounted: dict[str, str] = {}
        try:
            self._traffic = Traffic(self._tree)
        except OSError as error:
            self._uncounted = dict.fromkeys(_TRAFFIC, f"the OS kernel does not count this ({error})")
        try:
            self._peak = Peak(self._tree.folder, is_this_process=self._tree.is_this_process)
        except OSError as error:
            self._uncounted["process_ram_peak_bytes"] = f"the OS kernel does not count this ({error})"
        self.errors = dict(self._uncounted)
        self._backlog = Backlog()
        self._refresh(self._limits.now())

    def _refresh(self, allowed: Allowed) -> None:
        """Use these limits from now on, and update the sources in ``metrics``."""
        self._allowed = allowed
        self._capacity, why = capacity(allowed)
        self.metrics: Sequence[Metric] = tuple(
            replace(
                metric, source=f"{metric.source}; of {self._capacity:g} CPUs ({why})", whole=self._capacity
            )
            if metric.unit == "percent"
            else metric
            for metric in METRICS
        )

    def members(self) -> Collection[int]:
        """Return the descendants as of the last reading, by their number in /proc; for any thread.

        They include those whose parent has ended, which no search from a parent to its children finds.
        """
        return tuple(self._tree.members)

    def collect(self) -> Mapping[str, float]:
        """Return a value for each column; rates are NaN in the first reading.

        Raises OSError if the process has ended.
        """
        if self._forked:
            self._limits.expire()
            self._open()
        allowed = self._limits.now()
        if allowed is not self._allowed:
            self._refresh(allowed)
        try:
            busy, memory = self._tree.read()
        except OSError as error:
            self.errors = dict.fromkeys((metric.name for metric in METRICS), str(error))
            raise
        self.errors = dict(self._uncounted)
        share = self._backlog.percent(busy, self._tree.passed, self._capacity)
        values = {"process_cpu_percent": share, "process_ram_bytes": memory}
        if self._peak is not None:
            resident = self._tree.memory.resident
            values["process_ram_peak_bytes"] = memory + self._peak.read(resident) - resident
        if not memory:  # another process that has ended, and whose parent has not yet waited for it
            for name in ("process_ram_bytes", "process_ram_peak_bytes"):
                values[name] = math.nan
                self.errors[name] = _ENDED
        values.update(self._read_traffic())
        return values

    def _read_traffic(self) -> dict[str, float]:
        """Return bytes read and written per second; nothing where they are not counted or not permitted."""
        if self._traffic is None:
            return {}
        try:
            return dict(zip(_TRAFFIC, self._traffic.read(), strict=True))
        except PermissionError as error:  # the process now belongs to another user (sudo)
            self.errors.update(dict.fromkeys(_TRAFFIC, f"not permitted to this user ({error})"))
            return {}
