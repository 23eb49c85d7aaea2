"""Ranks: a collector of processes that log to one folder, as those of torchrun, accelerate, SLURM or MPI.

In each process ``ranks.log("run/")``; in the notebook, or afterwards on any machine that has the folder,
``Ranks("run/")``. No process speaks to another: the folder carries the rows.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import socket
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perfmon_widgets.clocks import time
from perfmon_widgets.cluster.members import Members
from perfmon_widgets.cluster.rank_files import (
    Process,
    Tail,
    describe,
    described,
    find,
    log_path,
    make,
    spaced_lines,
)
from perfmon_widgets.cluster.rows import Row, split
from perfmon_widgets.collectors.timeout_thread import NoAnswerError, TimeoutThread
from perfmon_widgets.core.csv_read import joined, whole_lines
from perfmon_widgets.core.errors import text_of
from perfmon_widgets.core.monitor import PerformanceMonitor
from perfmon_widgets.metrics import Metric

if TYPE_CHECKING:
    import pandas as pd

VARIABLES = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
"""The variables of the environment that may say which rank a process is; the first one that is set counts."""

# Seconds to wait for the file system; a sample then has the rows that were read before.
_TIMEOUT = 1.0
_SILENCE = "it has ended, was killed or is busy, or the file system shows its new bytes late"

_logger = logging.getLogger(__name__)


def rank_of(environment: Mapping[str, str] = os.environ) -> int:
    """Return the rank of this process, as its launcher says it in ``VARIABLES``; 0 if it says none.

    Raises ValueError if the variable is not a whole number from 0 on.
    """
    name = next((name for name in VARIABLES if name in environment), None)
    if name is None:
        return 0
    if not environment[name].isdecimal():
        raise ValueError(f"the environment variable {name} must be a rank, not {environment[name]!r}")
    return int(environment[name])


def log(folder: str | os.PathLike[str], interval: float = 5.0) -> PerformanceMonitor:
    """Sample this process every ``interval`` seconds into its rank's file in the folder; return the monitor.

    The folder is made if it does not exist. ``monitor.record()``, ``span()`` and the like work as ever, and
    ``monitor.stop()`` ends the log; so does the end of the process. A process that is started for the same
    rank later, as after an elastic restart, gets a file of its own.

    Raises ValueError for a rank or interval that cannot be used, and OSError, with what to do, if the file
    cannot be written.
    """
    rank = rank_of()
    make(Path(folder))
    monitor = PerformanceMonitor(interval=interval)
    log_to(monitor, folder, rank)
    monitor.start()
    return monitor


def log_to(monitor: PerformanceMonitor, folder: str | os.PathLike[str], rank: int) -> None:
    """Start the log of a monitor in the folder of the ranks, which is made if it does not exist.

    Raises OSError, with what to do, if the file cannot be written.
    """
    path = Path(folder)
    make(path)
    file = monitor.log.start(log_path(path, rank))
    try:
        describe(file, rank, socket.gethostname(), monitor.interval, time.time())
    except OSError as error:  # the rows are worth more than that
        _logger.warning("%s: what is known of its machine cannot be written: %s", file, error)


class Ranks:
    """A collector of the newest row of each rank that logs to a folder: ``rank0/cpu_percent``.

    ``PerformanceMonitor([Ranks("run/")])``. A reading costs the bytes that are new. A rank that begins later
    adds columns; one that is restarted goes on in its own. The columns ``host0/…`` are about a whole machine.
    What a rank records is there too: ``rank0/loss``. A row that came more than two intervals ago is missing,
    with a reason in ``errors``. The folder may be made later.
    """

    grows = True

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._members = Members("rank", f"logs in {self._folder}", _SILENCE)
        self._tails: dict[int, Tail] = {}
        self._processes: dict[Path, Process] = {}
        self._read_at = -math.inf  # when the folder was read last, in monotonic seconds
        self._error = ""
        self._thread = TimeoutThread("perfmon-ranks")
        self._read_in_time()

    @property
    def metrics(self) -> Sequence[Metric]:
        """The columns of all ranks and hosts that there have been."""
        return self._members.metrics

    @property
    def errors(self) -> Mapping[str, str]:
        """Why numbers are missing, by column; what is wrong with a log; under ``ranks`` with the folder."""
        return {**self._members.errors, **({"ranks": self._error} if self._error else {})}

    def collect(self) -> Mapping[str, float]:
        """Return the newest row of each rank; waits a second at most for a file system that hangs."""
        self._read_in_time()
        return self._members.collect()

    def close(self) -> None:
        """End the thread that reads; called when the monitor stops."""
        self._thread.close()
        self._thread.join(_TIMEOUT)

    def read(self, columns: Collection[str] | None = None, every: float | None = None) -> pd.DataFrame:
        """Return all rows of all ranks: index ``rank`` and ``time`` (UTC), columns as in the logs.

        The times are those of the file server's clock, if a rank's differed from it by more than 0.1 s.

        Args:
            columns: the columns to return, such as ``["process_cpu_percent"]``; by default all.
            every: read only rows that are about so many seconds apart, and skip what lies between. A day of
                1,000 ranks is read in seconds then.

        A log that cannot be read is left out; ``attrs["errors"]`` has the reason by the name of the file.
        Raises OSError if the folder cannot be read or has no log that can.
        """
        import pandas as pd  # noqa: PLC0415 - a program that only samples never pays for it

        frames, errors = {}, {}
        for rank, attempts in find(self._folder).items():
            for attempt, parts in attempts.items():
                try:
                    frames[rank, attempt] = _frame(parts, described(parts[0], rank), columns, every)
                except (OSError, ValueError) as error:
                    errors[parts[0].name] = text_of(error)
        if not frames:
            reason = next(iter(errors.values()), f"there is no log of a rank in {self._folder}")
            raise FileNotFoundError(errno.ENOENT, reason)
        table: pd.DataFrame = pd.concat(frames, names=["rank", "process", "time"]).droplevel("process")
        table.attrs["errors"] = errors
        return table

    # -- on a thread of its own ----------------------------------------------------------------------------

    def _read_in_time(self) -> None:
        try:
            self._thread.ask(self._read_new, _TIMEOUT)
        except NoAnswerError:
            self._error = (
                f"{self._folder} has not been read for {self._thread.silence:.0f} s: it does not answer"
            )
        except OSError as error:
            self._error = f"{self._folder} cannot be read: {error.strerror or error}"
        else:
            self._error = "" if self._tails else f"there is no log of a rank in {self._folder} yet"

    def _read_new(self) -> None:
        """Take the newest row of each rank, from the last part of the log of its last process."""
        begun = time.monotonic()
        for rank, attempts in find(self._folder).items():
            if not attempts:
                continue
            parts = list(attempts.values())[-1]
            try:
                self._read_rank(rank, parts)
            except (OSError, ValueError) as error:
                self._members.fail(str(rank), text_of(error))
        self._read_at = begun

    def _read_rank(self, rank: int, parts: Sequence[Path]) -> None:
        tail = self._tails.get(rank)
        seen_before = tail is not None and time.monotonic() - self._read_at < _PAUSE
        if tail is None or tail.path != parts[-1]:
            tail = Tail(parts[-1])
        found = tail.read()
        if tail.is_new:  # the folder may have been made anew, for another run
            self._processes.pop(parts[0], None)
        process = self._processes.get(parts[0]) or described(parts[0], rank)
        if process is not None:
            self._processes[parts[0]] = process
        self._tails[rank] = tail
        if found is None:
            return
        at, values = found
        own, machine = split(values)
        # It may have been changed since the process described itself.
        interval = max(process.interval if process else _USUAL, min(tail.spacing, _PAUSE))
        if process is not None:
            own["uptime_seconds"] = max(0.0, at - process.started)
        # Any other row has come since the last reading. Clocks are compared only where that was long ago.
        age = 0.0 if seen_before else max(0.0, time.time() - tail.modified)
        host = process.host if process else f"the machine of rank {rank}"
        self._members.put(Row(str(rank), str(rank), host, interval, own, machine), age, rank)


# The interval of a log that does not say its own: that of a monitor.
_USUAL = 5.0
# Seconds between two readings, or two rows, that may be a pause rather than an interval.
_PAUSE = 60.0


def _frame(
    parts: Sequence[Path], process: Process | None, columns: Collection[str] | None, every: float | None
) -> pd.DataFrame:
    """Return the log of one process, its times on the clock of the file server."""
    import pandas as pd  # noqa: PLC0415 - a program that only samples never pays for it

    contents = [
        (part, whole_lines(part) if every is None else b"".join(spaced_lines(part, every)))
        for part in parts[::-1]  # from the last part on, as read_csv()
    ][::-1]
    frame = joined(contents, columns)
    if process is not None and process.clock_ahead:
        frame.index = frame.index - pd.Timedelta(seconds=process.clock_ahead)
    return frame
