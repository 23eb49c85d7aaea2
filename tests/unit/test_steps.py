"""What steps() measures of a loop: rates and the share of waiting, with a clock that is turned by hand."""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fakes.clocks import Clocks
from fakes.collectors import FakeCollector

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.core.steps import METRICS, Meter, Steps, samples_in

NAMES = [metric.name for metric in METRICS]


class Loop:
    """A meter with its clock, and a loader that takes 0.3 s for each batch, which is worked on for 0.1 s."""

    def __init__(self) -> None:
        self.clocks = Clocks()
        self.meter = Meter(self.clocks.monotonic)
        self.batch: Any = [np.zeros((32, 3)), np.zeros(32)]

    def loader(self, count: int) -> Iterator[Any]:
        for _ in range(count):
            self.clocks.passed += 0.3
            yield self.batch

    def run(self, count: int = 10) -> None:
        for _ in Steps(self.loader(count), self.meter):
            self.clocks.passed += 0.1


@pytest.fixture
def loop() -> Loop:
    return Loop()


def test_the_share_of_waiting_and_the_rates_are_those_of_the_loop(loop):
    loop.run()
    numbers = loop.meter.collect()
    assert numbers == pytest.approx(
        {"steps_per_second": 10 / 4, "waiting_percent": 75.0, "samples_per_second": 320 / 4}
    )
    assert loop.meter.collect() == {}  # nothing ran since


def test_a_sample_in_the_middle_of_a_step_counts_what_has_passed(loop):
    steps = iter(Steps(loop.loader(3), loop.meter))
    next(steps)
    assert loop.meter.collect()["waiting_percent"] == pytest.approx(100.0)
    loop.clocks.passed += 0.05
    assert loop.meter.collect() == pytest.approx(dict.fromkeys(NAMES, 0.0))  # no step, no waiting
    loop.clocks.passed += 0.05
    next(steps)
    numbers = loop.meter.collect()
    assert numbers["waiting_percent"] == pytest.approx(100 * 0.3 / 0.35)
    assert numbers["steps_per_second"] == pytest.approx(1 / 0.35)
    steps.close()


def test_a_loop_that_waits_long_is_seen_while_it_waits(loop):
    seen = []

    def slow() -> Iterator[int]:
        for _ in range(3):
            loop.clocks.passed += 5.0
            seen.append(loop.meter.collect()["waiting_percent"])
        yield 1

    for _ in Steps(slow(), loop.meter):
        pass
    assert seen == pytest.approx([100.0, 100.0, 100.0])


def test_parts_add_up_however_often_it_is_read(loop):
    total = waited = 0.0
    for _ in Steps(loop.loader(50), loop.meter):
        loop.clocks.passed += 0.1
        before = loop.meter._read_at
        numbers = loop.meter.collect()
        passed = loop.clocks.passed - max(before, 0.0)
        total += numbers["steps_per_second"] * passed
        waited += numbers["waiting_percent"] / 100 * passed
    assert total == pytest.approx(50)
    assert waited == pytest.approx(15.0)


def test_two_loops_at_the_same_time_share_the_time(loop):
    assert loop.meter.collect() == {}
    loop.run(1)
    loop.meter.collect()
    first, second = (iter(Steps(loop.loader(2), loop.meter)) for _ in range(2))
    for each in (first, second, first, second):
        next(each)
    numbers = loop.meter.collect()
    assert numbers["steps_per_second"] == pytest.approx(4 / 1.2)
    assert 0 < numbers["waiting_percent"] <= 100
    first.close()
    second.close()


class TestEnds:
    def test_by_break(self, loop):
        for _ in Steps(loop.loader(10), loop.meter):
            loop.clocks.passed += 0.1
            break
        gc.collect()
        assert not loop.meter._loops
        loop.clocks.passed += 100.0
        assert loop.meter.collect()["waiting_percent"] == pytest.approx(75.0)

    def test_by_an_error_of_the_loader(self, loop):
        def broken() -> Iterator[int]:
            yield 1
            raise OSError("no such file")

        with pytest.raises(OSError, match="no such file"):
            list(Steps(broken(), loop.meter))
        assert not loop.meter._loops

    def test_by_an_error_of_the_body(self, loop):
        def body() -> None:
            for _ in Steps(loop.loader(3), loop.meter):
                raise KeyError("in the body")

        with pytest.raises(KeyError):
            body()
        gc.collect()
        assert not loop.meter._loops

    def test_by_an_error_at_the_start_of_the_loader(self, loop):
        steps: Steps[int] = Steps(3, loop.meter)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="not iterable"):
            list(steps)
        assert not loop.meter._loops

    def test_in_a_forked_child_the_loops_are_the_parents(self, loop, forked):
        steps = iter(Steps(loop.loader(3), loop.meter))
        next(steps)
        assert forked(lambda: (len(loop.meter._loops), dict(loop.meter.collect()))) == (0, {})
        assert len(loop.meter._loops) == 1
        steps.close()


