"""History: the rolling window of samples, read as a DataFrame."""

from __future__ import annotations

import math
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

# Rows to begin with; the ring grows when the window holds more.
_ROWS = 128
# What stands before the values in a row: its time in Unix seconds, when it came by the clock, and whether
# samples are missing before it.
_TIME, _ARRIVED, _AFTER_GAP, _VALUES = range(4)


class History:
    """The samples of the last ``window`` seconds, in arrays that are written round and round.

    Safe to append to and to read from different threads. How old a row is goes by a clock that nobody sets
    (``clock``, monotonic seconds), so a change of the computer's time loses no rows.
    """

    def __init__(
        self, columns: Sequence[str], window: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.columns = tuple(columns)
        self.window = window
        self.count = 0
        """How many rows have ever been appended: the number of the newest row."""
        self.oldest = -math.inf
        """Since when there are rows, by the clock; for ever as long as none has left the window."""
        self._clock = clock
        self.renew_lock()
        self._index: pd.Index[str] | None = None
        self._length = 0
        self._begin(np.empty((_ROWS, _VALUES + len(self.columns))))

    def renew_lock(self) -> None:
        """In a forked child: the parent's lock may have been held when the fork happened."""
        # Reentrant: a signal handler may read while the thread that it interrupts holds it.
        self._lock = threading.RLock()

    def _begin(self, rows: NDArray[np.float64]) -> None:
        """Go on in this array, the oldest row first."""
        row = struct.Struct(f"{rows.shape[1]}d")
        # The same memory, where a row is quicker written and a single number quicker read.
        numbers: Any = rows.data
        # All of it, or an interrupt leaves all as it was.
        self._rows, self._row, self._numbers, self._first = rows, row, numbers, 0

    def append(self, time: float, values: Sequence[float], after_gap: bool = False) -> int:
        """Add a row, drop those that have left the window, and return the number of the new row.

        ``time`` is in Unix seconds, ``values`` has one for each column, in their order. ``after_gap`` says
        that samples are missing between this row and the one before.
        """
        now = self._clock()
        with self._lock:
            while self._length and now - self._numbers[self._first, _ARRIVED] > self.window:
                self._length -= 1
                self._first = (self._first + 1) % len(self._rows)
            if self._length == len(self._rows):
                self._move(2 * len(self._rows))
            at = (self._first + self._length) % len(self._rows)
            # Five times as fast as an assignment, which would first make an array of the row.
            self._row.pack_into(self._numbers, at * self._row.size, time, now, after_gap, *values)
            self._length += 1
            self.count += 1
            if self.count > self._length:
                self.oldest = self._numbers[self._first, _ARRIVED]
            return self.count

    def add_columns(self, columns: Sequence[str]) -> None:
        """Have more columns, behind those there are; the rows there are have NaN in them.

        Nothing for those there are already.
        """
        with self._lock:
            self.columns = (*self.columns, *(column for column in columns if column not in self.columns))
            self._move(len(self._rows))

    def _move(self, rows: int) -> None:
        """Make room for so many rows, of the columns there are now."""
        kept = self._oldest_first(self._rows)
        moved = np.full((rows, _VALUES + len(self.columns)), np.nan)
        moved[: self._length, : kept.shape[1]] = kept
        self._begin(moved)

    def _oldest_first(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """A copy of those that are in the window."""
        end = self._first + self._length
        return np.concatenate((rows[self._first : end], rows[: max(end - len(rows), 0)]))

    def __len__(self) -> int:
        return self._length

    def read(
        self,
    ) -> tuple[int, NDArray[np.datetime64], NDArray[np.bool_], NDArray[np.float64]]:
        """A copy of the window: the number of its newest row, the times, which rows follow a gap, the values.

        Times are datetime64[us] in UTC of shape (rows,), values float64 of shape (rows, columns).
        """
        with self._lock:
            count, stamps = self.count, self._oldest_first(self._rows[:, :_VALUES])
            values = self._oldest_first(self._rows[:, _VALUES:])
        times = np.rint(1e6 * stamps[:, _TIME]).astype(np.int64).astype("datetime64[us]")
        return count, times, stamps[:, _AFTER_GAP].astype(bool), values

    def frame(self) -> pd.DataFrame:
        """The window as a DataFrame of its own: index ``time`` (UTC), one float64 column per metric.

        ``attrs["gaps"]`` lists the times (Unix seconds) of the rows before which samples are missing.
        """
        import pandas as pd  # noqa: PLC0415 - a program that only samples never pays for it

        _, times, after_gap, values = self.read()
        names = self._index  # which another reader may replace meanwhile
        if names is None or len(names) != values.shape[1]:
            # Columns are only ever added behind the others, perhaps since the values were read.
            columns = self.columns[: values.shape[1]]
            names = self._index = pd.Index(columns, dtype=object if not columns else None)
        index = pd.DatetimeIndex(times, tz="UTC", name="time")
        # A view, since the name of an index can be set, which would be seen in every later frame.
        frame: pd.DataFrame = pd.DataFrame(values, index=index, columns=names.view(), copy=False)
        frame.attrs["gaps"] = (times[after_gap].astype(np.int64) / 1e6).tolist()
        return frame


def microseconds(seconds: float) -> np.datetime64:
    """Unix seconds as the moment that index, CSV and HTTP print: whole microseconds."""
    return np.datetime64(round(seconds * 1e6), "us")
