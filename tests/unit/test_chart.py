"""The lines of one group: what is drawn of which numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import bqplot
import numpy as np
import pandas as pd
import pytest
from fakes.collectors import metric
from fakes.comm import Wire

from perfmon_widgets import Metric, panel
from perfmon_widgets.metrics import RECORDED
from perfmon_widgets.panel.chart import Chart
from perfmon_widgets.panel.heat_map import HeatMap
from perfmon_widgets.panel.time_axis import TimeAxis
from perfmon_widgets.views.figures import Figure, rows_of, section
from perfmon_widgets.views.palette import DASHES

NAN = math.nan
NOW = 1_800_000_000.0
GIBIBYTE = 2**30
POINTS = 200  # the most that a chart draws, markers of gaps aside
NUMBERS, FEWEST = 1_100, 60  # the most in a message, unless there are so many lines that few points are left


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


def history(
    ago: Sequence[float], columns: Mapping[str, Sequence[float]], gaps: Sequence[float] = ()
) -> pd.DataFrame:
    """As the monitor has it: rows taken so many seconds before NOW, those in ``gaps`` after missing ones."""
    index = pd.DatetimeIndex(
        pd.to_datetime([NOW - seconds for seconds in ago], unit="s", utc=True), name="time"
    )
    frame = pd.DataFrame(columns, index=index.as_unit("us"), dtype=float)
    stamps = frame.index.asi8 / 1e6
    frame.attrs["gaps"] = [float(stamps[list(ago).index(seconds)]) for seconds in gaps]
    return frame


def in_bytes(name: str) -> Metric:
    return Metric(name, "bytes", "memory", "About it.")


def rate(name: str) -> Metric:
    return Metric(name, "bytes_per_second", "disk", "About it.")


def figure(*metrics: Metric) -> Figure:
    """The one figure of some metrics of one group."""
    [found] = section(metrics[0].group, metrics)
    return found


def chart_of(metrics: Sequence[Metric], title: str) -> Chart:
    return Chart(replace(figure(*metrics), name=title), TimeAxis(600.0))


def chart(*names: str, window: float = 600.0) -> Chart:
    return Chart(figure(*map(metric, names)), TimeAxis(window))


def show(shown: Chart | HeatMap, history: pd.DataFrame, now: float) -> None:
    """As a section does: with the rows of the time that is shown."""
    seconds = -shown.marks[0].scales["x"].min
    shown.show(rows_of(history).between(now - seconds, now), now)


def drawn(chart: Chart) -> tuple[np.ndarray, np.ndarray]:
    """The points of the lines, without those that lie far outside of the figure."""
    [lines] = chart.marks
    near = lines.x > -1e8
    return lines.x[near], lines.y[..., near]


def vertical(figure: bqplot.Figure) -> tuple[float, float]:
    """The numbers at the ends of the vertical axis, beyond which the figure is 4 % higher."""
    axis = figure.axes[1]
    ends = axis.tick_values[0], axis.tick_values[-1]
    beyond = 0.04 * (ends[1] - ends[0])
    expected = (ends[0] - (beyond if ends[0] < 0 else 0), ends[1] + beyond)
    assert (axis.scale.min, axis.scale.max) == pytest.approx(expected)
    return ends


def labels(chart: Chart) -> list[str]:
    """The labels of the vertical axis, as d3 prints them from the axis' ticks and format."""
    axis = chart.axes[1]
    return [format(tick, axis.tick_format) for tick in axis.tick_values]


# -- what is drawn -----------------------------------------------------------------------------------------


def test_x_is_seconds_before_now():
    shown = chart("a_percent")
    show(shown, history([20, 10, 0], {"a_percent": [1, 2, 3]}), NOW)
    x, y = drawn(shown)
    assert x.tolist() == [-20, -10, 0]
    assert y.tolist() == [1, 2, 3]


