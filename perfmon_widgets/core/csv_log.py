"""CsvLog: the rows of the history on disk, switched on and off.

A row is one line, written by one call, so that a kill at any moment tears at most the line being written.
While a file cannot be written for want of room, the rows wait in the window of the history.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from perfmon_widgets.clocks import time
from perfmon_widgets.core.csv_lines import header_line, row_line
from perfmon_widgets.core.log_files import TRANSIENT, absolute, sentence
from perfmon_widgets.core.log_parts import LogParts
from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.interrupts import acquire

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Times: TypeAlias = "Sequence[np.datetime64] | NDArray[np.datetime64]"
_Values: TypeAlias = "Sequence[Sequence[float]] | NDArray[np.float64]"
Rows = tuple[int, _Times, _Values]
"""The number of the newest row, then the times (to the microsecond, UTC) and the values of all rows."""

TIMEOUT = 1.0
"""Seconds to wait for a write that hangs, for example on a file server that is away."""
# Seconds between the tries to write after an error that may pass: they double from the first to the longest.
FIRST_RETRY, LONGEST_RETRY = 0.1, 2.0
# The most rows from the window that are written before the next sample: writing them takes some 30 ms.
_BATCH = 1000
# The rows of a part of an export: making their lines takes some 0.3 ms.
_LINES_AT_ONCE = 20

_logger = logging.getLogger(__name__)


class CsvLog:
    """Mirrors the history to a CSV file while switched on.

    The columns are ``time`` (ISO 8601, UTC) and those of the history; a missing number is an empty field.
    Safe to use from any thread. Made by the monitor, which hands over each new row.

    A file keeps its columns. When series are added while the log runs, the rows from then on go to the next
    part, whose header has them too: ``run.part2.csv`` after ``run.csv``, then ``run.part3.csv``. So nothing
    is copied, however long the log is, and each file is a valid CSV file at every moment.
    ``read_csv("run.csv")`` joins the parts. Move or delete them together.

    An error that may pass, such as a full disk, does not end the log. The write is tried again until it
    succeeds, with all rows that are still in the window, so a shortage that is shorter than the window loses
    nothing; ``error`` says meanwhile what is wrong. Rows that left the window before are missing in the file,
    and ``error`` says how many. Any other error, such as a file that was deleted, ends the log.

    Files are created for their owner only (0600), since rows and spans may hold secrets. Later parts get the
    permissions that ``run.csv`` has then.

    Rows that were written stay if the process is killed. Lost are those that wait in the window after a write
    that failed, and the one being written: its line may be torn, and ``read_csv`` leaves it out.

    Rows are not forced to the disk (fsync), since that may take longer than an interval. If the power fails,
    or the machine crashes, the rows that the OS kernel had not written yet are lost: those of the last half
    minute or so.
    """

    def __init__(
        self, columns: Sequence[str], rows: Callable[[], Rows], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.ending: Callable[[], object] = lambda: None
        """Called before the file is closed, for what is written next to it."""
        self._columns = tuple(columns)
        self._rows = rows
        self._clock = clock
        self._parts: LogParts | None = None
        self._stopped = False  # a thread that is writing closes the file when it finds this set
        self._path: Path | None = None
        self._newest = 0
        self._count = 0
        self._behind = False  # whether rows wait in the window, since writing failed
        self._retry_at = self._delay = 0.0  # when to try again (by the clock), and the seconds waited for it
        self._lost = 0  # how many rows left the window before they could be written
        self._error: str | None = None
        self._reason: str | None = None
        self._warnings: list[str] = []  # to be logged once the lock is free
        self._columns_error: str | None = None
        self._lock = threading.Lock()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: leave the file to the parent, without having written to it."""
        self._lock = threading.Lock()
        self._close()

    @property
    def running(self) -> bool:
        """Whether rows are being written."""
        return self._parts is not None and not self._stopped

    @property
    def path(self) -> Path | None:
        """The first file of the log being written, or of the last one; None before the first."""
        return self._path

    @property
    def rows(self) -> int:
        """How many rows the log at ``path`` has, in all its parts."""
        return self._count

    @property
    def error(self) -> str | None:
        """Why the log did not start, has ended, cannot write at present or lacks rows; None if all is well.

        While ``running`` is True, the log tries again.
        """
        return self._error

    @property
    def columns_error(self) -> str | None:
        """Why a running log lacks the series that were added last; None while it has all columns."""
        return self._columns_error if self.running else None

    @property
    def reason(self) -> str | None:
        """``error`` in words that name no directory: for clients of a server."""
        return self._reason if self._error else None

    def __repr__(self) -> str:
        written = f"{self._count} rows in {self._path}" if self._path is not None else "start() begins one"
        error = f"; {self._error}" if self._error else ""
        return f"<CsvLog {'on' if self.running else 'off'}: {written}{error}>"

    def start(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the rows already in the window, then each new one; returns the path of the first file.

        The default path is ``perfmon-<date>-<time>.csv`` in the working directory. A file that exists is
        never touched: ``run.csv`` becomes ``run-2.csv``. Series that are added later begin another part,
        ``run.part2.csv``, which ``read_csv("run.csv")`` reads too; see the class. Does nothing if the log is
        running into that file already.

        Raises RuntimeError if it is running into another file, and OSError, with what to do, if the file
        cannot be written; then nothing has changed.
        """
        with self._lock:
            if self._stopped:
                self._end()  # stop() may have timed out while a write hung, which has ended since
            if self._parts is not None and self._path is not None:
                if not path or absolute(path) in (self._asked, self._path):
                    return self._path
                raise RuntimeError(f"already logging to {self._path}; stop that log before starting another")
            self._stopped = False
            try:
                self._open(absolute(path or f"perfmon-{datetime.now():%Y%m%d-%H%M%S}.csv"))
            except OSError as error:
                self._error, self._reason = error.strerror, os.strerror(error.errno or errno.EIO)
                raise
            if self._stopped:
                self._end()
            assert self._path is not None  # noqa: S101 - for the type checker
            return self._path

    def stop(self) -> None:
        """Close the file; what it holds stays. Does nothing if the log is not running.

        If a write hangs for more than a second, the thread that writes closes the file as soon as it can.
        """
        self._stopped = True
        taken: list[bool] = []
        try:
            acquire(self._lock, TIMEOUT, taken)
            # Not if a start() has ended the log and started another meanwhile.
            if True in taken and self._stopped:
                self._end()
        finally:
            if True in taken:
                self._lock.release()
        self._warn()

    def export(self, after: np.datetime64 | None = None) -> bytes:
        """Return what a log started now would hold, header and window, without writing a file.

        ``after`` is a time in UTC: only later rows are returned.
        """
        return b"".join(self.export_parts(after))

    def export_parts(self, after: np.datetime64 | None = None) -> Iterator[bytes]:
        """Yield what export() returns, in parts that take little time and memory each.

        Does not take the lock: a long window takes seconds, and the next sample must not wait for it.
        """
        columns = self._columns  # before the rows: those may have more columns, never less
        _, times, values = self._rows()
        yield header_line(columns)
        for start in range(0, len(times), _LINES_AT_ONCE):
            part = slice(start, start + _LINES_AT_ONCE)
            rows = zip(times[part], np.asarray(values[part], dtype=float).tolist(), strict=True)
            yield b"".join(
                [row_line(time, row, len(columns)) for time, row in rows if after is None or time > after]
            )

    def append(self, number: int, time: np.datetime64, values: Sequence[float]) -> None:
        """Write one row if the log is running. Never raises: what goes wrong is in ``error``; see the class.

        ``number`` is the row's in the history: a row that start() has written already is not written again.
        """
        with self._lock:
            parts = self._parts
            if parts is None or self._stopped or number <= self._newest:
                return
            if self._behind and self._clock() < self._retry_at:
                return  # the row waits in the window
            try:
                self._follow_columns(parts)
                if number == self._newest + 1:
                    self._write(parts, row_line(time, values, len(parts.columns)), 1)
                    self._newest, self._behind = number, False
                else:
                    self._catch_up(parts, _BATCH)
                    self._behind = number > self._newest
                if self._delay:
                    self._recover()
            except OSError as error:
                self._fail(error, parts.last)
            if self._stopped:
                self._end()
        self._warn()

    def _catch_up(self, parts: LogParts, most: int) -> int:
        """Write up to ``most`` rows of the window that follow the newest one written; return how many.

        Rows that have left the window are counted as lost.
        """
        newest, times, values = self._rows()
        oldest = newest - len(times) + 1
        first = max(0, self._newest + 1 - oldest)
        rows = slice(first, first + most)
        lines = _lines(times[rows], values[rows], len(parts.columns))
        if lines:
            self._write(parts, b"".join(lines), len(lines))
        self._lost += max(0, oldest - self._newest - 1)
        self._newest = max(self._newest, oldest + first + len(lines) - 1)
        return len(lines)

    def _fail(self, error: OSError, path: Path) -> None:
        """Set the error. One that may pass has the rows wait in the window, any other ends the log."""
        text = sentence(error, path)
        if error.errno in TRANSIENT:
            self._behind = True
            self._delay = min(2 * self._delay or FIRST_RETRY, LONGEST_RETRY)
            self._retry_at = self._clock() + self._delay
            text += "; tried again until it succeeds, with the rows that are still in the window"
        else:
            self._stopped, self._behind = True, False
        if text != self._error:
            self._warnings.append(text)
        self._error, self._reason = text, os.strerror(error.errno or errno.EIO)

    def _recover(self) -> None:
        """Rows are written again: clear the error, or say how many rows are missing."""
        self._delay = 0.0
        self._error = self._reason = None
        if self._lost:
            self._reason = f"{self._lost} rows are missing: they left the window before they could be written"
            self._error = f"{self._reason} to {self._path}"
            self._warnings.append(self._error)

    def _warn(self) -> None:
        # Not under the lock: a handler of the user's may take long, or ask the log for something.
        while self._warnings:
            _logger.warning("log: %s", self._warnings.pop(0))

    def add_columns(self, columns: Sequence[str]) -> None:
        """Append columns, without those that exist already: the next row begins a part that has them."""
        with self._lock:
            self._columns += tuple(column for column in columns if column not in self._columns)

    def _follow_columns(self, parts: LogParts) -> None:
        """Go on in the next part if columns were added. On an error stay in this one, without them, for now.

        A row that lacks a series is better than no row: a disk without room for a file may have room for a
        line.
        """
        if len(parts.columns) == len(self._columns):
            return
        try:
            parts.begin(self._columns)
        except OSError as error:
            self._columns_error = (
                f"cannot begin another part of {self._path}: {error.strerror}; until that succeeds, rows are "
                f"written without {', '.join(self._columns[len(parts.columns) :])}"
            )
        else:
            self._columns_error = None

    def _open(self, asked: Path) -> None:
        """Create the file and write what the window holds; all or nothing."""
        try:
            parts = LogParts(asked, self._columns)
        except OSError as error:
            raise type(error)(error.errno, sentence(error, asked)) from None
        before = self._count
        # Running before the window is read: the monitor does not hand over a row that it stored while no log
        # was running, so such a row has to be found in the window.
        self._parts = parts
        self._count = 0
        try:
            newest, times, values = self._rows()
            lines = _lines(times, values, len(parts.columns))
            self._write(parts, b"".join(lines), len(lines))
        except BaseException as error:
            self._close()
            parts.first.unlink(missing_ok=True)
            self._count = before
            if isinstance(error, OSError):
                raise type(error)(error.errno, sentence(error, parts.first)) from None
            raise
        self._asked, self._newest = asked, newest
        self._error = self._reason = self._columns_error = None
        self._behind, self._delay, self._lost = False, 0.0, 0
        # Last, since spans are written next to a log as soon as it has a path.
        self._path = parts.first

    def _write(self, parts: LogParts, lines: bytes, rows: int) -> None:
        parts.write(lines)
        self._count += rows

    def _end(self) -> None:
        """Write the rows that wait in the window, if that is possible by now, and close the file."""
        try:
            if self._behind and self._parts is not None:
                self._write_what_waits(self._parts)
            self.ending()
        finally:
            self._close()

    def _write_what_waits(self, parts: LogParts) -> None:
        self._behind = False
        try:
            self._follow_columns(parts)
            while self._catch_up(parts, _BATCH):
                pass
            if self._delay:
                self._recover()
        except OSError as error:
            missing = max(0, self._rows()[0] - self._newest) + self._lost
            self._reason = f"{os.strerror(error.errno or errno.EIO)}; {missing} rows are missing"
            self._error = f"{sentence(error, parts.last)}; the last {missing} rows are missing in the file"
            self._warnings.append(self._error)

    def _close(self) -> None:
        parts, self._parts = self._parts, None
        if parts is not None:
            parts.close()


def _lines(times: _Times, values: _Values, width: int) -> list[bytes]:
    """Return the line of each row, with the first ``width`` of its values."""
    rows = zip(times, np.asarray(values, dtype=float).tolist(), strict=True)
    return [row_line(time, row, width) for time, row in rows]
