"""Scripted collectors, a subscriber that can be waited for, and a machine made of files."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from perfmon_widgets.collectors import Collector
from perfmon_widgets.metrics import Metric, Sample


def metric(name: str, **more: object) -> Metric:
    """A metric whose unit is what follows the last underscore of its name, or none."""
    unit = name.rpartition("_")[2] if "_" in name else ""
    return Metric(name, unit, "cpu", f"About {name}.", **more)  # type: ignore[arg-type]


class FakeCollector:
    """Fills its columns with 0, 1, 2 … one number per reading, or with what ``read`` returns."""

    def __init__(
        self,
        *names: str,
        read: Callable[[], Mapping[str, float]] | None = None,
        metrics: Sequence[Metric] = (),
    ) -> None:
        self.metrics: Sequence[Metric] = (*map(metric, names), *metrics)
        self.read = read
        self.readings = 0

    def collect(self) -> Mapping[str, float]:
        number = self.readings
        self.readings += 1
        if self.read is not None:
            return self.read()
        return dict.fromkeys((metric.name for metric in self.metrics), float(number))


class OtherCollector(FakeCollector):
    """Another source, with a name of its own in ``errors``."""


def read(collector: Collector) -> Mapping[str, float]:
    """Return a reading after checking that it has floats only, and only for the collector's own columns."""
    reading = collector.collect()
    assert reading.keys() <= {metric.name for metric in collector.metrics}
    assert {type(value) for value in reading.values()} == {float}
    return reading


class Samples:
    """A subscriber whose samples can be waited for."""

    def __init__(self) -> None:
        self._samples: queue.SimpleQueue[Sample] = queue.SimpleQueue()

    def __call__(self, sample: Sample) -> None:
        self._samples.put(sample)

    def next(self, timeout: float = 10.0) -> Sample:
        """Return the next sample; fails the test if none comes."""
        try:
            return self._samples.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no sample within {timeout} s") from None

    def __len__(self) -> int:
        return self._samples.qsize()


class FakeMachine:
    """Canned /proc, /sys and control groups in a folder; what is written later, the next reading sees."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.sys, self.groups = folder / "proc", folder / "sys", folder / "cgroup"
        self._mounts: list[str] = []
        self.write_processors({0: (100, 0, 50, 800, 50, 0, 0, 0), 1: (100, 0, 50, 800, 50, 0, 0, 0)})
        self.write_memory(
            MemTotal=16_000, MemFree=4_000, MemAvailable=10_000, SwapTotal=2_000, SwapFree=1_500
        )
        self.write("proc/self/cgroup", "0::/\n")
        self.write("proc/self/mountinfo", "")

    def write(self, path: str, content: str) -> Path:
        """Write a file in place, as the OS kernel does: a descriptor that is open sees the new content."""
        file = self.proc.parent / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.fsencode(content))
        return file

    def write_processors(self, times: Mapping[int, Sequence[int]]) -> None:
        """/proc/stat: for each CPU the ticks user, nice, system, idle, iowait, irq, softirq, steal …"""
        full = {number: [*ticks, *[0] * (10 - len(ticks))] for number, ticks in times.items()}
        total = [sum(column) for column in zip(*full.values(), strict=True)]
        lines = [f"cpu  {' '.join(map(str, total))}"]
        lines += [f"cpu{number} {' '.join(map(str, ticks))}" for number, ticks in full.items()]
        lines += [
            f"intr 12345 {'0 ' * 200}",
            "ctxt 99",
            "btime 1700000000",
            "processes 5",
            "softirq 1 2 3",
            "",
        ]
        self.write("proc/stat", "\n".join(lines))

    def write_memory(self, **kibibytes: int) -> None:
        """/proc/meminfo."""
        lines = [f"{name + ':':<15} {value:>8} kB" for name, value in kibibytes.items()]
        self.write("proc/meminfo", "\n".join([*lines, "HugePages_Total:       0", ""]))

    def mount(
        self,
        kind: str,
        mount: Path,
        *,
        root: str = "/",
        options: str = "rw",
        device: str = "0:30",
        source: str = "",
    ) -> Path:
        """Add a line to mountinfo, white space escaped as the OS kernel does it; returns the mount point."""
        mount.mkdir(parents=True, exist_ok=True)
        point = "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\#" else letter for letter in str(mount))
        number = 30 + len(self._mounts)
        self._mounts.append(
            f"{number} 1 {device} {root} {point} rw,nosuid shared:9 - {kind} {source or kind} {options}\n"
        )
        self.write("proc/self/mountinfo", "".join(self._mounts))
        return mount

    def version_2(self, path: str = "/", root: str = "/") -> Path:
        """A machine with the unified hierarchy; returns its mount point."""
        self.write("proc/self/cgroup", f"0::{path}\n")
        return self.mount("cgroup2", self.groups, root=root)

    def version_1(self, path: str = "/", root: str = "/", *, hybrid: bool = False) -> tuple[Path, Path, Path]:
        """A machine with the hierarchies memory, cpu and cpuacct; returns their mount points."""
        lines = [f"{n}:{name}:{path}\n" for n, name in enumerate(("memory", "cpu", "cpuacct"), 2)]
        lines += ["1:name=systemd:/\n", *(["0::/\n"] if hybrid else [])]
        self.write("proc/self/cgroup", "".join(lines))
        if hybrid:
            self.mount("cgroup2", self.groups / "unified")
        memory, cpu, cpuacct = (
            self.mount("cgroup", self.groups / name, root=root, options=f"rw,{name}")
            for name in ("memory", "cpu", "cpuacct")
        )
        return memory, cpu, cpuacct


def group(directory: Path, **files: object) -> Path:
    """Write files of a control group, ``memory_max=…`` into memory.max; returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name.replace("_", ".", 1)).write_text(f"{content}\n")
    return directory