def test_now_may_be_later_than_the_newest_row():
    shown = chart("a_percent")
    show(shown, history([20, 10, 0], {"a_percent": [1, 2, 3]}), NOW + 5)
    assert drawn(shown)[0].tolist() == [-25, -15, -5]


def test_one_series_is_a_flat_list_and_several_are_rows():
    one, two = chart("a_percent"), chart("a_percent", "b_percent")
    rows = history([10, 5, 0], {"a_percent": [1, 2, 3], "b_percent": [4, 5, 6]})
    show(one, rows, NOW)
    show(two, rows, NOW)
    assert drawn(one)[1].shape == (3,)
    assert drawn(two)[1].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_two_rows_and_two_series_are_not_transposed():
    shown = chart("a_percent", "b_percent")
    show(shown, history([5, 0], {"a_percent": [1, 2], "b_percent": [3, 4]}), NOW)
    assert drawn(shown)[1].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("names", [["a_percent"], ["a_percent", "b_percent"]])
def test_one_row_is_not_drawn_yet(names):
    shown = chart(*names)
    show(shown, history([0], {name: [7] for name in names}), NOW)
    assert not np.isfinite(drawn(shown)[1]).any()
    show(shown, history([5, 0], {name: [7, 8] for name in names}), NOW)
    assert np.isfinite(drawn(shown)[1]).all()


def test_one_row_after_a_gap_is_no_error():
    shown = chart("a_percent", "b_percent")
    show(shown, history([0], {"a_percent": [7], "b_percent": [8]}, gaps=[0]), NOW)
    _, y = drawn(shown)
    assert y.shape == (2, 2)


def test_a_new_chart_draws_nothing():
    for names in (["a_percent"], ["a_percent", "b_percent"]):
        assert np.isnan(drawn(chart(*names))[1]).all()


def test_only_its_own_columns_are_drawn():
    shown = chart("b_percent")
    show(shown, history([5, 0], {"a_percent": [1, 2], "b_percent": [3, 4]}), NOW)
    assert drawn(shown)[1].tolist() == [3, 4]


def test_rows_that_left_the_window_are_not_drawn():
    shown = chart("a_percent", window=60)
    show(shown, history([61, 60, 30, 0], {"a_percent": [1, 2, 3, 4]}), NOW)
    assert drawn(shown)[0].tolist() == [-60, -30, 0]


def test_rows_of_a_time_that_is_yet_to_come_are_not_drawn():
    """As those are that were taken before the clock was set back."""
    shown = chart("a_bytes")
    show(shown, history([-30, -25, 5, 0], {"a_bytes": [9e9, 9e9, 1, 2]}, gaps=[5]), NOW)
    x, y = drawn(shown)
    assert x[~np.isnan(y)].tolist() == [-5, 0]
    assert vertical(shown) == (0, 2)


def test_numbers_are_sent_in_four_bytes():
    shown = chart("a_percent", "b_percent")
    show(shown, history([5, 0], {"a_percent": [1, 2], "b_percent": [3, 4]}), NOW)
    assert [array.dtype for array in drawn(shown)] == [np.float32, np.float32]


@pytest.mark.parametrize("large", [3e39, -3e39, 1.7e308, math.inf])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_number_too_large_for_four_bytes_is_not_drawn_and_the_others_are(large, sparse):
    """As a loss that diverges; nothing may be printed over the user's cell."""
    shown = Chart(figure(replace(metric("loss"), group=RECORDED if sparse else "cpu")), TimeAxis(600.0))
    show(shown, history([15, 10, 5, 0], {"loss": [3, 5, large, large]}), NOW)
    x, y = np.ravel(shown.marks[-1].x), np.ravel(shown.marks[-1].y)  # of a sparse one what is seen of it
    assert not np.isinf(y).any()
    seen = ~np.isnan(y) & (x > -1e8)
    assert x[seen].tolist() == [-15, -10]
    assert y[seen].tolist() == [3, 5]
    assert vertical(shown) == (0, 6)


