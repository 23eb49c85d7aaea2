"""CPU, RAM, swap and disk that the model may use, read from Linux's own counters."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from perfmon_widgets.collectors.linux import cpu, disk, memory
from perfmon_widgets.collectors.linux import limits as scope
from perfmon_widgets.metrics import Metric

SYS = Path("/sys")

METRICS = (*cpu.METRICS, *memory.METRICS, *disk.METRICS)
"""The columns that are there on every machine, besides those of each CPU."""
OPTIONAL_METRICS = (*cpu.OPTIONAL_METRICS, *memory.OPTIONAL_METRICS)
"""The columns that are there where a limit is in force, or where the OS kernel counts what they tell."""


class _Unreadable:
    """Stands for a part that could not be read at the start: its columns, and why they stay empty."""

    def __init__(self, metrics: Sequence[Metric], reason: str) -> None:
        self.metrics = metrics
        self.errors = {metric.name: reason for metric in metrics}

    def refresh(self, allowed: scope.Allowed) -> None:
        """Nothing."""

    def collect(self) -> Mapping[str, float]:
        """Nothing."""
        return {}


class HostCollector:
    """CPU, RAM, swap and disk of the scope: what this process may use of the machine.

    What each number means stands in cpu.py, memory.py and disk.py. Which columns there are is decided when
    this is made: ``host_…`` if a limit keeps this process from using all of the machine, a throttled share
    if it has a CPU quota, memory pressure if the OS kernel counts it. What cannot be read then, as where
    /proc shows processes only (systemd's ProcSubset=pid), stays missing. ``limits`` are looked up in ``proc``
    if they are not given.
    """

    def __init__(
        self,
        proc: Path = scope.PROC,
        sys: Path = SYS,
        *,
        limits: scope.Limits | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._limits = limits or scope.Limits(proc)
        allowed = self._limits.now()
        self._allowed: scope.Allowed | None = allowed
        self._disk = disk.Disk(proc, sys)
        self._parts: list[cpu.Cpu | memory.Memory | disk.Disk | _Unreadable] = [self._disk]
        for kind, metrics in ((memory.Memory, memory.METRICS), (cpu.Cpu, cpu.METRICS)):
            try:
                self._parts.insert(0, kind(proc, allowed, environment))
            except OSError as error:
                self._parts.insert(0, _Unreadable(metrics, str(error)))
        self._failed: dict[str, str] = {}

    @property
    def metrics(self) -> Sequence[Metric]:
        """What its columns mean; the sources follow the limits as they change."""
        metrics = [metric for part in self._parts for metric in part.metrics]
        return tuple(sorted(metrics, key=lambda metric: metric.where != ""))  # each CPU last

    @property
    def errors(self) -> dict[str, str]:
        """Why numbers are missing, by column."""
        errors = dict(self._failed)
        for part in self._parts:
            errors.update(part.errors)
        return errors

    def close(self) -> None:
        """End what waits for a file server."""
        self._disk.close()

    def collect(self) -> Mapping[str, float]:
        """One reading of every column; rates and shares are NaN in the first.

        A part that cannot be read costs its own columns: a working directory that was deleted, a control
        group that has gone. Raises OSError if nothing can be read at all.
        """
        before, allowed = self._allowed, self._limits.now()
        self._allowed = allowed
        values: dict[str, float] = {}
        failed: dict[str, str] = {}
        for part in self._parts:
            try:
                if allowed is not before:
                    part.refresh(allowed)
                values.update(part.collect())
            except OSError as error:
                # A limit that cannot be read any more may have moved: look again the next time.
                self._limits.expire()
                self._allowed = None
                failed.update({metric.name: str(error) for metric in part.metrics})
        self._failed = failed
        if not values:
            raise OSError(f"nothing can be read: {min(failed.values())}")
        return values
