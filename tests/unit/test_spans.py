"""Spans, marks and recorded series: what is kept of them, for how long, and what is refused."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from fakes.collectors import FakeCollector, metric

from perfmon_widgets import PerformanceMonitor, clocks, read_csv
from perfmon_widgets.core import recorded
from perfmon_widgets.core.recorded import MAX_SERIES
from perfmon_widgets.core.spans import CAP, LONGEST_NAME, MARK, SPAN, Spans


class Hand:
    """A clock whose time is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def for_ever() -> float:
    """The oldest row, where none has left the window."""
    return -math.inf


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def monitor() -> PerformanceMonitor:
    return PerformanceMonitor([FakeCollector("a_percent")])


# -- marks and spans ---------------------------------------------------------------------------------------


def test_a_mark_has_its_moment_and_its_label(monitor):
    before = pd.Timestamp.now("UTC").floor("us")
    monitor.mark("epoch 3")
    marks = monitor.marks
    assert list(marks["label"]) == ["epoch 3"]
    assert marks.index.name == "time"
    assert marks.index.dtype == monitor.history.index.dtype
    assert before <= marks.index[0] <= pd.Timestamp.now("UTC")


def test_spans_are_reported_in_the_order_in_which_they_started(monitor):
    with monitor.span("outer"), monitor.span("inner"):
        assert monitor.spans["end"].isna().all()
        assert monitor.spans["duration_seconds"].isna().all()
        assert monitor.spans["cpu_seconds"].isna().all()
    spans = monitor.spans
    assert list(spans.columns) == ["name", "start", "end", "duration_seconds", "cpu_seconds", "raised"]
    assert list(spans["name"]) == ["outer", "inner"]
    assert spans["start"].is_monotonic_increasing
    assert spans["end"][0] >= spans["end"][1]
    assert list(spans["raised"]) == [False, False]
    outer, inner = spans["duration_seconds"]
    assert outer > inner > 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, GeneratorExit])
def test_a_span_says_that_an_exception_ended_it_and_lets_it_through(monitor, error):
    with pytest.raises(error), monitor.span("training"):
        raise error
    assert list(monitor.spans["raised"]) == [True]


def test_a_span_may_stand_above_a_function(monitor):
    @monitor.span("step")
    def step(number: int) -> int:
        return number + 1

    assert [step(1), step(2)] == [2, 3]
    assert list(monitor.spans["name"]) == ["step", "step"]


def test_spans_of_several_threads_do_not_mix(monitor):
    both = threading.Barrier(2)

    def work(name: str) -> None:
        for _ in range(100):
            both.wait(10)
            with monitor.span(name):
                pass

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, ["a", "b"]))
    spans = monitor.spans
    assert sorted(spans["name"]) == ["a"] * 100 + ["b"] * 100
    assert spans["end"].notna().all()


def test_tables_without_rows_have_their_columns(monitor):
    assert list(monitor.marks.columns) == ["label"]
    assert list(monitor.cells.columns) == [
        *("start", "end", "duration_seconds", "cpu_seconds", "raised", "source"),
    ]
    assert monitor.cells.index.name == "execution_count"
    assert [len(monitor.marks), len(monitor.spans), len(monitor.cells)] == [0, 0, 0]
    assert len(monitor.by_cell()) == 0
    assert len(monitor.by_span()) == 0
    assert monitor.marks.index.dtype == monitor.history.index.dtype
    assert monitor.spans["start"].dtype == monitor.history.index.dtype


def test_what_is_returned_is_a_copy(monitor):
    monitor.mark("a")
    marks = monitor.marks
    marks["label"] = "b"
    assert list(monitor.marks["label"]) == ["a"]


@pytest.mark.parametrize(
    ("name", "error"), [(3, TypeError), (None, TypeError), ("", ValueError), (" ", ValueError)]
)
def test_a_name_that_is_none_is_refused_and_nothing_is_kept(monitor, name, error):
    with pytest.raises(error, match="label of a mark"):
        monitor.mark(name)
    with pytest.raises(error, match="name of a span"), monitor.span(name):
        pass
    assert [len(monitor.marks), len(monitor.spans)] == [0, 0]


