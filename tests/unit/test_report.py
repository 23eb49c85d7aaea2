"""What a stretch of history amounts to, worked out by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from perfmon_widgets.core.spans import SPAN, Span, frame
from perfmon_widgets.views.report import by_span, join_costs, summary

START = datetime(2023, 11, 14, 22, 13, 20, tzinfo=timezone.utc)
NAN = math.nan


def history(times: Sequence[float], gaps: Sequence[float] = (), **columns: Sequence[float]) -> pd.DataFrame:
    """A history whose rows are so many seconds after START."""
    index = pd.DatetimeIndex([START + timedelta(seconds=each) for each in times], name="time").as_unit("us")
    made = pd.DataFrame(columns, index=index, dtype=float)
    made.attrs["gaps"] = [START.timestamp() + each for each in gaps]
    return made


def spans(*moments: tuple[float, float]) -> pd.DataFrame:
    """Spans from and to this many seconds after START."""
    begin = START.timestamp()
    return frame(SPAN, [Span(n, SPAN, f"span {n}", begin + a, begin + b) for n, (a, b) in enumerate(moments)])


# -- summary -----------------------------------------------------------------------------------------------


def test_a_row_stands_for_the_time_since_the_row_before():
    # The first stands for the usual time between two rows, which is 2 s here.
    table = summary(history([0, 2, 4, 12], a_percent=[10, 20, 20, 50])).loc["a_percent"]
    assert table["mean"] == pytest.approx((2 * 10 + 2 * 20 + 2 * 20 + 8 * 50) / 14)
    assert (table["now"], table["min"], table["max"]) == (50, 10, 50)


def test_rows_at_even_times_weigh_the_same():
    values = np.random.default_rng(0).uniform(0, 100, 50)
    table = summary(history(range(50), a_percent=values)).loc["a_percent"]
    assert table["mean"] == pytest.approx(values.mean())


def test_what_was_not_measured_before_a_row_does_not_count_for_it():
    rows = [0, 1, 2, 3600, 3601]
    values = [10, 10, 10, 100, 10]
    assert summary(history(rows, a=values)).loc["a", "mean"] > 99
    assert summary(history(rows, gaps=[3600], a=values)).loc["a", "mean"] == pytest.approx(28)


def test_for_95_percent_of_the_time_the_value_was_at_or_below_p95():
    times = list(range(100))
    assert summary(history(times, a=times)).loc["a", "p95"] == 94
    # One value that lasted 6 s of 104, another that lasted an instant.
    lasted = history([*range(99), 104, 104.001], a=[1.0] * 99 + [7, 9])
    assert summary(lasted).loc["a", "p95"] == 7
    assert summary(lasted).loc["a", "max"] == 9


def test_missing_numbers_are_neither_values_nor_time():
    table = summary(history([0, 1, 2, 3], a=[NAN, 10, NAN, 20], b=[NAN] * 4, c=[1, 1, 1, NAN]))
    assert table.loc["a", ["now", "mean", "min", "max", "p95"]].tolist() == [20, 15, 10, 20, 20]
    assert table.loc["b", ["now", "mean", "min", "max", "p95"]].isna().all()
    assert math.isnan(table.loc["c", "now"])
    assert table.loc["c", "mean"] == 1


def test_an_infinite_value_does_not_spoil_the_mean():
    table = summary(history([0, 1, 2], loss=[1, math.inf, 3])).loc["loss"]
    assert table["mean"] == 2


def test_a_summary_of_nothing_has_its_rows_without_numbers():
    table = summary(history([], a_percent=[]))
    assert table.index.tolist() == ["a_percent"]
    assert table.loc["a_percent", "mean":].isna().all()
    assert len(summary(history([]))) == 0


def test_a_clock_that_was_set_back_makes_no_negative_time():
    table = summary(history([100, 101, 2, 3], a=[10, 10, 10, 10])).loc["a"]
    assert table["mean"] == pytest.approx(10)


def test_since_takes_the_rows_that_are_later():
    rows = history([0, 10, 20, 30], a=[1, 2, 3, 4])
    assert summary(rows, since=15).loc["a", ["min", "mean"]].tolist() == [3, 3.5]
    assert summary(rows, since=START + timedelta(seconds=10)).loc["a", "min"] == 3
    east = timezone(timedelta(hours=5))
    assert summary(rows, since=(START + timedelta(seconds=25)).astimezone(east)).loc["a", "min"] == 4
    assert math.isnan(summary(rows, since=START + timedelta(hours=1)).loc["a", "mean"])
    assert summary(rows, since=1e9).loc["a", "min"] == 1
    assert math.isnan(summary(history([], a=[]), since=5).loc["a", "mean"])


@pytest.mark.parametrize(
    ("since", "error", "words"),
    [
        (datetime(2023, 11, 14), ValueError, "no time zone"),
        (0, ValueError, "greater than 0"),
        (-1.5, ValueError, "greater than 0"),
        (NAN, ValueError, "greater than 0"),
        (math.inf, ValueError, "greater than 0"),
        ("yesterday", TypeError, "'yesterday'"),
        (True, TypeError, "True"),
    ],
)
def test_a_since_that_makes_no_sense_is_refused_in_words(since, error, words):
    with pytest.raises(error, match=words):
        summary(history([0, 1], a=[1, 2]), since=since)


def test_units_are_those_declared_or_else_those_in_the_names():
    rows = history([0], a_percent=[1], load_processes=[2], tokens_per_second=[3])
    rows.attrs["load_processes"] = {"unit": "processes", "help": "", "source": ""}
    assert summary(rows)["unit"].tolist() == ["percent", "processes", "tokens_per_second"]


def test_a_summary_is_printed_with_units_and_keeps_its_numbers():
    table = summary(history([0, 1], ram_used_bytes=[2**30, 3 * 2**30], loss=[0.03125, NAN]))
    line = next(line for line in repr(table).splitlines() if line.startswith("ram_used_bytes"))
    assert line.split() == ["ram_used_bytes", "3", "GiB", "2", "GiB", "1", "GiB", "3", "GiB", "3", "GiB"]
    assert "0.03125" in repr(table)
    assert "<td>3 GiB</td>" in table._repr_html_()
    assert "unit" not in table._repr_html_()
    assert table.loc["ram_used_bytes", "now"] == 3 * 2**30
    assert table[["mean", "max"]].dtypes.tolist() == [np.float64] * 2


def test_a_long_summary_is_printed_whole():
    """A pandas table of more than 80 characters is cut in the middle, where the numbers are."""
    table = summary(history([0], process_write_bytes_per_second=[1], tokens_per_second=[1e6]))
    assert "..." not in repr(table)


# -- spans -------------------------------------------------------------------------------------------------


def cost(rows: pd.DataFrame, start: float, end: float) -> list[float]:
    return by_span(rows, spans((start, end)))["a"].iloc[0].tolist()


def test_what_a_span_with_a_row_at_either_end_cost():
    rows = history([0, 5, 6, 7, 12], a=[100, 200, 210, 260, 0])
    # From 5 to 7: the rows at 6 and 7 stand for a second each.
    assert cost(rows, 5, 7) == [235, 260, 60]


def test_a_row_counts_by_the_share_of_its_time_that_lies_in_the_span():
    rows = history([0, 10, 20], a=[0, 10, 40])
    # 6 s of the row at 10 and all of the row at 20. No row shows the start: the change is that of the rest.
    assert cost(rows, 4, 20) == [(6 * 10 + 10 * 40) / 16, 40, 30]


def test_a_row_most_of_whose_time_lies_outside_the_span_does_not_count():
    """Its number is about what ran before the span, although it was taken in it."""
    rows = history([0, 10, 20, 25], a=[0, 99, 40, 70])
    assert cost(rows, 6, 20) == [40, 40, -59]
    assert cost(rows, 6, 12) == pytest.approx([NAN] * 3, nan_ok=True)


def test_a_span_between_two_rows_has_no_numbers():
    """Those of the row after it are about what came after it."""
    rows = history([0, 10, 20], a=[5, 10, 40])
    assert np.isnan(cost(rows, 12, 14)).all()


def test_a_row_right_after_the_end_belongs_to_the_span():
    """The sample that is taken at the end is such a row."""
    rows = history([0, 1.999, 4.001], a=[5, 10, 40])
    assert cost(rows, 2, 4) == pytest.approx([40, 40, 30], rel=1e-3)


@pytest.mark.parametrize(
    ("length", "late", "belongs"),
    [(0.05, 0.019, True), (0.05, 0.021, False), (2, 0.09, True), (2, 0.11, False), (600, 25, True)],
)
def test_right_after_is_within_20_ms_or_a_twentieth_of_the_span(length, late, belongs):
    rows = history([99.999, 100 + length + late], a=[1, 5])
    expected = [5, 5, 4] if belongs else [NAN] * 3
    assert cost(rows, 100, 100 + length) == pytest.approx(expected, nan_ok=True)


def test_of_the_rows_after_the_end_only_the_first_belongs_to_the_span():
    rows = history([0, 2.005, 2.01, 2.015], a=[1, 3, 9, 9])
    assert cost(rows, 0, 2.001) == [3, 3, 2]


def test_a_short_span_is_not_charged_with_what_happens_after_it():
    """50 ms, then 458 MiB are allocated outside, and the next row is a regular one."""
    rows = history([0, 1, 6], a=[31, 31, 489])
    assert np.isnan(cost(rows, 1.001, 1.051)).all()


def test_the_change_of_a_short_span_is_known_where_rows_were_taken_right_at_its_ends():
    """As when cells follow each other: half of the row's time lies between the cells."""
    rows = history([0, 0.008, 0.036], a=[5, 5, 1])
    assert cost(rows, 0.018, 0.028) == pytest.approx([NAN, NAN, -4], nan_ok=True)


