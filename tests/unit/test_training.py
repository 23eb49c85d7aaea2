"""What the callbacks of all frameworks share: spans, steps, values and the names of their columns."""

from __future__ import annotations

import copy
import math
import pickle
import threading
import time
from collections.abc import Iterator

import pytest
from fakes.clocks import Clocks
from fakes.collectors import FakeCollector

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.core.registry import registry
from perfmon_widgets.core.steps import Meter
from perfmon_widgets.integrations.training import Training, column

LIBRARY = __name__.partition(".")[0]  # this file stands for a framework


@pytest.fixture
def monitor() -> PerformanceMonitor:
    return PerformanceMonitor([FakeCollector("a_percent")])


def spans(monitor: PerformanceMonitor) -> list[tuple[str, bool, bool]]:
    """The name of each span, whether it has ended, and whether an exception ended it."""
    table = monitor.spans
    return list(zip(table["name"], table["end"].notna(), table["raised"], strict=True))


# -- spans -------------------------------------------------------------------------------------------------


def test_a_span_is_inside_those_that_are_open(monitor):
    training = Training(monitor)
    training.enter("epoch 1", steps=True)
    training.enter("validation")
    assert training.innermost == "validation"
    training.leave()
    assert training.innermost == "epoch 1"
    training.leave()
    assert training.innermost == ""
    assert spans(monitor) == [("epoch 1", True, False), ("validation", True, False)]
    outer, inner = monitor.spans.to_dict("records")
    assert outer["start"] <= inner["start"] <= inner["end"] <= outer["end"]


def test_to_leave_without_a_span_does_nothing(monitor):
    training = Training(monitor)
    training.leave()
    training.end()
    training.step()
    training.wait()
    assert spans(monitor) == []


def test_the_end_by_an_exception_ends_every_span(monitor):
    training = Training(monitor)
    training.enter("epoch 1", steps=True)
    training.enter("validation")
    training.end(raised=True)
    assert spans(monitor) == [("epoch 1", True, True), ("validation", True, True)]


def fit(training: Training) -> None:
    """The function of a framework that has no hook for exceptions."""
    training.enter("epoch 1", steps=True)
    training.step(4)
    training.enter("validation")
    raise RuntimeError("out of memory")


def fail(training: Training) -> list[RuntimeError]:
    """Run it on another thread; returns the error, as a notebook keeps the last one, with its frames."""
    errors: list[RuntimeError] = []

    def run() -> None:
        try:
            fit(training)
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return errors


def test_the_next_sample_ends_what_an_exception_left_open(monitor):
    training = Training(monitor, library=LIBRARY)
    errors = fail(training)
    assert spans(monitor) == [("epoch 1", False, False), ("validation", False, False)]
    monitor.sample()
    assert spans(monitor) == [("epoch 1", True, True), ("validation", True, True)]
    assert len(errors) == 1
    assert training.innermost == ""


def test_a_sample_ends_no_span_while_the_function_goes_on(monitor):
    training = Training(monitor, library=LIBRARY)
    training.enter("epoch 1")
    training.enter("validation")

    def elsewhere() -> None:
        monitor.sample()  # as the sampling thread does

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    monitor.sample()
    assert spans(monitor) == [("epoch 1", False, False), ("validation", False, False)]
    training.end()


def on_epoch_begin(training: Training) -> None:
    """The function of a framework that passes an event on, and returns."""
    training.enter("epoch 1", steps=True)


def test_a_loop_of_the_users_own_that_only_passes_events_on_goes_on(monitor):
    training = Training(monitor, library=LIBRARY)
    # On another thread, since this function is of the framework, and the loop is not.
    passes_on = threading.Thread(target=on_epoch_begin, args=(training,))
    passes_on.start()
    passes_on.join()
    monitor.sample()
    assert spans(monitor) == [("epoch 1", False, False)]
    training.step(4)
    time.sleep(0.01)
    assert monitor.sample().values["steps_per_second"] > 0
    training.leave()
    assert spans(monitor) == [("epoch 1", True, False)]


