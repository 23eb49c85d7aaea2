"""The black box: the last samples, the running cell and the count of OOM kills, where no kill can reach them.

It is a file of at most 256 KiB. A sample is one write to a fixed place in it, so the OS kernel has the sample
when the program is killed. It is not mapped into memory: on a full disk a mapped file can kill the program
that writes it (SIGBUS), and on a file server that does not answer it would stop every thread.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import struct
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from perfmon_widgets.collectors.linux.oom_kills import OomKills, count_in
from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.metrics import Metric, Sample
from perfmon_widgets.views.death import Cell, Death, Evidence, judge

SUFFIX = ".perfmon"
"""The end of the file's name, instead of the connection file's ``.json``."""

SIZE = 256 * 1024
"""The largest size of the file, in bytes."""

# The parts of the file: a description of the columns, the running cell, then the rows, each in a place of its
# own. A description or a cell is JSON, followed by NUL.
_CELL_AT, _ROWS_AT = 64 * 1024, 68 * 1024
_FORM = 1
# At most this many columns, so that there is room for at least 180 rows.
_MOST_COLUMNS = 128
# Columns that the verdict needs come first, whatever else there is.
_FIRST = (
    "ram_percent",
    "ram_used_bytes",
    "ram_limit_bytes",
    "ram_unreclaimable_bytes",
    "host_ram_percent",
)
NEEDED = "ram_used_bytes"
"""The column without which a black box says nothing."""


def box_beside(connection_file: str | Path) -> Path:
    """Return the file of the black box of the kernel with this connection file."""
    return Path(connection_file).with_suffix(SUFFIX)


class BlackBox:
    """Writes the black box of this process to a new file that only its owner may read.

    Rows beyond the size of the file replace the oldest. Series of ``record()`` and single CPUs are left out.
    Raises OSError if the file cannot be written.
    """

    def __init__(self, path: Path, metrics: Sequence[Metric], kills: OomKills | None = None) -> None:
        self.path = path
        self._kills = OomKills() if kills is None else kills
        kept = _kept(metrics)
        names = [metric.name for metric in kept]
        self._values = itemgetter(*names, names[0])  # one name more: with a single one it returns no tuple
        # Number, time, count of OOM kills, the values, the first of them once more, number: a row whose two
        # numbers differ was being written when the program was killed.
        self._row = struct.Struct(f"<Qdd{len(names) + 1}dQ")
        self._places = (SIZE - _ROWS_AT) // self._row.size
        self._number = 0
        self._cell: Cell | None = None  # the one that is running
        self._shown: Cell | None = None  # the one that the file names
        self._forked = False
        self._file = -1  # for __del__, should the next line raise
        path.unlink(missing_ok=True)  # not truncated: another program may be reading it
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        description = {
            "form": _FORM,
            "process": os.getpid(),
            "kills": str(self._kills.path),
            "of_machine": self._kills.of_machine,
            "columns": [[metric.name, metric.unit, metric.label] for metric in kept],
        }
        try:
            self._write_text(0, description, _CELL_AT)
            self._write_cell()
        except OSError:
            self.remove()
            raise
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: write and remove nothing, since the box is the parent's."""
        self._forked = True

    def write(self, sample: Sample) -> None:
        """Write a sample, and the running cell if show_cell() could not; raises OSError if that fails."""
        if self._forked:
            return
        number = self._number = self._number + 1
        row = self._row.pack(number, sample.time, self._kills.read(), *self._values(sample.values), number)
        os.pwrite(self._file, row, _ROWS_AT + number % self._places * self._row.size)
        if self._shown is not self._cell:
            self._write_cell()

    def show_cell(self, cell: Cell | None) -> None:
        """Write which cell is running, None if none is. If that fails, the next write() tries again."""
        self._cell = cell
        if not self._forked:
            with contextlib.suppress(OSError):  # write() raises it, to where errors are listed and cleared
                self._write_cell()

    def _write_cell(self) -> None:
        while True:
            cell = self._cell
            self._write_text(_CELL_AT, None if cell is None else cell._asdict(), _ROWS_AT - _CELL_AT)
            self._shown = cell
            if cell is self._cell:  # otherwise another thread has set the next one meanwhile
                return

    def _write_text(self, place: int, content: object, room: int) -> None:
        text = json.dumps(content).encode() + b"\0"
        if len(text) > room:
            raise OSError(f"{len(text)} bytes do not fit into {room}")
        os.pwrite(self._file, text, place)

    def remove(self) -> None:
        """Remove the file, since the program ends as it should; what is written afterwards goes nowhere."""
        if not self._forked:
            self.path.unlink(missing_ok=True)

    def __del__(self) -> None:
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.close(self._file)