def test_a_long_name_is_cut(monitor):
    monitor.mark("x" * 10_000)
    assert len(monitor.marks["label"].iloc[0]) == LONGEST_NAME
    assert monitor.marks["label"].iloc[0].endswith("x…")


def test_what_no_file_can_hold_is_replaced(monitor):
    """As in the name of a file that is not UTF-8."""
    monitor.mark("a\udcff\0b")
    with monitor.span("\ud800"):
        pass
    assert list(monitor.marks["label"]) == ["a\ufffd\ufffdb"]
    assert list(monitor.spans["name"]) == ["\ufffd"]


@pytest.mark.parametrize(("step", "end"), [(-3600.0, 1000.0), (0.0, 1002.0), (3600.0, 4602.0)])
def test_a_clock_that_is_set_does_not_change_how_long_a_span_lasted(clock, monkeypatch, step, end):
    spans = Spans(for_ever, clock)
    times = iter([1000.0, 1002.0 + step])
    monkeypatch.setattr("perfmon_widgets.core.spans.time.time", lambda: next(times))
    span = spans.begin(SPAN, "a")
    assert math.isnan(span.seconds)
    clock.now += 2
    spans.end(span)
    assert (span.seconds, span.start, span.end) == (2, 1000, end)  # the end is never before the start


def test_the_cpu_time_of_a_span_is_exact_however_short_it_is(monitor):
    before = time.process_time()
    with monitor.span("busy"):
        began = time.process_time()
        while time.process_time() < began + 0.03:
            pass
    with monitor.span("idle"):
        threading.Event().wait(0.05)
    busy, idle = monitor.spans["cpu_seconds"]
    assert 0.03 <= busy <= time.process_time() - before
    assert idle < busy / 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_span_that_ends_in_a_forked_child_has_no_cpu_time(monitor, forked):
    """That of the child begins at 0."""
    span = monitor.begin(SPAN, "a")

    def child() -> bool:
        monitor.end(span)
        return math.isnan(span.cpu_seconds) and span.seconds > 0

    assert forked(child)


def test_a_span_ends_once():
    spans = Spans(for_ever)
    span = spans.begin(SPAN, "a")
    spans.end(span)
    end = span.end
    spans.end(span, raised=True)
    assert (span.end, span.raised, len(spans.all(SPAN))) == (end, False, 1)


# -- how long they are kept --------------------------------------------------------------------------------


def test_what_ended_before_the_oldest_row_is_dropped(clock):
    oldest = 0.0
    spans = Spans(lambda: oldest, clock)
    going_on = spans.begin(SPAN, "going on")
    early = spans.begin(SPAN, "early")
    spans.mark("early")
    clock.now = 5
    spans.end(early)
    late = spans.begin(SPAN, "late")
    clock.now = 10
    spans.end(late)
    oldest = 5.0
    assert [span.name for span in spans.all(SPAN, MARK)] == ["going on", "early", "late"]
    oldest = 5.1
    assert [span.name for span in spans.all(SPAN, MARK)] == ["going on", "late"]
    clock.now = 20
    spans.end(going_on)
    oldest = 10.1
    assert [span.name for span in spans.all(SPAN, MARK)] == ["going on"]


def test_spans_leave_the_window_with_the_rows_that_show_them(monitor, monkeypatch):
    monitor = PerformanceMonitor([FakeCollector("a_percent")], window=0.2)
    with monitor.span("before the first row"):
        pass
    monitor.sample()
    monitor.mark("beside a row")
    monitor.sample()
    assert len(monitor.spans) == 1  # no row has left the window
    assert len(monitor.marks) == 1
    threading.Event().wait(0.25)
    monitor.sample()
    assert len(monitor.history) == 1
    assert len(monitor.spans) == 0
    assert len(monitor.marks) == 0


def test_a_stopped_monitor_keeps_its_spans_with_its_rows():
    monitor = PerformanceMonitor([FakeCollector("a_percent")], window=0.05)
    monitor.sample()
    monitor.mark("a")
    threading.Event().wait(0.1)
    assert len(monitor.marks) == len(monitor.history) == 1


