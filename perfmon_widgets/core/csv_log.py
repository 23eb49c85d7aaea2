"""CsvLog: the rows of the history on disk, switched on and off; read_csv reads them back.

A row is one line, written by one call, so that a kill at any moment tears at most the line being written.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import re
import stat
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

Rows = tuple[int, Iterable["np.datetime64"], Iterable[Sequence[float]]]
"""The number of the newest row, then the times (to the microsecond, UTC) and the values of all rows."""

APPEND = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)
"""How a log is opened."""

TIMEOUT = 1.0
"""How many seconds to wait for a write that hangs, on a file server that is away."""

_WITHOUT_ZONE = re.compile(r"[T ]\d\d:\d\d(:\d\d(\.\d+)?)?$")

_WORDS = {
    errno.ENOENT: "the directory {folder} does not exist; create it, or name another",
    errno.ENOTDIR: "{folder} is not a directory; name another",
    errno.EACCES: "no permission to write in {folder}; name a directory that you may write in",
    errno.EPERM: "no permission to write in {folder}; name a directory that you may write in",
    errno.EROFS: "{folder} is read-only; name a directory that you may write in",
    errno.ENOSPC: "the disk is full; free some space, then switch the log on again",
    errno.EDQUOT: "your disk quota is used up; free some space, then switch the log on again",
    errno.EISDIR: "it is a directory; name a file in it",
}


class CsvLog:
    """The history mirrored to a CSV file while switched on.

    The columns are ``time`` (ISO 8601, UTC) and those of the history; a missing number is an empty field.
    Safe to use from any thread. Made by the monitor, which hands it each new row.
    """

    def __init__(self, columns: Sequence[str], rows: Callable[[], Rows]) -> None:
        self.ending: Callable[[], object] = lambda: None
        """Called before the file is closed, for what is written beside it."""
        self._columns = tuple(columns)
        self._rows = rows
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._stopped = False  # if so while somebody writes, they close the file after it
        self._path: Path | None = None
        self._newest = 0
        self._count = 0
        self._error: str | None = None
        self._errno: int | None = None

    @property
    def running(self) -> bool:
        """Whether rows are being written."""
        return self._descriptor is not None and not self._stopped

    @property
    def path(self) -> Path | None:
        """The file being written, or the last one that was; None before the first."""
        return self._path

    @property
    def rows(self) -> int:
        """How many rows that file holds."""
        return self._count

    @property
    def error(self) -> str | None:
        """Why the log switched itself off or did not start; None after a start that went well."""
        return self._error

    @property
    def reason(self) -> str | None:
        """The same in the operating system's own words, which name no directory: for those outside."""
        return os.strerror(self._errno or errno.EIO) if self._error else None

    def start(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the rows already in the window, then each new one; returns the file that is written.

        Without a path that is ``perfmon-<date>-<time>.csv`` in the working directory. A file that exists is
        never touched: ``run.csv`` becomes ``run-2.csv``. Does nothing if that log is running already. Raises
        RuntimeError if it is running into another file, and OSError, saying what to do, if the file cannot be
        written; then nothing has changed.
        """
        with self._lock:
            if self._stopped:
                self._end()  # stop() may have lost patience with a writer that had looked for it already
            if self._descriptor is not None and self._path is not None:
                if not path or _absolute(path) in (self._asked, self._path):
                    return self._path
                raise RuntimeError(f"already logging to {self._path}; stop that log before starting another")
            self._stopped = False
            try:
                self._open(_absolute(path or f"perfmon-{datetime.now():%Y%m%d-%H%M%S}.csv"))
            except OSError as error:
                self._error, self._errno = error.strerror, error.errno
                raise
            if self._stopped:
                self._end()
            assert self._path is not None  # noqa: S101 - for the type checker
            return self._path

    def stop(self) -> None:
        """Close the file; what it holds stays. Does nothing if the log is not running.

        If a write hangs for more than a second, the thread that writes closes the file, as soon as it can.
        """
        self._stopped = True
        if self._lock.acquire(timeout=TIMEOUT):
            try:
                if self._stopped:  # else a start has come in between, after it has ended the log
                    self._end()
            finally:
                self._lock.release()

    def export(self, after: np.datetime64 | None = None) -> bytes:
        """What a log that is started now would hold, without writing a file: header and window.

        With a time (UTC), only the rows that are later.
        """
        with self._lock:  # no column is added meanwhile
            _, lines = self._window(after)
            return _header(self._columns) + b"".join(lines)

    def _window(self, after: np.datetime64 | None = None) -> tuple[int, list[bytes]]:
        """The number of the newest row, and the lines of the rows that the window holds."""
        newest, times, values = self._rows()
        rows = zip(times, values, strict=True)
        return newest, [self._line(time, row) for time, row in rows if after is None or time > after]

    def append(self, number: int, time: np.datetime64, values: Sequence[float]) -> None:
        """Write one row if the log is running. Never raises: what goes wrong switches it off, see ``error``.

        ``number`` is the row's in the history: a row that the start has written already is not written twice.
        """
        with self._lock:
            if self._descriptor is None or self._stopped or number <= self._newest:
                return
            try:
                self._write(self._line(time, values), 1)
                self._newest = number
            except OSError as error:
                self._fail(error)
            if self._stopped:
                self._end()

    def add_columns(self, columns: Sequence[str]) -> None:
        """Have more columns, behind those there are: the rows that are written already get empty fields.

        Nothing is done for a column that is there already. The file is written anew beside the old one, which
        it then replaces, so that at every moment one whole file is there. Never raises: what goes wrong
        switches the log off, and the file stays as it was.
        """
        with self._lock:
            new = [column for column in columns if column not in self._columns]
            if self.running and new:
                try:
                    self._widen(new)
                except OSError as error:
                    self._fail(error)
                if self._stopped:
                    self._end()
            self._columns = (*self._columns, *new)

    def _widen(self, columns: Sequence[str]) -> None:
        assert self._descriptor is not None  # noqa: S101 - for the type checker
        assert self._path is not None  # noqa: S101
        # Of the name a part, because it may be as long as one can be.
        written, beside = tempfile.mkstemp(prefix=f"{self._path.name[:50]}.", dir=self._path.parent)
        try:
            with os.fdopen(written, "wb") as wider, self._path.open("rb") as file:
                status = os.fstat(self._descriptor)
                if not os.path.samestat(status, os.fstat(file.fileno())):
                    raise FileNotFoundError(errno.ENOENT, "the file was moved while it was being written")
                header = _header(self._columns)
                if file.read(len(header)) != header:
                    file.seek(0)  # somebody has emptied it
                wider.write(_header((*self._columns, *columns)))
                for part in iter(lambda: file.read(2**20), b""):
                    wider.write(part.replace(b"\n", b"," * len(columns) + b"\n"))
                wider.flush()
                os.fsync(written)
                Path(beside).chmod(stat.S_IMODE(status.st_mode))
            self._close()  # Windows replaces no file that is open
            Path(beside).replace(self._path)
            self._descriptor = os.open(self._path, APPEND)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise

    def _fail(self, error: OSError) -> None:
        self._error, self._errno = sentence(error, self._path), error.errno
        self._stopped = True

    def _end(self) -> None:
        try:
            self.ending()
        finally:
            self._close()

    def _line(self, time: np.datetime64, values: Sequence[float]) -> bytes:
        """One row: the time to the microsecond, then every number with all its digits."""
        numbers = ["" if value != value else repr(value) for value in map(float, values)]  # noqa: PLR0124 - NaN
        # A row of the window may be from before a column was added.
        numbers += [""] * (len(self._columns) - len(numbers))
        return ",".join([f"{time}Z", *numbers]).encode() + b"\n"

    def _open(self, asked: Path) -> None:
        """Create the file and write what the window holds; all or nothing."""
        try:
            path, descriptor = _create(asked)
        except OSError as error:
            raise type(error)(error.errno, sentence(error, asked)) from None
        before = self._count
        # Running before the window is read: a row that was stored while no log ran, and is not handed over by
        # the monitor therefore, is in the window then.
        self._descriptor = descriptor
        self._count = 0
        try:
            newest, lines = self._window()
            self._write(_header(self._columns) + b"".join(lines), len(lines))
        except BaseException as error:
            self._close()
            path.unlink(missing_ok=True)
            self._count = before
            if isinstance(error, OSError):
                raise type(error)(error.errno, sentence(error, path)) from None
            raise
        # The path last, since the spans are written beside a log that has started.
        self._asked, self._newest, self._error, self._path = asked, newest, None, path

    def _write(self, content: bytes, rows: int) -> None:
        assert self._descriptor is not None  # noqa: S101 - for the type checker
        status = os.fstat(self._descriptor)
        if status.st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "the file was deleted while it was being written")
        written = os.write(self._descriptor, content)
        if written < len(content):
            # Part of it found room: take it back, so that the file ends with a whole line.
            os.ftruncate(self._descriptor, status.st_size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._count += rows

    def _close(self) -> None:
        # In this order, since an interrupt in between must not have another's file closed later.
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def forget(self) -> None:
        """In a forked child: leave the file to the parent, without having written to it."""
        self._lock = threading.Lock()  # the parent's may have been held when the fork happened
        self._close()


def read_csv(path: str | os.PathLike[str]) -> pd.DataFrame:
    """A log read back: index ``time`` (UTC) and float64 columns, as ``PerformanceMonitor.history`` has them.

    A last line that was torn by a kill is left out. Raises OSError if the file cannot be read and ValueError
    if it is not such a log.
    """
    import pandas as pd  # noqa: PLC0415 - a program that only samples never pays for it

    content = Path(path).read_bytes()
    whole = io.BytesIO(content[: content.rfind(b"\n") + 1])
    try:
        columns, times, values = _parse(io.TextIOWrapper(whole, "utf-8", newline=""))
        # pandas 2 takes a time without a zone to be in that of the time before it.
        zoned = [f"{time}Z" if _WITHOUT_ZONE.search(time) else time for time in times]
        index = pd.DatetimeIndex(pd.to_datetime(zoned, utc=True, format="ISO8601"), name="time")
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is not a log of perfmon_widgets: {error}") from None
    table = np.array(values, dtype=float).reshape(len(values), len(columns))
    frame: pd.DataFrame = pd.DataFrame(table, index=index.as_unit("us"), columns=pd.Index(columns))
    return frame


def _parse(lines: Iterable[str]) -> tuple[list[str], list[str], list[list[float]]]:
    """Columns, times and values of a log; raises ValueError or csv.Error if it is none.

    Not by pandas' own reader: what it must be told to keep every digit differs between its versions.
    """
    rows = csv.reader(lines)
    header = next(rows, None)
    if not header or header[0] != "time":
        raise ValueError("it does not begin with a column named time")
    times: list[str] = []
    values: list[list[float]] = []
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"line {rows.line_num} has {len(row)} fields instead of {len(header)}")
        times.append(row[0])
        values.append([float(field or "nan") for field in row[1:]])
    return header[1:], times, values


def _header(columns: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    # With both characters as the line's end, both are quoted in a name.
    csv.writer(text, lineterminator="\r\n").writerow(["time", *columns])
    return text.getvalue().removesuffix("\r\n").encode() + b"\n"


def _absolute(path: str | os.PathLike[str]) -> Path:
    """The full path; raises OSError for one that no file can have."""
    try:
        if "\0" in os.fspath(path):
            raise ValueError("a file name cannot contain a NUL character")
        return Path.cwd() / Path(path).expanduser()
    except (ValueError, RuntimeError) as error:  # RuntimeError: ~somebody who does not exist
        raise OSError(errno.EINVAL, f"cannot log to {os.fspath(path)!r}: {error}") from None
    except FileNotFoundError as error:
        reason = "the working directory does not exist any more; change to another"
        raise FileNotFoundError(error.errno, f"cannot log to {os.fspath(path)!r}: {reason}") from None


def _create(asked: Path) -> tuple[Path, int]:
    """Create the file, or the next numbered one that does not exist yet, and open it for appending."""
    if asked.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    number = 1
    while True:
        path = asked if number == 1 else asked.with_name(f"{asked.stem}-{number}{asked.suffix}")
        if os.path.lexists(spans_path(path)):  # left over from another log of this name
            number += 1
            continue
        try:
            return path, os.open(path, APPEND | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            number += 1


def spans_path(path: Path) -> Path:
    """Where the cells, spans and marks beside this log are written: ``run.spans.csv`` beside ``run.csv``."""
    return path.with_name(f"{path.stem}.spans{path.suffix}")


def sentence(error: OSError, path: Path | None) -> str:
    """What went wrong with a file and what to do about it."""
    words = _WORDS.get(error.errno or 0)
    folder = path.parent if path else Path()
    if error.errno == errno.ENOENT and folder.is_dir():
        words = None
    return f"cannot log to {path}: {words.format(folder=folder) if words else error.strerror or error}"
