"""Sampling, the history, the errors, the subscribers and the thread."""

from __future__ import annotations

import asyncio
import errno
import inspect
import json
import logging
import math
import os
import sys
import threading
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pandas as pd
import pytest
from fakes.collectors import FakeCollector, OtherCollector, Samples, metric
from fakes.threads import wait_until
from hypothesis import given
from hypothesis import strategies as st

from perfmon_widgets import CsvLog, PerformanceMonitor, Sample, read_csv, read_spans
from perfmon_widgets.core import monitor as monitor_module
from perfmon_widgets.core import sampler as sampler_module
from perfmon_widgets.core.protocol import check_monitor
from perfmon_widgets.core.registry import registry
from perfmon_widgets.core.sampler import TIMEOUT, Sampler, next_due
from perfmon_widgets.core.shared import default_monitor, existing_monitor, shared_monitor

FAST = 0.01
NEVER = 3600.0


def samplers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if isinstance(thread, Sampler) and thread.is_alive()]


def fails(text: str = "broken") -> dict[str, float]:
    raise RuntimeError(text)


def gaps(frame: pd.DataFrame) -> list[pd.Timestamp]:
    return [pd.Timestamp(round(seconds * 1e6), unit="us", tz="UTC") for seconds in frame.attrs["gaps"]]


