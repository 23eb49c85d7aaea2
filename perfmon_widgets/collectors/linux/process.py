"""This Jupyter kernel's own share of the machine, its children included: one number each, never a list."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from perfmon_widgets.collectors.linux import jupyterhub as hub
from perfmon_widgets.collectors.linux import limits as scope
from perfmon_widgets.collectors.linux.traffic import Traffic
from perfmon_widgets.collectors.linux.tree import Tree
from perfmon_widgets.metrics import Metric

METRICS = (
    Metric(
        "process_cpu_percent",
        "percent",
        "process",
        "CPU time of this kernel and its children, of all that it may use.",
        source="process CPU clock; /proc/<child>/stat",
    ),
    Metric(
        "process_ram_bytes",
        "bytes",
        "process",
        "Memory of this kernel and its children; shared pages count once.",
        source="/proc/self/statm; /proc/<child>/stat, corrected by PSS from smaps_rollup",
    ),
    Metric(
        "process_read_bytes_per_second",
        "bytes_per_second",
        "process",
        "Read from disks by this kernel and its children.",
        source="/proc/self/io; /proc/<child>/io",
    ),
    Metric(
        "process_write_bytes_per_second",
        "bytes_per_second",
        "process",
        "Written to disks by this kernel and its children.",
        source="/proc/self/io; /proc/<child>/io",
    ),
)

_TRAFFIC = tuple(metric.name for metric in METRICS if metric.unit == "bytes_per_second")
_ENDED = "the process has ended"
_ENDED_UNSEEN = "a process that this kernel started has ended where its CPU time is lost; the next row has it"


class ProcessCollector:
    """CPU, memory and disk traffic of this process and its children, or of another one (``root``).

    The share of CPU time is of what this process may use by its ``limits``, which are looked up in ``proc``
    if they are not given. Raises OSError without /proc, or if there is no such process.
    """

    def __init__(
        self, proc: Path = scope.PROC, root: int | None = None, *, limits: scope.Limits | None = None
    ) -> None:
        self.errors: dict[str, str] = {}
        self._limits = limits or scope.Limits(proc)
        self._proc = proc
        self._other = root
        self._open()

    def _open(self) -> None:
        """Begin with this process; a forked child is another one than its parent."""
        self._process = os.getpid()
        root = scope.own_number(self._proc) if self._other is None else self._other
        self._tree = Tree(root, self._proc)
        self._traffic: Traffic | None = None
        try:
            self._traffic = Traffic(self._tree, self._proc)
        except OSError as error:
            self.errors.update(dict.fromkeys(_TRAFFIC, f"the OS kernel does not count this ({error})"))
        self._first = True
        self._refresh(self._limits.now())

    def _refresh(self, allowed: scope.Allowed) -> None:
        """Go by other limits from here on, and say it in the metrics."""
        self._allowed = allowed
        self._capacity, why = hub.capacity(allowed)
        children = "" if self._tree.complete else " (the OS kernel does not list children: without them)"
        self.metrics: Sequence[Metric] = tuple(
            replace(metric, source=f"{metric.source}{children}; of {self._capacity:g} CPUs ({why})")
            if metric.unit == "percent"
            else replace(metric, source=metric.source + (children if metric.unit == "bytes" else ""))
            for metric in METRICS
        )

    def collect(self) -> Mapping[str, float]:
        """One reading of every column; rates are NaN in the first."""
        if os.getpid() != self._process:
            self._limits.expire()
            self._open()
        allowed = self._limits.now()
        if allowed is not self._allowed:
            self._refresh(allowed)
        busy, memory = self._tree.read()
        values = {"process_cpu_percent": scope.percent(busy, self._capacity), "process_ram_bytes": memory}
        if busy >= 0 or self._first:
            self.errors.pop("process_cpu_percent", None)
        else:
            self.errors["process_cpu_percent"] = _ENDED_UNSEEN
        self._first = False
        if memory:
            self.errors.pop("process_ram_bytes", None)
        else:  # its end can be seen from outside only, and until its parent has noticed
            values["process_ram_bytes"] = math.nan
            self.errors["process_ram_bytes"] = _ENDED
        values.update(self._read_traffic())
        return values

    def _read_traffic(self) -> dict[str, float]:
        """Bytes read and written per second; nothing where they are not counted, or may not be seen."""
        if self._traffic is None:
            return {}
        try:
            return dict(zip(_TRAFFIC, self._traffic.read(), strict=True))
        except PermissionError as error:  # it has become another user's: sudo
            self.errors.update(dict.fromkeys(_TRAFFIC, f"the OS kernel does not tell ({error})"))
            return {}
