"""JUmPER's backends as watchers, see watchers.py: each is its monitor class, which needs no IPython shell.

Those with a process of their own lower the priority of other processes to niceness 19 and SCHED_BATCH:
native_c of all that belong to the user, which for root are those of the whole machine, threads of its OS
kernel included. At the end all get niceness 0, whatever they had. So both run only as the first process of a
PID namespace.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any


class JumperThread:
    """JUmPER's thread backend."""

    numbers = 0

    def __init__(self) -> None:
        self._make = self._backend()

    def _backend(self) -> Callable[[], Any]:
        from jumper_extension.monitor.backends.thread import PerformanceMonitor

        return PerformanceMonitor

    def start(self, interval: float) -> None:
        self._monitor = self._make()
        self._monitor.start(interval)

    @property
    def ticks(self) -> int:
        return self._monitor.n_measurements

    def stop(self) -> None:
        self._monitor.stop()
        tables = [self._monitor.nodes.view(level=level) for level in self._monitor.levels]
        self.numbers = sum(len(table.columns) - 1 for table in tables)  # one is the time

    @property
    def times(self) -> list[float]:
        """When each sample was taken, in seconds; to be asked for when it has been stopped."""
        return self._monitor.nodes.view(level="process")["time"].tolist()


class JumperProcess(JumperThread):
    """JUmPER's subprocess_python backend; raises RuntimeError outside a PID namespace of its own."""

    def __init__(self) -> None:
        if os.getpid() != 1:
            raise RuntimeError("it would change the priority of other processes, see jumper.py")
        super().__init__()

    def _backend(self) -> Callable[[], Any]:
        from jumper_extension.monitor.backends.subprocess_python import SubprocessPerformanceMonitor

        return SubprocessPerformanceMonitor

    @property
    def ticks(self) -> int:
        return self._monitor.n_measurements // max(len(self._monitor.levels), 1)  # it counts each level


class JumperNative(JumperProcess):
    """JUmPER's native_c backend, which is compiled where it is installed; as above."""

    def _backend(self) -> Callable[[], Any]:
        from jumper_extension.monitor.backends.native_c import CSubprocessPerformanceMonitor

        return CSubprocessPerformanceMonitor


def compiled() -> str:
    """Compile what JUmPER's native_c backend needs, beforehand; why that did not work, else nothing."""
    try:
        from jumper_extension.monitor.backends.native_c.build import build_collector

        return "" if build_collector() else "its C program could not be compiled"
    except ImportError as error:
        return str(error)