def test_a_row_long_before_the_start_does_not_show_the_value_at_the_start():
    rows = history([0, 0.85, 3, 4], a=[0, 10, 30, 31])
    assert cost(rows, 1, 4)[2] == 31 - 10
    assert cost(rows, 1.1, 4)[2] == 31 - 30


def test_the_mean_of_a_span_lies_between_the_values_of_its_rows():
    """The row at 0.6 s lies mostly after the span: it counts for none of the statistics."""
    rows = history([0, 0.01, 0.6], a=[1e8, 1e8, 5e8])
    assert cost(rows, 0.005, 0.02)[:2] == [1e8, 1e8]


def test_what_came_before_or_after_all_rows_has_no_numbers():
    rows = history([10, 11], a=[1, 2])
    assert np.isnan(cost(rows, 2, 3)).all()
    assert np.isnan(cost(rows, 12, 13)).all()
    assert np.isnan(cost(history([], a=[]), 0, 1)).all()


def test_a_span_that_began_before_the_first_row_is_reported_from_there():
    rows = history([10, 11, 12], a=[1, 2, 3])
    assert cost(rows, 5, 12)[1:] == [3, 2]


def test_a_span_that_goes_on_is_reported_up_to_the_newest_row():
    rows = history([0, 1, 2, 3], a=[1, 2, 3, 4])
    assert cost(rows, 1, NAN) == [3.5, 4, 2]


