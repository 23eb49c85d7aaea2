"""This Jupyter kernel's own share of the machine, its children included: one number each, never a list."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from perfmon_widgets.collectors import hub, scope
from perfmon_widgets.collectors.rate import Rate
from perfmon_widgets.collectors.system_file import SystemFile
from perfmon_widgets.collectors.tree import Tree
from perfmon_widgets.metrics import Metric

# How much CPU time this process may use changes seldom: read again after this many seconds.
_LIMITS_EVERY = 10.0

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
        "Read from disks by this kernel.",
        source="/proc/self/io",
    ),
    Metric(
        "process_write_bytes_per_second",
        "bytes_per_second",
        "process",
        "Written to disks by this kernel.",
        source="/proc/self/io",
    ),
)

_ENDED_UNSEEN = "a process that this kernel started has ended where its CPU time is lost; the next row has it"


class ProcessCollector:
    """CPU, memory and disk traffic of this process and its children; raises OSError without /proc."""

    def __init__(self, proc: Path = scope.PROC) -> None:
        self.errors: dict[str, str] = {}
        self._proc = proc
        self._open()

    def _open(self) -> None:
        """Begin with this process; a forked child is another one than its parent."""
        self._process = os.getpid()
        self._tree = Tree(self._process, self._proc)
        self._traffic: SystemFile | None = None
        names = ("process_read_bytes_per_second", "process_write_bytes_per_second")
        try:
            self._traffic = SystemFile(self._proc / "self" / "io")
        except OSError as error:
            self.errors.update(dict.fromkeys(names, f"the OS kernel does not count this ({error})"))
        self._read, self._written = Rate(), Rate()
        self._first = True
        self._limits()

    def _limits(self) -> None:
        """Read again how much CPU time this process may use, and say it in the metrics."""
        self._limits_due = time.monotonic() + _LIMITS_EVERY
        self._capacity, why = hub.capacity(self._proc)
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
            self._open()
        if time.monotonic() >= self._limits_due:
            self._limits()
        busy, memory = self._tree.read()
        values = {"process_cpu_percent": scope.percent(busy, self._capacity), "process_ram_bytes": memory}
        if busy >= 0 or self._first:
            self.errors.pop("process_cpu_percent", None)
        else:
            self.errors["process_cpu_percent"] = _ENDED_UNSEEN
        self._first = False
        if self._traffic is not None:
            fields = dict(line.split(b":") for line in self._traffic.read().splitlines())
            clock = time.monotonic()
            values["process_read_bytes_per_second"] = self._read.update(int(fields[b"read_bytes"]), clock)
            values["process_write_bytes_per_second"] = self._written.update(
                int(fields[b"write_bytes"]), clock
            )
        return values