def test_four_bytes_are_enough_for_the_time():
    """Seconds before now, not Unix seconds, which four bytes hold to two minutes only."""
    shown = chart("a_percent")
    show(shown, history([599.99, 0.01, 0], {"a_percent": [1, 2, 3]}), NOW)
    assert drawn(shown)[0] == pytest.approx([-599.99, -0.01, 0], abs=1e-3)


# -- what is missing ---------------------------------------------------------------------------------------


def test_a_missing_number_is_drawn_as_missing_and_never_as_zero():
    shown = chart("a_percent", "b_percent")
    show(shown, history([10, 5, 0], {"a_percent": [1, math.nan, 3], "b_percent": [4, 5, math.nan]}), NOW)
    _, y = drawn(shown)
    assert np.isnan(y).tolist() == [[False, True, False], [False, False, True]]


@pytest.mark.parametrize("unit", ["percent", "bytes", "bytes_per_second", "watts"])
def test_a_series_without_any_number_is_no_error(unit):
    shown = chart_of([Metric(f"a_{unit}", unit, "g", "About a.")], "Title")
    show(shown, history([10, 5, 0], {f"a_{unit}": [math.nan] * 3}), NOW)
    assert np.isnan(drawn(shown)[1]).all()
    assert vertical(shown)[1] > 0


@pytest.mark.parametrize("values", [[1, NAN], [NAN, NAN], [1, 2]])
def test_every_line_ends_with_a_number_or_bqplot_logs_an_error_at_every_drawing(values):
    shown = chart_of([metric("a_percent"), metric("b_percent")], "CPU")
    for draws in (False, True):  # a new chart, and one with rows
        if draws:
            show(shown, history([5, 0], {"a_percent": values, "b_percent": [NAN, 5]}), NOW)
        x, y = shown.marks[0].x, shown.marks[0].y
        assert np.isfinite(y[:, -1]).all()
        assert x[-1] in (0, np.float32(-1e9))  # at the right end, or out of sight
        assert np.isnan(y[:, x < -1e8][:, :-1]).all()  # no line leads to there


def test_the_line_is_broken_where_samples_are_missing():
    shown = chart("a_percent", "b_percent")
    show(
        shown, history([60, 55, 5, 0], {"a_percent": [1, 2, 3, 4], "b_percent": [5, 6, 7, 8]}, gaps=[5]), NOW
    )
    x, y = drawn(shown)
    assert x.tolist() == [-60, -55, -5, -5, 0]
    assert np.isnan(y[:, 2]).all()
    assert y[:, [0, 1, 3, 4]].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_every_gap_breaks_the_line():
    shown = chart("a_percent")
    show(shown, history([40, 30, 20, 10, 0], {"a_percent": [1, 2, 3, 4, 5]}, gaps=[30, 20, 0]), NOW)
    assert np.isnan(drawn(shown)[1]).tolist() == [False, True, False, True, False, False, True, False]


def test_a_gap_that_left_the_window_is_forgotten():
    shown = chart("a_percent", window=20)
    show(shown, history([40, 30, 10, 0], {"a_percent": [1, 2, 3, 4]}, gaps=[30]), NOW)
    assert drawn(shown)[1].tolist() == [3, 4]


# -- more samples than can be seen -------------------------------------------------------------------------


def test_as_many_points_as_can_be_seen_are_all_drawn():
    shown = chart("a_percent")
    ago = np.arange(POINTS)[::-1]
    show(shown, history(ago, {"a_percent": ago}), NOW)
    assert len(drawn(shown)[0]) == POINTS


@pytest.mark.parametrize("count", [POINTS + 1, 1_000, 6_000, 60_001])
def test_no_more_points_are_sent_than_can_be_seen(count):
    shown = chart("a_percent", "b_percent")
    ago = np.linspace(599, 0, count)
    show(shown, history(ago, {"a_percent": ago, "b_percent": ago}), NOW)
    x, y = drawn(shown)
    assert POINTS / 2 <= len(x) <= POINTS
    assert y.shape == (2, len(x))
    assert (np.diff(x) > 0).all()