def test_a_loop_that_makes_very_many_costs_bounded_memory(monitor):
    def loop(times: int) -> None:
        for _ in range(times):
            monitor.mark("mark")
            with monitor.span("span"):
                pass

    loop(CAP)
    tracemalloc.start()
    try:
        loop(2 * CAP)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # As many as before are kept: only newer ones, whose memory is the one that is counted.
    assert grown < 2 * 2 * CAP * 500
    assert len(monitor.marks) == len(monitor.spans) == CAP


def test_spans_that_never_end_cost_bounded_memory(clock):
    spans = Spans(for_ever, clock)
    for number in range(CAP + 5):
        last = spans.begin(SPAN, str(number))
    assert [span.name for span in spans.all(SPAN)][:1] == ["5"]
    spans.end(last)
    assert len(spans.all(SPAN)) == CAP


def test_an_outer_span_outlives_very_many_inner_ones():
    spans = Spans(for_ever)
    outer = spans.begin(SPAN, "outer")
    for _ in range(CAP + 10):
        spans.end(spans.begin(SPAN, "inner"))
    assert spans.all(SPAN)[0] is outer


# -- recorded series ---------------------------------------------------------------------------------------


def test_recorded_values_are_columns_of_the_next_row(monitor):
    monitor.sample()
    monitor.record(loss=0.25, tokens_per_second=100)
    monitor.record(loss=0.5)
    assert [each.name for each in monitor.metrics] == ["a_percent"]  # as the history has them
    sample = monitor.sample()
    assert sample.values == {"a_percent": 1, "loss": 0.5, "tokens_per_second": 100}
    monitor.sample()
    history = monitor.history
    assert list(history.columns) == ["a_percent", "loss", "tokens_per_second"]
    assert history.dtypes.tolist() == [np.float64] * 3
    assert history["loss"].tolist() == pytest.approx([math.nan, 0.5, math.nan], nan_ok=True)
    assert history["a_percent"].tolist() == [0, 1, 2]
    assert monitor.metrics[1].group == "recorded"
    assert history.attrs["tokens_per_second"]["unit"] == "tokens_per_second"
    assert monitor.errors == {}


def test_columns_added_when_the_ring_has_come_round_keep_every_row_in_its_place():
    monitor = PerformanceMonitor([FakeCollector("a_tokens")])
    for number in range(300):
        if number % 70 == 0:
            monitor.record(**{f"series{number}": number})
        monitor.sample()
    history = monitor.history
    assert history["a_tokens"].tolist() == list(range(300))
    for number in range(0, 300, 70):
        assert history[f"series{number}"].dropna().tolist() == [number]
        assert history[f"series{number}"].notna().to_numpy().nonzero()[0].tolist() == [number]


class Tensor:
    """As one of torch or tensorflow."""

    def __init__(self, *values: float) -> None:
        self._values = values

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self._values),)

    def item(self) -> float:
        if len(self._values) != 1:
            raise RuntimeError(f"a Tensor with {len(self._values)} elements cannot be converted to Scalar")
        return self._values[0]

    def __float__(self) -> float:
        return self.item()


@pytest.mark.parametrize(
    "value",
    [
        2,
        2.0,
        np.float32(2),
        np.int64(2),
        np.array(2.0),
        np.array([2]),
        np.array([[2.0]]),
        Tensor(2),
        Decimal(2),
        Fraction(4, 2),
        pd.Series([2]),
    ],
)
def test_whatever_is_one_number_can_be_recorded(monitor, value):
    monitor.record(loss=value)
    assert monitor.sample().values["loss"] == 2


def test_truth_and_infinity_are_numbers_and_nan_is_a_missing_one(monitor):
    monitor.record(good=True, bad=np.False_, diverged=math.inf, nothing=math.nan)
    values = monitor.sample().values
    assert [values["good"], values["bad"], values["diverged"]] == [1, 0, math.inf]
    assert math.isnan(values["nothing"])


@pytest.mark.parametrize(
    "value",
    [
        "0.5",
        b"1",
        None,
        [1],
        (1, 2),
        np.array([1, 2]),
        np.array([]),
        np.array("1"),
        Tensor(1, 2),
        1j,
        object(),
        {},
        pd.Series([1, 2]),
    ],
)
def test_what_is_no_number_is_refused_by_name_and_nothing_is_recorded(monitor, value):
    with pytest.raises(TypeError, match="^'loss' must be a single number"):
        monitor.record(epoch=1, loss=value)
    assert list(monitor.sample().values) == ["a_percent"]


