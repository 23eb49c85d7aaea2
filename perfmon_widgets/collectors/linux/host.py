"""HostCollector: the CPU, RAM, swap and disk that this process may use, from Linux's own counters."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from perfmon_widgets.collectors.linux import cpu, disk, memory
from perfmon_widgets.collectors.linux.limits import Allowed, Limits
from perfmon_widgets.collectors.linux.processes import PROC
from perfmon_widgets.metrics import Metric

SYS = Path("/sys")

METRICS = (*cpu.METRICS, *memory.METRICS, *disk.METRICS)
"""The columns of every machine, in addition to those of each CPU."""
OPTIONAL_METRICS = (*cpu.OPTIONAL_METRICS, *memory.OPTIONAL_METRICS)
"""The columns that exist where a limit is in force, or where the OS kernel counts what they show."""


class _Unreadable:
    """Replaces a part that could not be opened: has its columns, and the reason why they stay empty."""

    def __init__(self, metrics: Sequence[Metric], reason: str) -> None:
        self.metrics = metrics
        self.errors = {metric.name: reason for metric in metrics}

    def refresh(self, allowed: Allowed) -> None:
        """Do nothing."""

    def collect(self) -> Mapping[str, float]:
        """Return nothing."""
        return {}


class HostCollector:
    """CPU, RAM, swap and disk that this process may use of the machine.

    cpu.py, memory.py and disk.py say what each number means. The columns are decided when the collector is
    made: ``host_…`` exists if a limit keeps this process from using all of the machine, the throttled share
    if it has a CPU quota, memory pressure if the OS kernel counts it. A file that cannot be opened at that
    time stays missing, for example where /proc shows processes only (systemd's ProcSubset=pid). ``limits``
    default to those found in ``proc``.
    """

    def __init__(
        self,
        proc: Path = PROC,
        sys: Path = SYS,
        *,
        limits: Limits | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._limits = limits or Limits(proc)
        allowed = self._limits.now()
        self._allowed: Allowed | None = allowed
        self._disk = disk.Disk(proc, sys)
        self._parts: list[cpu.Cpu | memory.Memory | disk.Disk | _Unreadable] = [self._disk]
        for kind, metrics in ((memory.Memory, memory.METRICS), (cpu.Cpu, cpu.METRICS)):
            try:
                self._parts.insert(0, kind(proc, allowed, environment))
            except Exception as error:  # noqa: BLE001 - an unknown format must not cost the other parts
                self._parts.insert(0, _Unreadable(metrics, _text(error)))
        self._failed: dict[str, str] = {}

    @property
    def metrics(self) -> Sequence[Metric]:
        """The columns; their sources follow the limits as these change."""
        metrics = [metric for part in self._parts for metric in part.metrics]
        return tuple(sorted(metrics, key=lambda metric: metric.role == "part"))  # each CPU last

    @property
    def errors(self) -> dict[str, str]:
        """Why numbers are missing, by column."""
        errors = dict(self._failed)
        for part in self._parts:
            errors.update(part.errors)
        return errors

    def close(self) -> None:
        """End the thread that waits for a file server."""
        self._disk.close()

    def collect(self) -> Mapping[str, float]:
        """Return a value for each column; rates and shares are NaN in the first reading.

        If a part cannot be read, only its own columns are missing: for example because the working directory
        was deleted, or a control group was removed. Raises OSError if nothing can be read at all.
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
            except Exception as error:  # noqa: BLE001 - as above
                # The limit may have moved to another group: search again the next time.
                self._limits.expire()
                self._allowed = None
                failed.update({metric.name: _text(error) for metric in part.metrics})
        self._failed = failed
        if not values:
            raise OSError(f"nothing can be read: {min(failed.values())}")
        return values


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, OSError) else f"the format is not known ({error!r})"
