"""Samples that are requested in addition to the regular ones: soon, rate-limited, the grid unchanged."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from perfmon_widgets.core.sampler import Sampler

DEADLINE = 10.0  # seconds, for what takes a fraction of one


class Taking:
    """A sampler whose samples are counted; each takes ``slow`` seconds."""

    def __init__(self, interval: float, slow: float = 0.0) -> None:
        self.interval = interval
        self.slow = slow
        self.times: list[float] = []
        self.gaps: list[bool] = []
        self.sampler = Sampler(self._take, lambda: None, lambda: None, lambda: self.interval, after_gap=False)

    def _take(self, after_gap: bool) -> None:
        time.sleep(self.slow)
        self.times.append(time.monotonic())
        self.gaps.append(after_gap)
        self.sampler.sample_stored()

    def wait_for(self, number: int) -> None:
        """Wait until so many samples were taken."""
        deadline = time.monotonic() + DEADLINE
        while len(self.times) < number:
            assert time.monotonic() < deadline, f"{number} samples were not taken within {DEADLINE} s"
            time.sleep(0.001)


@pytest.fixture
def taking() -> Iterator[Callable[..., Taking]]:
    """Makes samplers and starts them; the first sample of each, which is due at once, has been taken."""
    made = []

    def make(interval: float, slow: float = 0.0) -> Taking:
        taking = Taking(interval, slow)
        made.append(taking)
        taking.sampler.start()
        taking.wait_for(1)
        return taking

    yield make
    for each in made:
        each.sampler.stop()


def test_a_sample_that_is_asked_for_is_taken_soon(taking):
    one = taking(60)
    time.sleep(0.02)
    asked = time.monotonic()
    one.sampler.sample_soon()
    one.wait_for(2)
    assert one.times[1] - asked < 1


def test_a_request_with_a_timeout_waits_until_the_sample_is_stored(taking):
    one = taking(60)
    time.sleep(0.02)
    one.sampler.sample_soon(DEADLINE)
    assert len(one.times) == 2


def test_a_request_right_after_a_sample_waits_until_there_is_time_between_the_two(taking):
    one = taking(60)
    time.sleep(0.02)
    for _ in range(3):
        one.sampler.sample_soon(DEADLINE)
    assert len(one.times) == 4
    assert min(after - before for before, after in pairwise(one.times)) >= 0.004


def test_a_source_that_does_not_answer_keeps_no_request_longer_than_its_timeout(taking):
    one = taking(60)
    time.sleep(0.02)
    one.slow = 1.0
    before = time.monotonic()
    one.sampler.sample_soon(0.002)
    assert time.monotonic() - before < 0.5
    assert len(one.times) == 1


def test_a_source_that_does_not_answer_keeps_only_the_first_request(taking):
    one = taking(60)
    time.sleep(0.02)
    one.slow = 2.0
    one.sampler.sample_soon(0.5)
    before = time.monotonic()
    for _ in range(10):
        one.sampler.sample_soon(0.5)
    assert time.monotonic() - before < 0.5
    assert len(one.times) == 1
    one.slow = 0.0
    one.wait_for(2)
    time.sleep(0.02)
    one.sampler.sample_soon(DEADLINE)  # requests wait again once there are answers
    assert len(one.times) >= 3


def test_no_request_waits_for_a_sample_that_the_rate_limit_puts_off(taking):
    one = taking(60)
    time.sleep(0.02)
    for _ in range(20):
        one.sampler.sample_soon(DEADLINE)
    before = time.monotonic()
    one.sampler.sample_soon(DEADLINE)
    assert time.monotonic() - before < 1


def test_many_requests_are_answered_by_a_few_samples(taking):
    one = taking(60)
    time.sleep(0.02)
    begun = time.monotonic()
    while time.monotonic() - begun < 0.5:
        one.sampler.sample_soon(0.002)
    time.sleep(0.15)
    # Five in a row, then one per 0.1 s; and the regular one of the start.
    assert 4 <= len(one.times) <= 1 + 5 + 8
    assert min(after - before for before, after in pairwise(one.times)) >= 0.004


def test_the_last_request_is_answered_too(taking):
    one = taking(60)
    time.sleep(0.02)
    for _ in range(50):
        one.sampler.sample_soon()
        time.sleep(0.001)
    asked = time.monotonic()
    deadline = asked + DEADLINE
    while one.times[-1] < asked:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_regular_samples_go_on_as_they_would(taking):
    one = taking(0.2)
    start = one.times[0]
    for wait in (0.1, 0.2, 0.2, 0.2):  # in the middle between two
        time.sleep(wait)
        one.sampler.sample_soon()
    deadline = time.monotonic() + DEADLINE
    while one.sampler.newest < start + 1.0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    one.sampler.stop()
    # Those that lie on the grid: none is shifted by the others, though on a busy machine some are late, the
    # first among them.
    on_grid = [each for each in one.times if (each - start + 0.03) % 0.2 < 0.1]
    assert len(on_grid) >= 3
    assert len(one.times) > len(on_grid)
    if one.sampler.missed == 0:  # on a machine that keeps up
        assert not any(one.gaps)


def test_a_requested_sample_after_a_gap_is_marked():
    """What is missing lies before the next row, whichever that is."""
    gaps: list[bool] = []
    again = threading.Event()

    def take(after_gap: bool) -> None:
        gaps.append(after_gap)
        sampler.sample_stored()
        if len(gaps) == 1:
            sampler.sample_soon()
            time.sleep(0.25)  # longer than an interval: the next one is missed
        if len(gaps) == 2:
            again.set()

    sampler = Sampler(take, lambda: None, lambda: None, lambda: 0.2, after_gap=False)
    sampler.start()
    assert again.wait(DEADLINE)
    sampler.stop()
    assert gaps[:2] == [False, True]
    assert sampler.missed >= 1


def test_a_request_that_is_open_at_the_stop_is_answered(taking):
    one = taking(60)
    time.sleep(0.02)
    for _ in range(20):
        one.sampler.sample_soon()
    before = len(one.times)
    one.sampler.sample_soon()
    one.sampler.stop()
    assert len(one.times) > before
    assert not one.sampler.is_alive()


def test_without_a_request_no_sample_is_taken_at_the_stop(taking):
    one = taking(60)
    one.sampler.stop()
    assert len(one.times) == 1


class Failing:
    """Raises MemoryError in the calls with these numbers, and returns a value in the others."""

    def __init__(self, value: float, *numbers: int) -> None:
        self.value, self.numbers, self.calls = value, numbers, 0

    def __call__(self, *_: object) -> float:
        self.calls += 1
        if self.calls in self.numbers:
            raise MemoryError
        return self.value


@pytest.mark.parametrize("part", ["take", "between", "interval"])
@pytest.mark.parametrize("first", [1, 2])
def test_the_thread_goes_on_where_memory_is_missing_for_a_moment(part, first):
    """Not only while it reads: an allocation may fail anywhere on it."""
    parts = {"take": Failing(0.0), "between": Failing(0.0), "interval": Failing(0.01)}
    parts[part].numbers = (first, first + 1)
    ended: list[bool] = []
    sampler = Sampler(
        parts["take"], parts["between"], lambda: ended.append(True), parts["interval"], after_gap=False
    )
    sampler.start()
    deadline = time.monotonic() + DEADLINE
    while parts["take"].calls < 8:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert sampler.running
    sampler.stop()
    assert ended == [True]


def test_a_sample_for_which_memory_was_missing_is_a_gap():
    gaps: list[bool] = []

    def take(after_gap: bool) -> None:
        gaps.append(after_gap)
        if len(gaps) == 2:
            raise MemoryError

    sampler = Sampler(take, lambda: None, lambda: None, lambda: 3600.0, after_gap=False)
    for _ in range(4):
        sampler.sample_soon()
        time.sleep(0.006)
        sampler.step()
    assert gaps == [False, False, True, False]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [MemoryError, ZeroDivisionError])
def test_what_ends_the_thread_does_not_keep_it_from_giving_back_what_it_holds(switch_interval, error):
    ended: list[bool] = []

    def fail() -> None:
        sampler._shorten_switch_interval()
        sampler._stopping = True
        raise error

    def at_end() -> None:
        ended.append(sys.getswitchinterval() == switch_interval)
        if error is MemoryError:
            raise error

    sampler = Sampler(lambda _: None, fail, at_end, lambda: 3600.0, after_gap=False)
    sampler.start()
    sampler.join(DEADLINE)
    assert ended == [True]
    assert sampler.ended


@pytest.fixture
def switch_interval() -> Iterator[float]:
    """The interpreter's usual one, which is set again after the test."""
    usual = sys.getswitchinterval()
    yield usual
    sys.setswitchinterval(usual)