@pytest.mark.parametrize("at", [0, 1, 2, 3_333, 5_998, 5_999])
def test_a_peak_of_one_sample_is_seen_wherever_it_lies(at):
    shown = chart("a_percent")
    values = np.ones(6_000)
    values[at] = 97
    ago = np.linspace(599, 0, 6_000)
    show(shown, history(ago, {"a_percent": values}), NOW)
    x, y = drawn(shown)
    assert np.max(y) == 97
    assert x[np.argmax(y)] == pytest.approx(-ago[at], abs=600 / (POINTS - 1) + 0.1)


def test_a_line_keeps_its_shape_while_it_moves():
    shown = chart("a_percent")
    values, jitter = np.random.default_rng(1).random((2, 1_000))

    def shape(count: int) -> dict[float, float]:
        show(
            shown,
            history(-np.arange(count) - jitter[:count] / 100, {"a_percent": values[:count]}),
            NOW + count - 1,
        )
        x, y = drawn(shown)
        return dict(zip(np.floor(x + count).tolist(), y.tolist(), strict=True))

    first, then = shape(700), shape(703)
    both = sorted(first.keys() & then.keys())[1:]  # of the first, some samples have left the window
    assert len(both) > POINTS / 2
    assert {at: first[at] for at in both} == {at: then[at] for at in both}


def test_a_single_missing_number_among_many_hides_none_beside_it():
    shown = chart("a_percent")
    values = np.arange(6_000, dtype=float) % 100
    values[1::7] = math.nan
    show(shown, history(np.linspace(599, 0, 6_000), {"a_percent": values}), NOW)
    assert np.isfinite(drawn(shown)[1]).all()


def test_a_long_stretch_of_missing_numbers_stays_missing():
    shown = chart("a_percent")
    values = np.ones(6_000)
    values[2_000:4_000] = math.nan
    show(shown, history(np.linspace(599, 0, 6_000), {"a_percent": values}), NOW)
    assert POINTS / 3 - 5 <= np.isnan(drawn(shown)[1]).sum() <= POINTS / 3 + 1


def test_a_gap_among_many_samples_breaks_the_line():
    shown = chart("a_percent")
    ago = np.arange(6_000)[::-1] / 10
    show(shown, history(ago, {"a_percent": np.ones(6_000)}, gaps=[ago[3_005]]), NOW)
    assert np.isnan(drawn(shown)[1]).sum() == 1


# -- the axes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [[0, 0], [1, 2], [99, 100], [math.nan, 3]])
def test_a_percentage_is_drawn_on_a_fixed_axis(values):
    shown = chart("a_percent")
    show(shown, history([5, 0], {"a_percent": values}), NOW)
    assert vertical(shown) == (0, 100)
    assert labels(shown) == ["0", "25", "50", "75", "100"]
    assert shown.title == "CPU, %"


def test_a_percentage_above_100_is_seen_and_the_axis_comes_back():
    shown = chart("a_percent")
    tops = []
    for largest in (90, 150, 90):
        show(shown, history([5, 0], {"a_percent": [1, largest]}), NOW)
        tops.append(vertical(shown))
    assert tops == [(0, 100), (0, 200), (0, 100)]