def _kept(metrics: Sequence[Metric]) -> list[Metric]:
    """Return the metrics whose values are kept, in the order of their columns in the file."""
    kept = [metric for metric in metrics if metric.role != "part" and metric.group != "recorded"]
    kept.sort(key=lambda metric: metric.name not in _FIRST)
    return kept[:_MOST_COLUMNS]


class _Box(NamedTuple):
    """What a file holds."""

    process: int
    kills: Path
    of_machine: bool
    columns: list[tuple[str, str, str]]
    cell: Cell | None
    rows: list[tuple[float, ...]]
    """Time, count of OOM kills, then a value for each column; the oldest first."""


def writer_of(path: Path) -> int | None:
    """Return the id of the process that wrote a black box; None if there is none, or not a readable one."""
    box = _read(path)
    return None if box is None else box.process


def read_death(path: Path, exit_status: int | None = None) -> Death | None:
    """Return what the process died of whose black box this is; None if there is no box, or an empty one.

    The caller knows that the process has died. ``exit_status`` is what its parent was given, if known:
    negative for a signal.
    """
    box = _read(path)
    if box is None or not box.rows:
        return None
    names = [name for name, _, _ in box.columns]
    count = count_in(box.kills)
    before = _count_before(box.rows)
    rise = math.nan if count is None else count - before
    series = {name: [row[2 + number] for row in box.rows] for number, name in enumerate(names)}
    times = [row[0] for row in box.rows]
    evidence = Evidence.of(times, series, rise, of_machine=box.of_machine, exit_status=exit_status)
    return judge(evidence, box.cell, box.columns, times, series)


def _count_before(rows: Sequence[tuple[float, ...]]) -> float:
    """Return the count of OOM kills in the oldest of the rows of the last two seconds.

    Not in the newest: after the OS kernel has counted the kill, the dying program may take a last sample.
    """
    newest = rows[-1][0]
    return next(row[1] for row in rows if row[0] >= newest - 2.0)


def _read(path: Path) -> _Box | None:
    """Return the content of a black box; None if it cannot be read or has another form."""
    try:
        content = path.read_bytes()[:SIZE]
        description = _text(content, 0)
        if description["form"] != _FORM:
            return None
        columns = [(str(name), str(unit), str(label)) for name, unit, label in description["columns"]]
        cell = _text(content, _CELL_AT)
        return _Box(
            int(description["process"]),
            Path(description["kills"]),
            bool(description["of_machine"]),
            columns,
            None if cell is None else Cell(int(cell["number"]), str(cell["source"]), float(cell["start"])),
            _rows(content, len(columns)),
        )
    except (OSError, ValueError, TypeError, KeyError, struct.error):
        return None  # written by another version, or cut off


def _text(content: bytes, place: int) -> Any:
    return json.loads(content[place : content.index(b"\0", place)])


def _rows(content: bytes, columns: int) -> list[tuple[float, ...]]:
    row = struct.Struct(f"<Qdd{columns + 1}dQ")
    found = {}
    for place in range(_ROWS_AT, min(len(content), SIZE) - row.size + 1, row.size):
        number, *values, again = row.unpack_from(content, place)
        if number and number == again:
            found[number] = tuple(values[:-1])
    return [found[number] for number in sorted(found)]
