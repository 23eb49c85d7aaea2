"""Figures as data, and that every brush draws what they say: the live charts, plot(), the stored picture."""

from __future__ import annotations

import math
import re
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple
from xml.etree import ElementTree

import bqplot
import numpy as np
import pandas as pd
import pytest
from test_chart import NOW, history

from perfmon_widgets import Metric, plot
from perfmon_widgets.core.spans import CELL, MARK, SPAN, Span
from perfmon_widgets.core.spans import table as all_spans
from perfmon_widgets.metrics import RECORDED, unit_of
from perfmon_widgets.panel.link import Link
from perfmon_widgets.panel.section import Section
from perfmon_widgets.panel.snapshot import charts, table
from perfmon_widgets.views.columns import group_of, groups, metrics_of, without_limits
from perfmon_widgets.views.figures import Figure, by_default, chosen, fill, rows_of, section
from perfmon_widgets.views.gauges import Reading
from perfmon_widgets.views.palette import COLORS, DASHES, FAINT
from perfmon_widgets.views.stretches import LOOKS

NAN = math.nan
WINDOW = 600.0
UNITS = ("%", "GiB", "W")


def declared(*names: str, group: str = "") -> list[Metric]:
    return [Metric(name, unit_of(name), group or group_of(name) or "model", "About it.") for name in names]


# -- all brushes agree -------------------------------------------------------------------------------------


class Drawn(NamedTuple):
    """A line as a person sees it."""

    color: str
    strokes: list[list[tuple[int, float]]]
    """The points (whole seconds from NOW, value) of each unbroken piece."""


Picture = tuple[tuple[float, float], dict[str, Drawn]]
"""The ends of the axis, and the lines by name."""


def strokes(times: Sequence[float], values: Sequence[float]) -> list[list[tuple[int, float]]]:
    """The pieces between missing values; points of one second are one, as the ends of a dash are."""
    pieces: list[list[tuple[int, float]]] = [[]]
    for time, value in zip(times, values, strict=True):
        if math.isnan(value):
            pieces.append([])
        elif time >= -WINDOW:  # what is not to be seen lies far before
            pieces[-1].append((round(time), round(value, 1)))
    return [list(dict.fromkeys(piece)) for piece in pieces if piece]


def live(group: str, metrics: Sequence[Metric], rows: pd.DataFrame) -> list[Picture]:
    """What the panel's section of a group draws."""
    shown = Section(group, metrics, WINDOW, Link())
    shown.show(rows, {})
    pictures = []
    for chart in shown.charts:
        lines, *others = chart.marks
        joined = others[0] if others and getattr(others[0], "marker", None) == "circle" else None
        mark = lines if joined is None else joined
        y = np.atleast_2d(mark.y)
        x = np.broadcast_to(np.asarray(mark.x), y.shape)
        drawn = {
            line.name: Drawn(color, pieces)
            for line, color, times, values in zip(chart.drawn.lines, lines.colors, x, y, strict=True)
            if (pieces := strokes(times.tolist(), values.tolist()))
        }
        pictures.append(((lines.scales["y"].min, lines.scales["y"].max), drawn))
    return pictures


def plotted(rows: pd.DataFrame, columns: Sequence[str]) -> Picture:
    """What plot() draws of columns of one unit."""
    figure = plot(rows, list(columns))
    drawn, axis = {}, (0.0, 0.0)
    for mark in figure.marks:
        assert isinstance(mark, bqplot.Lines)
        axis = mark.scales["y"].min, mark.scales["y"].max
        times = np.atleast_2d(mark.x).astype("datetime64[ms]").astype(float) / 1e3 - NOW
        for name, color, x, y in zip(mark.labels, mark.colors, times, np.atleast_2d(mark.y), strict=True):
            if pieces := strokes(x.tolist(), y.tolist()):
                drawn[name] = Drawn(color, pieces)
    return axis, drawn