@contextmanager
def switching_threads_often() -> Iterator[None]:
    """Threads take turns so often that what can come between two steps does."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


# -- arguments ---------------------------------------------------------------------------------------------


def test_the_defaults_are_five_seconds_and_ten_minutes():
    monitor = PerformanceMonitor([])
    assert (monitor.interval, monitor.window) == (5.0, 600.0)


def test_interval_and_window_can_be_chosen():
    monitor = PerformanceMonitor([], interval=7, window=300)
    assert (monitor.interval, monitor.window) == (7.0, 300.0)


@pytest.mark.parametrize("argument", ["interval", "window"])
@pytest.mark.parametrize("value", [0, -1, 1e-320, math.nan, math.inf, "soon", None])
def test_a_time_that_makes_no_sense_is_refused_by_name(argument, value):
    with pytest.raises(ValueError, match=f"^{argument} must be a number of seconds greater than 0"):
        PerformanceMonitor([], **{argument: value})


def test_a_window_that_is_set_holds_from_the_next_row():
    monitor = PerformanceMonitor([FakeCollector("a_percent")], window=0.05)
    monitor.sample()
    monitor.window = 60
    time.sleep(0.1)
    monitor.sample()
    assert len(monitor.history) == 2
    with pytest.raises(ValueError, match="^window must be a number of seconds greater than 0, not 0$"):
        monitor.window = 0
    assert monitor.window == 60
    monitor.window = 0.05
    monitor.sample()
    assert len(monitor.history) < 3


@pytest.mark.parametrize("value", [0, -0.5, math.nan, math.inf, "soon", None])
def test_an_interval_that_makes_no_sense_is_refused_when_set_and_the_old_one_stays(value):
    monitor = PerformanceMonitor([], interval=3)
    with pytest.raises(ValueError, match="^interval "):
        monitor.interval = value
    assert monitor.interval == 3


def test_two_columns_of_one_name_are_refused_by_name():
    with pytest.raises(ValueError, match="'a_percent'"):
        PerformanceMonitor([FakeCollector("a_percent"), OtherCollector("b_percent", "a_percent")])


def test_what_is_no_collector_is_refused():
    with pytest.raises(TypeError, match="collect"):
        PerformanceMonitor([object()])


def test_gpus_can_only_be_chosen_among_the_default_collectors():
    with pytest.raises(ValueError, match="^gpus "):
        PerformanceMonitor([], gpus=[0])


def test_an_unknown_argument_is_refused_by_name():
    with pytest.raises(TypeError, match="intervall"):
        PerformanceMonitor([], intervall=5)


def test_its_text_says_what_it_is_doing():
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=5)
    assert repr(monitor) == "<PerformanceMonitor stopped, every 5 s, 1 metrics>"


# -- one step by hand --------------------------------------------------------------------------------------


def test_a_new_monitor_has_taken_no_sample():
    collector = FakeCollector("a_percent")
    monitor = PerformanceMonitor([collector])
    assert monitor.latest is None
    assert len(monitor.history) == 0
    assert list(monitor.history.columns) == ["a_percent"]
    assert collector.readings == 0
    assert not monitor.running
    assert samplers() == []


def test_sample_takes_one_reading_of_every_collector_stores_it_and_returns_it():
    first, second = FakeCollector("a_percent", "b_bytes"), OtherCollector("c_percent")
    monitor = PerformanceMonitor([first, second])
    before = time.time()
    sample = monitor.sample()
    assert before <= sample.time <= time.time()
    assert sample.values == {"a_percent": 0.0, "b_bytes": 0.0, "c_percent": 0.0}
    assert monitor.latest is sample
    assert (first.readings, second.readings) == (1, 1)
    frame = monitor.history
    assert frame.to_dict("list") == {"a_percent": [0.0], "b_bytes": [0.0], "c_percent": [0.0]}
    assert frame.index[0] == pd.Timestamp(round(sample.time * 1e6), unit="us", tz="UTC")


def test_readers_never_sample():
    collector = FakeCollector("a_percent")
    monitor = PerformanceMonitor([collector])
    monitor.sample()
    for _ in range(3):
        _ = monitor.history, monitor.latest, monitor.metrics, monitor.errors, monitor.missed, repr(monitor)
    assert collector.readings == 1


def test_columns_stand_in_declared_order_whatever_order_they_are_read_in():
    collector = FakeCollector("b_percent", "a_percent", read=lambda: {"a_percent": 1.0, "b_percent": 2.0})
    monitor = PerformanceMonitor([collector])
    assert list(monitor.sample().values.items()) == [("b_percent", 2.0), ("a_percent", 1.0)]


def test_a_column_that_is_left_out_is_missing_and_never_zero():
    monitor = PerformanceMonitor([FakeCollector("a_percent", "b_percent", read=lambda: {"b_percent": 5})])
    sample = monitor.sample()
    assert math.isnan(sample.values["a_percent"])
    assert sample.values["b_percent"] == 5.0
    assert math.isnan(monitor.history["a_percent"].iloc[0])
    assert monitor.errors == {}


def test_the_attributes_of_the_history_say_what_each_column_is():
    collector = FakeCollector(metrics=[metric("gpu0/power_watts", source="NVML", device="A100")])
    attributes = PerformanceMonitor([collector]).history.attrs
    assert attributes["gpu0/power_watts"] == {
        "unit": "watts",
        "help": "About gpu0/power_watts.",
        "source": "NVML",
        "group": "cpu",
        "role": "",
        "label": "GPU 0 power",
    }
    assert attributes["devices"] == {"gpu0": "A100"}
    assert attributes["gaps"] == []


def test_the_attributes_of_the_history_can_be_written_to_a_file():
    """pandas writes them into Parquet files, as JSON."""
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER)
    samples = Samples()
    monitor.on_sample(samples)
    for _ in range(2):  # the row after the second start follows a gap
        with monitor:
            samples.next()
    assert len(monitor.history.attrs["gaps"]) == 1
    json.dumps(monitor.history.attrs)


def test_metrics_come_in_the_order_of_the_columns():
    monitor = PerformanceMonitor([FakeCollector("b_percent"), OtherCollector("a_bytes")])
    assert [metric.name for metric in monitor.metrics] == ["b_percent", "a_bytes"]
    assert list(monitor.history.columns) == ["b_percent", "a_bytes"]


def test_a_monitor_without_collectors_keeps_time():
    monitor = PerformanceMonitor([])
    monitor.sample()
    assert monitor.history.shape == (1, 0)


def test_samples_taken_by_several_threads_are_all_kept():
    monitor = PerformanceMonitor([FakeCollector("a_tokens")])
    with switching_threads_often():
        threads = [threading.Thread(target=lambda: [monitor.sample() for _ in range(50)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert monitor.history["a_tokens"].tolist() == list(range(200))


# -- sources that fail -------------------------------------------------------------------------------------


def test_a_source_that_fails_costs_its_own_columns_and_the_others_go_on():
    monitor = PerformanceMonitor([FakeCollector("a_percent", read=fails), OtherCollector("b_percent")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger("perfmon_widgets.core.errors"), "disabled", True)
        sample = monitor.sample()
    assert math.isnan(sample.values["a_percent"])
    assert sample.values["b_percent"] == 0.0
    assert monitor.errors == {"FakeCollector": "broken", "a_percent": "broken"}


def test_a_failure_is_logged_once_tried_again_and_forgotten_when_it_is_over(caplog):
    healthy = {"a_percent": 1.0}
    answers = iter([fails, fails, fails, lambda: healthy, fails])
    monitor = PerformanceMonitor([FakeCollector("a_percent", read=lambda: next(answers)())])
    for _ in range(3):
        monitor.sample()
    assert [record.getMessage() for record in caplog.records] == ["FakeCollector: broken"]
    assert monitor.sample().values == healthy
    assert monitor.errors == {}
    monitor.sample()
    assert len(caplog.records) == 2
    assert monitor.history["a_percent"].isna().tolist() == [True, True, True, False, True]


def test_an_error_without_words_is_named_by_its_kind():
    monitor = PerformanceMonitor([FakeCollector("a_percent", read=lambda: fails(""))])
    monitor.sample()
    assert monitor.errors == {"FakeCollector": "RuntimeError", "a_percent": "RuntimeError"}


@pytest.mark.parametrize("value", [None, "much", [1.0]])
def test_a_value_that_is_no_number_is_an_error_of_its_source(value):
    monitor = PerformanceMonitor(
        [FakeCollector("a_percent", read=lambda: {"a_percent": value}), OtherCollector("b_percent")]
    )
    sample = monitor.sample()
    assert math.isnan(sample.values["a_percent"])
    assert sample.values["b_percent"] == 0.0
    assert list(monitor.errors) == ["FakeCollector", "a_percent"]


def test_a_column_that_was_not_declared_is_an_error_and_does_not_appear():
    monitor = PerformanceMonitor([FakeCollector("a_percent", read=lambda: {"a_percent": 1, "b_percent": 2})])
    sample = monitor.sample()
    assert list(sample.values) == ["a_percent"]
    assert math.isnan(sample.values["a_percent"])
    assert "'b_percent'" in monitor.errors["FakeCollector"]


def test_several_sources_of_one_kind_are_distinguished():
    monitor = PerformanceMonitor([FakeCollector("a_percent"), FakeCollector("b_percent", read=fails)])
    monitor.sample()
    assert monitor.errors == {"FakeCollector 2": "broken", "b_percent": "broken"}


def test_a_source_may_say_itself_why_a_single_number_is_missing():
    collector = FakeCollector("a_percent")
    collector.errors = {"a_percent": "no swap"}
    assert PerformanceMonitor([collector]).errors == {"a_percent": "no swap"}


def test_a_source_that_fails_as_a_whole_is_the_reason_for_each_of_its_columns_until_it_recovers():
    """A gauge asks for its column: that of a broken sensor said that it waits for a second sample."""
    answers = iter([lambda: {"cpu_percent": 1.0, "b_bytes": 2.0}, fails, fails, lambda: {"cpu_percent": 3.0}])
    collector = FakeCollector("cpu_percent", "b_bytes", read=lambda: next(answers)())
    collector.errors = {"b_bytes": "no counter"}
    monitor = PerformanceMonitor([collector, OtherCollector("c_percent")])
    own = {"b_bytes": "no counter"}
    monitor.sample()
    assert monitor.errors == own
    for _ in range(2):
        monitor.sample()
        assert monitor.errors == {"FakeCollector": "broken", "cpu_percent": "broken", **own}
    monitor.sample()
    assert monitor.errors == own


@pytest.mark.parametrize("errors", [0, None, "text", ["a_percent"]])
def test_an_attribute_of_a_source_that_is_called_errors_by_chance_is_left_alone(errors):
    collector = FakeCollector("a_percent")
    collector.errors = errors
    assert PerformanceMonitor([collector]).errors == {}


def test_columns_that_a_running_log_lacks_are_among_the_errors(folder, monkeypatch):
    monitor = PerformanceMonitor([FakeCollector("a_percent")])
    monitor.log.start("run.csv")
    monitor.record(loss=1.0)
    create = os.open

    def refuse(path: object, *arguments: Any, **keywords: Any) -> int:
        if "part2" in str(path):
            raise OSError(errno.EMFILE, "Too many open files")
        return create(path, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        monitor.sample()
    assert list(monitor.errors) == ["log"]
    assert "without loss" in monitor.errors["log"]
    monitor.sample()
    assert monitor.errors == {}
    monitor.stop()
    assert read_csv(monitor.log.path)["a_percent"].tolist() == [0, 1]


def test_a_log_that_cannot_be_written_is_among_the_errors_until_it_can(folder, monkeypatch):
    monitor = PerformanceMonitor([FakeCollector("a_percent")])
    monitor.log.start("run.csv")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        monitor.sample()
        assert monitor.log.running
        assert "the disk is full; free some space" in monitor.errors["log"]
    time.sleep(0.11)  # the first wait between two tries
    monitor.sample()
    assert monitor.errors == {}
    monitor.stop()
    assert read_csv("run.csv")["a_percent"].tolist() == [0, 1]


def test_a_log_that_has_switched_itself_off_is_among_the_errors(folder):
    monitor = PerformanceMonitor([FakeCollector("a_percent")])
    monitor.log.start("run.csv").unlink()
    monitor.sample()
    assert "deleted" in monitor.errors["log"]


# -- subscribers -------------------------------------------------------------------------------------------


def test_a_subscriber_gets_each_sample_until_it_is_removed():
    monitor = PerformanceMonitor([FakeCollector("a_percent")])
    heard = []
    monitor.on_sample(heard.append)
    monitor.on_sample(heard.append)  # once is enough
    first = monitor.sample()
    assert heard == [first]
    monitor.on_sample(heard.append, remove=True)
    monitor.sample()
    assert heard == [first]


def test_removing_an_unknown_subscriber_does_nothing():
    PerformanceMonitor([]).on_sample(print, remove=True)


def test_a_subscriber_that_raises_is_logged_once_and_harms_nobody(caplog):
    monitor = PerformanceMonitor([FakeCollector("a_percent")])
    heard = []

    def broken(sample: Sample) -> None:
        raise RuntimeError("no browser")

    monitor.on_sample(broken)
    monitor.on_sample(heard.append)
    for _ in range(3):
        monitor.sample()
    assert len(heard) == 3
    assert len(caplog.records) == 1
    assert list(monitor.errors.values()) == ["no browser"]


def test_a_subscriber_that_works_again_is_no_longer_among_the_errors():
    monitor = PerformanceMonitor([FakeCollector("a_percent")])
    broken = True

    def sometimes(sample: Sample) -> None:
        if broken:
            raise RuntimeError("no browser")

    monitor.on_sample(sometimes)
    monitor.sample()
    assert monitor.errors
    broken = False
    monitor.sample()
    assert monitor.errors == {}


def test_subscribers_of_one_name_are_distinguished_among_the_errors(caplog):
    """One that works does not heal the other; that would be logged with every sample."""
    monitor = PerformanceMonitor([FakeCollector("a_percent")])
    heard: list[Sample] = []
    failing, working = (lambda sample, act=act: act(sample) for act in (lambda _: 1 / 0, heard.append))
    monitor.on_sample(failing)
    monitor.on_sample(working)
    for _ in range(3):
        monitor.sample()
    assert len(heard) == 3
    assert list(monitor.errors.values()) == ["division by zero"]
    assert len(caplog.records) == 1
    monitor.on_sample(failing, remove=True)
    assert monitor.errors == {}


def test_a_subscriber_without_a_name_is_called_by_its_type():
    """A partial prints all of its arguments, which may be an array of gigabytes, or raise."""

    class Unprintable:
        def __repr__(self) -> str:
            raise AssertionError("nobody needs to know")

    monitor = PerformanceMonitor([FakeCollector("a_percent")])
    monitor.on_sample(partial(lambda model, sample: 1 / 0, Unprintable()))
    monitor.sample()
    assert monitor.errors == {"on_sample partial": "division by zero"}
    action = partial(lambda model: 1 / 0, Unprintable())
    monitor.call_soon(action)
    assert "partial" in monitor.errors


class Panel:
    def update(self, _: object) -> None:
        raise RuntimeError("broken")

    def callbacks(self) -> dict[str, Callable[[object], object]]:
        def local(_: object) -> None:
            raise RuntimeError("broken")

        line = inspect.currentframe().f_lineno
        return {
            "local": local,
            f"lambda (line {line + 3} of {__name__})": lambda _: fails(),
            "Panel.update": self.update,
            "partial": partial(self.update),
        }


@pytest.mark.parametrize("number", range(4))
def test_errors_name_a_function_by_words_that_a_person_understands(number):
    name, callback = list(Panel().callbacks().items())[number]
    monitor = PerformanceMonitor([], interval=NEVER)
    monitor.on_sample(callback)
    monitor.sample()
    assert list(monitor.errors) == [f"on_sample {name}"]
    monitor.on_sample(callback, remove=True)
    monitor.on_state(callback)
    with monitor:
        assert list(monitor.errors) == [f"on_state {name}"]
    monitor.on_state(callback, remove=True)
    monitor.call_soon(partial(callback, None))
    assert list(monitor.errors) == ["partial"]


def test_an_action_may_be_given_a_name_for_the_errors():
    monitor = PerformanceMonitor([])
    monitor.call_soon(lambda: fails(), name="the button")
    assert monitor.errors == {"the button": "broken"}
    monitor.call_soon(lambda: None, name="the button")
    assert monitor.errors == {}


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError])
def test_a_subscriber_that_would_end_the_thread_does_not(error):
    def leave(sample: Sample) -> None:
        raise error

    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=0.02)
    samples = Samples()
    monitor.on_sample(leave)
    monitor.on_sample(samples)
    with monitor:
        for _ in range(3):
            samples.next()
        assert error.__name__ in next(iter(monitor.errors.values()))


def test_subscriptions_from_several_threads_are_all_kept():
    monitor = PerformanceMonitor([FakeCollector("a_percent")])
    heard: list[tuple[int, int]] = []

    def subscribe(number: int) -> None:
        for each in range(200):
            callback = partial(lambda key, sample: heard.append(key), (number, each))
            monitor.on_sample(callback)
            if each % 2:
                monitor.on_sample(callback, remove=True)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=subscribe, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    monitor.sample()
    assert sorted(heard) == [(number, each) for number in range(4) for each in range(0, 200, 2)]


def test_a_subscriber_may_remove_itself_while_it_is_called():
    monitor = PerformanceMonitor([FakeCollector("a_percent")])
    heard = []

    def once(sample: Sample) -> None:
        heard.append(sample)
        monitor.on_sample(once, remove=True)

    monitor.on_sample(once)
    monitor.on_sample(other := Samples())
    monitor.sample()
    monitor.sample()
    assert len(heard) == 1
    assert len(other) == 2


# -- start and stop ----------------------------------------------------------------------------------------


def test_a_start_samples_at_once_and_then_every_interval():
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=FAST)
    samples = Samples()
    monitor.on_sample(samples)
    with monitor:
        assert monitor.running
        assert [samples.next().values["a_percent"] for _ in range(5)] == [0, 1, 2, 3, 4]
    assert not monitor.running


def test_start_and_stop_may_be_said_twice():
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER)
    monitor.stop()
    monitor.start()
    (thread,) = samplers()
    monitor.start()
    assert samplers() == [thread]
    monitor.stop()
    monitor.stop()
    assert samplers() == []


def test_each_start_has_a_thread_of_its_own_and_samples_again():
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=FAST)
    samples = Samples()
    monitor.on_sample(samples)
    threads = set()
    for _ in range(3):
        with monitor:
            threads.update(samplers())
            samples.next()
            samples.next()
        while len(samples):
            samples.next()
    assert len(threads) == 3
    assert not any(thread.is_alive() for thread in threads)


def test_the_thread_is_a_daemon():
    with PerformanceMonitor([], interval=NEVER):
        assert all(thread.daemon for thread in samplers())


def test_stop_returns_at_once_and_nothing_is_sampled_afterwards():
    collector = FakeCollector("a_percent")
    monitor = PerformanceMonitor([collector], interval=NEVER)
    samples = Samples()
    monitor.on_sample(samples)
    monitor.start()
    samples.next()
    started = time.monotonic()
    monitor.stop()
    assert time.monotonic() - started < NEVER / 1000  # it waits for no tick
    assert samplers() == []
    assert collector.readings == 1


def test_the_history_stays_readable_after_a_stop():
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER)
    samples = Samples()
    monitor.on_sample(samples)
    with monitor:
        sample = samples.next()
    assert len(monitor.history) == 1
    assert monitor.latest is sample


def test_several_starts_at_once_make_one_thread():
    monitor = PerformanceMonitor([], interval=NEVER)
    barrier = threading.Barrier(8, timeout=30)

    def start() -> None:
        barrier.wait()
        monitor.start()

    with switching_threads_often():
        threads = [threading.Thread(target=start) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(samplers()) == 1
        monitor.stop()


def test_the_state_can_be_read_and_set_while_others_start_and_stop():
    monitor = PerformanceMonitor([], interval=NEVER)
    errors: list[Exception] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            try:
                _ = monitor.running, repr(monitor)
                monitor.interval = NEVER
            except Exception as error:
                errors.append(error)

    with switching_threads_often():
        threads = [threading.Thread(target=look) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(50):
            monitor.start()
            monitor.stop()
        done.set()
        for thread in threads:
            thread.join()
    assert errors == []


def test_a_subscriber_may_stop_the_monitor():
    collector = FakeCollector("a_percent")
    monitor = PerformanceMonitor([collector], interval=FAST)
    samples = Samples()
    monitor.on_sample(lambda sample: monitor.stop())
    monitor.on_sample(samples)
    monitor.start()
    (thread,) = samplers() or [None]
    samples.next()
    if thread is not None:
        thread.join(5)
    assert not monitor.running
    assert collector.readings == 1


def test_a_subscriber_may_remove_itself_and_then_stop_the_monitor():
    """The usual way to stop after some samples: each thread waited for the other, 5 s long."""
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER)
    took: list[float] = []
    stopped = threading.Event()

    def stop(sample: Sample) -> None:
        monitor.on_sample(stop, remove=True)
        before = time.monotonic()
        monitor.stop()
        took.append(time.monotonic() - before)
        stopped.set()

    monitor.on_sample(stop)
    monitor.start()
    (thread,) = samplers() or [None]
    assert stopped.wait(3 * TIMEOUT)
    if thread is not None:
        thread.join(10)
    assert took[0] < TIMEOUT / 2
    assert (monitor.running, monitor.errors) == (False, {})


@pytest.mark.parametrize("fails_too", [False, True])
def test_a_subscriber_that_has_removed_itself_leaves_no_error(monkeypatch, caplog, fails_too):
    monkeypatch.setattr(monitor_module, "TIMEOUT", 0.05)
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER)
    samples, returns = Samples(), threading.Event()

    def leave(sample: Sample) -> None:
        monitor.on_sample(leave, remove=True)
        if fails_too:
            fails()
        returns.wait(10)

    monitor.on_sample(leave)
    monitor.on_sample(samples)
    with monitor:
        samples.next()
        assert monitor.errors == {}
        returns.set()
    # What it raises is logged nevertheless. That it takes its time no longer concerns anybody.
    assert len(caplog.records) == fails_too


def test_a_subscriber_and_another_thread_may_stop_the_monitor_at_the_same_time():
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=FAST)
    heard, stopping = threading.Event(), threading.Event()

    def stop(sample: Sample) -> None:
        heard.set()
        stopping.wait(10)
        time.sleep(0.05)  # the other thread is inside its stop() by now
        monitor.stop()

    monitor.on_sample(stop)
    monitor.start()
    (thread,) = samplers()
    assert heard.wait(10)
    stopping.set()
    started = time.monotonic()
    monitor.stop()
    took = time.monotonic() - started
    thread.join(10)
    assert took < TIMEOUT / 2  # neither waited for the other


def test_a_subscriber_may_start_the_monitor_again():
    """A sample that the new thread takes before the callback has returned is not passed to it."""
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=0.05)
    samples = Samples()

    def again(sample: Sample) -> None:
        if sample.values["a_percent"] == 0:
            monitor.stop()
            monitor.start()
        samples(sample)

    monitor.on_sample(again)
    monitor.start()
    first, second = (samples.next().values["a_percent"] for _ in range(2))
    assert first == 0 < second
    assert monitor.running
    monitor.stop()


def test_a_start_after_a_stop_marks_a_gap():
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER)
    samples = Samples()
    monitor.on_sample(samples)
    with monitor:
        samples.next()
    assert monitor.history.attrs["gaps"] == []
    with monitor:
        samples.next()
    frame = monitor.history
    assert gaps(frame) == [frame.index[1]]


class Closing(FakeCollector):
    """A source that has something to close, and says when."""

    def __init__(self, *names: str, closing: Callable[[], object] = lambda: None) -> None:
        super().__init__(*names)
        self.closed = 0
        self.closing = closing

    def close(self) -> None:
        self.closed += 1
        self.closing()


def test_a_stop_closes_the_sources_and_they_may_be_asked_again():
    source = Closing("a_percent")
    monitor = PerformanceMonitor([source], interval=NEVER)
    monitor.on_sample(samples := Samples())
    with monitor:
        samples.next()
        assert source.closed == 0
    assert source.closed == 1
    assert monitor.sample().values["a_percent"] == 1


def test_a_source_that_cannot_be_closed_is_an_error_and_the_others_are_closed(caplog):
    broken, other = Closing("a_percent", closing=fails), Closing("b_percent")
    monitor = PerformanceMonitor([broken, other])
    monitor.stop()
    assert other.closed == 1
    assert monitor.errors == {"Closing.close": "broken"}
    assert len(caplog.records) == 1


def test_a_source_is_not_closed_in_the_middle_of_a_reading():
    """It is called by one thread at a time."""
    order, reading = [], threading.Event()

    class Slow(Closing):
        def collect(self) -> dict[str, float]:
            reading.set()
            time.sleep(0.2)
            order.append("read")
            return {}

    monitor = PerformanceMonitor([Slow("a_percent", closing=lambda: order.append("closed"))])
    by_hand = threading.Thread(target=monitor.sample)
    by_hand.start()
    assert reading.wait(10)
    monitor.stop()
    by_hand.join()
    assert order == ["read", "closed"]


# -- due times ---------------------------------------------------------------------------------------------


def test_a_shorter_interval_holds_at_once():
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER)
    samples = Samples()
    monitor.on_sample(samples)
    with monitor:
        samples.next()
        monitor.interval = FAST
        assert samples.next().values["a_percent"] == 1
        assert monitor.interval == FAST


def test_a_longer_interval_holds_at_once():
    collector = FakeCollector("a_percent")
    monitor = PerformanceMonitor([collector], interval=0.2)
    samples = Samples()
    monitor.on_sample(samples)
    with monitor:
        samples.next()
        monitor.interval = NEVER
        time.sleep(0.25)  # past the tick that is no longer due
        assert collector.readings == 1


def test_a_shorter_interval_counts_nothing_as_missed_that_was_never_due():
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER)
    samples = Samples()
    monitor.on_sample(samples)
    with monitor:
        samples.next()
        time.sleep(0.8)
        monitor.interval = 0.2  # of which four would fit into the time since; a thread is seldom so late
        samples.next()
        assert monitor.missed == 0
        samples.next()
        assert monitor.history.attrs["gaps"] == []


def test_an_interval_set_by_a_subscriber_holds_from_that_sample():
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER)
    samples = Samples()

    def faster(sample: Sample) -> None:
        monitor.interval = FAST

    monitor.on_sample(faster)
    monitor.on_sample(samples)
    with monitor:
        samples.next()
        samples.next()


@pytest.mark.parametrize(
    ("due", "now", "expected"),
    [
        (100.0, 100.0, (105.0, 0)),  # punctual
        (100.0, 104.9, (105.0, 0)),  # late, but before the next
        (100.0, 105.0, (110.0, 1)),  # the next is due this very moment: too late for it
        (100.0, 109.0, (110.0, 1)),
        (100.0, 131.0, (135.0, 6)),  # asleep for half a minute: skipped, never made up for
    ],
)
def test_what_is_past_is_skipped_and_the_grid_is_kept(due, now, expected):
    assert next_due(due, now, 5.0) == expected


@given(
    st.floats(0, 1e7),
    st.floats(0, 1e5),
    st.floats(1e-3, 1e4),
)
def test_the_next_sample_is_due_within_one_interval_on_the_grid(due, late, interval):
    now = due + late
    following, missed = next_due(due, now, interval)
    rounding = 1e-6
    assert now - rounding <= following <= now + interval + rounding
    assert missed >= 0
    assert following == pytest.approx(due + (missed + 1) * interval)


def test_a_source_that_takes_longer_than_the_interval_has_ticks_skipped_and_counted():
    def slow() -> dict[str, float]:
        time.sleep(0.11)
        return {"a_percent": 1.0}

    monitor = PerformanceMonitor([FakeCollector("a_percent", read=slow)], interval=0.05)
    samples = Samples()
    monitor.on_sample(samples)
    with monitor:
        times = [samples.next().time for _ in range(3)]
        missed = monitor.missed
    assert missed >= 2 * 2  # two ticks fell into each reading
    assert times[1] - times[0] >= 0.11  # none was made up for
    frame = monitor.history
    assert gaps(frame)[:2] == list(frame.index[1:3])


def test_a_gap_is_marked_where_the_samples_are_missing_when_the_thread_came_late():
    """A thread that wakes up late (a long call held the interpreter) has the gap before its next row."""
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=0.1)
    samples = Samples()
    monitor.on_sample(samples)
    with monitor:
        samples.next()
        monitor.call_soon(lambda: time.sleep(0.45))
        for _ in range(3):
            samples.next()
        assert monitor.missed >= 3
    frame = monitor.history
    longest = frame.index.to_series().diff().idxmax()
    assert longest in gaps(frame)  # a busy machine may cause others


def test_the_count_of_missed_ticks_begins_anew_with_each_start():
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=0.02)
    samples = Samples()
    monitor.on_sample(samples)
    with monitor:
        samples.next()
        monitor.call_soon(lambda: time.sleep(0.1))
        samples.next()
        samples.next()
        assert monitor.missed > 0
    monitor.interval = NEVER
    with monitor:
        assert monitor.missed == 0


# -- queued actions -----------------------------------------------------------------------------------------


def test_an_action_is_called_by_the_sampling_thread_without_waiting_for_the_next_sample():
    done = threading.Event()
    where = []

    def action() -> None:
        where.append(threading.current_thread())
        done.set()

    with PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER) as monitor:
        monitor.call_soon(action)
        assert done.wait(10)
        assert where == samplers()


def test_an_action_is_called_at_once_and_here_when_the_monitor_is_stopped():
    where = []
    PerformanceMonitor([]).call_soon(lambda: where.append(threading.current_thread()))
    assert where == [threading.current_thread()]


def test_actions_are_called_in_the_order_in_which_they_were_added():
    order, done = [], threading.Event()
    with PerformanceMonitor([], interval=NEVER) as monitor:
        for number in range(20):
            monitor.call_soon(lambda number=number: order.append(number))
        monitor.call_soon(done.set)
        assert done.wait(10)
    assert order == list(range(20))


def test_an_action_that_fails_is_an_error_and_the_thread_goes_on(caplog):
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=FAST)
    samples = Samples()
    monitor.on_sample(samples)
    with monitor:
        monitor.call_soon(fails)
        for _ in range(3):
            samples.next()
    assert list(monitor.errors.values()) == ["broken"]
    assert len(caplog.records) == 1


def test_an_action_added_just_before_a_stop_is_not_lost():
    called = []
    for number in range(50):
        monitor = PerformanceMonitor([], interval=NEVER)
        monitor.start()
        monitor.call_soon(lambda number=number: called.append(number))
        monitor.stop()
    assert called == list(range(50))


def test_an_action_may_stop_the_monitor():
    monitor = PerformanceMonitor([], interval=NEVER)
    monitor.start()
    (thread,) = samplers()
    monitor.call_soon(monitor.stop)
    thread.join(10)
    assert not monitor.running


# -- the log -----------------------------------------------------------------------------------------------


def test_the_log_mirrors_the_history_row_by_row(folder):
    monitor = PerformanceMonitor([FakeCollector("a_percent", "b_bytes")])
    assert isinstance(monitor.log, CsvLog)
    monitor.sample()
    path = monitor.log.start("run.csv")
    monitor.sample()
    monitor.sample()
    pd.testing.assert_frame_equal(read_csv(path), monitor.history)
    monitor.log.stop()


def test_a_stop_closes_the_log(folder):
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER)
    monitor.start()
    monitor.log.start()
    monitor.stop()
    assert not monitor.log.running


def test_a_stop_leaves_the_log_alone_that_another_thread_has_started_meanwhile(folder):
    held, begun = threading.Event(), threading.Event()

    def read() -> dict[str, float]:
        begun.set()
        held.wait(10)
        return {"a_percent": 1.0}

    monitor = PerformanceMonitor([FakeCollector("a_percent", read=read)], interval=FAST)
    monitor.start()
    assert begun.wait(10)
    stopping = threading.Thread(target=monitor.stop)
    stopping.start()
    while monitor.running:
        time.sleep(0.001)
    monitor.start()
    monitor.log.start("again.csv")
    held.set()
    stopping.join()
    assert monitor.running
    assert monitor.log.running
    monitor.stop()
    assert not monitor.log.running


def test_a_stop_closes_the_log_of_a_monitor_that_never_ran(folder):
    monitor = PerformanceMonitor([FakeCollector("a_percent")])
    monitor.log.start()
    monitor.stop()
    assert not monitor.log.running


def test_a_stop_does_not_wait_for_a_row_that_cannot_be_written(folder, far_disk):
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=FAST)
    path = monitor.log.start("run.csv")
    far_disk.away.set()
    monitor.start()
    sampler = monitor._sampler
    assert far_disk.asked.wait(30)
    monitor.mark("a")
    monitor.stop()
    assert sampler.is_alive()
    assert not monitor.running
    assert not monitor.log.running
    far_disk.there.set()
    sampler.join(30)
    assert read_csv(path)["a_percent"].tolist() == [0.0]
    assert read_spans(path)["name"].tolist() == ["a"]


def test_a_log_that_switches_itself_off_does_not_stop_the_sampling(folder):
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=FAST)
    samples = Samples()
    monitor.on_sample(samples)
    with monitor:
        path = monitor.log.start()
        path.unlink()
        for _ in range(5):
            samples.next()
        assert not monitor.log.running
        assert "deleted" in monitor.log.error
        assert monitor.running


# -- fork and exit -----------------------------------------------------------------------------------------


def test_a_forked_child_has_no_monitor_running_and_can_start_its_own(forked):
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=FAST)
    samples = Samples()
    monitor.on_sample(samples)
    with monitor:
        samples.next()

        def child() -> tuple[bool, int, int, bool]:
            inherited = monitor.running
            threads = len(samplers())
            heard = Samples()
            monitor.on_sample(heard)
            monitor.start()
            times = [heard.next().time for _ in range(3)]
            running = monitor.running
            monitor.stop()
            return inherited, threads, len(times), running

        assert forked(child) == (False, 0, 3, True)
        assert monitor.running
        samples.next()


def test_a_child_forked_in_the_middle_of_a_sample_can_sample(forked):
    reading, go_on = threading.Event(), threading.Event()

    def slow() -> dict[str, float]:
        reading.set()
        go_on.wait(10)
        return {"a_percent": 1.0}

    collector = FakeCollector("a_percent", read=slow)
    monitor = PerformanceMonitor([collector], interval=NEVER)
    with monitor:
        assert reading.wait(10)

        def child() -> float:
            collector.read = lambda: {"a_percent": 2.0}
            return monitor.sample().values["a_percent"]

        assert forked(child) == 2.0
        go_on.set()


def test_a_child_forked_while_another_thread_holds_every_lock_works_on_its_own(forked, folder):
    """Another thread, since the main one could enter its own reentrant locks."""
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER)
    parts = [
        *(monitor._history, monitor._log, monitor._spans, monitor._span_log, monitor._recorded),
        *(monitor._sample_subscribers, monitor._state_subscribers, monitor._interval_subscribers),
    ]
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as locks:
            for lock in [monitor._sampling, monitor._starting, *(part._lock for part in parts)]:
                locks.enter_context(lock)
            held.set()
            go_on.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(30)

    def child() -> list[float]:
        samples = Samples()
        monitor.on_sample(samples)
        monitor.on_state(lambda _: None)
        monitor.log.start("child.csv")
        monitor.mark("a")
        monitor.record(loss=1)
        with monitor:
            samples.next()
        return read_csv("child.csv")["loss"].tolist()

    try:
        assert forked(child) == [1.0]
    finally:
        go_on.set()
        holder.join()


def test_a_forked_child_does_not_close_what_its_parent_reads(forked):
    closed: list[int] = []
    collector = FakeCollector("a_percent")
    collector.close = lambda: closed.append(os.getpid())
    monitor = PerformanceMonitor([collector])
    monitor.sample()

    def child() -> list[int]:
        monitor.stop()  # as when it ends by sys.exit()
        unread = list(closed)
        monitor.sample()
        monitor.stop()
        return [len(unread), len(closed)]

    assert forked(child) == [0, 1]
    monitor.stop()
    assert closed == [os.getpid()]


def test_a_forked_child_waits_for_the_gil_as_long_as_it_did_before_the_monitor(forked):
    usual = sys.getswitchinterval()
    with PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER) as monitor:
        monitor._sampler._shorten_switch_interval()
        assert sys.getswitchinterval() < usual
        assert forked(sys.getswitchinterval) == usual
    assert sys.getswitchinterval() == usual


def test_a_child_forked_while_the_shared_monitor_is_made_can_have_one(forked):
    with registry.lock:
        assert forked(lambda: shared_monitor().running) is False


def test_a_forked_child_leaves_the_log_to_its_parent(forked, folder):
    monitor = PerformanceMonitor([FakeCollector("a_percent")])
    monitor.sample()
    path = monitor.log.start("run.csv")

    def child() -> tuple[bool, str]:
        inherited = monitor.log.running
        monitor.sample()
        own = monitor.log.start("run.csv")
        monitor.sample()
        monitor.stop()
        return inherited, own.name

    assert forked(child) == (False, "run-2.csv")
    monitor.sample()
    assert read_csv(path)["a_percent"].tolist() == [0.0, 1.0]
    assert read_csv(folder / "run-2.csv")["a_percent"].tolist() == [0.0, 1.0, 2.0]
    monitor.stop()


def test_a_forked_child_does_not_call_the_actions_of_its_parent(forked):
    busy, go_on = threading.Event(), threading.Event()
    done: list[int] = []

    def keep_busy() -> None:
        busy.set()
        go_on.wait(10)

    with PerformanceMonitor([], interval=NEVER) as monitor:
        monitor.call_soon(keep_busy)
        assert busy.wait(10)
        monitor.call_soon(lambda: done.append(os.getpid()))

        def child() -> bool:
            monitor.call_soon(lambda: None)
            return os.getpid() in done

        assert forked(child) is False
        go_on.set()
    assert done == [os.getpid()]


# -- the shared monitor ------------------------------------------------------------------------------------


def test_the_shared_monitor_is_one_and_does_not_run_by_itself(monkeypatch):
    monkeypatch.setattr(registry, "shared", None)
    monitor = shared_monitor()
    assert shared_monitor() is monitor
    assert not monitor.running
    assert (monitor.interval, monitor.window) == (5.0, 600.0)


def test_the_default_is_the_shared_monitor_if_it_runs_else_the_newest_that_runs(monkeypatch):
    monkeypatch.setattr(registry, "shared", None)
    assert existing_monitor() is None
    first, second, shared = (PerformanceMonitor([], interval=NEVER) for _ in range(3))
    monkeypatch.setattr(registry, "shared", shared)
    assert default_monitor() is existing_monitor() is shared
    with first, second:
        assert default_monitor() is existing_monitor() is second
        with shared:
            assert default_monitor() is shared
    assert default_monitor() is shared


def test_the_default_is_made_where_there_is_none(monkeypatch):
    monkeypatch.setattr(registry, "shared", None)
    assert default_monitor() is registry.shared
    assert not registry.shared.running


# -- what looks like a monitor -----------------------------------------------------------------------------


def test_a_monitor_is_what_has_its_members():
    check_monitor(PerformanceMonitor([]))
    with pytest.raises(
        TypeError, match="monitor must be a PerformanceMonitor, not str, which has no 'call_soon'"
    ):
        check_monitor("gpu")


def test_a_check_reads_no_history():
    class Recording(PerformanceMonitor):
        @property
        def history(self) -> pd.DataFrame:
            raise AssertionError("expensive")

    check_monitor(Recording([]))


# -- started and stopped -----------------------------------------------------------------------------------


def test_faces_hear_of_a_start_and_a_stop():
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER)
    heard: list[tuple[bool, bool]] = []
    monitor.on_state(lambda running: heard.append((running, monitor.running)))
    monitor.start()
    monitor.start()
    monitor.stop()
    monitor.stop()
    assert heard == [(True, True), (False, False)]


def test_a_sample_that_was_taken_aside_is_heard_of_before_the_next(monkeypatch):
    """The sampling thread may take the next one before it has come to the notice of the first."""
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER)
    heard: list[Sample] = []
    monitor.on_sample(lambda sample: heard.append(sample))
    monkeypatch.setattr(monitor, "call_soon", lambda *_: None)  # it has not come to it yet
    monitor.sample_within(30)
    first = monitor.latest
    assert heard == []
    assert [first, monitor.sample()] == heard


def test_callbacks_hear_of_a_new_interval_with_a_timeout_while_the_monitor_runs():
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER)
    heard: list[tuple[float, str]] = []

    def hear(seconds: float) -> None:
        heard.append((seconds, threading.current_thread().name))

    monitor.on_interval(hear)
    monitor.interval = 70.0
    monitor.interval = 70.0
    assert heard == [(70.0, "MainThread")]
    with monitor:
        monitor.interval = 80.0
        wait_until(lambda: len(heard) == 2)
    assert heard[1:] == [(80.0, "perfmon-subscriber")]
    monitor.on_interval(hear, remove=True)
    monitor.interval = 90.0
    assert len(heard) == 2
    assert monitor.errors == {}


def test_a_face_that_took_itself_out_hears_no_more():
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER)
    heard: list[bool] = []
    monitor.on_state(heard.append)
    monitor.on_state(heard.append)  # known already
    with monitor:
        pass
    monitor.on_state(heard.append, remove=True)
    with monitor:
        pass
    assert heard == [True, False]


def test_a_face_that_fails_when_called_keeps_nobody_from_starting_and_stopping():
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER)
    heard: list[bool] = []

    def fail(_: bool) -> None:
        raise RuntimeError("broken face")

    monitor.on_state(fail)
    monitor.on_state(heard.append)
    with monitor:
        assert monitor.running
    assert heard == [True, False]
    assert "broken face" in monitor.errors.values()


def test_the_monitor_may_be_stopped_by_who_gets_a_sample():
    """Then it is the sampling thread that tells."""
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER)
    heard = threading.Event()
    threads: list[threading.Thread] = []

    def note(running: bool) -> None:
        if not running:
            threads.append(threading.current_thread())
            heard.set()

    monitor.on_state(note)
    monitor.on_sample(lambda _: monitor.stop())
    monitor.start()
    assert heard.wait(10)
    assert threads[0] is not threading.current_thread()


# -- code of others ----------------------------------------------------------------------------------------


class Raising:
    """A number whose conversion raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __float__(self) -> float:
        raise self.error