class Tensor:
    """Has a shape and a length; without dimensions, only the shape."""

    def __init__(self, *shape: int, dtype: str = "float") -> None:
        self.shape = shape
        self.dtype = dtype

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]


@pytest.mark.parametrize(
    ("batch", "samples"),
    [
        (np.zeros((32, 3)), 32),
        ([np.zeros((32, 3)), np.zeros(32)], 32),
        ((Tensor(8, 3), Tensor(8)), 8),
        ({"input_ids": Tensor(16, 128), "labels": Tensor(16)}, 16),
        ([1, 2, 3], 3),
        (["a text", "another"], 2),
        (Tensor(), math.nan),
        ("a text", math.nan),
        (7, math.nan),
        ({}, math.nan),
        (None, math.nan),
    ],
    ids=[
        "array",
        "list",
        "tuple",
        "mapping",
        "numbers",
        "texts",
        "scalar",
        "text",
        "number",
        "empty",
        "none",
    ],
)
def test_the_length_of_a_batch(loop, batch, samples):
    loop.batch = batch
    loop.run(2)
    assert loop.meter.collect()["samples_per_second"] == pytest.approx(2 * samples / 0.8, nan_ok=True)
    assert loop.meter.errors == ({"samples_per_second": UNCERTAIN} if math.isnan(samples) else {})


UNCERTAIN = "it is not certain how many samples a batch has"
IMAGE, MASK, LABEL = Tensor(3, 64, 64), Tensor(64, 64, dtype="int"), Tensor(dtype="int")
TARGET = {"boxes": Tensor(3, 4), "labels": Tensor(3, dtype="int")}


@pytest.mark.parametrize(
    ("batch", "samples"),
    [
        (((Tensor(32, 3), Tensor(32, 5)), Tensor(32)), 32),
        (((Tensor(32, 3, 64, 64), Tensor(32, 3, 64, 64)), Tensor(32)), 32),
        (({"ids": Tensor(16, 128, dtype="int"), "mask": Tensor(16, 128, dtype="int")}, Tensor(16)), 16),
        ({"a": [Tensor(4, 3), Tensor(4)], "b": [Tensor(4, 7)]}, 4),
        ({"a": [Tensor(4, 3), Tensor(4)], "b": [Tensor(8, 7)]}, math.nan),
        ({"image": Tensor(8, 3, 64, 64), "path": ["a.png", "b.png"], "epoch": 3, "seed": Tensor()}, 8),
        ((Tensor(32, 10), Tensor(32, 1)), 32),
        ([Tensor(32, 10)], 32),
        ([Tensor(16, 3, 64, 64)], 16),
        ([Tensor(16, 3, 64, 64), Tensor(16, 1, 64, 64)], 16),
        ([Tensor(16, 3, 64, 64)] * 2, 16),
        ([Tensor(16, 3, 64, 64)] * 8, math.nan),
        ((Tensor(32, dtype="int"), Tensor(32, dtype="int"), Tensor(32)), 32),
        ((Tensor(32, 3), Tensor(16)), math.nan),
        ((Tensor(32, 3), None, 5), 32),
        # Nothing distinguishes these from the parts of a batch of 3.
        ([IMAGE] * 8, math.nan),
        ([IMAGE], math.nan),
        ([Tensor(3, 64, 64), Tensor(3, 80, 48)], math.nan),
        ([(IMAGE, LABEL)] * 8, math.nan),
        ([(IMAGE, 7)], math.nan),
        ((IMAGE, 7), math.nan),
        (((IMAGE, IMAGE), (TARGET, TARGET)), math.nan),
        (((IMAGE,), (TARGET,)), math.nan),
        ([{"image": IMAGE, "mask": MASK}] * 8, math.nan),
        (([IMAGE] * 3, Tensor(3)), 3),
        (([IMAGE] * 8, Tensor(8)), math.nan),
        ((Tensor(16, 128, dtype="int"), Tensor(16, 128, dtype="int")), 16),
        ([Tensor(16, 8), Tensor(16, 1), Tensor(16, 1)], 16),
        ([Tensor(16, 50, 8)], 16),
        ((Tensor(16, 50, 8), Tensor(16, 40, 8)), 16),
        ([Tensor(80, 50)] * 8, math.nan),
        ([Tensor(128, dtype="int")] * 8, math.nan),
        # Without tensors.
        ([[1, 2, 3], [0, 1, 0]], 3),
        ({"texts": ["a", "b", "c"], "labels": [0, 1, 0]}, 3),
        ({"text": "abc"}, math.nan),
        ([{"text": "abc", "label": 1}] * 8, math.nan),
        ([Tensor(), Tensor(), Tensor()], 3),
        ([], 0),
        (range(5), 5),
    ],
)
def test_the_samples_in_nested_parts(loop, batch, samples):
    loop.batch = batch
    loop.run(2)
    assert samples_in(batch) == pytest.approx(samples, nan_ok=True)
    assert loop.meter.collect()["samples_per_second"] == pytest.approx(2 * samples / 0.8, nan_ok=True)
    assert loop.meter.errors == ({"samples_per_second": UNCERTAIN} if math.isnan(samples) else {})


