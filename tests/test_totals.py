"""Mean, peak, sum and change over all samples since the first."""

from __future__ import annotations

import math

import pytest

from perfmon_widgets.metrics import Sample
from perfmon_widgets.totals import Totals

NAN = math.nan


def totals_of(*rows: tuple[float, float]) -> Totals:
    totals = Totals()
    for time, value in rows:
        totals.add(Sample(time, {"a_bytes": value}))
    return totals


def test_a_value_stands_for_the_time_since_the_sample_before():
    totals = totals_of((10, 100), (11, 1), (14, 5), (15, 2))
    assert totals.mean("a_bytes") == pytest.approx((1 * 1 + 3 * 5 + 1 * 2) / 5)
    assert totals.integral("a_bytes") == pytest.approx(18)
    assert totals.peak("a_bytes") == 5  # the first sample only tells where the time begins
    assert totals.change("a_bytes") == 2 - 100


def test_a_missing_number_counts_neither_as_a_value_nor_as_time():
    totals = totals_of((10, NAN), (11, 4), (14, NAN), (15, 8))
    assert totals.mean("a_bytes") == pytest.approx((1 * 4 + 1 * 8) / 2)
    assert totals.peak("a_bytes") == 8
    assert totals.change("a_bytes") == 4


@pytest.mark.parametrize("rows", [[], [(1, 2)], [(1, NAN), (2, NAN)]])
def test_without_a_value_after_the_first_sample_all_is_missing(rows):
    totals = totals_of(*rows)
    assert math.isnan(totals.mean("a_bytes"))
    assert math.isnan(totals.peak("a_bytes"))
    assert math.isnan(totals.integral("a_bytes"))
    assert math.isnan(totals.mean("unknown"))


def test_the_same_sample_twice_and_an_older_one_count_once():
    totals = totals_of((10, 0), (11, 4), (11, 4), (9, 1000), (12, 6))
    assert totals.count == 3
    assert totals.mean("a_bytes") == 5
    assert totals.peak("a_bytes") == 6


def test_it_agrees_with_the_summary_of_a_history():
    """Two places that compute a mean over time must compute the same."""
    import pandas as pd

    from perfmon_widgets.analysis import by_span

    rows = [(100.0, 3.0), (100.5, 7.0), (102.0, NAN), (103.0, 1.0), (103.25, 9.0)]
    index = pd.to_datetime([time for time, _ in rows], unit="s", utc=True)
    history = pd.DataFrame({"a_bytes": [value for _, value in rows]}, index=index)
    spans = pd.DataFrame({"start": index[:1], "end": index[-1:]})
    costs = by_span(history, spans)["a_bytes"].iloc[0]
    totals = totals_of(*rows)
    assert totals.mean("a_bytes") == pytest.approx(costs["mean"])
    assert totals.peak("a_bytes") == costs["max"]
    assert totals.change("a_bytes") == costs["change"]