def stored(metrics: Sequence[Metric], rows: pd.DataFrame) -> dict[str, list[Picture]]:
    """What the stored picture of each section shows, read back from its SVG."""
    text = charts(metrics, rows)
    titles = re.findall("<summary>(.*?)</summary>", text)
    sources = re.findall(r'base64,([^"]*)"', text)
    start, end = (moment.timestamp() - NOW for moment in (rows.index.min(), rows.index.max()))
    return {
        title: [read_back(each, start, end) for each in ElementTree.fromstring(b64decode(source))]
        for title, source in zip(titles, sources, strict=True)
    }


def read_back(place: ElementTree.Element, start: float, end: float) -> Picture:
    """A figure of an SVG picture: its axis from the ticks, its lines from the legend and the paths."""
    paths = place.findall("{*}path")
    texts = place.findall("{*}text")
    grid = [re.match(r"M52,([\d.]+)H704", path.get("d", "")) for path in paths]
    heights = [float(found[1]) for found in grid if found]
    ticks = [float(text.text or "") for text in texts if text.get("x") == "47" and text.text not in UNITS]
    bottom, top = ticks[0], ticks[-1]
    words = [text.text or "" for text in texts if text.get("text-anchor") == "start"]
    names = [word for word in words if "UTC" not in word]
    keys = [path.get("stroke", "") for path in paths if path.get("stroke-width") == "3"]
    shown = [path for path in paths if path.get("stroke-width") == "1.5"]
    faint = [path for path in shown if path.get("stroke") == FAINT]
    strong = [path for path in shown if path.get("stroke") != FAINT]
    drawn = {}
    for name, key, path in zip(names, keys, strong, strict=False):
        assert path.get("stroke") == key  # the legend says which line it is
        drawn[name] = Drawn(key, read_path(path.get("d", ""), (start, end), heights, (bottom, top)))
    for path in faint:
        pieces = read_path(path.get("d", ""), (start, end), heights, (bottom, top))
        drawn[f"faint {len(drawn)}"] = Drawn(FAINT, pieces)
    return (bottom, top), drawn


def read_path(
    path: str, ends: tuple[float, float], heights: Sequence[float], axis: tuple[float, float]
) -> list[list[tuple[int, float]]]:
    pieces: list[list[tuple[int, float]]] = []
    for letter, x, y in re.findall(r"([ML])([\d.]+),([\d.]+)", path):
        if letter == "M":
            pieces.append([])
        share = (heights[0] - float(y)) / (heights[0] - heights[-1])
        time = ends[0] + (float(x) - 52) / (704 - 52) * (ends[1] - ends[0])
        pieces[-1].append((round(time), axis[0] + share * (axis[1] - axis[0])))
    return pieces


AGO = list(range(200, -1, -5))
COUNT = len(AGO)


def some(at: Sequence[int], values: Sequence[float]) -> list[float]:
    """A column that has values only in some rows."""
    column = [NAN] * COUNT
    for place, value in zip(at, values, strict=True):
        column[place] = value
    return column


def wave(middle: float, number: int) -> list[float]:
    return [middle + middle / 2 * math.sin(at / 4 + number) for at in range(COUNT)]


METRICS = [
    *declared("cpu_percent", "host_cpu_percent", *(f"core{number}/cpu_percent" for number in range(3))),
    Metric("ram_percent", "percent", "memory", "In use."),
    Metric("ram_used_bytes", "bytes", "memory", "In use.", limit="ram_limit_bytes"),
    Metric("ram_limit_bytes", "bytes", "memory", "Limit."),
    *declared("swap_percent", "memory_pressure_percent"),
    *declared("gpu0/utilization_percent", "gpu0/power_watts", "gpu1/utilization_percent", "gpu1/power_watts"),
    *declared("process_cpu_percent"),
    *declared("offset", group="model"),
    *(
        replace(each, source="record()")
        for each in declared("gain_percent", "reward", "train/loss", "test/loss", group=RECORDED)
    ),
]
COLUMNS = {each.name: wave(40, number) for number, each in enumerate(METRICS)} | {
    "ram_used_bytes": [2**30 * value for value in wave(8, 0)],
    "ram_limit_bytes": [2**36] * COUNT,
    "swap_percent": [NAN] * COUNT,
    "gpu1/utilization_percent": [NAN] * 10 + wave(30, 0)[10:20] + [NAN] * (COUNT - 20),
    "process_cpu_percent": some([7], [30]),
    "offset": wave(-3, 0),
    "gain_percent": some([3, 9, 30], [150, 20, 60]),
    "reward": some([5, 6, 7, 21], [-3, -1, 1, 2]),
    "train/loss": some([2, 12, 22, 32], [4, 2, 1, 0.5]),
    "test/loss": some([17], [3]),
}