def test_numbers_that_are_missing_in_a_span_are_left_out():
    rows = history([0, 1, 2, 3], a=[1, NAN, 3, NAN], b=[NAN] * 4)
    table = by_span(rows, spans((0, 3), (0, 2)))
    assert table["a"].iloc[0].tolist() == pytest.approx([3, 3, NAN], nan_ok=True)
    assert table["a"].iloc[1].tolist() == [3, 3, 2]
    assert table["b"].isna().all(axis=None)


def test_a_span_across_a_gap_does_not_take_the_row_after_it_for_the_whole_gap():
    rows = history([0, 1, 2, 1000, 1001], gaps=[1000], a=[1, 1, 1, 100, 1])
    assert cost(rows, 0.5, 1001)[0] < 30


# Rows of the first 300 s, and of 100 s after it, at whose beginning the clock is set back by an hour.
SET_BACK = [*range(0, 300, 5), *range(-3300, -3200, 5)]
RISES = [10.0] * 60 + [100.0 + number for number in range(20)]


def test_a_span_after_a_clock_was_set_back_has_the_numbers_of_its_own_rows():
    rows = history(SET_BACK, gaps=[-3300], a=RISES)
    assert cost(rows, -3280, -3250) == [107.5, 110, 6]
    assert cost(rows, -3280, NAN) == [112, 119, 15]


def test_a_span_before_a_clock_was_set_back_has_the_numbers_of_its_own_rows():
    rows = history(SET_BACK, gaps=[-3300], a=RISES)
    assert cost(rows, 20, 50) == [10, 10, 0]
    assert cost(rows, 280, 299) == [10, 10, 0]


def test_a_span_after_and_before_all_rows_has_no_numbers_though_a_clock_was_set_back():
    rows = history(SET_BACK, gaps=[-3300], a=RISES)
    assert np.isnan(cost(rows, -3000, -2000)).all()
    assert np.isnan(cost(rows, 400, 500)).all()


def test_where_a_clock_was_set_back_into_a_span_the_rows_of_both_count():
    rows = history([0, 5, 10, 15, 20, 0, 5, 10, 15, 20], a=[10] * 5 + [90] * 5)
    assert cost(rows, 5, 15)[:2] == [50, 90]


