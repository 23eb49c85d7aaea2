"""HostCollector: the CPU, RAM, disk and network that this process may use, from Linux's own counters."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from perfmon_widgets.collectors.linux import cpu, disk, memory, network, pressure
from perfmon_widgets.collectors.linux.limits import Allowed, Limits
from perfmon_widgets.collectors.linux.processes import PROC
from perfmon_widgets.metrics import Metric

SYS = Path("/sys")

METRICS = (*cpu.METRICS, *memory.METRICS, *disk.METRICS, *network.METRICS)
"""The columns of every machine, in addition to those of each CPU."""
OPTIONAL_METRICS = (*cpu.OPTIONAL_METRICS, *memory.OPTIONAL_METRICS, *pressure.METRICS)
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


_Part: TypeAlias = cpu.Cpu | memory.Memory | disk.Disk | network.Network | pressure.Pressure | _Unreadable


def _opened(make: Callable[[], _Part], metrics: Sequence[Metric]) -> _Part:
    """Return a part of the collector, or what replaces it if it cannot be opened."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - an unknown format must not cost the other parts
        return _Unreadable(metrics, _text(error))


class HostCollector:
    """CPU, RAM, swap, disk and network that this process may use of the machine.

    The modules of its parts say what each number means. The columns are decided when the collector is made:
    ``host_…`` exists if a limit keeps this process from using all of the machine, the throttled share if it
    has a CPU quota, pressure if the OS kernel counts it. A file that cannot be opened at that time stays
    missing, for example where /proc shows processes only (systemd's ProcSubset=pid). ``limits`` default to
    those found in ``proc``. ``root`` is the number there of another process: then the limits and the network
    namespace are that one's.
    """

    def __init__(
        self,
        proc: Path = PROC,
        sys: Path = SYS,
        *,
        limits: Limits | None = None,
        environment: Mapping[str, str] = os.environ,
        root: int | None = None,
    ) -> None:
        self._limits = limits or Limits(proc, root)
        allowed = self._limits.now()
        self._allowed: Allowed | None = allowed
        self._disk = disk.Disk(proc, sys)
        self._parts: list[_Part] = [
            _opened(lambda: cpu.Cpu(proc, allowed, environment), cpu.METRICS),
            _opened(lambda: memory.Memory(proc, allowed, environment), memory.METRICS),
            self._disk,
            _opened(lambda: network.Network(proc, sys, root), network.METRICS),
            *(pressure.Pressure(metric, proc, allowed) for metric in pressure.METRICS),
        ]
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
