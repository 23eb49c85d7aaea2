"""What all exporters share: the queue, its thread, errors, and who ends what."""

from __future__ import annotations

import gc
import math
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
from fakes.collectors import FakeCollector, Samples

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.integrations import exporter
from perfmon_widgets.integrations.exporter import Exporter, present
from perfmon_widgets.metrics import Sample


class OtherSide:
    """A program that rows are handed on to. It can be slow, broken, or have ended."""

    def __init__(self) -> None:
        self.rows: list[float] = []
        self.asked = threading.Event()
        self.answers = threading.Event()
        self.answers.set()
        self.error: Exception | None = None
        self.takes_more = True

    def write(self, sample: Sample) -> bool:
        self.asked.set()
        assert self.answers.wait(60)
        if self.error is not None:
            raise self.error
        self.rows.append(sample.values["a_percent"])
        return self.takes_more


@pytest.fixture
def other() -> Iterator[OtherSide]:
    other = OtherSide()
    yield other
    other.answers.set()


@pytest.fixture
def monitor() -> PerformanceMonitor:
    return PerformanceMonitor([FakeCollector("a_percent")], interval=0.01)


@pytest.fixture
def export(other, monitor) -> Iterator[Callable[..., Exporter]]:
    made: list[Exporter] = []

    def make(name: str = "Tracker", place: object = "run 1") -> Exporter:
        made.append(Exporter(name, place, other.write, monitor=monitor))
        return made[-1]

    yield make
    other.answers.set()
    for each in made:
        each.close()


@pytest.fixture
def short_timeout(monkeypatch) -> None:
    monkeypatch.setattr(exporter, "TIMEOUT", 0.05)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_each_row_is_handed_on_in_its_order(export, other, monitor):
    with export():
        for _ in range(5):
            monitor.sample()
    assert other.rows == [0, 1, 2, 3, 4]


def test_rows_are_handed_on_by_a_thread_of_the_exporter(monitor):
    threads: list[str] = []

    def write(_: Sample) -> bool:
        threads.append(threading.current_thread().name)
        return True

    with Exporter("Tracker", "run", write, monitor=monitor):
        monitor.sample()
    assert threads == ["perfmon-Tracker"]


def test_a_slow_server_holds_up_no_sample(export, other, monitor):
    other.answers.clear()
    samples = Samples()
    monitor.on_sample(samples)
    export()
    with monitor:
        for _ in range(20):
            samples.next()
        assert other.rows == []
        other.answers.set()
    taken = monitor.history["a_percent"].tolist()
    assert other.rows == taken
    assert len(taken) >= 20


def test_a_server_that_does_not_answer_is_an_error_until_it_does(export, other, monitor, short_timeout):
    other.answers.clear()
    export()
    with monitor:
        until(lambda: "Tracker" in monitor.errors)
        assert "no answer for" in monitor.errors["Tracker"]
        assert "rows are waiting" in monitor.errors["Tracker"]
        other.answers.set()
        until(lambda: "Tracker" not in monitor.errors)


def test_an_error_is_told_counted_and_over_with_the_next_row(export, other, monitor):
    export()
    other.error = ConnectionError("refused")
    with monitor:
        until(lambda: "Tracker" in monitor.errors)
        assert "ConnectionError: refused (" in monitor.errors["Tracker"]
        assert "rows are missing there)" in monitor.errors["Tracker"]
        assert other.rows == []
        other.error = None
        until(lambda: "Tracker" not in monitor.errors)
    assert other.rows == monitor.history["a_percent"].tolist()[-len(other.rows) :]


def test_what_is_missing_is_counted(export, other, monitor):
    other.error = ConnectionError("refused")
    with export() as one:
        for _ in range(3):
            monitor.sample()
    assert one.missing == 3


def test_only_so_many_rows_may_wait(export, other, monitor, monkeypatch):
    monkeypatch.setattr(exporter, "MAX_ROWS", 3)
    other.answers.clear()
    one = export()
    monitor.sample()
    assert other.asked.wait(10)
    for _ in range(5):
        monitor.sample()
    assert one.missing == 2
    assert "rows come faster than they are taken (2 rows are missing there)" in monitor.errors["Tracker"]
    other.answers.set()
    one.close()
    assert other.rows == [0, 1, 2, 3]


