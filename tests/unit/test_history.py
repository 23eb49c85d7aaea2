"""The rolling window of samples, read as a DataFrame."""

from __future__ import annotations

import math
import random
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfmon_widgets.core.history import History, microseconds

START = 1_700_000_000.0


class Clock:
    """A clock cranked by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def fill(history: History, clock: Clock, count: int, step: float = 1.0, first: int = 0) -> None:
    for number in range(first, first + count):
        clock.now += step
        history.append(START + clock.now, [float(number)] * len(history.columns))


def test_a_new_history_is_an_empty_table_with_its_columns():
    frame = History(["a_percent", "b_bytes"], 10).frame()
    assert frame.shape == (0, 2)
    assert list(frame.columns) == ["a_percent", "b_bytes"]
    assert frame.dtypes.tolist() == [np.float64, np.float64]
    assert frame.index.name == "time"
    assert str(frame.index.tz) == "UTC"


def test_a_row_stands_at_its_true_time_to_the_microsecond():
    history = History(["a_percent"], 10, Clock())
    history.append(1_700_000_000.123456, [12.5])
    frame = history.frame()
    assert frame.index.tolist() == [pd.Timestamp("2023-11-14T22:13:20.123456Z")]
    assert frame["a_percent"].tolist() == [12.5]


def test_a_value_that_is_missing_is_nan():
    history = History(["a_percent", "b_percent"], 10, Clock())
    history.append(START, [math.nan, math.nan])
    assert history.frame().isna().all(axis=None)


def test_rows_leave_when_they_are_older_than_the_window():
    clock = Clock()
    history = History(["a_percent"], 10, clock)
    fill(history, clock, 25)
    # The newest is 0 s old, the oldest that is kept 10 s.
    assert history.frame()["a_percent"].tolist() == list(range(14, 25))
    assert len(history) == 11


def test_a_pause_longer_than_the_window_leaves_only_what_came_after():
    clock = Clock()
    history = History(["a_percent"], 10, clock)
    fill(history, clock, 5)
    clock.now += 100
    fill(history, clock, 2, first=5)
    assert history.frame()["a_percent"].tolist() == [5, 6]


def test_a_window_shorter_than_the_interval_keeps_the_newest_row():
    clock = Clock()
    history = History(["a_percent"], 0.5, clock)
    fill(history, clock, 3, step=5)
    assert history.frame()["a_percent"].tolist() == [2]


def test_a_change_of_the_computers_time_loses_no_rows():
    clock = Clock()
    history = History(["a_percent"], 10, clock)
    history.append(START, [1])
    clock.now += 1
    history.append(START - 86400, [2])
    clock.now += 1
    history.append(START + 86400, [3])
    assert history.frame()["a_percent"].tolist() == [1, 2, 3]


def test_reading_drops_nothing_while_nothing_is_added():
    clock = Clock()
    history = History(["a_percent"], 10, clock)
    fill(history, clock, 3)
    clock.now += 1000
    assert len(history.frame()) == 3


def test_the_newest_rows_come_with_the_one_before_them():
    clock = Clock()
    history = History(["a_percent"], 100, clock)
    assert history.read(3)[3].tolist() == []
    fill(history, clock, 40)
    assert history.read(3)[0] == 40
    assert history.read(3)[3][:, 0].tolist() == [35, 36, 37, 38, 39]
    assert history.read(0)[3][:, 0].tolist() == [38, 39]
    assert history.read(1000)[3][:, 0].tolist() == [*range(40)]


def test_the_newest_rows_are_found_wherever_they_lie():
    clock = Clock()
    history = History(["a_percent"], 100, clock)
    for row in range(400):  # there is room for 128
        fill(history, clock, 1, first=row)
        assert history.read(3)[3][:, 0].tolist() == [*range(max(row - 4, 0), row + 1)]


def test_the_count_goes_on_when_rows_leave():
    clock = Clock()
    history = History(["a_percent"], 10, clock)
    fill(history, clock, 40)
    assert history.count == 40
    assert history.append(START, [1.0]) == 41
    assert history.read()[0] == 41


@settings(max_examples=40)
@given(
    window=st.floats(1, 500),
    steps=st.lists(st.tuples(st.integers(1, 120), st.floats(0.01, 5)), min_size=1, max_size=8),
)
def test_it_holds_what_a_plain_list_would(window, steps):
    """Grown, moved and emptied in any order."""
    clock = Clock()
    history = History(["a_percent", "b_percent"], window, clock)
    kept: list[tuple[float, int]] = []
    number = 0
    for count, step in steps:
        for _ in range(count):
            clock.now += step
            number += 1
            history.append(START + number, [number, -number])
            kept = [row for row in kept if clock.now - row[0] <= window] + [(clock.now, number)]
        newest, times, _, values = history.read()
        expected = [row[1] for row in kept]
        assert newest == number
        assert values.tolist() == [[row, -row] for row in expected]
        assert times.tolist() == np.array([microseconds(START + row) for row in expected]).tolist()


def test_it_grows_with_what_the_window_holds():
    clock = Clock()
    history = History(["a_percent"], 100, clock)
    fill(history, clock, 150)  # the window has moved once
    fill(history, clock, 1000, step=0.1, first=150)
    expected = history.frame()["a_percent"].tolist()
    assert expected == list(range(int(expected[0]), 1150))
    assert len(expected) == pytest.approx(1000, abs=2)


def test_the_memory_is_bounded_by_the_window():
    clock = Clock()
    history = History(["a_percent"], 120, clock)
    fill(history, clock, 5000)
    assert len(history._rows) < 300


def test_a_frame_belongs_to_its_reader():
    clock = Clock()
    history = History(["a_percent", "b_percent"], 1000, clock)
    fill(history, clock, 3)
    first = history.frame()
    first.loc[:, "a_percent"] = 99.0
    first.attrs["gaps"].append("mine")
    first.attrs["mine"] = True
    first.columns.name = "mine"
    second = history.frame()
    assert second["a_percent"].tolist() == [0, 1, 2]
    assert second.attrs == {"gaps": []}
    assert second.columns.name is None
    fill(history, clock, 1, first=3)
    assert len(second) == 3
    assert not np.shares_memory(first.to_numpy(), second.to_numpy())


def test_a_frame_can_be_written_to_without_a_warning():
    clock = Clock()
    history = History(["a_percent"], 1000, clock)
    fill(history, clock, 3)
    frame = history.frame()
    frame["doubled"] = frame["a_percent"] * 2
    frame.iloc[0, 0] = -1.0
    assert frame["doubled"].tolist() == [0, 2, 4]


def test_the_gaps_are_the_times_in_unix_seconds_of_the_rows_after_them():
    clock = Clock()
    history = History(["a_percent"], 10, clock)
    fill(history, clock, 2)
    clock.now += 1
    history.append(START + 7.25, [5], after_gap=True)
    assert history.frame().attrs["gaps"] == [START + 7.25]
    fill(history, clock, 20)
    assert history.frame().attrs["gaps"] == []  # it has left the window, as its row has


def test_four_hundred_columns_stay_in_order():
    columns = [f"core{number}/cpu_percent" for number in range(400)]
    history = History(columns, 1000, Clock())
    for row in range(3):
        history.append(START + row, [row * 1000.0 + number for number in range(len(columns))])
    frame = history.frame()
    assert list(frame.columns) == columns
    assert frame.to_numpy().tolist() == [[row * 1000.0 + n for n in range(400)] for row in range(3)]


def test_a_history_without_columns_keeps_the_times():
    history = History([], 10, Clock())
    history.append(START, [])
    assert history.frame().shape == (1, 0)


def test_readers_never_see_a_torn_row_while_rows_are_written():
    columns = [f"core{number}/cpu_percent" for number in range(50)]
    history = History(columns, 0.02)  # so short that the window empties, moves and grows meanwhile
    done = threading.Event()
    torn: list[str] = []
    reads = [0]

    def read() -> None:
        while not done.is_set():
            _, times, _, values = history.read()
            reads[0] += 1
            if len(values) and not (values == values[:, :1]).all():
                torn.append("a row is torn")
            numbers = values[:, 0]
            if (np.diff(numbers) != 1).any():
                torn.append("rows are out of order")
            if (times.astype(np.int64) != (numbers * 1e6).astype(np.int64)).any():
                torn.append("a time belongs to another row")

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 0.5
    number = 0
    while time.monotonic() < end:
        number += 1
        history.append(number, [float(number)] * len(columns))
    done.set()
    for thread in threads:
        thread.join()
    assert torn == []
    assert reads[0] > 10
    assert number > 100


def test_readers_at_the_same_time_each_have_the_columns_of_their_rows():
    history = History(["c0_percent"], 1000, Clock())
    history.append(START, [0.0])
    done = threading.Event()
    wrong: list[str] = []

    def read() -> None:
        while not done.is_set():
            try:
                frame = history.frame()
                names = [f"c{number}_percent" for number in range(frame.shape[1])]
                if list(frame.columns) != names:
                    wrong.append(f"{frame.shape[1]} columns: {list(frame.columns)}")
            except Exception as error:
                wrong.append(str(error))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(1, 300):
        history.add_columns([f"c{number}_percent"])
        time.sleep(0.001)
    done.set()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert wrong == []


@given(st.floats(0, 4e9))
def test_a_time_is_rounded_to_the_nearest_microsecond(seconds):
    assert abs(microseconds(seconds).astype(np.int64) / 1e6 - seconds) <= 1e-6


@pytest.mark.parametrize("window", [5, 20, 100])
def test_what_was_read_stays_as_it_was(window):
    """Readers get views: no row that comes later may change them, wherever it is written."""
    chance = random.Random(window)
    now = [0.0]
    history = History(["a", "b"], window, lambda: now[0])
    readings: list[tuple[np.ndarray, list[list[float]]]] = []
    for _ in range(60):
        for _ in range(chance.randint(0, 50)):
            now[0] += chance.random()
            number = float(history.count)
            history.append(number, (number, 2 * number, *[0.0] * (len(history.columns) - 2)))
        if chance.random() < 0.1:
            history.add_columns([f"c{history.count}"])
        for *_, values in (history.read(), history.read(3), history.read_monotonic(3)):
            readings.append((values, values.copy().tolist()))
    assert all(np.array_equal(values, was, equal_nan=True) for values, was in readings)
    with pytest.raises(ValueError, match="read-only"):
        history.read()[3][-1] = 0.0
