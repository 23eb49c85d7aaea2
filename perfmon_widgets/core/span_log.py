"""SpanLog: cells, spans and marks in a file next to the log of the rows; read_spans() reads them back.

One line is written when a span starts and another when it has ended, so that the file also shows in which
cell a process was killed. Lines are only ever appended, all new ones in one call, as in the log of the rows.
"""

from __future__ import annotations

import csv
import errno
import io
import math
import os
import threading
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from perfmon_widgets.core.csv_log import TIMEOUT, CsvLog
from perfmon_widgets.core.log_files import APPEND, sentence, spans_path
from perfmon_widgets.core.spans import CELL, MARK, SPAN, Span, Spans, table
from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.interrupts import acquire

if TYPE_CHECKING:
    import pandas as pd

_FIRST_COLUMNS = ("number", "kind", "name", "start", "end", "execution_count", "raised")
"""All columns of a file that an older version wrote."""
_COLUMNS = (*_FIRST_COLUMNS, "duration_seconds", "cpu_seconds")


class SpanLog:
    """Writes ``spans`` next to ``log`` while that is running: run.spans.csv next to run.csv.

    The file is made when there is something to write. An error ends the file of that log, see ``error``, and
    nothing else. Safe to use from any thread.
    """

    def __init__(self, log: CsvLog, spans: Spans) -> None:
        self.error: str | None = None
        """Why the file is not written, or not any longer; None if there was no error."""
        self._log = log
        self._spans = spans
        self._path: Path | None = None  # of the log that the file belongs to
        self._made = self._over = False  # whether the file exists; whether nothing is written to it any more
        self._lock = threading.Lock()
        log.ending = self.end
        renew_after_fork(self)

    def write(self) -> None:
        """Write what is new. Never raises."""
        if self._log.path is None:
            self._spans.news()  # dropped: a log that starts later begins with all spans there are
            return
        # Not waiting: this may be a signal handler that adds a mark, and the interrupted code may hold the
        # lock. The thread that holds the lock checks for more after releasing it.
        while self._behind() and self._write_within(0):
            pass

    def _behind(self) -> bool:
        return self._spans.has_news or self._log.path is not self._path

    def end(self) -> None:
        """Write what is new for the last time. Never raises; gives up on a write that hangs."""
        self._write_within(TIMEOUT)
        self._over = True

    def _write_within(self, seconds: float) -> bool:
        """Write what is new, if the lock becomes free within so many seconds; returns whether it did."""
        taken: list[bool] = []
        try:
            acquire(self._lock, seconds, taken)
            if True in taken:
                self._write()
        finally:
            if True in taken:
                self._lock.release()
        return True in taken

    def _write(self) -> None:
        path = self._log.path
        news = self._spans.news()
        if path is not self._path:  # compared as objects, because two logs may have had the same name
            self._path, self._made, self._over, self.error = path, False, False, None
            news = self._spans.all(CELL, SPAN, MARK)
        if path is not None and news and not self._over:
            try:
                self._append(spans_path(path), news)
            except OSError as error:
                self.error, self._over = sentence(error, spans_path(path)), True

    def _append(self, path: Path, news: Iterable[Span]) -> None:
        text = io.StringIO(newline="")
        lines = csv.writer(text, lineterminator="\n")
        if not self._made:
            lines.writerow(_COLUMNS)
        lines.writerows(map(_fields, news))
        content = text.getvalue().encode()
        descriptor = os.open(path, APPEND if self._made else APPEND | os.O_CREAT | os.O_EXCL, 0o666)
        self._made = True
        try:
            size = os.fstat(descriptor).st_size
            if os.write(descriptor, content) < len(content):
                os.ftruncate(descriptor, size)  # the file must end with a whole line
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)

    def renew_after_fork(self) -> None:
        """In a forked child: leave the file to the parent."""
        self._lock = threading.Lock()  # a thread of the parent may have held the old one
        self._path, self._over = self._log.path, True  # also if the parent has not made the file yet


def read_spans(path: str | os.PathLike[str]) -> pd.DataFrame:
    """The cells, spans and marks of a log as a DataFrame: of ``run.csv`` those in ``run.spans.csv``.

    Columns ``kind`` (cell, span or mark), ``name``, ``start`` and ``end`` (UTC; NaT for what was going on
    when the process ended), ``duration_seconds``, ``cpu_seconds`` (of the process), ``execution_count`` and
    ``raised``, one row each, in the order of their starts. In a file of an older version durations are
    ``end - start`` and CPU times NaN. Raises OSError if the log cannot be read and ValueError for a file of
    another kind.
    """
    path = Path(path)
    try:
        content = spans_path(path).read_bytes()
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ENAMETOOLONG}:
            raise
        path.stat()  # raises if there is no log either: then the name is wrong
        return table([])
    rows = csv.reader(io.StringIO(content[: content.rfind(b"\n") + 1].decode(), newline=""))
    try:
        if tuple(next(rows, ())) not in {_COLUMNS, _FIRST_COLUMNS}:
            raise ValueError("its first line does not name the columns of such a file")
        # The line at the end of a span replaces the one at its start.
        spans = {span.number: span for span in map(_span, rows)}
    except (ValueError, TypeError, csv.Error) as error:
        raise ValueError(f"{spans_path(path)} has no spans of perfmon_widgets: {error}") from None
    return table(sorted(spans.values(), key=lambda span: span.number))


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
