"""The statistics that all tables share, against numbers worked out by hand and against each other."""

from __future__ import annotations

import math
from datetime import datetime, timezone

import numpy as np
import pandas as pd
import pytest
from fakes.clocks import Clocks
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from perfmon_widgets.metrics import Sample
from perfmon_widgets.views import statistics as module
from perfmon_widgets.views.report import by_span, summary
from perfmon_widgets.views.statistics import (
    Totals,
    change,
    maximum,
    mean,
    means_by_place,
    minimum,
    percentile_95,
    row_seconds,
    span_statistics,
    thin,
)

NAN = math.nan
HOUR = 3600.0


START = datetime(2023, 11, 14, 22, 13, 20, tzinfo=timezone.utc).timestamp()


def column(*values: float) -> NDArray[np.float64]:
    """A single column, of shape (rows, 1)."""
    return np.array(values, dtype=float)[:, np.newaxis]


def each(*numbers: float) -> NDArray[np.float64]:
    return np.array(numbers, dtype=float)


# -- the time of a row -------------------------------------------------------------------------------------


def seconds(times: list[float], after_gap: list[int] | None = None) -> list[float]:
    gaps = np.isin(np.arange(len(times)), after_gap or [])
    return row_seconds(each(*times), gaps).tolist()


def test_a_row_stands_for_the_time_since_the_row_before_and_the_first_for_the_usual_time():
    assert seconds([0, 2, 4, 12]) == [2, 2, 2, 8]


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=9))
def test_the_usual_time_is_the_median(passed):
    times = np.cumsum([0.0, *passed])
    assert seconds(times.tolist())[0] == pytest.approx(np.median(np.diff(times)))


def test_a_row_after_a_gap_stands_for_the_usual_time_or_less():
    assert seconds([0, 1, 2, 3600, 3601], [3]) == [1, 1, 1, 1, 1]
    assert seconds([0, 5, 10, 12, 17], [3]) == [5, 5, 5, 2, 5]


def test_a_row_stands_for_no_negative_time_nor_for_none():
    assert seconds([100, 101, 2, 3, 3]) == [1, 1, 1, 1, 1]


def test_without_two_rows_the_usual_time_is_a_second():
    assert seconds([]) == []
    assert seconds([7]) == [1]
    assert seconds([7, 9], [1]) == [1, 1]


# -- statistics of columns ---------------------------------------------------------------------------------


def test_a_mean_is_weighted_by_time():
    assert mean(column(10, 20, 50), each(1, 2, 1)) == 25
    assert mean(np.array([[1.0, NAN], [3.0, NAN], [math.inf, NAN]]), each(1, 1, 5)) == pytest.approx(
        [2, NAN], nan_ok=True
    )
    assert np.isnan(mean(np.empty((0, 2)), each())).all()


def test_a_mean_of_large_numbers_does_not_overflow():
    assert mean(column(1.7e308, 1.7e308, -1.7e308), each(1, 1, 1)) == pytest.approx(1.7e308 / 3)


def test_smallest_and_largest_leave_out_what_is_missing():
    values = np.array([[1.0, NAN], [math.inf, NAN], [-2.0, -math.inf]])
    assert minimum(values) == pytest.approx([-2, NAN], nan_ok=True)
    assert maximum(values) == pytest.approx([1, NAN], nan_ok=True)
    assert np.isnan(maximum(np.empty((0, 2)))).all()


def test_for_95_percent_of_the_time_a_value_is_at_or_below_its_percentile():
    assert percentile_95(column(*range(100)), np.ones(100)) == 94
    assert percentile_95(column(9, 7, 1), each(0.001, 6, 98)) == 7
    assert np.isnan(percentile_95(np.empty((0, 1)), each()))


def test_a_change_needs_both_values():
    first, last = each(1, NAN, 1, math.inf, -1.7e308), each(4, 1, NAN, math.inf, 1.7e308)
    assert change(first, last) == pytest.approx([3, NAN, NAN, NAN, NAN], nan_ok=True)


def test_means_by_place_are_those_of_the_rows_that_share_one():
    values = np.array([[10.0, 1.0], [20.0, NAN], [60.0, 3.0], [7.0, NAN]])
    means = means_by_place(values, each(1, 3, 1, 1), np.array([0, 0, 2, 3]), 4)
    assert means.tolist() == pytest.approx(np.array([[17.5, 1], [NAN, NAN], [60, 3], [7, NAN]]), nan_ok=True)


# -- what holds for every table ----------------------------------------------------------------------------

VALUES = st.one_of(
    st.floats(-1e3, 1e3), st.sampled_from([NAN, math.inf, -math.inf, 1.7e308, -1.7e308, 5e-324, 0.1])
)
# Seconds to the next row; a clock that is set back makes them negative.
STEPS = st.one_of(st.floats(0.001, 10), st.sampled_from([0.0, 0.2, 5.0, 3600.0, -3600.0, -7.0]))
ROWS = st.lists(st.tuples(STEPS, VALUES, st.booleans()), max_size=12)


