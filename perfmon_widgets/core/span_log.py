"""SpanLog: cells, spans and marks in a file next to the log of the rows; read_spans() reads them back.

One line is written when a span starts and another when it has ended, so that the file also shows in which
cell a process was killed. Lines are only ever appended, all new ones in one call, as in the log of the rows.
"""

from __future__ import annotations

import csv
import errno
import io
import logging
import math
import os
import stat
import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from perfmon_widgets.clocks import time
from perfmon_widgets.core.csv_log import FIRST_RETRY, LONGEST_RETRY, TIMEOUT, CsvLog
from perfmon_widgets.core.log_files import APPEND, PRIVATE, TRANSIENT, append_whole, sentence, spans_path
from perfmon_widgets.core.spans import CELL, MARK, NEWS, SPAN, Span, Spans, table
from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.interrupts import acquire

if TYPE_CHECKING:
    import pandas as pd

_FIRST_COLUMNS = ("number", "kind", "name", "start", "end", "execution_count", "raised")
"""All columns of a file that an older version wrote."""
_COLUMNS = (*_FIRST_COLUMNS, "duration_seconds", "cpu_seconds")


_DROPPED = "dropped"
"""The kind of a line that says in ``execution_count`` how many lines are missing before it."""

_logger = logging.getLogger(__name__)


