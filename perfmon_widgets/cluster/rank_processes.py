"""RankLogs: the logs of the ranks that a command starts, written from outside. Linux only."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Thread

from perfmon_widgets.clocks import time
from perfmon_widgets.cluster.rank_files import make
from perfmon_widgets.cluster.ranks import VARIABLES, log_to, rank_of
from perfmon_widgets.collectors import default_collectors
from perfmon_widgets.collectors.linux.processes import children, environment_of, number_of
from perfmon_widgets.core.errors import text_of
from perfmon_widgets.core.log_files import parts
from perfmon_widgets.core.monitor import PerformanceMonitor
from perfmon_widgets.interrupts import Event, start_thread

# Seconds to wait for a file system when the command has ended.
_TIMEOUT = 5.0
# Seconds after which the log of a command that seemed to be a rank is kept.
_KEPT_AFTER = 60.0
# Seconds after which a rank that could not be logged is tried again.
_RETRY = 60.0


class RankLogs:
    """Logs a command that is a rank itself, or else each rank that it starts, as torchrun does.

    The command is a rank if this process's environment says so: ``srun python -m perfmon_widgets run --ranks
    run/ -- python train.py``. Otherwise its descendants are searched once per interval for a process whose
    environment has one of ``VARIABLES``; it is logged with its own descendants.

    A launcher may have such a variable, too: SLURM sets its own in a job's script, Kubeflow's operators set
    ``RANK`` to the number of the pod. So a process is a launcher and no rank if it has inherited its value
    and starts processes with other values of ``RANK``. If the command is one, they are logged, too. Its own
    log is deleted if it is shorter than a minute; a longer one goes on, since a rank may start a launcher.

    Files are opened and closed on a thread of its own: a file server may be slow, and the sampling of the
    command must not wait for it.

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
        self._failed: dict[int, float] = {}  # when those are tried again that could not be logged
        self._reasons: dict[int, str] = {}  # why not, by rank
        self._ranks: set[int] = set()
        self._error = ""  # why there may be ranks that were not found
        self._begun = time.monotonic()
        self._own: int | None = None  # the rank that the command is
        self._names: Sequence[str] = VARIABLES
        self._inherited: int | None = None  # what RANK is unless a process says otherwise
        self._launchers: set[int] = set()
        self._ended = Event()
        self._thread = Thread(target=self._watch, name="perfmon-rank-logs", daemon=True)
        if environment.keys() & set(VARIABLES):
            self._own = rank_of(environment)
            self._names = VARIABLES[:1]  # the others are inherited by every process that the command starts
            self._inherited = self._own if VARIABLES[0] in environment else None
            log_to(monitor, folder, self._own)
        else:
            make(self._folder)
        start_thread(self._thread)

    def _watch(self) -> None:
        """Begin and end logs until close() is called; then end all."""
        while not self._ended.wait(self._watching.interval):
            try:
                self._look()
                self._error = ""
            except Exception as error:  # noqa: BLE001 - the next look may succeed
                self._error = text_of(error)
        for monitor in self._monitors.values():
            monitor.stop()

    def _look(self) -> None:
        """Begin the log of each rank that has started, and end that of each that has ended."""
        running = dict(self._processes(self._root))
        if self._own is not None:
            others = {process: rank for process, rank in running.items() if rank != self._own}
            if others and time.monotonic() - self._begun < _KEPT_AFTER:
                self._delete_own()
            else:
                running = others  # its own processes are in the log of the command
        for process in self._monitors.keys() - running.keys():
            self._monitors.pop(process).stop()
        self._failed = {process: at for process, at in self._failed.items() if process in running}
        for process, rank in running.items():
            if process not in self._monitors and self._failed.get(process, 0.0) <= time.monotonic():
                self._begin(process, rank)

    def _delete_own(self) -> None:
        """Delete the log of the command, which this has begun."""
        self._own = None
        log = self._watching.log
        log.stop()
        if log.path is not None:
            for path in (log.path, *parts(log.path), log.path.with_suffix(".json")):
                path.unlink(missing_ok=True)

    def _begin(self, process: int, rank: int) -> None:
        try:
            collectors = default_collectors(root=process)
        except OSError:
            return  # it has ended meanwhile
        monitor = PerformanceMonitor(collectors, interval=self._watching.interval)
        try:
            log_to(monitor, self._folder, rank)
            monitor.start()
        except (OSError, RuntimeError) as error:  # no space, no file, no thread is left: for this one
            monitor.stop()
            self._failed[process] = time.monotonic() + _RETRY
            self._reasons.setdefault(rank, text_of(getattr(error, "strerror", None) or error))
        else:
            self._monitors[process] = monitor
            self._ranks.add(rank)
            self._failed.pop(process, None)
            self._reasons.pop(rank, None)

    def _processes(self, number: int) -> Iterator[tuple[int, int]]:
        """Yield number and rank of each descendant that is a rank, without descendants of that one."""
        for child in children(number):
            rank = _rank_of_process(child, self._names)
            if rank is None or (rank == self._inherited and self._is_launcher(child)):
                yield from self._processes(child)
            else:
                yield child, rank

    def _is_launcher(self, process: int) -> bool:
        """Return whether a process that has inherited its value of RANK starts others with other values."""
        # Once it is known, since the ranks end one after the other.
        if any(rank != self._inherited for _, rank in self._processes(process)):
            self._launchers.add(process)
        return process in self._launchers

    def close(self) -> None:
        """End all logs; waits up to five seconds for a file server that is slow."""
        self._ended.set()
        self._thread.join(_TIMEOUT)

    @property
    def of_command(self) -> bool:
        """Whether the log of the monitor is that of the command, which is a rank itself."""
        return self._own is not None

    @property
    def words(self) -> list[str]:
        """What was logged, and what was not and why, as lines; nothing if the command is a rank itself."""
        if self.of_command:
            return []
        lines = [f"rank {rank} was not logged: {reason}" for rank, reason in sorted(self._reasons.items())]
        if self._ranks:
            count = len(self._ranks)
            lines.append(f"logs of {count} rank{'s' if count > 1 else ''} in {self._folder}")
        if self._error:
            lines.append(f"ranks may be missing: {self._error}")
        if not lines:
            names = ", ".join(VARIABLES)
            lines = [f"no rank was found: none of the command's processes has one of the variables {names}"]
        return lines


def _rank_of_process(number: int, names: Collection[str]) -> int | None:
    """Return the rank that one of these variables of a process says; None if none does or can be read."""
    try:
        environment = environment_of(number)
    except OSError:
        return None
    said = {name: environment[name] for name in names if name in environment}
    try:
        return rank_of(said) if said else None
    except ValueError:
        return None