def come_late(one: Taking) -> None:
    """Keep the GIL from the thread until it is late, and wait for the samples that it takes then."""
    hold = ctypes.PyDLL(None).usleep  # PyDLL, other than CDLL, does not let go of the GIL
    hold(600_000)
    one.wait_for(len(one.times) + 2)
    assert one.sampler.missed > 0


def test_a_starved_thread_shortens_the_switch_interval_until_it_stops(taking, switch_interval):
    one = taking(0.05)
    one.wait_for(4)
    assert sys.getswitchinterval() == switch_interval
    come_late(one)
    assert sys.getswitchinterval() < switch_interval / 5
    one.sampler.stop()
    assert sys.getswitchinterval() == switch_interval


@pytest.mark.parametrize("chosen", [0.00025, 0.001])
def test_a_switch_interval_that_others_have_set_meanwhile_stays(taking, switch_interval, chosen):
    one = taking(0.05)
    come_late(one)
    sys.setswitchinterval(chosen)
    one.sampler.stop()
    assert sys.getswitchinterval() == chosen


def test_a_starved_thread_leaves_a_shorter_switch_interval_alone(taking, switch_interval):
    sys.setswitchinterval(0.00025)
    one = taking(0.05)
    come_late(one)
    assert sys.getswitchinterval() == 0.00025
    one.sampler.stop()
    assert sys.getswitchinterval() == 0.00025


def test_the_state_of_the_thread_does_not_depend_on_is_alive(taking, monkeypatch):
    """An interrupt inside is_alive() makes Python believe for ever that the thread has ended."""
    one = taking(60.0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "is_alive", lambda _: False)
        assert one.sampler.running
        assert not one.sampler.ended
    one.sampler.stop()
    assert one.sampler.ended
    assert not one.sampler.running


def test_a_start_for_which_there_is_no_thread_leaves_nothing_to_wait_for(monkeypatch):
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    sampler = Taking(60.0).sampler
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="new thread"):
        sampler.start()
    assert sampler.ended
    assert not sampler.running
    sampler.stop()
