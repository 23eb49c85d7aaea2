"""This Jupyter kernel's own share of the machine, its children included: one number each, never a list."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from perfmon_widgets.collectors import scope
from perfmon_widgets.collectors.rate import Rate
from perfmon_widgets.collectors.system_file import SystemFile
from perfmon_widgets.metrics import Metric

# Looking for children and weighing shared memory costs milliseconds: done after this many seconds, or
# later where it takes so long that it would use more than this share of one CPU.
_TREE_EVERY = 10.0
_TREE_SHARE = 0.001

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
        "Memory of this kernel; pages shared with its children count once.",
        source="/proc/self/statm; with children PSS from smaps_rollup",
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


class ProcessCollector:
    """CPU, memory and disk traffic of this process and its children; raises OSError without /proc."""

    def __init__(self, proc: Path = scope.PROC) -> None:
        self.metrics: Sequence[Metric] = METRICS
        self.errors: dict[str, str] = {}
        self._proc = proc
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._tick = 1.0 / os.sysconf("SC_CLK_TCK")
        self._open()

    def _open(self) -> None:
        """Begin with this process; a forked child is another one than its parent."""
        self._process = os.getpid()
        self._memory = SystemFile(self._proc / "self" / "statm")
        self._traffic: SystemFile | None = None
        names = ("process_read_bytes_per_second", "process_write_bytes_per_second")
        try:
            self._traffic = SystemFile(self._proc / "self" / "io")
        except OSError as error:
            self.errors.update(dict.fromkeys(names, f"the OS kernel does not count this ({error})"))
        self._cpu, self._read, self._written = Rate(), Rate(), Rate()
        self._children: dict[int, tuple[SystemFile, Rate]] = {}
        self._shared_correction = 0.0
        self._tree_due = time.monotonic()

    def collect(self) -> Mapping[str, float]:
        """One reading of every column; rates are NaN in the first."""
        if os.getpid() != self._process:
            self._open()
        if time.monotonic() >= self._tree_due:
            self._look_for_children()
        seconds, clock = time.process_time(), time.monotonic()
        busy = self._cpu.update(seconds, clock) + self._busy_children()
        resident = self._resident()
        values = {
            "process_cpu_percent": 100 * busy / self._capacity,
            "process_ram_bytes": resident + self._shared_correction,
        }
        if self._traffic is not None:
            fields = dict(line.split(b":") for line in self._traffic.read().splitlines())
            clock = time.monotonic()
            values["process_read_bytes_per_second"] = self._read.update(int(fields[b"read_bytes"]), clock)
            values["process_write_bytes_per_second"] = self._written.update(
                int(fields[b"write_bytes"]), clock
            )
        return values

    def _resident(self) -> float:
        """The memory that is resident for this process alone, in bytes."""
        return float(int(self._memory.read().split(None, 2)[1]) * self._page)

    def _busy_children(self) -> float:
        """CPU seconds per second of the children that have been seen twice."""
        busy = 0.0
        for number, (file, rate) in list(self._children.items()):
            try:
                # The name in brackets may hold anything, so count the fields from behind it.
                fields = file.read().rpartition(b")")[2].split(None, 14)
                share = rate.update((int(fields[11]) + int(fields[12])) * self._tick, time.monotonic())
            except OSError:  # it has ended
                del self._children[number]
            else:
                busy += share if share >= 0 else 0.0
        return busy

    def _look_for_children(self) -> None:
        started = time.thread_time()
        quota = scope.cpu_quota(self._proc)
        self._capacity = min(len(scope.cpus()), quota.cpus if quota else float("inf"))
        self.metrics = tuple(
            replace(metric, source=f"{metric.source}; of {self._capacity:g} CPUs")
            if metric.unit == "percent"
            else metric
            for metric in METRICS
        )
        found = set(self._descendants(self._process))
        for number in self._children.keys() - found:
            del self._children[number]
        for number in found - self._children.keys():
            try:
                self._children[number] = SystemFile(self._proc / str(number) / "stat"), Rate()
            except OSError:
                continue  # it ended meanwhile
        # Pages that children share with their parent (fork) are resident in each of them. PSS divides
        # them fairly; it is too dear for every tick, so it corrects the resident size until the next look.
        self._shared_correction = 0.0
        if self._children:
            weights = sum(self._proportional(number) for number in (self._process, *self._children))
            self._shared_correction = weights - self._resident()
        cost = time.thread_time() - started
        self._tree_due = time.monotonic() + max(_TREE_EVERY, cost / _TREE_SHARE)

    def _descendants(self, number: int) -> Iterator[int]:
        """The process ids of all children, and theirs: every thread may have started some."""
        try:
            threads = os.listdir(self._proc / str(number) / "task")  # noqa: PTH208 - names are enough
        except OSError:
            return  # it ended meanwhile
        for thread in threads:
            try:
                text = (self._proc / str(number) / "task" / thread / "children").read_text()
            except OSError:
                continue  # the thread ended, or the OS kernel does not list children
            for child in map(int, text.split()):
                yield child
                yield from self._descendants(child)

    def _proportional(self, number: int) -> float:
        """The proportional set size of a process in bytes; its resident size where that is not to be had."""
        folder = self._proc / str(number)
        try:
            for line in (folder / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    return float(line.split()[1]) * 1024
        except OSError:
            pass  # another user's process, or an OS kernel before 4.14
        try:
            return float(int((folder / "statm").read_text().split()[1]) * self._page)
        except OSError:
            return 0.0  # it ended meanwhile