@pytest.mark.parametrize(
    ("metrics", "largest", "top", "title"),
    [
        (in_bytes("a_bytes"), 3 * GIBIBYTE, 4, "Title, GiB"),
        (in_bytes("a_bytes"), 4 * GIBIBYTE, 4, "Title, GiB"),
        (in_bytes("a_bytes"), 4 * GIBIBYTE + 1, 6, "Title, GiB"),
        (in_bytes("a_bytes"), 150 * 2**20, 200, "Title, MiB"),
        (in_bytes("a_bytes"), 7 * 2**40, 8, "Title, TiB"),
        (in_bytes("a_bytes"), 0, 1, "Title, B"),
        (rate("a_bytes_per_second"), 12_300_000, 20, "Title, MB/s"),
        (rate("a_bytes_per_second"), 999, 1000, "Title, B/s"),
        (rate("a_bytes_per_second"), 1_000, 1, "Title, kB/s"),
        (metric("a_watts"), 312.5, 400, "Title, W"),
        (metric("a_hertz"), 90, 100, "Title, Hz"),
        (metric("a_widgets"), 5, 6, "Title, widgets"),
    ],
)
def test_other_axes_end_at_a_round_number_above_the_largest_value(metrics, largest, top, title):
    shown = chart_of([metrics], "Title")
    show(shown, history([10, 5, 0], {metrics.name: [0, largest, 0]}), NOW)
    assert vertical(shown) == (0, top)
    assert shown.title == title
    _, y = drawn(shown)
    assert np.max(y) <= top
    assert len(labels(shown)) == 5


def test_values_are_drawn_in_the_axis_own_prefix():
    shown = chart_of([in_bytes("a_bytes"), in_bytes("b_bytes")], "Memory")
    show(
        shown,
        history([5, 0], {"a_bytes": [GIBIBYTE, 2 * GIBIBYTE], "b_bytes": [GIBIBYTE / 2, 3 * GIBIBYTE]}),
        NOW,
    )
    assert drawn(shown)[1].tolist() == [[1, 2], [0.5, 3]]


@pytest.mark.parametrize("largest", [0.006, 0.03, 0.5, 1, 1.5, 2, 3, 5, 7, 9, 15, 30, 50, 90, 150, 500, 900])
def test_the_labels_of_an_axis_are_the_numbers_they_stand_at(largest):
    shown = chart_of([metric("a_watts")], "Power")
    show(shown, history([5, 0], {"a_watts": [0, largest]}), NOW)
    ticks = shown.axes[1].tick_values
    assert ticks[0] == 0
    assert ticks[-1] == vertical(shown)[1]
    assert [float(label) for label in labels(shown)] == pytest.approx(ticks)


def test_an_axis_grows_at_once_and_shrinks_only_by_halves():
    shown = chart_of([metric("a_watts")], "Power")
    tops = []
    for largest in (100, 101, 150, 90, 110, 80, 99, 300):
        show(shown, history([5, 0], {"a_watts": [0, largest]}), NOW)
        tops.append(vertical(shown)[1])
    assert tops == [100, 200, 200, 100, 200, 80, 100, 400]


def test_an_axis_that_need_not_change_sends_nothing(wire):
    shown = chart_of([metric("a_watts")], "Power")
    show(shown, history([5, 0], {"a_watts": [0, 100]}), NOW)
    for largest in (99, 95, 85):
        wire.clear()
        show(shown, history([5, 0], {"a_watts": [0, largest]}), NOW)
        assert [set(message.state) for message in wire.messages] == [{"y"}]


def test_an_axis_changes_its_prefix_with_the_values():
    shown = chart_of([in_bytes("a_bytes")], "Memory")
    seen = []
    for largest in (900 * 2**20, 1.5 * GIBIBYTE, 900 * 2**20):
        show(shown, history([5, 0], {"a_bytes": [0, largest]}), NOW)
        seen.append((shown.title, vertical(shown)[1], float(drawn(shown)[1][-1])))
    assert seen == [("Memory, MiB", 1000, 900), ("Memory, GiB", 2, 1.5), ("Memory, MiB", 1000, 900)]


# -- many lines --------------------------------------------------------------------------------------------