@pytest.mark.parametrize("name", ["", "a b", "1st", "/loss", "loss/", "a//b", "a,b", "a\nb", "loss!"])
def test_a_name_that_cannot_be_a_column_is_refused(monitor, name):
    with pytest.raises(ValueError, match="cannot be a column"):
        monitor.record(**{"epoch": 1, name: 2})
    assert list(monitor.sample().values) == ["a_percent"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a_percent", "is a column of the history already"),
        *((name, "is reserved for the history itself") for name in ("time", "devices", "gaps")),
    ],
)
def test_a_name_that_is_taken_is_refused(monitor, name, reason):
    with pytest.raises(ValueError, match=f"'{name}' .*{reason}"):
        monitor.record(**{"epoch": 1, name: 2})
    assert list(monitor.sample().values) == ["a_percent"]


def test_a_number_that_is_too_large_is_refused(monitor):
    with pytest.raises(ValueError, match="'loss' is too large"):
        monitor.record(loss=10**400)


class OnDevice:
    """A tensor on a GPU: reading its number waits for the device."""

    def __init__(self, read: Callable[[], float]) -> None:
        self.read, self.shape, self.graph = read, (), object()

    def item(self) -> float:
        return self.read()

    def detach(self) -> OnDevice:
        detached = OnDevice(self.read)
        detached.graph = None
        return detached


def test_the_number_of_a_tensor_is_read_with_the_sample_and_only_that_of_the_last(monitor):
    read: list[int] = []
    for number in range(5):
        monitor.record(loss=OnDevice(lambda number=number: read.append(number) or number))
    assert read == []
    assert monitor._recorded._values["loss"].graph is None  # the memory of the step before is free
    monitor.sample()
    monitor.sample()
    assert read == [4]
    assert monitor.history["loss"].max() == 4


@pytest.mark.parametrize("error", [RuntimeError("device lost"), SystemExit("device lost"), TypeError("no")])
def test_a_tensor_that_cannot_be_read_costs_its_own_number_and_says_why(monitor, error):
    def fail() -> float:
        raise error

    monitor.record(loss=OnDevice(fail), epoch=3)
    values = [monitor.sample().values, monitor.sample().values][0]
    assert values["epoch"] == 3
    assert math.isnan(values["loss"])
    assert "loss" in monitor.errors
    monitor.record(loss=0.5)
    monitor.sample()
    assert "loss" not in monitor.errors


def test_a_device_that_hangs_costs_its_own_numbers_only_and_for_as_long(monitor, monkeypatch):
    """As where ranks wait for each other for ever: this is when the other numbers are needed."""
    monkeypatch.setattr(recorded, "_TIMEOUT", 0.05)
    answers, read = threading.Event(), []

    def hang() -> float:
        answers.wait()
        return 1.0

    def wait_and_read() -> float:
        read.append(2.0)
        return 2.0

    monitor.record(loss=0.5, epoch=0)
    monitor.sample()
    monitor.record(loss=OnDevice(hang), epoch=1)
    first = monitor.sample().values
    monitor.record(accuracy=OnDevice(wait_and_read), epoch=2)
    second, third = monitor.sample().values, monitor.sample().values
    assert [each["epoch"] for each in (first, second)] == [1, 2]
    assert all(math.isnan(each["loss"]) for each in (first, second, third))
    assert "has not answered for" in monitor.errors["loss"]
    assert "has not answered for" in monitor.errors["accuracy"]
    assert read == []  # a second reading would hang behind the first
    monkeypatch.undo()
    answers.set()
    while monitor._recorded._thread.busy:
        time.sleep(0.001)
    last = monitor.sample().values
    assert (last["loss"], last["accuracy"]) == (1.0, 2.0)  # late, and not lost
    assert not {"loss", "accuracy"} & monitor.errors.keys()
    assert math.isnan(monitor.sample().values["loss"])