@pytest.mark.parametrize("error", [SystemExit(3), CancelledError(), GeneratorExit(), KeyboardInterrupt()])
def test_a_value_that_raises_when_it_is_converted_ends_no_sampling(error):
    samples = Samples()
    collector = FakeCollector("a_percent", read=lambda: {"a_percent": Raising(error)})
    with PerformanceMonitor([collector, OtherCollector("b_percent")], interval=0.01) as monitor:
        monitor.on_sample(samples)
        rows = [samples.next().values for _ in range(3)]
        assert monitor.running
        assert list(monitor.errors) == ["FakeCollector", "a_percent"]
    assert rows[-1]["b_percent"] >= 2


@pytest.mark.parametrize("error", [SystemExit(3), CancelledError(), GeneratorExit()])
def test_a_sample_by_hand_raises_nothing_whatever_a_collector_raises(error):
    def raising() -> dict[str, float]:
        raise error

    monitor = PerformanceMonitor([FakeCollector("a_percent", read=raising)])
    assert math.isnan(monitor.sample().values["a_percent"])
    assert list(monitor.errors) == ["FakeCollector", "a_percent"]


def test_a_sample_by_hand_can_be_interrupted():
    def interrupted() -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PerformanceMonitor([FakeCollector("a_percent", read=interrupted)]).sample()


