"""The one place where a growing counter becomes a rate."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmon_widgets.collectors.rate import Backlog, Rate


def test_the_first_reading_has_no_rate():
    assert math.isnan(Rate().update(1000, 5.0))


def test_the_rate_is_the_growth_per_measured_time():
    rate = Rate()
    rate.update(1000, 10.0)
    assert rate.update(1500, 12.5) == 200.0
    assert rate.update(1500, 13.0) == 0.0  # nothing happened: that is known, and is not missing
    assert rate.update(1600, 13.25) == 400.0


def test_a_counter_that_went_backwards_has_no_rate_once():
    rate = Rate()
    rate.update(1000, 1.0)
    assert math.isnan(rate.update(10, 2.0))
    assert rate.update(30, 4.0) == 10.0


@pytest.mark.parametrize("clock", [5.0, 4.0])
def test_without_time_passing_there_is_no_rate(clock):
    rate = Rate()
    rate.update(1000, 5.0)
    assert math.isnan(rate.update(2000, clock))


def test_a_missing_count_has_no_rate_and_neither_has_the_next():
    rate = Rate()
    rate.update(1000, 1.0)
    assert math.isnan(rate.update(math.nan, 2.0))
    assert math.isnan(rate.update(1100, 3.0))
    assert rate.update(1200, 4.0) == 100.0


def test_the_clock_may_be_another_counter():
    rate = Rate()
    rate.update(50, 1000)
    assert rate.update(80, 1100) == 0.3


@given(
    st.floats(0, 1e12), st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(0, 1e6)), min_size=1, max_size=20)
)
def test_any_steady_growth_is_found_again_whatever_the_times_between_readings(count, steps):
    rate, clock = Rate(), 100.0
    rate.update(count, clock)
    for seconds, per_second in steps:
        before_count, before_clock = count, clock
        count += seconds * per_second
        clock += seconds
        found = rate.update(count, clock)
        assert found == (count - before_count) / (clock - before_clock) >= 0


def test_more_than_the_limit_is_carried_over_and_nothing_is_lost():
    backlog = Backlog()
    assert math.isnan(backlog.percent(math.nan, math.nan, 2.0))
    # 5 idle seconds, then 7 seconds of CPU time at once, of which 2 are possible in each second.
    values = [backlog.percent(7.0 if row == 5 else 0.0, 1.0, 2.0) for row in range(11)]
    assert values == [0, 0, 0, 0, 0, 100, 100, 100, pytest.approx(50), 0, 0]


def test_readings_that_come_late_and_early_lose_nothing():
    """A busy machine delays a reading and not the next one."""
    backlog = Backlog()
    rows = [(2.0, 1.0), (2.0, 1.2), (2.0, 0.8), (2.0, 1.3), (2.0, 0.7), (2.0, 1.0), (0.0, 1.0)]
    shown = sum(backlog.percent(used / passed, passed, 2.0) / 100 * 2.0 * passed for used, passed in rows)
    assert shown == pytest.approx(12.0)


def test_a_limit_that_does_not_hold_leaves_no_debt():
    """A child may have set itself more CPUs than its parent has."""
    backlog = Backlog()
    assert [backlog.percent(4.0, 1.0, 2.0) for _ in range(100)] == [100.0] * 100
    assert backlog.percent(0.0, 1.0, 2.0) < 11
    assert backlog.percent(0.0, 1.0, 2.0) == 0


def test_a_minute_of_unused_time_is_the_most_that_is_carried_over():
    backlog = Backlog()
    for _ in range(1000):
        backlog.percent(0.0, 1.0, 2.0)
    values = [backlog.percent(10_000.0 if row == 0 else 0.0, 1.0, 2.0) for row in range(100)]
    assert values.count(100) == 61
