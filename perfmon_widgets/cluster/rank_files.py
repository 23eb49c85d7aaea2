"""The files of ranks in a folder: their names, and how a log that grows is read by its new bytes only.

``rank0003.csv`` is the log of rank 3, ``rank0003-2.csv`` that of its second process (after an elastic
restart), ``rank0003.part2.csv`` goes on after new columns. ``rank0003.json`` says on which machine it runs.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from perfmon_widgets.clocks import time

_LOG = re.compile(r"rank(?P<rank>\d+)(-(?P<attempt>\d+))?(\.part(?P<part>\d+))?\.csv")
# The last bytes of a log that are read when it is seen for the first time: a line has a few hundred.
_LAST_BYTES = 65536
# A difference of clocks below this is how exactly a file system keeps time, and of no importance.
_SAME_TIME = 0.1


@dataclass(frozen=True)
class Process:
    """What the process of a rank says of itself, once."""

    rank: int
    host: str
    interval: float
    """Seconds between its rows."""
    started: float
    """When it began, in Unix seconds of its own clock."""
    clock_ahead: float
    """By how many seconds its clock is ahead of the file server's."""


def log_path(folder: Path, rank: int) -> Path:
    """Return where a rank logs to, if the name is free."""
    return folder / f"rank{rank:04}.csv"


def make(folder: Path) -> None:
    """Make the folder, if it does not exist; raises OSError, with what to do, if that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"the folder {folder} cannot be made: {error.strerror}; name another"
        raise type(error)(error.errno, reason) from None


def describe(log: Path, rank: int, host: str, interval: float, started: float) -> None:
    """Write what a process says of itself next to its log; raises OSError if that cannot be written."""
    path = log.with_suffix(".json")
    content = {"rank": rank, "host": host, "interval": interval, "started": started, "clock_ahead": 0.0}
    unfinished = path.with_suffix(".json.new")
    with unfinished.open("w") as file:
        json.dump(content, file)
        file.flush()
        before = time.time()
        os.fsync(file.fileno())
    # The time of a file is that of the server that it lies on: one clock that all ranks can read.
    ahead = (before + time.time()) / 2 - unfinished.stat().st_mtime
    unfinished.write_text(json.dumps({**content, "clock_ahead": ahead if abs(ahead) > _SAME_TIME else 0.0}))
    unfinished.replace(path)


def described(log: Path, rank: int) -> Process | None:
    """Return what the process that writes this log says of itself; None if it cannot be read (yet)."""
    try:
        said = json.loads(log.with_suffix(".json").read_bytes())
        numbers = [float(said[name]) for name in ("interval", "started", "clock_ahead")]
        return Process(rank, str(said["host"]), *numbers)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def find(folder: Path) -> dict[int, dict[int, list[Path]]]:
    """Return the logs in a folder: by rank and number of the process, its files in their order.

    Raises OSError if the folder cannot be read.
    """
    found: dict[int, dict[int, dict[int, Path]]] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            match = _LOG.fullmatch(entry.name)
            if match is not None:
                attempt, part = int(match["attempt"] or 1), int(match["part"] or 1)
                found.setdefault(int(match["rank"]), {}).setdefault(attempt, {})[part] = Path(entry.path)
    return {
        rank: {
            attempt: [parts[number] for number in sorted(parts)]
            for attempt, parts in sorted(attempts.items())
            if 1 in parts
        }
        for rank, attempts in sorted(found.items())
    }


class Tail:
    """The newest row of a log that grows. Each read costs the bytes that are new."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.modified = math.nan
        """When the file was written last, in Unix seconds of the server that it lies on."""
        self.is_new = True
        """Whether the last read has met the file for the first time, or another one in its place."""
        self.spacing = math.nan
        """Seconds between its newest two rows; NaN if there is only one."""
        self._newest = math.nan  # the time of its newest row
        self._file = (-1, -1)  # device and inode
        self._columns: Sequence[str] = ()
        self._offset = 0  # of the first byte that was not read
        self._torn = b""  # the beginning of a line whose end is not there yet

    def read(self) -> tuple[float, dict[str, float]] | None:
        """Return time (Unix seconds) and values of the newest whole line; None if there is no new one.

        Another file of that name, or one that is shorter than it was, is read from its beginning. Raises
        OSError if it cannot be read, and ValueError if it is no log.
        """
        # Opened for each read: a network file system then asks its server, and does not answer from a cache.
        with self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            self.modified = status.st_mtime
            file_id = (status.st_dev, status.st_ino)
            self.is_new = file_id != self._file or status.st_size < self._offset
            if self.is_new:
                self._file, self._offset, self._torn, self._columns = file_id, 0, b"", ()
                self._newest = math.nan
            if not self._columns and not self._read_header(file.readline()):
                return None
            start = max(self._offset, status.st_size - _LAST_BYTES)
            skipped = start > self._offset
            file.seek(start)
            content = file.read()
        self._offset = start + len(content)
        lines, _, torn = ((b"" if skipped else self._torn) + content).rpartition(b"\n")
        self._torn = torn
        if not lines:
            return None
        last = lines.rsplit(b"\n", 2)
        at, values = self._row(last[-1])
        # The first of them may be the end of a line.
        before = _stamp(last[-2]) if len(last) > (2 if skipped else 1) else self._newest
        self.spacing, self._newest = at - before, at
        return at, values

    def _read_header(self, line: bytes) -> bool:
        """Take the names of the columns; False if the line is not whole yet."""
        if not line.endswith(b"\n"):
            return False
        try:
            names = next(csv.reader([line.decode()]), [])
        except csv.Error as error:  # such as a field that is longer than csv takes
            raise ValueError(f"{self.path} is not a log of perfmon_widgets: {error}") from None
        if names[:1] != ["time"]:
            raise ValueError(f"{self.path} is not a log of perfmon_widgets: it does not begin with time")
        self._columns = names[1:]
        self._offset = len(line)
        return True

    def _row(self, line: bytes) -> tuple[float, dict[str, float]]:
        try:
            values = [float(field or "nan") for field in line.decode().split(",")[1:]]
            return _stamp(line), dict(zip(self._columns, values, strict=True))
        except ValueError as error:
            raise ValueError(f"{self.path} has a line that is no row: {error}") from None


def spaced_lines(path: Path, seconds: float) -> Iterator[bytes]:
    """Yield the header and whole lines that are about ``seconds`` apart, without reading those in between.

    Raises OSError if the file cannot be read, and ValueError if it is no log.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        yield file.readline()
        begin = file.tell()
        file.seek(max(begin, size - _LAST_BYTES))
        last = file.read().rpartition(b"\n")[0].rpartition(b"\n")[2]
        file.seek(begin)
        first = file.readline()
        if not first.endswith(b"\n"):
            return
        yield first
        duration = _stamp(last) - _stamp(first)
        bytes_per_second = (size - begin - len(last)) / duration if duration > 0 else len(first) / seconds
        step = max(seconds * bytes_per_second, 1.0)
        number, read = 1, file.tell()
        while begin + number * step < size:
            # In the middle of a line: it may be a little before or behind where it is expected.
            file.seek(max(int(begin + number * step) - len(last) // 2, read - 1))
            file.readline()
            line = file.readline()
            if line.endswith(b"\n"):
                yield line
            number, read = number + 1, file.tell()


def _stamp(line: bytes) -> float:
    stamp = line.partition(b",")[0].decode().replace("Z", "+00:00")
    return datetime.fromisoformat(stamp).timestamp()