def arrays(rows: list[tuple[float, float, bool]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    return START + np.cumsum([step for step, _, _ in rows]), np.array([gap for _, _, gap in rows], dtype=bool)


def history(rows: list[tuple[float, float, bool]]) -> pd.DataFrame:
    times, gaps = arrays(rows)
    index = pd.DatetimeIndex(pd.to_datetime(times, unit="s", utc=True), name="time").as_unit("us")
    made = pd.DataFrame({"a": [value for _, value, _ in rows]}, index=index, dtype=float)
    made.attrs["gaps"] = (index.asi8[gaps] / 1e6).tolist()
    return made


def in_order(*numbers: float) -> bool:
    """Whether none is smaller than the one before, or all are missing."""
    return all(map(math.isnan, numbers)) or list(numbers) == sorted(numbers)


@given(ROWS)
def test_in_a_summary_the_mean_lies_between_min_and_max(rows):
    table = summary(history(rows)).loc["a"]
    assert in_order(table["min"], table["mean"], table["max"])
    assert in_order(table["min"], table["p95"], table["max"])
    known = [value for _, value, _ in rows if math.isfinite(value)]
    if known:
        assert [table["min"], table["max"]] == [min(known), max(known)]


@given(ROWS, st.floats(-10, 60), st.floats(0, 60))
def test_the_mean_of_a_span_is_at_most_its_max_and_both_are_values_of_its_rows(rows, start, length):
    begin = pd.to_datetime([START + start], unit="s", utc=True)
    spans = pd.DataFrame({"start": begin, "end": begin + pd.Timedelta(seconds=length)})
    average, peak, _ = by_span(history(rows), spans)["a"].iloc[0]
    known = [value for _, value, _ in rows if math.isfinite(value)]
    assert in_order(average, peak)
    if not math.isnan(peak):
        assert peak in known
        assert average >= min(known)


@given(ROWS, st.floats(-10, 60), st.floats(0, 60))
def test_the_numbers_of_a_span_are_the_same_whatever_came_after_it(rows, start, length):
    """But for the row right after its end, which is the sample that its end asks for."""
    times, gaps = arrays([(abs(step), value, gap) for step, value, gap in rows])
    end = START + start + length
    values = column(*(value for _, value, _ in rows))
    weights = row_seconds(times, gaps)
    later = times > end + max(module.RIGHT_AFTER, length / 20)
    before = span_statistics(times, weights, values, START + start, end)
    after = span_statistics(times, weights, np.where(later[:, np.newaxis], 777.0, values), START + start, end)
    assert before.tolist() == pytest.approx(after, nan_ok=True)


@given(ROWS)
def test_the_mean_of_totals_lies_between_the_values(rows):
    clocks = Clocks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "time", clocks)
        totals = Totals()
        for step, value, clock_was_set in rows:
            clocks.passed += abs(step)
            clocks.set_by += step * clock_was_set
            totals.add(Sample(clocks.time(), {"a": value}))
    known = [value for _, value, _ in rows[1:] if math.isfinite(value)]
    average = totals.mean("a")
    assert totals.peak("a") == (max(known) if known else pytest.approx(NAN, nan_ok=True))
    if not math.isnan(average):
        assert min(known) <= average <= totals.peak("a")


# -- thinning ----------------------------------------------------------------------------------------------


def test_few_rows_are_all_kept_and_a_gap_breaks_the_line():
    times, values = thin(each(1, 2, 9), column(5, 6, 7), np.array([False, False, True]), 10, 60)
    assert times.tolist() == [1, 2, 9, 9]
    assert values[:, 0].tolist() == pytest.approx([5, 6, NAN, 7], nan_ok=True)


def test_of_rows_that_fall_together_the_largest_is_kept_of_each_column():
    values = np.zeros((6_000, 2))
    values[3_333, 0] = values[4_444, 1] = 97
    times, kept = thin(np.linspace(0, 599, 6_000), values, np.zeros(6_000, dtype=bool), 200, 600)
    assert 100 <= len(times) <= 200
    assert kept.max(axis=0).tolist() == [97, 97]
    assert times[kept[:, 0].argmax()] == pytest.approx(333.3, abs=3.1)


def test_the_line_keeps_its_shape_while_it_moves():
    times, values = np.arange(0, 900, 0.1), column(*np.random.default_rng(0).uniform(0, 9, 9_000))
    gaps = np.zeros(9_000, dtype=bool)
    first, later = (
        thin(times[at : at + 6_000], values[at : at + 6_000], gaps[:6_000], 200, 600) for at in (0, 70)
    )
    in_both = np.intersect1d(first[0], later[0])[1:-1]
    assert len(in_both) > 180
    assert first[1][np.isin(first[0], in_both)].tolist() == later[1][np.isin(later[0], in_both)].tolist()


# -- totals ------------------------------------------------------------------------------------------------


@pytest.fixture
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
    rows = [(100.0, 3.0), (100.5, 7.0), (102.0, NAN), (103.0, 1.0), (103.25, 9.0)]
    index = pd.to_datetime([time for time, _ in rows], unit="s", utc=True)
    history = pd.DataFrame({"a_bytes": [value for _, value in rows]}, index=index)
    spans = pd.DataFrame({"start": index[:1], "end": index[-1:]})
    costs = by_span(history, spans)["a_bytes"].iloc[0]
    totals = totals_of(*rows)
    assert totals.mean("a_bytes") == pytest.approx(costs["mean"])
    assert totals.peak("a_bytes") == costs["max"]
    assert totals.change("a_bytes") == costs["change"]