def test_the_loop_of_a_training_that_has_raised_is_not_measured_any_more(monitor):
    training = Training(monitor, library=LIBRARY)
    fail(training)
    for _ in range(3):  # the first one adds the columns, the second reads what was left
        monitor.sample()
    assert math.isnan(monitor.sample().values["waiting_percent"])


def test_a_second_training_begins_anew(monitor):
    training = Training(monitor, library=LIBRARY)
    fail(training)
    training.end(raised=True)
    training.enter("epoch 1")
    monitor.sample()
    training.leave()
    assert spans(monitor) == [
        ("epoch 1", True, True), ("validation", True, True), ("epoch 1", True, False),
    ]  # fmt: skip


def test_nothing_is_left_in_the_monitor(monitor):
    training = Training(monitor)
    for _ in range(2):
        training.enter("epoch 1", steps=True)
        training.leave()
    assert not monitor._sample_subscribers._subscribers
    assert not monitor._meter._loops


# -- steps -------------------------------------------------------------------------------------------------


class Measured:
    """A training whose time is turned by hand."""

    def __init__(self) -> None:
        self.clocks = Clocks()
        self.monitor = PerformanceMonitor([])
        self.meter = self.monitor._meter = Meter(self.clocks.monotonic)
        self.training = Training(self.monitor)
        self.training.enter("epoch 1", steps=True)

    def passes(self, seconds: float) -> None:
        self.clocks.passed += seconds

    def numbers(self) -> dict[str, float]:
        return {name.partition("_")[0]: value for name, value in self.meter.collect().items()}


@pytest.fixture
def measured() -> Iterator[Measured]:
    measured = Measured()
    yield measured
    measured.training.end()


def test_steps_and_samples_are_counted_and_the_wait_is_measured(measured):
    for _ in range(5):
        measured.passes(0.3)
        measured.training.step(32)
        measured.passes(0.1)
        measured.training.wait()
    assert measured.numbers() == pytest.approx({"steps": 2.5, "waiting": 75.0, "samples": 80.0})


def test_without_a_number_of_samples_only_their_rate_is_missing(measured):
    measured.passes(0.5)
    measured.training.step()
    numbers = measured.numbers()
    assert numbers["steps"] == pytest.approx(2.0)
    assert math.isnan(numbers["samples"])


def test_a_validation_is_neither_waiting_nor_work(measured):
    measured.passes(1.0)
    measured.training.step(1)
    measured.passes(1.0)
    measured.training.enter("validation")
    measured.passes(100.0)
    measured.training.leave()
    measured.passes(1.0)
    measured.training.step(1)
    measured.passes(1.0)
    assert measured.numbers() == pytest.approx({"steps": 0.5, "waiting": 50.0, "samples": 0.5})


def test_a_pause_lasts_until_the_next_step(measured):
    measured.training.step(1)
    measured.passes(1.0)
    measured.training.pause()
    measured.passes(100.0)
    measured.training.step(1)
    measured.passes(1.0)
    assert measured.numbers() == pytest.approx({"steps": 1.0, "waiting": 0.0, "samples": 1.0})


def test_a_pause_lasts_until_the_next_wait(measured):
    """The Trainer saves a checkpoint, and then wants the next batch."""
    measured.training.step(1)
    measured.passes(1.0)
    measured.training.pause()
    measured.passes(100.0)
    measured.training.wait()
    measured.passes(1.0)
    assert measured.numbers() == pytest.approx({"steps": 0.5, "waiting": 50.0, "samples": 0.5})


def test_the_late_end_of_a_step_does_not_stop_the_next(measured):
    """Keras may tell the end of a step when the next has begun."""
    measured.training.step(1, number=0)
    measured.passes(1.0)
    measured.training.step(1, number=1)
    measured.training.wait(number=0)
    measured.passes(2.0)
    measured.training.wait(number=1)
    measured.passes(1.0)
    assert measured.numbers() == pytest.approx({"steps": 0.5, "waiting": 25.0, "samples": 0.5})