def test_cores_are_faint_and_below_the_line_of_all():
    names = ["cpu_percent", *(f"core{number}/cpu_percent" for number in range(8))]
    shown = chart(*names)
    show(shown, history([5, 0], {name: [at, at] for at, name in enumerate(names)}), NOW)
    [lines] = shown.marks
    assert lines.y.shape == (9, 2)
    assert lines.y[:, 0].tolist() == [*range(1, 9), 0]  # drawn one over the other, so the last is on top
    assert len(set(lines.colors[:8])) == 1
    assert lines.colors[8] not in lines.colors[:8]
    assert lines.opacities[8] == 1
    assert max(lines.opacities[:8]) < 1


def test_the_colours_belong_to_the_lines():
    shown = chart("cpu_percent", "core0/cpu_percent", "core1/cpu_percent", "iowait_percent")
    [lines] = shown.marks
    assert [line.color for line in shown.drawn.lines] == lines.colors


# -- what crosses to the browser ---------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["a_percent"], ["a_percent", "b_percent"]])
def test_a_tick_is_one_message(wire, names):
    shown = chart(*names)
    wire.clear()
    for tick in range(3):
        show(shown, history([10 + tick, 5, 0], {name: [tick, 2, 3] for name in names}), NOW)
    assert [set(message.state) for message in wire.messages] == [{"x", "y"}] * 3


@pytest.mark.parametrize("lines", [1, 2, 8, 24, 64])
@pytest.mark.parametrize("rows", [120, 600, 6_000])
def test_a_tick_is_of_moderate_size_however_many_lines_and_rows(wire, lines, rows):
    names = [f"gpu{number}/utilization_percent" for number in range(lines)]
    shown = chart(*names)
    values = np.linspace(0, 100, rows)
    wire.clear()
    show(shown, history(np.linspace(599, 0, rows), dict.fromkeys(names, values)), NOW)
    [message] = wire.messages
    size = sum(buffer.nbytes for buffer in message.buffers)
    assert size <= max(4 * NUMBERS, 4 * FEWEST * (lines + 1))


@pytest.mark.parametrize(
    ("names", "main"),
    [
        (["cpu_percent"], ["cpu_percent"]),
        (["core0/cpu_percent", "core1/cpu_percent", "cpu_percent"], ["cpu_percent"]),
        (["gpu0/utilization_percent", "gpu1/utilization_percent"], []),  # neither is the main one
        ([*(f"core{number}/cpu_percent" for number in range(4)), "cpu_percent"], []),  # this would cost much
    ],
)
def test_an_area_lies_below_the_only_main_line_of_a_few(names, main):
    shown = chart(*names)
    [lines] = shown.marks
    assert lines.fill == ("bottom" if main else "none")
    each = zip(shown.drawn.lines, lines.fill_opacities, strict=True)
    assert [line.name for line, opacity in each if opacity] == main


def test_a_dashed_line_says_in_its_colour_which_dashes_it_has():
    shown = chart(*(f"gpu{number}/utilization_percent" for number in range(20)))
    [lines] = shown.marks
    looks = [(line.color, line.dash) for line in shown.drawn.lines]
    assert len(set(looks)) == 20
    assert {dash for _, dash in looks} == {"", DASHES[1], DASHES[2]}
    for (color, dash), stroke in zip(looks, lines.colors, strict=True):
        assert stroke == (f"var(--perfmon-dash-{DASHES.index(dash)}, {color})" if dash else color)


def test_the_style_sheet_draws_the_dashes_that_the_lines_have():
    """bqplot knows one pattern for a whole mark."""
    sheet = (Path(panel.__file__).parent / "panel.css").read_text()
    found = r'path.line\[style\*="--perfmon-dash-(\d)"\] \{\s+stroke-dasharray: ([\d. ]+) !important'
    rules = re.findall(found, sheet)
    assert rules == [(str(number), dash) for number, dash in enumerate(DASHES) if dash]
    assert "--perfmon-dash-1:" not in sheet  # a property that is set would take the line's colour away


def test_one_line_of_each_of_eight_gpus_needs_no_dashes():
    shown = chart(*(f"gpu{number}/utilization_percent" for number in range(8)))
    assert not any(line.dash for line in shown.drawn.lines)
