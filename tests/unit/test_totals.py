"""Mean, peak, sum and change over all samples since the first."""

from __future__ import annotations

import math

import pytest
from fakes.clocks import Clocks

from perfmon_widgets.metrics import Sample
from perfmon_widgets.views import totals as module
from perfmon_widgets.views.totals import Totals

NAN = math.nan
HOUR = 3600.0


@pytest.fixture(autouse=True)
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(module, "time", clocks)
    return clocks


@pytest.fixture
def totals_of(clocks):
    def make(*rows: tuple[float, float]) -> Totals:
        """Of samples that are added as soon as they are taken, so many seconds after the first."""
        totals = Totals()
        for clocks.passed, value in rows:
            totals.add(Sample(clocks.time(), {"a_bytes": value}))
        return totals

    return make


def test_a_value_stands_for_the_time_since_the_sample_before(totals_of):
    totals = totals_of((10, 100), (11, 1), (14, 5), (15, 2))
    assert totals.mean("a_bytes") == pytest.approx((1 * 1 + 3 * 5 + 1 * 2) / 5)
    assert totals.integral("a_bytes") == pytest.approx(18)
    assert totals.peak("a_bytes") == 5  # the first sample only tells where the time begins
    assert totals.change("a_bytes") == 2 - 100


def test_a_missing_number_counts_neither_as_a_value_nor_as_time(totals_of):
    totals = totals_of((10, NAN), (11, 4), (14, NAN), (15, 8))
    assert totals.mean("a_bytes") == pytest.approx((1 * 4 + 1 * 8) / 2)
    assert totals.peak("a_bytes") == 8
    assert totals.change("a_bytes") == 4


@pytest.mark.parametrize("rows", [[], [(1, 2)], [(1, NAN), (2, NAN)]])
def test_without_a_value_after_the_first_sample_all_is_missing(totals_of, rows):
    totals = totals_of(*rows)
    assert math.isnan(totals.mean("a_bytes"))
    assert math.isnan(totals.peak("a_bytes"))
    assert math.isnan(totals.integral("a_bytes"))
    assert math.isnan(totals.mean("unknown"))


def test_the_same_sample_twice_counts_once(totals_of, clocks):
    totals = totals_of((10, 0))
    sample = Sample(clocks.time() + 1, {"a_bytes": 4.0})
    clocks.passed += 1
    totals.add(sample)
    clocks.passed += 1
    totals.add(sample)
    assert totals.count == 2
    assert totals.integral("a_bytes") == pytest.approx(4)


def test_a_value_stands_for_the_time_since_the_sample_before_though_it_is_added_late(clocks):
    totals = Totals()
    taken = clocks.time()
    clocks.passed += 0.1
    totals.add(Sample(taken, {"a_bytes": 0.0}))
    clocks.passed += 0.1
    totals.add(Sample(clocks.time(), {"a_bytes": 10.0}))
    assert totals.integral("a_bytes") == pytest.approx(0.2 * 10)


@pytest.mark.parametrize("step", [-HOUR, HOUR, 8 * HOUR])
def test_time_that_passed_on_no_clock_is_no_time(clocks, step):
    """While a machine is suspended nothing is read or written; nor if its time is set."""
    totals = Totals()
    for _ in range(3):
        totals.add(Sample(clocks.time(), {"a_bytes": 1e6}))
        clocks.passed += 5
    clocks.set_by += step
    for _ in range(3):
        totals.add(Sample(clocks.time(), {"a_bytes": 1e6}))
        clocks.passed += 5
    assert totals.count == 6
    assert totals.integral("a_bytes") == pytest.approx(25e6)
    assert totals.newest == 25


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_a_time_that_is_set_while_a_sample_is_taken_is_no_time_either(clocks, step):
    totals = Totals()
    totals.add(Sample(clocks.time(), {"a_bytes": 1e6}))
    clocks.passed += 5
    sample = Sample(clocks.time(), {"a_bytes": 1e6})
    clocks.set_by += step
    totals.add(sample)
    clocks.passed += 5
    totals.add(Sample(clocks.time(), {"a_bytes": 1e6}))
    assert totals.integral("a_bytes") == pytest.approx(10e6)


def test_a_value_that_stands_for_no_time_has_no_mean(totals_of):
    totals = totals_of((1, 2), (1, 4))
    assert math.isnan(totals.mean("a_bytes"))
    assert (totals.integral("a_bytes"), totals.peak("a_bytes")) == (0, 4)


def test_it_agrees_with_the_summary_of_a_history(totals_of):
    """Two places that compute a mean over time must compute the same."""
    import pandas as pd

    from perfmon_widgets.views.report import by_span

    rows = [(100.0, 3.0), (100.5, 7.0), (102.0, NAN), (103.0, 1.0), (103.25, 9.0)]
    index = pd.to_datetime([time for time, _ in rows], unit="s", utc=True)
    history = pd.DataFrame({"a_bytes": [value for _, value in rows]}, index=index)
    spans = pd.DataFrame({"start": index[:1], "end": index[-1:]})
    costs = by_span(history, spans)["a_bytes"].iloc[0]
    totals = totals_of(*rows)
    assert totals.mean("a_bytes") == pytest.approx(costs["mean"])
    assert totals.peak("a_bytes") == costs["max"]
    assert totals.change("a_bytes") == costs["change"]