def test_a_number_that_is_newer_than_one_that_comes_late_counts(monitor, monkeypatch):
    monkeypatch.setattr(recorded, "_TIMEOUT", 0.05)
    answers = threading.Event()
    monitor.record(loss=0.5)
    monitor.sample()
    monitor.record(loss=OnDevice(lambda: answers.wait() and 1.0))
    monitor.sample()
    monitor.record(loss=0.25)
    assert monitor.sample().values["loss"] == 0.25
    assert "loss" not in monitor.errors
    answers.set()
    while monitor._recorded._thread.busy:
        time.sleep(0.001)
    assert math.isnan(monitor.sample().values["loss"])
    monitor._recorded.close()


def test_the_name_of_a_series_has_a_length_limit(monitor):
    monitor.record(**{"x" * 200: 1})
    with pytest.raises(ValueError, match="is too long for a column: use at most 200"):
        monitor.record(**{"x" * 201: 1})


def test_only_so_many_names_may_be_recorded(monitor):
    monitor.record(**{f"series{number}": number for number in range(MAX_SERIES - 1)})
    with pytest.raises(ValueError, match=f"'b'.*at most {MAX_SERIES}"):
        monitor.record(series0=5, b=1, c=1)
    monitor.record(b=1)
    with pytest.raises(ValueError, match="'c'"):
        monitor.record(c=1)
    monitor.record(series0=7, b=2)  # those that are there go on
    values = monitor.sample().values
    assert len(values) == 1 + MAX_SERIES
    assert (values["series0"], values["b"]) == (7, 2)


def test_a_name_may_say_where(monitor):
    monitor.record(**{"train/loss": 1, "validation/loss": 2})
    assert list(monitor.sample().values)[1:] == ["train/loss", "validation/loss"]


def test_a_collector_of_the_users_own_may_be_called_recorded_too():
    class Recorded(FakeCollector):
        pass

    monitor = PerformanceMonitor([Recorded("a_percent")])
    monitor.record(loss=1)
    assert list(monitor.sample().values) == ["a_percent", "loss"]


def test_what_was_recorded_last_finds_a_row_when_the_monitor_stops():
    with PerformanceMonitor([FakeCollector("a_percent")], interval=60) as monitor:
        monitor.record(loss=0.5)
    assert monitor.history["loss"].dropna().tolist() == [0.5]


def test_recording_from_several_threads_loses_no_series(monitor):
    done = threading.Event()

    def sampling() -> None:
        while not done.is_set():
            monitor.sample()

    def record(first: int) -> None:
        for number in range(first, 100, 4):
            monitor.record(**{f"series{number}": number})

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(5) as pool:
            sampler = pool.submit(sampling)
            list(pool.map(record, range(4)))
            done.set()
            sampler.result(timeout=10)
    finally:
        sys.setswitchinterval(before)
    monitor.sample()
    history = monitor.history
    assert sorted(history.columns) == sorted(["a_percent", *(f"series{number}" for number in range(100))])
    for number in range(100):
        assert history[f"series{number}"].dropna().tolist() == [number]


def test_a_history_without_columns_can_have_series():
    monitor = PerformanceMonitor([])
    monitor.sample()
    monitor.record(loss=1)
    monitor.sample()
    assert monitor.history["loss"].tolist() == pytest.approx([math.nan, 1], nan_ok=True)


def test_series_reach_the_csv_of_a_log_that_runs(monitor, folder):
    path = monitor.log.start("run.csv")
    monitor.sample()
    monitor.record(loss=0.5)
    monitor.sample()
    monitor.record(accuracy=0.9)
    monitor.sample()
    monitor.log.stop()
    frame = read_csv(path)
    assert list(frame.columns) == ["a_percent", "loss", "accuracy"]
    assert frame["loss"].tolist() == pytest.approx([math.nan, 0.5, math.nan], nan_ok=True)
    assert frame["accuracy"].dropna().tolist() == [0.9]
    assert sorted(each.name for each in folder.iterdir()) == ["run.csv", "run.part2.csv", "run.part3.csv"]


def test_units_that_metrics_know_are_found_at_the_end_of_a_name(monitor):
    monitor.record(cache_bytes=1, gpu_percent=2, loss=3, read_bytes_per_second=4, step_seconds=5)
    monitor.sample()
    assert [each.unit for each in monitor.metrics[1:]] == [
        "bytes",
        "percent",
        "",
        "bytes_per_second",
        "seconds",
    ]


# -- reports -----------------------------------------------------------------------------------------------