def awkward() -> tuple[list[Metric], pd.DataFrame]:
    """No swap, a percentage above 100, negative values, sparse series, a gap, single values, cores, two GPUs.

    One column, the last, has no Metric.
    """
    rows = history(AGO, {**COLUMNS, "undeclared_percent": wave(20, 3)}, gaps=[100])
    for each in METRICS:
        rows.attrs[each.name] = {"unit": each.unit, "help": each.help, "source": each.source}
    return METRICS, rows


def test_the_live_charts_plot_and_the_stored_picture_draw_the_same():
    metrics, rows = awkward()
    kept = stored(metrics, rows)
    compared = 0
    for group, title in {
        "cpu": "CPU", "memory": "Memory", "gpu": "GPU", "process": "This process", "model": "model",
        RECORDED: "Recorded values",
    }.items():  # fmt: skip
        shown = live(group, metrics, rows)
        assert len(shown) == len(kept[title])
        for (axis, lines), (kept_axis, kept_lines) in zip(shown, kept[title], strict=True):
            strong = {name: line for name, line in lines.items() if line.color != FAINT}
            assert plotted(rows, list(strong)) == (axis, strong)
            assert kept_axis == axis
            assert list(kept_lines) == [*strong, *(f"faint {at}" for at in range(len(strong), len(lines)))]
            # The faint ones last, as the legend has them.
            ordered = [*strong.values(), *(line for line in lines.values() if line.color == FAINT)]
            for line, other in zip(ordered, kept_lines.values(), strict=True):
                assert line.color == other.color
                assert_same(line.strokes, other.strokes, (axis[1] - axis[0]) / 500)
                compared += 1
    assert compared == 18


def assert_same(
    strokes: list[list[tuple[int, float]]], others: list[list[tuple[int, float]]], error: float
) -> None:
    assert [len(piece) for piece in strokes] == [len(piece) for piece in others]
    for piece, other in zip(strokes, others, strict=True):
        for (time, value), (other_time, other_value) in zip(piece, other, strict=True):
            assert time == pytest.approx(other_time, abs=1)
            assert value == pytest.approx(other_value, abs=error + 0.05)


def test_the_axis_and_the_colour_of_a_sparkline_are_those_of_the_column():
    _, rows = awkward()
    text = table({"GPU 1": Reading(3.0, "", column="gpu1/utilization_percent")}, rows)
    assert 'alt="GPU 1 over time, 0 to 100 %"' in text
    _, line = re.findall(r'base64,([^"]*)"', text)
    [path] = ElementTree.fromstring(b64decode(line)).findall("{*}path")
    [mark] = plot(rows, ["gpu1/utilization_percent"]).marks
    assert [path.get("stroke")] == mark.colors
    assert path.get("d", "").count("M") == 1


# -- colours -----------------------------------------------------------------------------------------------


def colors(figures: Sequence[Figure]) -> dict[str, str]:
    return {line.name: line.color for figure in figures for line in figure.lines}


def test_a_column_keeps_its_colour_whatever_else_has_no_values():
    values = {"ram_percent": [1, 2], "swap_percent": [3, 3], "memory_pressure_percent": [5, 6]}
    [every] = plot(history([5, 0], values)).marks
    [mark] = plot(history([5, 0], {**values, "swap_percent": [NAN, NAN]})).marks
    assert every.colors == [COLORS[2], COLORS[3], COLORS[4]]
    assert mark.labels == ["ram_percent", "memory_pressure_percent"]
    assert mark.colors == [COLORS[2], COLORS[4]]


def test_a_log_that_is_read_back_has_the_colours_of_the_live_charts():
    """Nothing is known of its columns but their names."""
    expected = {}
    for group in groups(METRICS):
        expected |= colors(section(group, METRICS))
    _, rows = awkward()
    names = list(COLUMNS)
    read_back = metrics_of(names, rows[names].to_numpy(), {})
    found = {name: colors(chosen([name], read_back))[name] for name in by_default(read_back)}
    assert found == {name: color for name, color in expected.items() if color != FAINT}


