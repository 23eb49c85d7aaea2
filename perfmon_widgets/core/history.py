"""History: the rolling window of samples, read as a DataFrame."""

from __future__ import annotations

import math
import struct
import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from perfmon_widgets.clocks import time
from perfmon_widgets.forks import renew_after_fork

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

# Rows for which there is room at least.
_ROWS = 128
# What stands before the values in a row: its time in Unix seconds, the same moment on the monotonic clock,
# and whether samples are missing before it.
_TIME, _TAKEN, _AFTER_GAP, _VALUES = range(4)


class History:
    """The samples of the last ``window`` seconds, in an array to which rows are only ever appended.

    When it is full, the window moves to a new one, which has room for twice as many rows. So a row that was
    read never changes, and readers get views of the array, not copies.

    Safe to append to and to read from different threads. The age of a row is measured on the monotonic clock
    (``clock``, in seconds), so that setting the computer's clock loses no rows.
    """

    def __init__(
        self, columns: Sequence[str], window: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.columns = tuple(columns)
        self.window = window
        self.count = 0
        """How many rows have ever been appended: the number of the newest row."""
        self.oldest = -math.inf
        """Monotonic time of the oldest row; −inf until one was dropped."""
        self._clock = clock
        self.renew_after_fork()
        renew_after_fork(self)
        self._index: pd.Index[str] | None = None
        self._begin(np.empty((_ROWS, _VALUES + len(self.columns))), 0)

    def renew_after_fork(self) -> None:
        """In a forked child: make a new lock, since a thread of the parent may have held the old one."""
        # Reentrant: a signal handler may read while the thread that it interrupts holds the lock.
        self._lock = threading.RLock()

    def _begin(self, rows: NDArray[np.float64], length: int) -> None:
        """Use this array from now on; its first ``length`` rows are the window."""
        row = struct.Struct(f"{rows.shape[1]}d")
        # The same memory; writing a row and reading a single number are faster through it.
        numbers: Any = rows.data
        # In one statement: an interrupt leaves all of them as they were.
        self._rows, self._row, self._numbers, self._first, self._end = rows, row, numbers, 0, length

    def append(
        self, time: float, values: Sequence[float], after_gap: bool = False, taken: float | None = None
    ) -> int:
        """Add a row, drop those that have left the window, and return the number of the new row.

        ``time`` is in Unix seconds, ``values`` are in the order of the columns. ``after_gap`` says whether
        samples are missing between this row and the one before. ``taken`` is the same moment as ``time`` on
        the monotonic clock; by default now.
        """
        now = self._clock()
        with self._lock:
            self._drop_old(now)
            if self._end == len(self._rows):
                self._move()
            taken = now if taken is None else taken
            # Five times as fast as an assignment, which would convert the row to an array first.
            self._row.pack_into(self._numbers, self._end * self._row.size, time, taken, after_gap, *values)
            self._end += 1
            self.count += 1
            if self.count > len(self):
                self.oldest = self._numbers[self._first, _TAKEN]
            return self.count

    def _drop_old(self, now: float) -> None:
        """Drop the rows that have left the window. Not in append(): see interrupts.py about loops."""
        while self._first < self._end and now - self._numbers[self._first, _TAKEN] > self.window:
            self._first += 1

    def add_columns(self, columns: Sequence[str]) -> None:
        """Append columns, without those that exist already; existing rows have NaN in them."""
        with self._lock:
            self.columns = (*self.columns, *(column for column in columns if column not in self.columns))
            self._move()

    def _move(self) -> None:
        """Move the window to an array with room for twice as many rows, and for all columns.

        Needed once in as many rows as the window holds. For 262,144 rows of 155 columns it takes 1 s.
        """
        kept = self._rows[self._first : self._end]
        length, width = kept.shape
        moved = np.empty((max(_ROWS, 2 * length), _VALUES + len(self.columns)))
        moved[:length, :width] = kept
        moved[:length, width:] = np.nan
        self._begin(moved, length)

    def __len__(self) -> int:
        return self._end - self._first

    def read(
        self, last: float = math.inf
    ) -> tuple[int, NDArray[np.datetime64], NDArray[np.bool_], NDArray[np.float64]]:
        """Return the window: number of the newest row, times, which rows follow a gap, values.

        Times are datetime64[us] in UTC of shape (rows,), values float64 of shape (rows, columns), read-only.
        ``last``: only the rows of that many seconds before the newest, and the row before these, which tells
        how long the first of them stands for.
        """
        count, rows = self._view(last, before=1)
        times = np.rint(1e6 * rows[:, _TIME]).astype(np.int64).astype("datetime64[us]")
        return count, times, rows[:, _AFTER_GAP].astype(bool), rows[:, _VALUES:]

    def read_monotonic(
        self, last: float = math.inf
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
        """Return the window: times on the monotonic clock, which rows follow a gap, values (read-only).

        ``last``: only the rows of that many seconds before the newest.
        """
        _, rows = self._view(last)
        return rows[:, _TAKEN].copy(), rows[:, _AFTER_GAP].astype(bool), rows[:, _VALUES:]

    def _view(self, last: float, before: int = 0) -> tuple[int, NDArray[np.float64]]:
        """Return the number of the newest row, and the rows of the last seconds, with some before them."""
        with self._lock:
            first = max(self._first_within(last) - before, self._first)
            count, rows = self.count, self._rows[first : self._end]
        rows.flags.writeable = False
        return count, rows

    def _first_within(self, last: float) -> int:
        """Return where the first row is that is at most ``last`` seconds older than the newest."""
        if last == math.inf or self._first == self._end:
            return self._first
        # Not through an array of all times, which would read a piece of each row.
        limit = self._taken(self._end - 1) - last
        return bisect_left(range(self._end), limit, self._first, key=self._taken)

    def _taken(self, at: int) -> float:
        """The monotonic time of a row."""
        return float(self._numbers[at, _TAKEN])

    def frame(self) -> pd.DataFrame:
        """Return a copy of the window as a DataFrame: index ``time`` (UTC), one float64 column per metric.

        ``attrs["gaps"]`` lists the times (Unix seconds) of the rows before which samples are missing.
        """
        import pandas as pd  # noqa: PLC0415 - a program that only samples never pays for it

        _, times, after_gap, values = self.read()
        names = self._index  # in a variable, since another reader may replace it
        if names is None or len(names) != values.shape[1]:
            # Columns are only ever appended, perhaps since the values were read.
            columns = self.columns[: values.shape[1]]
            names = self._index = pd.Index(columns, dtype=object if not columns else None)
        index = pd.DatetimeIndex(times, tz="UTC", name="time")
        # A view: a reader may name the columns of this frame, which must not name those of later frames.
        frame: pd.DataFrame = pd.DataFrame(values.copy(), index=index, columns=names.view(), copy=False)
        frame.attrs["gaps"] = (times[after_gap].astype(np.int64) / 1e6).tolist()
        return frame


def microseconds(seconds: float) -> np.datetime64:
    """Return Unix seconds as a datetime64 in whole microseconds, as index, CSV and HTTP show it."""
    return np.datetime64(round(seconds * 1e6), "us")
