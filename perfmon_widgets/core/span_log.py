"""SpanLog: cells, spans and marks on disk, beside the log of the rows; read_spans reads them back.

One line when something starts and another when it has ended, so that the file also tells in which cell a
process was killed. As in the log of the rows, what is known is written by one call, and stays.
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

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("number", "kind", "name", "start", "end", "execution_count", "raised")


class SpanLog:
    """What ``spans`` has, beside ``log`` as long as that is running: run.spans.csv beside run.csv.

    There is no file before there is something to write. What goes wrong ends it for that log, see ``error``,
    and nothing else. To be used from any thread.
    """

    def __init__(self, log: CsvLog, spans: Spans) -> None:
        self.error: str | None = None
        """Why the file is not, or no longer, written."""
        self._log = log
        self._spans = spans
        self._beside: Path | None = None  # the log beside which the file lies
        self._made = self._over = False
        self._lock = threading.Lock()
        log.ending = self.end
        renew_after_fork(self)

    def write(self) -> None:
        """Write what is new. Never raises."""
        if self._log.path is None:
            self._spans.news()  # which a log that starts later has from all that there are
            return
        # Not waited for: who holds it may be what a signal handler, which puts a mark, has interrupted. They
        # look for more themselves when they have let go of it.
        while self._behind() and self._lock.acquire(blocking=False):
            try:
                self._write()
            finally:
                self._lock.release()

    def _behind(self) -> bool:
        return self._spans.has_news or self._log.path is not self._beside

    def end(self) -> None:
        """Write what is new, the last beside this log. Never raises, nor waits for a write that hangs."""
        if self._lock.acquire(timeout=TIMEOUT):
            try:
                self._write()
            finally:
                self._lock.release()
        self._over = True

    def _write(self) -> None:
        path = self._log.path
        news = self._spans.news()
        if path is not self._beside:  # each start makes one of its own: a name may come again
            self._beside, self._made, self._over, self.error = path, False, False, None
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
                os.ftruncate(descriptor, size)  # so that the file ends with a whole line
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)

    def renew_after_fork(self) -> None:
        """In a forked child: leave the file to the parent."""
        self._lock = threading.Lock()  # the parent's may have been held when the fork happened
        self._beside, self._over = self._log.path, True  # the parent may not have come to write to it yet


def read_spans(path: str | os.PathLike[str]) -> pd.DataFrame:
    """The cells, spans and marks beside a log: of ``run.csv`` those in ``run.spans.csv``.

    Columns ``kind`` (cell, span or mark), ``name``, ``start`` and ``end`` (UTC; NaT for what was going on
    when the process ended), ``duration_seconds``, ``execution_count``, ``raised``; in the order of their
    starts, none if none were written. Raises OSError if the log cannot be read and ValueError for another
    file.
    """
    path = Path(path)
    try:
        content = spans_path(path).read_bytes()
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ENAMETOOLONG}:
            raise
        path.stat()  # without the log itself, its name is wrong
        return table([])
    rows = csv.reader(io.StringIO(content[: content.rfind(b"\n") + 1].decode(), newline=""))
    try:
        if tuple(next(rows, ())) != _COLUMNS:
            raise ValueError("its first line is another one")
        # The line at the end of a span replaces the one at its start.
        spans = {span.number: span for span in map(_span, rows)}
    except (ValueError, TypeError, csv.Error) as error:
        raise ValueError(f"{spans_path(path)} has no spans of perfmon_widgets: {error}") from None
    return table(sorted(spans.values(), key=lambda span: span.number))


def _fields(span: Span) -> tuple[object, ...]:
    name = " ".join(span.name.splitlines())  # a line that was torn can be told only if it is one
    return (
        span.number, span.kind, name, _time(span.start), _time(span.end), span.execution_count, span.raised
    )  # fmt: skip


def _span(fields: list[str]) -> Span:
    number, kind, name, start, end, count, raised = fields
    return Span(
        int(number),
        kind,
        name,
        _seconds(start),
        _seconds(end),
        raised == "True",
        int(count) if count else None,
    )


def _time(seconds: float) -> str:
    if math.isnan(seconds):
        return ""
    moment = datetime.fromtimestamp(round(seconds * 1e6) / 1e6, timezone.utc).replace(tzinfo=None)
    return f"{moment.isoformat(timespec='microseconds')}Z"


def _seconds(text: str) -> float:
    if not text:
        return math.nan
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