class SpanLog:
    """Writes ``spans`` next to ``log`` while that is running: run.spans.csv next to run.csv.

    The file is made when there is something to write, with the permissions of the log, and stays open: a link
    or a pipe that is put in its place later is not written to.

    An error that may pass, such as a full disk, has the lines wait in memory, and the write is tried again;
    any other ends the file of that log, and nothing else. See ``error``. At most ``NEWS`` lines wait. If more
    come, the oldest are dropped, and ``error`` and a line of the file (kind ``dropped``) say how many.
    Safe to use from any thread.
    """

    def __init__(self, log: CsvLog, spans: Spans, clock: Callable[[], float] = time.monotonic) -> None:
        self.error: str | None = None
        """Why the file is not written at present or any longer, or what it lacks; None if all is well."""
        self._log = log
        self._spans = spans
        self._clock = clock
        self._path: Path | None = None  # of the log that the file belongs to
        self._descriptor: int | None = None
        self._over = False  # whether nothing is written to the file any more
        self._waiting: deque[Span] = deque(maxlen=NEWS)
        self._dropped = 0  # how many lines the file lacks
        self._unsaid = 0  # how many of those the file does not mention yet
        self._retry_at = self._delay = 0.0  # when to try again (by the clock), and the seconds waited for it
        self._warnings: list[str] = []  # to be logged once the lock is free
        self._lock = threading.Lock()
        log.ending = self.end
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: leave the file to the parent."""
        self._lock = threading.Lock()  # a thread of the parent may have held the old one
        self._close()
        self._waiting.clear()
        self._path, self._over = self._log.path, True  # also if the parent has not made the file yet

    def write(self) -> None:
        """Write what is new. Never raises."""
        if self._log.path is None:
            self._spans.news()  # dropped: a log that starts later begins with all spans there are
            return
        # Not waiting: this may be a signal handler that adds a mark, and the interrupted code may hold the
        # lock. The thread that holds the lock checks for more after releasing it.
        while self._behind() and self._write_within(0):
            pass
        while self._warnings:
            _logger.warning("span log: %s", self._warnings.pop(0))

    def _behind(self) -> bool:
        if self._spans.has_news or self._log.path is not self._path:
            return True
        if self._over:  # end() gave up on a write that hung
            return self._descriptor is not None
        return bool(self._waiting) and self._clock() >= self._retry_at

    def end(self) -> None:
        """Write what is new for the last time. Never raises; gives up on a write that hangs."""
        self._retry_at = 0.0
        self._write_within(TIMEOUT, last=True)
        self._over = True

    def _write_within(self, seconds: float, *, last: bool = False) -> bool:
        """Write what is new, if the lock becomes free within ``seconds``; returns whether it did."""
        taken: list[bool] = []
        try:
            acquire(self._lock, seconds, taken)
            if True in taken:
                self._write()
                if last and self._waiting:
                    self.error = f"{len(self._waiting)} starts, ends and marks are missing: {self.error}"
                if last or self._over:
                    self._close()
                    self._waiting.clear()
        finally:
            if True in taken:
                self._lock.release()
        return True in taken

    def _write(self) -> None:
        path = self._log.path
        news, dropped = self._spans.news(), self._spans.take_dropped()
        if path is not self._path:  # compared as objects, because two logs may have had the same name
            self._close()
            self._path, self._over, self.error = path, False, None
            self._waiting.clear()
            self._dropped = self._unsaid = 0
            self._retry_at = self._delay = 0.0
            news, dropped = self._spans.all(CELL, SPAN, MARK), 0
        if path is None or self._over:
            return
        dropped += max(0, len(self._waiting) + len(news) - NEWS)
        self._waiting.extend(news)
        self._dropped += dropped
        self._unsaid += dropped
        if not self._waiting or self._clock() < self._retry_at:
            return
        try:
            self._append(path)
        except OSError as error:
            self._fail(error, spans_path(path))
        else:
            self._waiting.clear()
            self._recover(path)

    def _append(self, log: Path) -> None:
        """Write all lines that wait in one call: all of them, or none and an OSError."""
        if self._descriptor is None:
            self._descriptor = _create(log)
        status = os.fstat(self._descriptor)
        if status.st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "the file was deleted; start another log")
        text = io.StringIO(newline="")
        lines = csv.writer(text, lineterminator="\n")
        if status.st_size == 0:  # a new file, or one that somebody has emptied, as ``> run.spans.csv`` does
            lines.writerow(_COLUMNS)
        if self._unsaid:
            what = "starts, ends and marks were dropped"
            lines.writerow((0, _DROPPED, what, "", "", self._unsaid, "", "", ""))
        lines.writerows(map(_fields, self._waiting))
        append_whole(self._descriptor, text.getvalue().encode())

    def _fail(self, error: OSError, path: Path) -> None:
        """Set the error. One that may pass has the lines wait, any other ends the file."""
        text = sentence(error, path)
        if error.errno in TRANSIENT:
            self._delay = min(2 * self._delay or FIRST_RETRY, LONGEST_RETRY)
            self._retry_at = self._clock() + self._delay
            text += "; tried again until it succeeds"
        else:
            self._over = True
        if text != self.error:
            self._warnings.append(text)
        self.error = text

    def _recover(self, log: Path) -> None:
        """All lines are written: clear the error, or say how many the file lacks."""
        self._delay, self.error = 0.0, None
        if self._dropped:
            self.error = (
                f"{self._dropped} starts, ends and marks are missing in {spans_path(log)}: more came than "
                "could be written"
            )
            if self._dropped == self._unsaid:  # the first ones
                self._warnings.append(self.error)
        self._unsaid = 0

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _create(log: Path) -> int:
    """Create the file next to the log, with its permissions; returns a descriptor.

    Only a file that is created here is written to: O_EXCL refuses one that exists, a link and a pipe too.
    """
    permissions = stat.S_IMODE(log.stat().st_mode) if log.exists() else PRIVATE
    descriptor = os.open(spans_path(log), APPEND | os.O_CREAT | os.O_EXCL, permissions)
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != permissions:
            spans_path(log).chmod(permissions)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_spans(path: str | os.PathLike[str]) -> pd.DataFrame:
    """The cells, spans and marks of a log as a DataFrame: of ``run.csv`` those in ``run.spans.csv``.

    Columns ``kind`` (cell, span or mark), ``name``, ``start`` and ``end`` (UTC; NaT for what was going on
    when the process ended), ``duration_seconds``, ``cpu_seconds`` (of the process), ``execution_count`` and
    ``raised``, one row each, in the order of their starts. In a file of an older version durations are
    ``end - start`` and CPU times NaN. ``attrs["dropped"]`` is how many starts, ends and marks are missing,
    since more came than could be written. Raises OSError if the log cannot be read and ValueError for a file
    of another kind.
    """
    path = Path(path)
    try:
        content = spans_path(path).read_bytes()
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ENAMETOOLONG}:
            raise
        path.stat()  # raises if there is no log either: then the name is wrong
        return table([])
    content = content[: content.rfind(b"\n") + 1]
    if not content:
        return table([])  # emptied, or the process was killed before it could write the header
    rows = csv.reader(io.StringIO(content.decode(), newline=""))
    try:
        if tuple(next(rows, ())) not in {_COLUMNS, _FIRST_COLUMNS}:
            raise ValueError("its first line does not name the columns of such a file")
        # The line at the end of a span replaces the one at its start.
        spans: dict[int, Span] = {}
        dropped = 0
        for span in map(_span, rows):
            if span.kind == _DROPPED:
                dropped += span.execution_count or 0
            else:
                spans[span.number] = span
    except (ValueError, TypeError, csv.Error) as error:
        raise ValueError(f"{spans_path(path)} has no spans of perfmon_widgets: {error}") from None
    frame = table(sorted(spans.values(), key=lambda span: span.number))
    frame.attrs["dropped"] = dropped
    return frame


def _fields(span: Span) -> tuple[object, ...]:
    name = " ".join(span.name.splitlines())  # one line for each, so that a torn last line is recognized
    return (
        *(span.number, span.kind, name, _time(span.start), _time(span.end)),
        *(span.execution_count, span.raised, _number(span.seconds), _number(span.cpu_seconds)),
    )


def _span(fields: list[str]) -> Span:
    number, kind, name, start, end, count, raised, *measured = fields
    seconds, cpu_seconds = measured or ("", "")
    return Span(
        int(number),
        kind,
        name,
        _seconds(start),
        _seconds(end),
        raised == "True",
        int(count) if count else None,
        float(seconds or "nan"),
        float(cpu_seconds or "nan"),
    )


def _number(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{seconds:.6f}"


def _time(seconds: float) -> str:
    if math.isnan(seconds):
        return ""
    moment = datetime.fromtimestamp(round(seconds * 1e6) / 1e6, timezone.utc).replace(tzinfo=None)
    return f"{moment.isoformat(timespec='microseconds')}Z"


def _seconds(text: str) -> float:
    if not text:
        return math.nan
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