def test_a_second_wait_begins_anew(measured):
    measured.training.step(1)
    measured.passes(1.0)
    measured.training.wait()
    measured.passes(2.0)
    measured.training.wait()
    measured.passes(1.0)
    measured.training.step(1)
    assert measured.numbers()["waiting"] == pytest.approx(25.0)


def test_columns_of_the_users_own_with_these_names_are_an_error_and_no_exception():
    monitor = PerformanceMonitor([FakeCollector("steps_per_second")])
    training = Training(monitor)
    training.enter("epoch 1", steps=True)
    training.step(1)
    training.leave()
    assert spans(monitor) == [("epoch 1", True, False)]
    assert "give your columns other names" in monitor.errors["steps"]


# -- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("loss", "loss"),
        ("train/loss", "train/loss"),
        ("val acc", "val_acc"),
        ("top-5/val acc@1", "top_5/val_acc_1"),
        ("5shot", "_5shot"),
        ("loss/", "loss"),
        ("/", "_"),
        ("größe", "größe"),
        ("x" * 300, "x" * 200),
    ],
)
def test_each_name_of_a_metric_has_a_column(monitor, name, expected):
    assert column(name) == expected
    Training(monitor).record({name: 1.5})
    monitor.sample()
    assert monitor.history[expected].iloc[-1] == 1.5


def test_what_cannot_be_recorded_costs_nothing_else(monitor):
    training = Training(monitor)
    values = {"loss": 0.5, "a_percent": 1.0, "text": "good", "many": [1, 2], "accuracy": 0.9}
    for _ in range(2):
        training.record(values)
    monitor.sample()
    row = monitor.history.iloc[-1]
    assert (row["loss"], row["accuracy"], row["a_percent"]) == (0.5, 0.9, 0.0)
    errors = monitor.errors
    assert "is a column of the history already" in errors["record a_percent"]
    assert "must be a single number, not str" in errors["record text"]
    assert "must be a single number, not list" in errors["record many"]


# -- which monitor -----------------------------------------------------------------------------------------


def test_without_a_monitor_it_is_the_one_that_runs():
    training = Training()
    for _ in range(2):
        with PerformanceMonitor([FakeCollector("a_percent")], interval=60) as monitor:
            training.enter("epoch 1")
            training.leave()
        assert spans(monitor) == [("epoch 1", True, False)]


def test_without_any_the_shared_one_is_started(monkeypatch, monitor):
    monkeypatch.setattr(registry, "shared", monitor)
    training = Training()
    training.enter("epoch 1")
    training.leave()
    assert monitor.running
    monitor.stop()
    assert spans(monitor) == [("epoch 1", True, False)]


def test_a_monitor_that_is_given_is_not_started(monitor):
    training = Training(monitor)
    training.enter("epoch 1")
    training.leave()
    assert not monitor.running


def test_a_copy_in_another_process_has_the_monitor_there_and_a_deep_copy_the_same(monitor):
    training = Training(monitor, library="keras")
    training.enter("epoch 1")
    other = pickle.loads(pickle.dumps(training))
    assert (other.innermost, other._given, other._library) == ("", None, "keras")
    copied = copy.deepcopy(training)
    assert (copied.innermost, copied._given) == ("", monitor)
    training.end()


def test_a_forked_child_does_not_end_the_spans_of_its_parent(monitor, forked):
    training = Training(monitor)
    training.enter("epoch 1")
    training._lock.acquire()  # as if another thread held it

    def child() -> str:
        inside = training.innermost
        training.enter("epoch 1 of the child", steps=True)
        training.step(1)
        training.end()
        return inside

    try:
        assert forked(child) == ""
    finally:
        training._lock.release()
    training.leave()
    assert spans(monitor) == [("epoch 1", True, False)]