def test_one_batch_that_is_not_certain_costs_its_own_row_only(loop):
    loop.batch = [IMAGE] * 2
    loop.run(2)
    assert math.isnan(loop.meter.collect()["samples_per_second"])
    loop.batch = Tensor(32, 3)
    loop.run(2)
    assert loop.meter.collect()["samples_per_second"] > 0
    assert loop.meter.errors == {}


def test_a_list_of_very_many_is_not_looked_through(loop):
    class Looked:
        looked = 0

        def __getattr__(self, name: str) -> None:
            Looked.looked += 1
            raise AttributeError(name)

    loop.batch = [Looked()] * 100_000
    loop.run(2)
    assert loop.meter.collect()["samples_per_second"] == pytest.approx(2 * 100_000 / 0.8)
    assert Looked.looked < 100


def test_a_batch_that_breaks_when_it_is_counted_does_no_harm(loop):
    class Hostile:
        def __len__(self) -> int:
            raise RuntimeError("no")

    loop.batch = Hostile()
    loop.run(2)
    assert loop.meter.collect()["steps_per_second"] == pytest.approx(2 / 0.8)


def test_the_batches_are_passed_on_as_they_are_and_again_in_each_epoch():
    monitor = PerformanceMonitor([])
    batches = [object() for _ in range(3)]
    steps = monitor.steps(batches)
    assert len(steps) == 3
    assert [list(steps), list(steps)] == [batches, batches]
    with pytest.raises(TypeError):
        len(monitor.steps(iter(batches)))


# -- with a monitor ----------------------------------------------------------------------------------------


def test_the_columns_come_with_the_next_sample_and_are_missing_when_no_loop_runs():
    monitor = PerformanceMonitor([FakeCollector("cpu_percent")])
    monitor.sample()
    for _ in monitor.steps([[1, 2]] * 4):
        threading.Event().wait(0.01)
        monitor.sample()
    monitor.sample()
    monitor.sample()
    history = monitor.history
    assert list(history.columns) == ["cpu_percent", *NAMES]
    assert np.isnan(history["steps_per_second"].iloc[0])  # before the first loop
    assert (history["steps_per_second"].dropna() > 0).any()
    assert history["waiting_percent"].dropna().between(0, 100).all()
    assert np.isnan(history["steps_per_second"].iloc[-1])
    assert history.attrs["waiting_percent"]["group"] == "recorded"


def test_what_ran_since_the_last_sample_gets_a_row_at_the_end():
    with PerformanceMonitor([FakeCollector("cpu_percent")], interval=3600.0) as monitor:
        for _ in monitor.steps(range(3)):
            threading.Event().wait(0.005)
    assert monitor.history["steps_per_second"].iloc[-1] > 0


def test_names_that_are_taken_are_refused():
    monitor = PerformanceMonitor([FakeCollector("waiting_percent")])
    with pytest.raises(ValueError, match=r"steps\(\) records samples_per_second, steps_per_second, waiting"):
        monitor.steps([])
    other = PerformanceMonitor([])
    other.record(waiting_percent=1.0)
    with pytest.raises(ValueError, match="give your columns other names"):
        other.steps([])


def test_loops_on_several_threads_lose_nothing():
    monitor = PerformanceMonitor([])

    def work() -> None:
        for _ in monitor.steps(range(2000)):
            pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not monitor._meter._loops
    assert monitor._meter._ended.steps == 8000
    assert monitor._meter._ended.unknown == 8000  # a number has no length