def test_a_summary_is_that_of_the_history():
    monitor = PerformanceMonitor([FakeCollector("a_percent", metrics=[metric("load_processes")])])
    for _ in range(3):
        monitor.sample()
    table = monitor.summary()
    assert table.loc["a_percent", ["now", "min", "max"]].tolist() == [2, 0, 2]
    assert table["unit"].tolist() == ["percent", "processes"]
    assert monitor.summary(since=3600).loc["a_percent", "max"] == 2


def test_by_span_joins_the_spans_with_the_history(monitor):
    monitor.sample()
    with monitor.span("training"):
        threading.Event().wait(0.01)
        monitor.sample()
    table = monitor.by_span()
    assert table["span"]["name"].tolist() == ["training"]
    assert table["a_percent"].iloc[0].tolist() == [1, 1, 1]


def test_what_is_freed_right_after_a_span_is_not_counted_as_its_own(monkeypatch):
    # However busy this machine is:
    monkeypatch.setattr("perfmon_widgets.core.monitor._FOR_A_SAMPLE", 20.0)
    monkeypatch.setattr("perfmon_widgets.views.statistics.RIGHT_AFTER", 20.0)
    held = [0.0]
    source = FakeCollector("held_bytes", read=lambda: {"held_bytes": held[0]})
    with PerformanceMonitor([source], interval=3600) as monitor:
        threading.Event().wait(0.15)
        with monitor.span("training"):
            held[0] = 100.0
            threading.Event().wait(0.15)
        held[0] = 0.0
        assert monitor.by_span()["held_bytes", "change"].tolist() == [100]


def test_a_short_span_has_a_sample_at_its_end_too(monkeypatch):
    # However busy this machine is:
    monkeypatch.setattr("perfmon_widgets.core.monitor._FOR_A_SAMPLE", 20.0)
    monkeypatch.setattr("perfmon_widgets.views.statistics.RIGHT_AFTER", 20.0)
    held = [31.0]
    source = FakeCollector("held_bytes", read=lambda: {"held_bytes": held[0]})
    with PerformanceMonitor([source], interval=3600) as monitor:
        threading.Event().wait(0.1)
        with monitor.span("load"):
            held[0] = 42.0
            threading.Event().wait(0.05)
        held[0] = 489.0
        assert monitor.by_span()["held_bytes"].iloc[0].tolist() == [42, 42, 11]


def test_a_short_span_is_not_charged_with_what_is_allocated_after_it():
    held = [31.0]
    monitor = PerformanceMonitor([FakeCollector("held_bytes", read=lambda: {"held_bytes": held[0]})])
    monitor.sample()
    with monitor.span("load"):
        threading.Event().wait(0.02)
    held[0] = 489.0
    threading.Event().wait(0.02)
    monitor.sample()
    assert monitor.by_span()["held_bytes"].isna().all(axis=None)


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_the_rows_of_a_span_are_its_own_though_the_clock_is_set_meanwhile(monkeypatch, step):
    monitor = PerformanceMonitor([FakeCollector("a_percent")])  # 0, 1, 2 … percent
    time_of_day = time.time
    monitor.sample()
    monitor.sample()
    with monitor.span("a"):
        threading.Event().wait(0.02)
        monitor.sample()
        monkeypatch.setattr(clocks.time, "time", lambda: time_of_day() + step)
        threading.Event().wait(0.02)
        monitor.sample()
    threading.Event().wait(0.05)
    monitor.sample()
    assert monitor.by_span()["a_percent"].iloc[0].tolist() == [pytest.approx(2.5, abs=0.4), 3, 2]
    assert 0.04 <= monitor.spans["duration_seconds"][0] < 60


# -- a forked child ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_locks_of_its_own(monitor, forked):
    monitor.mark("parent's")
    locks = [monitor._spans._lock, monitor._recorded._lock, monitor._span_log._lock]
    for lock in locks:
        lock.acquire()
    try:

        def child() -> list[str]:
            monitor.mark("child's")
            monitor.record(loss=1)
            monitor.sample()
            return [*monitor.marks["label"], *monitor.history.columns]

        assert forked(child) == ["parent's", "child's", "a_percent", "loss"]
    finally:
        for lock in locks:
            lock.release()