def test_the_first_columns_of_all_groups_differ():
    first = declared(
        "cpu_percent", "ram_percent", "gpu0/utilization_percent", "disk_percent", "process_cpu_percent"
    )
    shown = colors(chosen([each.name for each in first], first))
    assert len(set(shown.values())) == 5
    assert shown == {each.name: colors(section(each.group, first))[each.name] for each in first}


@pytest.mark.parametrize("count", [2, 5, 8])
@pytest.mark.parametrize("seed", range(5))
def test_up_to_eight_chosen_columns_differ_in_colour_and_more_in_dashes(count, seed):
    metrics = [
        *declared(*(f"core{number}/cpu_percent" for number in range(9)), "cpu_percent", "host_cpu_percent"),
        *declared("ram_percent", "swap_percent", "memory_pressure_percent", "disk_percent"),
        *declared(*(f"gpu{number}/utilization_percent" for number in range(9)), "process_cpu_percent"),
        *declared("a_percent", "b_percent"),
    ]
    names = [str(name) for name in np.random.default_rng(seed).permutation([each.name for each in metrics])]
    [figure] = chosen(names[:count], metrics)
    assert len(set(colors([figure]).values())) == count
    assert {line.dash for line in figure.lines} == {""}
    [figure] = chosen(names, metrics)
    assert len({(line.color, line.dash) for line in figure.lines}) == len(metrics) == 27
    assert list(dict.fromkeys(line.dash for line in figure.lines)) == list(DASHES)


def test_a_single_cpu_that_is_chosen_is_a_line_like_any_other():
    names = ["cpu_percent", "core0/cpu_percent", "core1/cpu_percent"]
    [figure] = chosen(names, declared(*names))
    assert len(set(colors([figure]).values())) == 3
    assert not any(line.faint for line in figure.lines)
    [figure] = section("cpu", declared(*names))
    assert [line.faint for line in figure.lines] == [True, True, False]


def test_more_than_eight_chosen_columns_are_drawn_in_dashes():
    names = [f"gpu{number}/utilization_percent" for number in range(10)]
    figure = plot(history([5, 0], {name: [1, 2] for name in names}))
    assert [(mark.line_style, len(mark.labels)) for mark in figure.marks] == [("solid", 8), ("dashed", 2)]
    assert figure.picture.count(f'stroke-dasharray="{DASHES[1]}"') == 4  # two lines, and two of the legend


# -- which figures there are -------------------------------------------------------------------------------


def test_limits_are_not_drawn_whether_declared_by_role_or_as_the_limit_of_another_or_by_name():
    used, size = declared("disk_used_bytes", "disk_size_bytes")
    by_role = [used, replace(size, role="limit")]
    by_reference = [replace(used, limit="disk_size_bytes"), size]
    by_name = metrics_of(["disk_used_bytes", "disk_limit_bytes"], np.ones((2, 2)), {})
    for metrics in (by_role, by_reference, by_name):
        assert [each.name for each in without_limits(metrics)] == ["disk_used_bytes"]


def test_parts_of_ones_own_are_faint_and_many_are_a_map():
    def parts(count: int) -> list[Metric]:
        total, *experts = declared("load_percent", *(f"expert{n}/load_percent" for n in range(count)))
        return [total, *(replace(each, role="part") for each in experts)]

    [figure] = section("model", parts(8))
    assert [line.faint for line in figure.lines] == [True] * 8 + [False]
    lines, brightness = section("model", parts(9))
    assert [line.name for line in lines.lines] == ["load_percent"]
    assert (brightness.is_map, brightness.name, len(brightness.lines)) == (True, "model", 9)


def test_recorded_series_of_a_quantity_share_a_figure():
    figures = section(RECORDED, declared("train/loss", "lr", "test/loss", group=RECORDED))
    assert [(figure.name, [line.name for line in figure.lines]) for figure in figures] == [
        ("loss", ["train/loss", "test/loss"]),
        ("lr", ["lr"]),
    ]
    assert all(line.joined for figure in figures for line in figure.lines)


