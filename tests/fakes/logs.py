"""A log over a history, fed by hand."""

from __future__ import annotations

from perfmon_widgets import CsvLog
from perfmon_widgets.core.history import History, microseconds

START = 1_700_000_000.0  # 2023-11-14T22:13:20Z


class Logged:
    """A log over a history, as the monitor has them, fed by hand."""

    def __init__(self, *columns: str) -> None:
        self.columns = columns or ("a_percent", "b_bytes")
        self.history = History(self.columns, 1e9, lambda: 0.0)
        self.now = 0.0  # on the log's clock; every row moves it on by a second
        self.log = CsvLog(self.columns, self.rows, lambda: self.now)
        self.time = START

    def rows(self):
        number, times, _, values = self.history.read()
        return number, times, values.tolist()

    def add(self, *values: float) -> None:
        self.time += 1
        self.now += 1
        number = self.history.append(self.time, values)
        self.log.append(number, microseconds(self.time), values)

    def add_columns(self, *columns: str) -> None:
        self.log.add_columns(columns)
        self.history.add_columns(columns)