def test_stop_hands_the_last_rows_on_and_leaves_no_thread(export, other, monitor):
    export()
    with monitor:
        until(lambda: len(other.rows) > 2)
    assert other.rows == monitor.history["a_percent"].tolist()
    until(lambda: not [each for each in threading.enumerate() if each.name == "perfmon-Tracker"])


def test_a_monitor_that_starts_again_goes_on_being_exported(export, other, monitor):
    export()
    for rows in (2, 4):
        with monitor:
            until(lambda rows=rows: len(other.rows) > rows)
    monitor.sample()
    monitor.stop()
    until(lambda: other.rows == monitor.history["a_percent"].tolist())


@pytest.mark.parametrize("end", ["stop", "close"])
def test_a_server_that_does_not_answer_holds_up_the_end_for_a_limited_time(
    export, other, monitor, short_timeout, end
):
    other.answers.clear()
    one = export()
    with monitor:
        until(lambda: len(monitor.history) > 3)
        if end == "close":
            one.close()
            assert one.missing >= 4
            until(lambda: "closed before all rows were handed on" in monitor.errors.get("Tracker", ""))
    assert not monitor.running
    assert other.rows == []


def test_a_row_that_comes_while_the_exporter_is_closed_keeps_no_thread(export, other, monitor):
    other.answers.clear()
    one = export()
    sample = monitor.sample()
    assert other.asked.wait(10)
    closing = threading.Thread(target=one.close)
    closing.start()
    until(lambda: one._queue.qsize())  # close() has asked the thread to end
    one._put(sample)  # the sampling thread was about to
    other.answers.set()
    closing.join()
    assert other.rows == [0, 0]
    assert one.missing == 0
    assert one._over.is_set()


def test_after_close_nothing_is_handed_on(export, other, monitor):
    one = export()
    monitor.sample()
    one.close()
    one.close()
    monitor.sample()
    assert other.rows == [0]
    assert not monitor._sample_subscribers._subscribers
    assert not monitor._state_subscribers._subscribers


def test_the_end_of_the_run_closes_the_exporter(export, other, monitor):
    export()
    other.takes_more = False
    monitor.sample()
    until(lambda: not monitor._sample_subscribers._subscribers)
    monitor.sample()
    assert other.rows == [0]
    assert not monitor._sample_subscribers._subscribers
    assert monitor.errors == {}


def test_a_later_exporter_to_the_same_place_replaces_the_first(export, other, monitor):
    """The cell of a notebook is run twice."""
    export()
    export()
    export(place="run 2")
    monitor.sample()
    until(lambda: len(other.rows) == 2)
    assert other.rows == [0, 0]


def test_a_dropped_monitor_takes_its_exporter_along(other):
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=0.01)
    Exporter("Tracker", "run", other.write, monitor=monitor)
    with monitor:
        until(lambda: other.rows)
    gone = weakref.ref(monitor)
    del monitor
    until(lambda: gc.collect() is not None and gone() is None)


def test_without_a_monitor_it_is_the_one_that_runs(other, monitor):
    with monitor, Exporter("Tracker", "run", other.write):
        until(lambda: other.rows)


def test_a_forked_child_hands_nothing_on(export, other, monitor, forked):
    export()
    monitor.sample()
    until(lambda: other.rows)

    def child() -> list[float]:
        monitor.sample()
        monitor.stop()
        return other.rows

    assert forked(child) == [0]
    monitor.sample()
    until(lambda: other.rows == [0, 1])


def test_missing_numbers_are_left_out_and_the_names_are_those_of_system_metrics():
    values = {"cpu_percent": 1.5, "gpu0/power_watts": math.nan, "gpu0/memory_used_bytes": 7.0}
    assert present(values) == {"system/cpu_percent": 1.5, "system/gpu0/memory_used_bytes": 7.0}