class Moody(FakeCollector):
    """A collector whose attributes raise after a while."""

    broken: BaseException | None = None

    @property
    def metrics(self):
        return self._get("_metrics")

    @metrics.setter
    def metrics(self, metrics):
        self._metrics = metrics

    @property
    def errors(self):
        return self._get("_errors")

    @property
    def close(self):
        return self._get("_close")

    _errors, _close = {}, None

    def _get(self, name: str) -> object:
        if self.broken is not None:
            raise self.broken
        return getattr(self, name)


@pytest.mark.parametrize("error", [RuntimeError("broken"), SystemExit("broken")])
def test_attributes_of_a_collector_that_raise_later_break_nothing(error):
    collector = Moody("a_percent")
    monitor = PerformanceMonitor([collector])
    collector.broken = error
    collector.read = lambda: {"a_percent": 7.0}
    assert monitor.sample().values == {"a_percent": 7}
    assert monitor.history.attrs["a_percent"]["unit"] == "percent"
    assert monitor.errors == {"Moody.errors": "broken"}
    monitor.stop()
    assert monitor.errors["Moody.close"] == "broken"


def test_reasons_of_any_kind_are_texts():
    collector = FakeCollector("a_percent")
    collector.errors = {"a_percent": OSError("away"), 5: "x" * 10_000}
    errors = PerformanceMonitor([collector]).errors
    assert errors["a_percent"] == "away"
    assert len(errors["5"]) == 1000


