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

# Rows at first; the ring grows when the window holds more.
_ROWS = 128
# A window is copied in blocks of this many rows, about 1 ms each, for which a new sample waits. For a whole
# window of 432,000 rows it would be 60 ms.
_BLOCK = 8192
# What stands before the values in a row: its time in Unix seconds, the same moment on the monotonic clock,
# and whether samples are missing before it.
_TIME, _TAKEN, _AFTER_GAP, _VALUES = range(4)


class History:
    """The samples of the last ``window`` seconds, in a ring of rows.

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
        self._length = 0
        self._begin(np.empty((_ROWS, _VALUES + len(self.columns))))

    def renew_after_fork(self) -> None:
        """In a forked child: make a new lock, since a thread of the parent may have held the old one."""
        # Reentrant: a signal handler may read while the thread that it interrupts holds the lock.
        self._lock = threading.RLock()

    def _begin(self, rows: NDArray[np.float64]) -> None:
        """Use this array from now on; its first row is the oldest."""
        row = struct.Struct(f"{rows.shape[1]}d")
        # The same memory; writing a row and reading a single number are faster through it.
        numbers: Any = rows.data
        # In one statement: an interrupt leaves all of them as they were.
        self._rows, self._row, self._numbers, self._first = rows, row, numbers, 0

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
            if self._length == len(self._rows):
                self._move(2 * len(self._rows))
            at = (self._first + self._length) % len(self._rows)
            taken = now if taken is None else taken
            # Five times as fast as an assignment, which would convert the row to an array first.
            self._row.pack_into(self._numbers, at * self._row.size, time, taken, after_gap, *values)
            self._length += 1
            self.count += 1
            if self.count > self._length:
                self.oldest = self._numbers[self._first, _TAKEN]
            return self.count

    def _drop_old(self, now: float) -> None:
        """Drop the rows that have left the window. Not in append(): see interrupts.py about loops."""
        while self._length and now - self._numbers[self._first, _TAKEN] > self.window:
            self._length -= 1
            self._first = (self._first + 1) % len(self._rows)

    def add_columns(self, columns: Sequence[str]) -> None:
        """Append columns, without those that exist already; existing rows have NaN in them."""
        with self._lock:
            self.columns = (*self.columns, *(column for column in columns if column not in self.columns))
            self._move(len(self._rows))

    def _move(self, rows: int) -> None:
        """Move to an array with room for this many rows and for all columns."""
        kept = self._oldest_first(self._rows)
        moved = np.full((rows, _VALUES + len(self.columns)), np.nan)
        moved[: self._length, : kept.shape[1]] = kept
        self._begin(moved)

    def _oldest_first(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a copy of the rows in the window."""
        first, end = self._first, self._first + self._length
        begin = max(first - len(rows), 0)
        return np.concatenate((rows[first:end], rows[begin : max(end - len(rows), 0)]))

    def __len__(self) -> int:
        return self._length

    def read(
        self, last: float = math.inf
    ) -> tuple[int, NDArray[np.datetime64], NDArray[np.bool_], NDArray[np.float64]]:
        """Return a copy of the window: number of the newest row, times, which rows follow a gap, values.

        Times are datetime64[us] in UTC of shape (rows,), values float64 of shape (rows, columns).
        ``last``: only the rows of that many seconds before the newest, and the row before these, which tells
        how long the first of them stands for.
        """
        count, stamps, values = self._copied(self._first_within(last) - 1)
        times = np.rint(1e6 * stamps[:, _TIME]).astype(np.int64).astype("datetime64[us]")
        return count, times, stamps[:, _AFTER_GAP].astype(bool), values

    def read_monotonic(
        self, last: float = math.inf
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
        """Return a copy of the window: times on the monotonic clock, which rows follow a gap, values.

        ``last``: only the rows of that many seconds before the newest.
        """
        _, stamps, values = self._copied(self._first_within(last))
        return stamps[:, _TAKEN], stamps[:, _AFTER_GAP].astype(bool), values

    def _first_within(self, last: float) -> int:
        """Return the number of the first row that is at most ``last`` seconds older than the newest."""
        if last == math.inf:
            return 0
        with self._lock:
            if not self._length:
                return 0
            # Not through an array of all times, which would read a piece of each row.
            limit = self._taken(self._length - 1) - last
            return self.count - self._length + bisect_left(range(self._length), limit, key=self._taken)

    def _taken(self, place: int) -> float:
        """The monotonic time of a row, counted from the oldest."""
        return float(self._numbers[(self._first + place) % len(self._rows), _TAKEN])

    def _copied(self, first: int = 0) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
        """Return the number of the newest row, and copies of what precedes the values, and of the values.

        Only of the rows from the number ``first`` on.
        """
        with self._lock:
            end, start = self.count, max(self.count - self._length, first)
            stamps = np.empty((end - start, _VALUES))
            values = np.empty((end - start, self._rows.shape[1] - _VALUES))
        left = 0
        for at in range(0, end - start, _BLOCK):
            gone = self._copy_block(stamps[at : at + _BLOCK], values[at : at + _BLOCK], start + at)
            left = at + gone if gone else left
        return end, stamps[left:], values[left:]

    def _copy_block(self, stamps: NDArray[np.float64], values: NDArray[np.float64], number: int) -> int:
        """Fill these arrays with the rows from this number on.

        Returns how many rows at the beginning were not copied, since they have left the window meanwhile.
        """
        with self._lock:
            oldest, size = self.count - self._length, len(self._rows)
            gone = min(max(oldest - number, 0), len(stamps))
            at = (self._first + number + gone - oldest) % size
            middle = gone + min(size - at, len(stamps) - gone)  # where the end of the ring comes
            width = _VALUES + values.shape[1]
            stamps[gone:middle] = self._rows[at : at + middle - gone, :_VALUES]
            values[gone:middle] = self._rows[at : at + middle - gone, _VALUES:width]
            stamps[middle:] = self._rows[: len(stamps) - middle, :_VALUES]
            values[middle:] = self._rows[: len(stamps) - middle, _VALUES:width]
        return gone

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
        frame: pd.DataFrame = pd.DataFrame(values, index=index, columns=names.view(), copy=False)
        frame.attrs["gaps"] = (times[after_gap].astype(np.int64) / 1e6).tolist()
        return frame


def microseconds(seconds: float) -> np.datetime64:
    """Return Unix seconds as a datetime64 in whole microseconds, as index, CSV and HTTP show it."""
    return np.datetime64(round(seconds * 1e6), "us")
