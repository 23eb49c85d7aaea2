"""RankLogs: the logs of the ranks that a command starts, written from outside. Linux only."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from perfmon_widgets.cluster.rank_files import make
from perfmon_widgets.cluster.ranks import VARIABLES, log_to, rank_of
from perfmon_widgets.collectors import default_collectors
from perfmon_widgets.collectors.linux.processes import children, number_of
from perfmon_widgets.core.monitor import PerformanceMonitor
from perfmon_widgets.metrics import Sample


class RankLogs:
    """Logs a command that is a rank itself, or else each rank that it starts, as torchrun does.

    The command is a rank if this process's environment says so: ``srun python -m perfmon_widgets run --ranks
    run/ -- python train.py``. Otherwise its descendants are searched with each sample for a process whose
    environment has one of ``VARIABLES``; it is logged with its own descendants.

    Raises OSError, with what to do, if the folder or file cannot be written; ValueError for a bad rank.
    """

    def __init__(
        self,
        monitor: PerformanceMonitor,
        root: int,
        folder: str,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._watching = monitor
        self._root = number_of(root)
        self._folder = Path(folder)
        self._monitors: dict[int, PerformanceMonitor] = {}  # by the number of the process
        self._ranks: set[int] = set()
        if environment.keys() & set(VARIABLES):
            log_to(monitor, folder, rank_of(environment))
        else:
            make(self._folder)
            monitor.on_sample(self.look)

    def look(self, _: Sample) -> None:
        """Begin the log of each rank that has started, and end that of each that has ended."""
        running = dict(self._processes(self._root))
        for process in self._monitors.keys() - running.keys():
            self._monitors.pop(process).stop()
        for process, rank in running.items():
            if process not in self._monitors:
                self._begin(process, rank)

    def _begin(self, process: int, rank: int) -> None:
        try:
            collectors = default_collectors(root=process)
        except OSError:
            return  # it has ended meanwhile
        monitor = PerformanceMonitor(collectors, interval=self._watching.interval)
        log_to(monitor, self._folder, rank)
        monitor.start()
        self._monitors[process] = monitor
        self._ranks.add(rank)

    def _processes(self, number: int) -> Iterator[tuple[int, int]]:
        """Yield number and rank of each descendant that is a rank, without descendants of that one."""
        for child in children(number):
            rank = _rank_of_process(child)
            if rank is None:
                yield from self._processes(child)
            else:
                yield child, rank

    def close(self) -> None:
        """End all logs."""
        self._watching.on_sample(self.look, remove=True)
        for monitor in self._monitors.values():
            monitor.stop()
        self._monitors.clear()

    @property
    def words(self) -> list[str]:
        """What was logged, as a line for people; nothing if the command is a rank itself."""
        if self._watching.log.path is not None:
            return []
        if not self._ranks:
            names = ", ".join(VARIABLES)
            return [f"no rank was found: none of the command's processes has one of the variables {names}"]
        return [f"logs of {len(self._ranks)} ranks in {self._folder}"]


def _rank_of_process(number: int) -> int | None:
    """Return the rank that the environment of a process says; None if it says none or cannot be read."""
    try:
        fields = (Path("/proc") / str(number) / "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    environment = dict(os.fsdecode(field).partition("=")[::2] for field in fields)
    try:
        return rank_of(environment) if environment.keys() & set(VARIABLES) else None
    except ValueError:
        return None