def test_the_text_of_an_error_is_cut_and_can_be_written(caplog):
    def fail() -> dict[str, float]:
        raise ValueError("\udcff" + "x" * 5_000_000)

    monitor = PerformanceMonitor([FakeCollector("a_percent", read=fail)])
    monitor.sample()
    text = monitor.errors["FakeCollector"]
    assert len(text) == 1000
    assert text.encode().startswith(b"?xxx")
    assert len(caplog.text) < 1500


def test_a_close_that_hangs_does_not_hold_up_a_stop_for_ever(monkeypatch):
    monkeypatch.setattr("perfmon_widgets.core.sources.TIMEOUT", 0.1)
    go_on = threading.Event()
    collector = FakeCollector("a_percent")
    collector.close = lambda: go_on.wait(30)
    monitor = PerformanceMonitor([collector])
    monitor.sample()
    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(monitor.stop).result(timeout=10)
        finally:
            go_on.set()
    assert "close() has not come back" in monitor.errors["FakeCollector.close"]


# -- subscribers that do not return ------------------------------------------------------------------------


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_subscriber_that_never_returns_is_listed_and_left_out(monkeypatch):
    monkeypatch.setattr(monitor_module, "TIMEOUT", 0.05)
    called, go_on, samples = [], threading.Event(), Samples()

    def hang(sample: Sample) -> None:
        called.append(sample)
        go_on.wait(60)

    with PerformanceMonitor([FakeCollector("a_percent")], interval=0.01) as monitor:
        monitor.on_sample(hang)
        monitor.on_sample(samples)
        for _ in range(5):
            samples.next()
        assert len(called) == 1
        assert monitor.errors == {
            "on_sample hang": "it has not returned for more than 0.05 s; it is left out until it has"
        }
        go_on.set()
        until(lambda: len(called) > 1)
        until(lambda: not monitor.errors)


def test_a_subscriber_may_stop_the_monitor_and_use_it(folder):
    ended = threading.Event()
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=0.01)
    before = os.times().elapsed

    def use(_: Sample) -> None:
        monitor.mark("m")
        with monitor.span("s"):
            monitor.record(loss=1)
        monitor.stop()
        ended.set()

    monitor.on_sample(use)
    monitor.start()
    assert ended.wait(10)
    until(lambda: not any(thread.name.startswith("perfmon") for thread in threading.enumerate()))
    assert os.times().elapsed - before < sampler_module.TIMEOUT  # nobody has waited for the other
    assert not monitor.running
    assert monitor.errors == {}
    monitor.stop()


def test_a_sample_by_hand_calls_subscribers_on_the_callers_thread():
    threads = []
    monitor = PerformanceMonitor([FakeCollector("a_percent")])
    monitor.on_sample(lambda _: threads.append(threading.current_thread()))
    monitor.sample()
    assert threads == [threading.current_thread()]