def test_a_span_during_which_a_clock_was_set_has_rows_by_its_duration():
    """Read from a file, rows and spans have only times of day; the span's duration is on the other clock."""
    # Set back by an hour 1 s after the start of a span of 2 s; its end is therefore its start.
    rows = history([9, 10, 11, -3588, -3587], a=[1, 2, 3, 9, 9])
    back = Span(0, SPAN, "back", START.timestamp() + 10, START.timestamp() + 10, seconds=2.0)
    assert by_span(rows, frame(SPAN, [back]))["a"].iloc[0].tolist() == [3, 3, 1]
    # Set forward by an hour: all rows between its start and its end.
    rows = history([9, 10, 11, 3612, 3613], a=[1, 2, 3, 9, 50])
    forward = Span(0, SPAN, "forward", START.timestamp() + 10, START.timestamp() + 3612, seconds=2.0)
    assert by_span(rows, frame(SPAN, [forward]))["a"].iloc[0].tolist()[1:] == [9, 7]


def test_spans_keep_their_index_and_stand_beside_their_costs():
    rows = history([0, 1, 2], a=[1, 2, 3], b=[3, 2, 1])
    stretches = spans((0, 1), (1, 2)).set_index(pd.Index([7, 9], name="execution_count"))
    table = join_costs("cell", stretches, by_span(rows, stretches))
    assert table.index.tolist() == [7, 9]
    assert table["cell"]["name"].tolist() == ["span 0", "span 1"]
    assert table["cell"]["start"].dtype == stretches["start"].dtype
    assert table["a"].columns.tolist() == ["mean", "max", "change"]
    assert table["b", "change"].tolist() == [-1, -1]
    assert table.columns.names == ["metric", "statistic"]


def test_no_spans_are_a_table_without_rows():
    table = by_span(history([0, 1], a=[1, 2]), spans())
    assert table.shape == (0, 3)
    assert join_costs("span", spans(), table).shape == (0, 9)


def test_of_very_many_spans_the_ends_are_printed(monkeypatch):
    rows = history(range(100), ram_used_bytes=range(100))
    table = by_span(rows, spans(*[(at / 100, at / 100 + 0.01) for at in range(5_000)]))
    printed = repr(table)
    assert 10 < len(printed.splitlines()) < 70
    assert [line.split()[0] for line in printed.splitlines()[2:4]] == ["0", "1"]
    assert printed.splitlines()[-1].split()[0] == "4999"
    assert any(set(line.split()) == {".."} or line.startswith("..") for line in printed.splitlines())
    assert table._repr_html_().count("<tr>") < 70
    assert len(table) == 5_000


def test_costs_are_printed_with_units():
    rows = history([0, 1], ram_used_bytes=[0, 2**31])
    table = by_span(rows, spans((0, 1)))
    assert "2 GiB" in repr(table)
    assert "<td>2 GiB</td>" in join_costs("span", spans((0, 1)), table)._repr_html_()


def test_a_span_s_name_and_duration_come_before_its_times():
    stretches = spans((0, 1))
    table = join_costs("span", stretches, by_span(history([0, 1], a=[1, 2]), stretches))
    assert table["span"].columns.tolist()[:3] == ["name", "duration_seconds", "cpu_seconds"]
    assert table["span"].columns.tolist()[3:] == ["raised", "start", "end"]
    assert "span 0" in repr(table)


@pytest.mark.parametrize("name", ["cell", "unit", "mean", "start"])
def test_a_series_may_have_any_name(name):
    rows = history([0, 1], **{name: [0.25, 0.75], "b_percent": [1, 2]})
    stretches = spans((0, 1))
    costs = by_span(rows, stretches)
    assert "0.75" in repr(costs)
    printed = join_costs("cell", stretches, costs)
    assert "<td>0.75</td>" in printed._repr_html_()
    assert "2023-11-14 22:13:20" in printed._repr_html_()


def test_a_series_may_be_called_as_a_column_of_the_summary_begins():
    table = summary(history([0, 1], u=[0.25, 0.75], unit=[1, 2]))
    assert table.loc["u", "unit"] == ""
    assert "0.75" in repr(table)


@pytest.mark.parametrize("seed", range(5))
def test_spans_that_cover_everything_add_up(seed):
    """Time-weighted means of neighbours make that of the whole, and their changes its change."""
    random = np.random.default_rng(seed)
    times = np.cumsum(random.integers(1, 100, 40)) / 8
    rows = history(times, a=random.uniform(0, 100, 40))
    edges = times[[0, 7, 8, 20, 39]]
    parts = by_span(rows, spans(*itertools.pairwise(edges)))["a"]
    whole = by_span(rows, spans((edges[0], edges[-1])))["a"].iloc[0]
    assert np.average(parts["mean"], weights=np.diff(edges)) == pytest.approx(whole["mean"], rel=1e-5)
    assert parts["change"].sum() == pytest.approx(whole["change"])
    assert parts["max"].max() == whole["max"]