def test_the_groups_of_the_machine_come_first_and_what_is_recorded_last():
    metrics = [
        *declared("loss", group=RECORDED),
        *declared("score", group="model"),
        *declared("disk_percent", "cpu_percent", "gpu0/power_watts"),
    ]
    assert list(groups(metrics)) == ["gpu", "cpu", "disk", "model", RECORDED]


def test_each_line_has_words_for_a_person():
    [figure] = section("gpu", declared("gpu0/power_watts"))
    assert figure.lines[0].label == "GPU 0 power"


# -- the axis ----------------------------------------------------------------------------------------------


def filled(unit: str, *values: float, before: Figure | None = None) -> Figure:
    """A figure of these values, the axis of which may have been that of a figure before."""
    name = f"a_{unit}"
    rows = rows_of(history(list(range(len(values)))[::-1], {name: values}))
    if before is not None:
        return fill(before, rows, points=100, keep_axis=True)
    [figure] = chosen([name], [Metric(name, unit, "model", "About it.")])
    return fill(figure, rows, points=100)


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([0, 100], (0, 100)),
        ([NAN, NAN], (0, 100)),
        ([0, 100.5], (0, 200)),
        ([0, 350], (0, 400)),
        ([-5, 20], (-100, 100)),
        ([-250, 20], (-400, 400)),
    ],
)
def test_a_percentage_has_0_to_100_unless_it_exceeds_them(values, ends):
    axis = filled("percent", *values).axis
    assert (axis.bottom, axis.top, axis.label) == (*ends, "%")
    assert axis.ticks == np.linspace(*ends, 5).tolist()


def test_a_peak_below_zero_is_on_the_axis_however_many_rows_there_are():
    """Thinning keeps the highest of the values that fall together."""
    values = np.ones(5_000)
    values[2_222] = -30
    assert filled("watts", *values).axis.bottom == -40


def test_a_number_that_no_brush_can_draw_is_missing():
    figure = filled("watts", 1, 3e39, math.inf, 2)
    assert figure.axis.top == 2
    assert figure.lines[0].values.tolist() == pytest.approx([1, NAN, NAN, 2], nan_ok=True)


def test_a_live_axis_shrinks_only_by_halves_and_another_one_fits():
    before = filled("watts", 0, 400)
    assert filled("watts", 0, 110, before=before).axis.top == 200
    assert filled("watts", 0, 100, before=filled("watts", 0, 110)).axis.top == 100
    assert filled("watts", 0, 70, before=filled("watts", 0, 100)).axis.top == 100
    assert filled("watts", 0, 70).axis.top == 80
    assert filled("watts", -1, 70, before=filled("watts", 0, 100)).axis[:2] == (-80, 80)


# -- what lies behind the lines ----------------------------------------------------------------------------


def test_all_brushes_draw_and_name_the_same_cells_spans_and_marks():
    metrics, rows = awkward()
    spans = [
        Span(1, CELL, "x", NOW - 190, NOW - 120, execution_count=7),
        Span(2, CELL, "y", NOW - 119, NOW - 118.9, execution_count=8),  # its name has no room
        Span(3, SPAN, "validation", NOW - 100, NOW - 30),
        Span(4, MARK, "epoch 1", NOW - 110, NOW - 110),
        Span(5, CELL, "z", NOW - 117, execution_count=9),
    ]
    expected = {"[7]", "[9]", "validation", "epoch 1"}
    shown = Section("memory", metrics, 200.0, Link())
    shown.show(rows, {}, spans)
    _, areas, names = shown.charts[0].marks
    assert {*names.text.tolist()} == expected
    figure = plot(rows, "ram_percent", spans=all_spans(spans))
    *plotted_areas, names, _ = figure.marks
    assert {*names.text.tolist()} == expected
    root = ElementTree.fromstring(figure.picture)
    assert expected < {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    paths = list(root.iter("{http://www.w3.org/2000/svg}path"))
    for at, (kind, look) in enumerate(LOOKS.items()):
        assert areas.colors[at] == look.color
        assert plotted_areas[at].colors == [look.color], kind
        assert any(path.get("stroke") == look.color and path.get("stroke-opacity") for path in paths), kind
