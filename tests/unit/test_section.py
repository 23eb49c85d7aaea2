"""A section: which charts it has, the map of many CPUs, and the table that is their legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fakes.collectors import metric
from fakes.comm import Wire
from hypothesis import given
from hypothesis import strategies as st
from test_chart import GIBIBYTE, NOW, figure, history, in_bytes, show, vertical
from test_statistics import ROWS
from test_statistics import history as history_of

from perfmon_widgets import Metric
from perfmon_widgets.core.spans import CELL, Span
from perfmon_widgets.panel.chart import Chart
from perfmon_widgets.panel.heat_map import HeatMap
from perfmon_widgets.panel.link import Link
from perfmon_widgets.panel.section import Section
from perfmon_widgets.panel.shading import Shading
from perfmon_widgets.panel.table import Table
from perfmon_widgets.panel.time_axis import TimeAxis
from perfmon_widgets.panel.timeline import Timeline
from perfmon_widgets.views import statistics
from perfmon_widgets.views.figures import rows_of, shown_seconds
from perfmon_widgets.views.findings import findings
from perfmon_widgets.views.maps import means_of_map
from perfmon_widgets.views.report import summary
from perfmon_widgets.views.text import format_value


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


def section(metrics: Sequence[Metric], window: float = 600.0) -> Section:
    return Section(metrics[0].group, metrics, window, Timeline(Link()))


def map_of(*metrics: Metric) -> HeatMap:
    return HeatMap(replace(figure(*metrics), is_map=True), TimeAxis(600.0))


def columns(shown: Chart | HeatMap) -> list[str]:
    """What is drawn, from back to front."""
    return [line.name for line in shown.drawn.lines]


def cells(section: Section) -> dict[str, list[str]]:
    """The words of each row of the table, by the name of the row."""
    values = section.table.values["cells"]
    return {row["name"]: cell for row, cell in zip(section.table.rows, values, strict=True)}


# -- the table ---------------------------------------------------------------------------------------------


def test_the_table_says_now_mean_and_peak():
    shown = section([metric("a_percent"), metric("b_percent")])
    shown.show(history([10, 5, 0], {"a_percent": [10, 40, 25], "b_percent": [1.5, 1.5, 1.5]}), {})
    assert cells(shown) == {"a_percent": ["25%", "25%", "40%"], "b_percent": ["1.5%", "1.5%", "1.5%"]}
    assert shown.table.values["time"] == NOW


def test_the_mean_is_that_of_the_summary():
    """5 % for 8 s sampled each second, then 95 % for 2 s sampled at 20 Hz."""
    ago = [*np.arange(10, 1.5, -1), *np.arange(1.95, -0.01, -0.05)]
    rows = history(ago, {"a_percent": [5.0] * 9 + [95.0] * 40, "b_percent": [math.nan] * 49})
    shown = section([metric("a_percent"), metric("b_percent")])
    shown.show(rows, {})
    mean = summary(rows).loc["a_percent", "mean"]
    assert mean == pytest.approx((8.05 * 5 + 2 * 95) / 10.05)
    assert cells(shown) == {"a_percent": ["95%", f"{mean:.0f}%", "95%"], "b_percent": ["–", "–", "–"]}


@given(ROWS)
def test_the_numbers_of_the_table_are_those_of_the_summary(rows):
    table, made = Table([Metric("a", "", "cpu", "About it.")], Link()), history_of([(1.0, 1.0, False), *rows])
    values = made.to_numpy()
    shown = statistics.summary(values, rows_of(made).seconds)
    table.show(shown, values[-1], (NOW - 600, NOW), {}, None)
    expected = summary(made).loc["a", ["now", "mean", "max"]]
    assert table.values["cells"] == [[format_value(number, "") for number in expected]]


def test_the_mean_of_a_recorded_series_is_that_of_the_summary():
    """Its last value holds until the next one, but is recorded once."""
    rows = history([15, 10, 5, 0], {"loss": [4, 1, math.nan, math.nan]})
    shown = Section("recorded", [Metric("loss", "", "recorded", "About it.")], 600.0, Timeline(Link()))
    shown.show(rows, {})
    assert summary(rows).loc["loss", "mean"] == 2.5
    assert cells(shown) == {"loss": ["1", "2.5", "4"]}


def test_the_table_is_about_the_window():
    shown = section([metric("a_percent")], 300)
    rows = history([400, 5, 0], {"a_percent": [100, 10, 20]}, gaps=[5])
    shown.show(rows, {})
    assert cells(shown) == {"a_percent": ["20%", "15%", "20%"]}
    shown.set_window(600)
    shown.show(rows, {})
    assert cells(shown) == {"a_percent": ["20%", "43%", "100%"]}


def test_the_table_is_not_about_rows_of_a_time_that_is_yet_to_come():
    """As those are that were taken before the clock was set back."""
    shown = section([metric("a_percent")])
    shown.show(history([-35, -30, 5, 0], {"a_percent": [100, 100, 10, 20]}), {})
    assert cells(shown) == {"a_percent": ["20%", "15%", "20%"]}


def test_numbers_whose_sum_is_too_large_have_a_mean():
    shown = section([metric("loss")])
    shown.show(history([10, 5, 0], {"loss": [1, 1.7e308, 1.7e308]}), {})
    assert cells(shown) == {"loss": ["1.7e+308", "1.133e+308", "1.7e+308"]}


def test_the_table_has_a_dash_for_what_is_missing():
    shown = section([metric("a_percent"), metric("b_percent")])
    shown.show(history([5, 0], {"a_percent": [4, math.nan], "b_percent": [math.nan] * 2}), {})
    assert cells(shown) == {"a_percent": ["–", "4%", "4%"], "b_percent": ["–", "–", "–"]}


def test_the_table_has_the_first_row_already():
    shown = section([metric("a_percent")])
    shown.show(history([0], {"a_percent": [4]}), {})
    assert cells(shown) == {"a_percent": ["4%", "4%", "4%"]}


def test_a_limit_stands_in_the_table_but_is_not_drawn():
    used = Metric("ram_used_bytes", "bytes", "memory", "Used.", limit="ram_limit_bytes")
    shown = section([used, Metric("ram_limit_bytes", "bytes", "memory", "Limit.")])
    shown.show(history([5, 0], {"ram_used_bytes": [1, 2], "ram_limit_bytes": [16 * GIBIBYTE] * 2}), {})
    assert columns(shown.charts[0]) == ["ram_used_bytes"]
    assert list(cells(shown)) == ["ram_used_bytes", "ram_limit_bytes"]
    assert vertical(shown.charts[0])[1] == 2
    assert [line["name"] for line in shown.table.lines[0]] == ["ram_used_bytes"]


def test_a_group_of_nothing_but_limits_is_no_error():
    shown = section([Metric("a_bytes", "bytes", "odd", "Its own limit.", limit="a_bytes")])
    shown.show(history([5, 0], {"a_bytes": [1, 2]}), {})
    assert shown.charts == ()
    assert list(cells(shown)) == ["a_bytes"]


def test_the_table_is_the_legend():
    shown = section([metric("a_percent"), metric("b_percent")])
    shown.show(history([5, 0], {"a_percent": [1, 2], "b_percent": [1, 2]}), {})
    [chart] = shown.charts
    [lines] = shown.table.lines
    assert [line["name"] for line in lines] == ["a_percent", "b_percent"]
    assert [line["color"] for line in lines] == chart.marks[0].colors  # in the order in which they are drawn
    assert list(shown.table.figures) == [chart]


def test_each_row_says_what_it_is_about_and_why_its_number_is_missing():
    shown = section([metric("gpu0/power_watts", source="NVML")])
    shown.show(history([5, 0], {"gpu0/power_watts": [math.nan] * 2}), {"gpu0/power_watts": "not supported"})
    assert shown.table.rows[0]["label"] == "GPU 0 power"
    assert shown.table.rows[0]["about"] == "About gpu0/power_watts. NVML"
    assert shown.table.values["reasons"] == {"gpu0/power_watts": "not supported"}


def test_the_unit_of_what_is_drawn_is_reported_with_it():
    shown = section([in_bytes("a_bytes")])
    shown.show(history([5, 0], {"a_bytes": [GIBIBYTE, 3 * GIBIBYTE]}), {})
    assert shown.table.values["labels"] == ["GiB"]


# -- the charts --------------------------------------------------------------------------------------------


def test_a_section_that_was_never_shown_has_no_charts(wire):
    """They cost the browser time and, drawn while they are hidden, have no size."""
    section([metric("a_percent"), metric("a_bytes")])
    models = [message.state.get("_model_module") for message in wire.sent("comm_open")]
    assert "bqplot" not in models


def test_a_section_has_a_chart_for_each_unit():
    shown = section([metric("a_percent"), metric("a_bytes"), metric("b_percent")])
    shown.show(history([5, 0], {"a_percent": [1, 2], "a_bytes": [1, 2], "b_percent": [1, 2]}), {})
    assert [columns(chart) for chart in shown.charts] == [
        ["a_percent", "b_percent"],
        ["a_bytes"],
    ]
    assert shown.children[0].children == shown.charts


@pytest.mark.parametrize(
    ("interval", "window", "drawn"),
    [
        (1, 600, [0, 2, 4, 6]),  # figures are taken to be 300 pixels wide
        (1, 300, [0, 1, 2, 3, 4, 5, 6]),
        (0.25, 600, [0, 2, 4, 6]),
        (0.25, 30, [0, 1, 2, 3]),  # but once a second at most
        (1.5, 600, [0, 1.5, 3, 4.5, 6]),
        (5, 600, [0, 5, 10]),
    ],
)
def test_rows_that_move_the_lines_by_less_than_a_pixel_are_left_out(interval, window, drawn):
    shown = section([metric("a_percent")], window)
    times = []
    for late in np.arange(0, drawn[-1] + interval / 2, interval):
        if shown.is_due(NOW + late, interval):
            shown.show(history([window - late, 1 - late, -late], {"a_percent": [1, 1, 2]}), {})
            times.append(late)
    assert times == drawn


def test_a_first_row_which_makes_no_line_is_no_reason_to_wait():
    shown = section([metric("a_percent")])
    shown.show(history([0], {"a_percent": [1]}), {})
    assert shown.is_due(NOW + 0.25, 0.25)


def test_a_clock_that_was_set_back_is_no_reason_to_wait():
    shown = section([metric("a_percent")])
    shown.show(history([5, 0], {"a_percent": [1, 2]}), {})
    assert shown.is_due(NOW - 60, 1.0)


def test_a_window_chosen_before_the_section_was_opened_holds():
    shown = section([metric("a_percent")], 600)
    shown.set_window(300)
    shown.show(history([400, 299, 0], {"a_percent": [1, 2, 3]}), {})
    assert shown.charts[0].marks[0].scales["x"].min == -300


def test_the_time_axis_grows_with_the_history_from_half_a_minute_to_the_window():
    """In its first minutes a run would be a scribble at the right edge of ten minutes."""
    cores = [metric(f"core{number}/cpu_percent") for number in range(12)]
    shown = Section("cpu", [metric("cpu_percent"), *cores], 600.0, Timeline(Link()))
    seen = []
    for age in (0, 5, 29, 31, 61, 200, 500, 599, 600):
        ago = [age, 0] if age else [0]
        rows = history(ago, {each.name: [1] * len(ago) for each in (metric("cpu_percent"), *cores)})
        span = Span(1, CELL, "train()", NOW - age, NOW - age, None, 7)
        shown.show(rows, {}, [span])
        [left] = {chart.marks[0].scales["x"].min for chart in shown.charts}  # of the lines and of the map
        areas = shown.charts[0].marks[-2].scales["x"]
        assert areas.max - areas.min == pytest.approx(-left)
        seen.append(-left)
    assert seen == [30, 30, 30, 45, 90, 240, 600, 600, 600]


def test_the_time_axis_is_the_window_where_that_is_shorter():
    shown = section([metric("a_percent")], 20)
    shown.show(history([30, 10, 0], {"a_percent": [1, 2, 3]}), {})
    assert shown.charts[0].marks[0].scales["x"].min == -20


@given(st.floats(0, 1e6), st.floats(1, 1e6))
def test_a_figure_is_filled_by_its_rows_to_two_thirds_or_shows_half_a_minute(age, window):
    seconds = shown_seconds(age, window)
    assert min(30, window) <= seconds <= window
    assert age >= window or seconds in (window, 30) or age > seconds / 1.51
    assert seconds >= min(age, window)


def test_a_tick_of_a_section_is_one_message_per_chart_and_one_for_the_table(wire):
    shown = section([metric("a_percent"), metric("a_bytes")])
    shown.show(history([10, 5, 0], {"a_percent": [1, 2, 3], "a_bytes": [100, 200, 300]}), {})
    wire.clear()
    shown.show(history([10, 5, 0], {"a_percent": [2, 3, 4], "a_bytes": [200, 300, 310]}), {})
    assert sorted(wire.count().values()) == [1, 1, 1]


# -- many CPUs ---------------------------------------------------------------------------------------------


def missing(cells: np.ndarray) -> np.ndarray:
    """Which cells of a map are drawn as nothing."""
    return np.asarray(cells < 0)


def cpus(count: int) -> list[Metric]:
    return [metric("cpu_percent"), *(metric(f"core{number}/cpu_percent") for number in range(count))]


def busy(ago: Sequence[float], count: int) -> pd.DataFrame:
    """Core n is n percent busy, all the time."""
    columns: dict[str, Any] = {"cpu_percent": [50.0] * len(ago)}
    columns |= {f"core{number}/cpu_percent": [float(number)] * len(ago) for number in range(count)}
    return history(ago, columns)


def test_up_to_eight_cpus_are_lines():
    shown = section(cpus(8))
    shown.show(busy([5, 0], 8), {})
    assert [type(chart) for chart in shown.charts] == [Chart]
    assert len(columns(shown.charts[0])) == 9


@pytest.mark.parametrize("count", [9, 64, 256])
def test_more_are_a_map_beside_the_line_of_all(count):
    shown = section(cpus(count))
    shown.show(busy([5, 0], count), {})
    assert [type(chart) for chart in shown.charts] == [Chart, HeatMap]
    assert columns(shown.charts[0]) == ["cpu_percent"]
    cells, *behind = shown.charts[1].marks
    assert behind == shown.charts[0].marks[1:]  # cells and spans
    assert cells.color.shape[0] == count
    assert cells.color[:, -1].tolist() == list(range(count))


def test_the_map_has_the_mean_of_each_stretch_of_time():
    shown = map_of(metric("core0/cpu_percent"), metric("core1/cpu_percent"))
    ago = [4.8, 2.4, 0]  # the last stretch is of 5 s
    values = {"core0/cpu_percent": [10, 20, 60], "core1/cpu_percent": [1, math.nan, 3]}
    show(shown, history(ago, values), NOW)
    [cells] = shown.marks
    assert cells.color.shape == (2, 120)
    assert cells.color[:, -1].tolist() == pytest.approx([30, 2])
    assert missing(cells.color[:, :-1]).all()
    assert cells.x[-1] == -2.5
    assert cells.x[0] == -597.5


def test_the_map_has_no_stripes_where_samples_are_rarer_than_its_columns():
    shown = map_of(metric("core0/cpu_percent"), metric("core1/cpu_percent"))
    ago = np.arange(200, -1, -20)
    show(shown, history(ago, {each: np.full(len(ago), 7.0) for each in columns(shown)}), NOW)
    [cells] = shown.marks
    assert not missing(cells.color[:, -40:]).any()
    assert missing(cells.color[:, :70]).all()


def test_a_map_of_a_few_seconds_is_filled_from_end_to_end():
    """As where people zoom to less than the time between two samples."""
    drawn = replace(figure(metric("core0/cpu_percent"), metric("core1/cpu_percent")), is_map=True)
    rows = rows_of(history([20, 15, 10, 5, 0], {each.name: [1, 2, 3, 4, 5] for each in drawn.lines}))
    for start, end in ((-13, -7), (-9, -6), (-16, -1)):
        means = means_of_map(drawn, rows.around(NOW + start, NOW + end), NOW + start, NOW + end, 120)
        assert np.isfinite(means).all()
    assert means_of_map(drawn, rows.around(NOW - 9, NOW - 6), NOW - 9, NOW - 6, 10)[0].tolist() == [4] * 10


def test_a_long_time_without_samples_is_empty_in_the_map():
    shown = map_of(metric("core0/cpu_percent"), metric("core1/cpu_percent"))
    ago = [*np.arange(500, 400, -5), *np.arange(100, -1, -5)]
    show(shown, history(ago, {each: np.full(len(ago), 7.0) for each in columns(shown)}), NOW)
    [cells] = shown.marks
    assert missing(cells.color[0, 42:98]).all()
    assert not missing(cells.color[0, 101:]).any()


def test_the_map_has_the_time_of_the_axis():
    time = TimeAxis(600.0)
    names = [metric("core0/cpu_percent"), metric("core1/cpu_percent")]
    shown = HeatMap(replace(figure(*names), is_map=True), time)
    time.show(NOW, 300.0, is_now=True)
    show(shown, history([400, 299, 0], {each: [1, 2, 3] for each in columns(shown)}), NOW)
    [cells] = shown.marks
    assert cells.scales["x"].min == -300
    assert cells.x[0] == pytest.approx(-300 + 150 / len(cells.x))
    assert cells.color[0, [0, -1]].tolist() == [2, 3]


@pytest.mark.parametrize("back", [1, 20, 50, 3600])
def test_rows_of_a_time_that_is_yet_to_come_are_not_in_the_map(back):
    """As those are that were taken before the clock was set back."""
    shown = map_of(metric("core0/cpu_percent"), metric("core1/cpu_percent"))
    ago = [*np.arange(99, -1, -5) - back, 0]
    values = [*[100] * 20, 7]
    show(shown, history(ago, dict.fromkeys(columns(shown), values)), NOW)
    [cells] = shown.marks
    # The last row stands for the 3 s since the one before it, where that was not taken at a later time.
    before = [value for seconds, value in zip(ago, values, strict=True) if 0 <= seconds < 5]
    mean = (5 * 100 + 3 * 7) / 8 if back == 1 else np.mean(before)
    assert cells.color[:, -1].tolist() == pytest.approx([mean] * 2)


@pytest.mark.parametrize(("count", "most"), [(9, 8_000), (64, 12_000), (256, 30_000)])
def test_a_tick_of_the_map_is_one_message_of_moderate_size(wire, count, most):
    shown = map_of(*cpus(count)[1:])
    show(shown, busy(np.arange(600, -1, -5), count), NOW)
    wire.clear()
    show(shown, busy(np.arange(600, -1, -5)[100:], count), NOW)
    [message] = wire.messages
    assert set(message.state) == {"color"}
    assert sum(buffer.nbytes for buffer in message.buffers) <= most


def test_the_rows_of_a_map_have_the_labels_of_the_figure_from_below():
    lines = figure(metric("gpu1/cpu_percent"), metric("gpu0/cpu_percent"))
    shown = HeatMap(replace(lines, is_map=True, rows=("GPU 1", "GPU 0")), TimeAxis(600.0))
    [axis] = [each for each in shown.axes if each.side == "left"]
    assert axis.tick_labels == {"0": "GPU 1", "1": "GPU 0"}
    assert axis.tick_values.tolist() == [0, 1]
    assert "by number" not in shown.title
    assert "by number" in map_of(metric("core0/cpu_percent"), metric("core1/cpu_percent")).title


def test_long_labels_have_room_and_of_many_only_some_stand_at_the_map():
    names = [f"worker{number}/cpu_percent" for number in range(40)]
    lines = replace(figure(*map(metric, names)), is_map=True)
    short, long = (
        HeatMap(replace(lines, rows=tuple(label.format(number) for number in range(40))), TimeAxis(600.0))
        for label in ("worker {0}", "host{0} with a long name {0}")
    )
    [axis] = [each for each in long.axes if each.side == "left"]
    assert len(axis.tick_labels) == len(axis.tick_values) == 10
    assert axis.tick_labels["39"] == "host39 w… name 39"
    [axis] = [each for each in short.axes if each.side == "left"]
    assert axis.tick_labels["39"] == "39"  # the title says that these are workers
    assert long.fig_margin["left"] > short.fig_margin["left"]


def test_cells_lie_over_a_map_and_their_names_in_a_strip_above_it():
    time = TimeAxis(600.0)
    shading = Shading(time)
    lines = replace(figure(metric("core0/cpu_percent"), metric("core1/cpu_percent")), is_map=True)
    shown = HeatMap(lines, time, behind=shading.marks)
    cells, *others = shown.marks  # what comes later is drawn over it
    assert others == list(shading.marks)
    assert cells.scales["y"].max > 1.5
    assert HeatMap(lines, time).marks[0].scales["y"].max == 1.5


# -- what has no values ------------------------------------------------------------------------------------


def test_a_figure_is_made_once_one_of_its_columns_has_a_value():
    """As those of a GPU have when the process begins to use it, and those of swap on no machine without."""
    shown = section([metric("a_percent"), metric("a_bytes"), metric("b_percent")])
    nothing = {"a_percent": [math.nan] * 2, "a_bytes": [math.nan] * 2, "b_percent": [math.nan] * 2}
    shown.show(history([5, 0], nothing), {})
    assert shown.charts == ()
    assert list(cells(shown)) == ["a_percent", "a_bytes", "b_percent"]
    shown.show(history([5, 0], nothing | {"a_bytes": [math.nan, 1]}), {})
    assert [columns(chart) for chart in shown.charts] == [["a_bytes"]]
    [chart] = shown.charts
    shown.show(history([5, 0], nothing | {"b_percent": [1, 2]}), {})
    assert [columns(each) for each in shown.charts] == [["a_percent", "b_percent"], ["a_bytes"]]
    assert shown.charts[1] is chart  # and stays, though it has no values any more
    assert shown.children[0].children == shown.charts
    assert list(shown.table.figures) == list(shown.charts)
    assert [len(lines) for lines in shown.table.lines] == [2, 1]


# -- a row for each GPU ------------------------------------------------------------------------------------


def of_gpus(*busy: float) -> tuple[list[Metric], dict[str, list[float]]]:
    """Columns of GPUs that are so busy, the second without power, and their values in eight rows."""
    metrics, values = [], {}
    for number, percent in enumerate(busy):
        for what, value in (("utilization_percent", percent), ("power_watts", 100.0 + number)):
            if (number, what) != (1, "power_watts"):
                name = f"gpu{number}/{what}"
                metrics.append(Metric(name, what.rpartition("_")[2], "gpu", f"About {what}.", source="NVML"))
                values[name] = [value] * 8
    return metrics, values


def gpus(*busy: float) -> Section:
    """The section of so many GPUs that have been so busy for 35 s."""
    metrics, values = of_gpus(*busy)
    shown = section(metrics)
    shown.show(history(range(35, -1, -5), values), {})
    return shown


def test_many_gpus_have_a_row_each_and_a_column_for_each_quantity():
    table = gpus(91, 92, 93, 94).table
    assert table.grid["columns"] == ["utilization", "power"]
    assert [(place["label"], place["metrics"]) for place in table.grid["places"]] == [
        ("GPU 0", [0, 1]),
        ("GPU 1", [2, -1]),
        ("GPU 2", [3, 4]),
        ("GPU 3", [5, 6]),
    ]
    assert section(of_gpus(1, 2)[0]).table.grid == {}


def test_a_gpu_that_lags_behind_is_said_to_with_the_reason():
    """As the finding says it."""
    metrics, values = of_gpus(93, 94, 95, 36, 92, 96, 97, 91)
    rows = history(range(35, -1, -5), values)
    shown = section(metrics)
    shown.show(rows, {})
    lags = shown.table.values["lags"]
    assert lags == {
        "column": "gpu3/utilization_percent",
        "why": "busy 36% of the time, the other 7 are 94%",
    }
    times, gaps = rows_of(rows).times, rows_of(rows).gaps
    [finding] = findings(metrics, times, gaps, rows.to_numpy())
    assert str(finding).startswith(f"GPU 3 lags behind: it is {lags['why']}")


def test_a_lagging_gpu_is_found_beside_numbers_whose_sum_is_too_large():
    """Without a warning, which would be printed below the running cell."""
    metrics, values = of_gpus(93, 94, 36)
    values["gpu0/power_watts"] = [1.7e308] * 8
    shown = section(metrics)
    shown.show(history(range(35, -1, -5), values), {})
    assert shown.table.values["lags"]["column"] == "gpu2/utilization_percent"


@pytest.mark.parametrize("busy", [(93, 94, 95), (93, 94, 65), (30, 40, 2), (93, 0, 0)])
def test_none_lags_where_all_are_about_as_busy_or_have_no_work(busy):
    assert "lags" not in gpus(*busy).table.values


def test_none_lags_while_too_little_is_known():
    metrics, values = of_gpus(90, 90, 30)
    shown = section(metrics)
    shown.show(history([5, 0], {name: column[:2] for name, column in values.items()}), {})
    assert "lags" not in shown.table.values


def test_a_worker_lags_by_its_cpu():
    names = [f"worker{number}/{what}" for number in range(4) for what in ("ram_percent", "cpu_percent")]
    metrics = [Metric(name, "percent", "workers", "About it.") for name in names]
    values = {name: [90.0] * 8 for name in names} | {"worker2/cpu_percent": [20.0] * 8}
    values["worker1/ram_percent"] = [5.0] * 8
    shown = section(metrics)
    shown.show(history(range(35, -1, -5), values), {})
    assert shown.table.values["lags"]["column"] == "worker2/cpu_percent"
