"""Pressure: the share of the time in which programs waited for a CPU, for memory, or for a disk (PSI)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from perfmon_widgets.clocks import time
from perfmon_widgets.collectors.linux.limits import Allowed
from perfmon_widgets.collectors.linux.system_file import SystemFile
from perfmon_widgets.collectors.rate import Rate, percent
from perfmon_widgets.metrics import Metric

CPU = Metric(
    name="cpu_pressure_percent",
    unit="percent",
    group="cpu",
    label="waiting for a CPU",
    help="Share of the time in which a program could run and had to wait for a CPU; only where the OS kernel"
    " counts it (PSI).",
    source="cpu.pressure of the control group with the memory limit, or /proc/pressure/cpu of the machine",
)
MEMORY = Metric(
    name="memory_pressure_percent",
    unit="percent",
    group="memory",
    label="waiting for memory",
    help="Share of the time in which a program had to wait because memory was short; only where the OS kernel"
    " counts it (PSI).",
    source="memory.pressure of the control group with the memory limit, or /proc/pressure/memory of the"
    " machine",
)
IO = Metric(
    name="io_pressure_percent",
    unit="percent",
    group="disk",
    label="waiting for disks",
    help="Share of the time in which a program had to wait for a disk or a network file system; only where"
    " the OS kernel counts it (PSI).",
    source="io.pressure of the control group with the memory limit, or /proc/pressure/io of the machine",
)
METRICS = (CPU, MEMORY, IO)


class Pressure:
    """A pressure column of HostCollector: ``some``, which counts the time in which any program waited.

    It is of the control group with the memory limit (version 2), or else of the machine. The column exists if
    the OS kernel counts it when this is made. ``metric`` is one of METRICS.
    """

    def __init__(self, metric: Metric, proc: Path, allowed: Allowed) -> None:
        self._metric, self._proc = metric, proc
        self._kind = metric.name.partition("_")[0]  # as the OS kernel names its files: cpu, memory, io
        self._file: SystemFile | None = None
        self._waited = Rate()
        self.errors: dict[str, str] = {}
        self.metrics: Sequence[Metric] = ()
        self._find(allowed)

    def refresh(self, allowed: Allowed) -> None:
        """Use these limits from now on, and update the source in ``metrics``."""
        if self._file is not None:
            self._find(allowed)

    def _find(self, allowed: Allowed) -> None:
        """Open the count of the group with the limit, or else that of the machine."""
        paths = [self._proc / "pressure" / self._kind]
        if allowed.memory is not None:
            paths.insert(0, allowed.memory.directory / f"{self._kind}.pressure")
        for path in paths:
            if self._file is not None and self._file.path == path:
                return
            try:
                file = SystemFile(path)
                content = file.read()  # fails where counting is switched off
            except OSError:
                continue
            if b"total=" in content:
                self._file, self._waited = file, Rate()
                self.metrics = (replace(self._metric, source=f"{path}, some"),)
                return

    def collect(self) -> dict[str, float]:
        """Return the column in percent, NaN in the first reading; nothing if it does not exist.

        Raises OSError if the count cannot be read.
        """
        if self._file is None:
            return {}
        # "some avg10=… avg60=… avg300=… total=<microseconds>"
        microseconds = int(self._file.read().partition(b"total=")[2].split(None, 1)[0])
        share = self._waited.update(microseconds / 1e6, time.monotonic())
        return {self._metric.name: percent(share, 1.0)}
