"""Every brush draws the same of one history: the live charts, plot() and the stored picture."""

from __future__ import annotations

import math
import re
from base64 import b64decode
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree

import bqplot
import numpy as np
import pandas as pd
import pytest
from test_chart import NOW, vertical
from test_figures import awkward

from perfmon_widgets import Metric, plot
from perfmon_widgets.core.spans import CELL, MARK, SPAN, Span
from perfmon_widgets.core.spans import table as all_spans
from perfmon_widgets.metrics import RECORDED
from perfmon_widgets.panel.link import Link
from perfmon_widgets.panel.section import Section
from perfmon_widgets.panel.snapshot import charts, table
from perfmon_widgets.panel.timeline import Timeline
from perfmon_widgets.views.gauges import Reading
from perfmon_widgets.views.palette import FAINT
from perfmon_widgets.views.stretches import LOOKS

NAN = math.nan
WINDOW = 600.0
UNITS = ("%", "GiB", "W")


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
    shown = Section(group, metrics, WINDOW, Timeline(Link()))
    shown.show(rows, {})
    pictures = []
    for chart in shown.charts:
        lines, *others = chart.marks
        joined = others[0] if others and getattr(others[0], "marker", None) == "circle" else None
        mark = lines if joined is None else joined
        y = np.atleast_2d(mark.y)
        x = np.broadcast_to(np.asarray(mark.x), y.shape)
        drawn = {
            line.name: Drawn(shown_color(stroke), pieces)
            for line, stroke, times, values in zip(chart.drawn.lines, lines.colors, x, y, strict=True)
            if (pieces := strokes(times.tolist(), values.tolist()))
        }
        pictures.append((vertical(chart), drawn))
    return pictures


def shown_color(stroke: str) -> str:
    """The colour of a stroke, which for a dashed line names a property, too: see chart.py."""
    return stroke.rpartition(", ")[2].rstrip(")")


def plotted(rows: pd.DataFrame, columns: Sequence[str]) -> Picture:
    """What plot() draws of columns of one unit."""
    figure = plot(rows, list(columns))
    drawn, axis = {}, (0.0, 0.0)
    for mark in figure.marks:
        assert isinstance(mark, bqplot.Lines)
        axis = vertical(figure)
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


def test_the_live_charts_plot_and_the_stored_picture_draw_the_same():
    metrics, rows = awkward()
    kept = stored(metrics, rows)
    labels = {each.name: each.label for each in metrics}
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
            people = [labels[name] for name in strong]  # the stored picture has names for people
            assert list(kept_lines) == [*people, *(f"faint {at}" for at in range(len(strong), len(lines)))]
            # The faint ones last, as the legend has them.
            ordered = [*strong.values(), *(line for line in lines.values() if line.color == FAINT)]
            for line, other in zip(ordered, kept_lines.values(), strict=True):
                assert line.color == other.color
                assert_same(line.strokes, other.strokes, (axis[1] - axis[0]) / 500)
                compared += 1
    assert compared == 17


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
    expected = {"[7] x", "[9] z", "validation", "epoch 1"}
    shown = Section("memory", metrics, 200.0, Timeline(Link()))
    shown.show(rows, {}, spans)
    _, areas, names = shown.charts[0].marks
    assert {*names.text.tolist()} == expected
    figure = plot(rows, "ram_percent", spans=all_spans(spans))
    *plotted_areas, names, _ = figure.marks
    assert {*names.text.tolist()} == expected
    root = ElementTree.fromstring(figure.picture)
    assert expected < {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    paths = list(root.iter("{http://www.w3.org/2000/svg}path"))
    assert [color[:7] for color in areas.colors] == [look.color for look in LOOKS.values()]
    # Of the layers that have something to show: two tints of cells, the running one, a row of spans, marks.
    seen = [LOOKS[each] for each in ("cell", "next cell", "running cell", "span 0", "mark")]
    assert [each.colors[0][:7] for each in plotted_areas] == [look.color for look in seen]
    assert [each.fill_opacities for each in plotted_areas] == [[look.inside] for look in seen]
    for look in seen:
        attributes = ("stroke", f"{look.edge}") if look.edge else ("fill", f"{look.inside}")
        assert any(
            path.get(attributes[0]) == look.color and path.get(f"{attributes[0]}-opacity") == attributes[1]
            for path in paths
        ), look


def test_a_picture_is_valid_xml_whatever_a_name_contains():
    awkward_ones = [*map(chr, range(32)), "\x7f", "\x85", "\ufffe", "\uffff", "<&>\"'"]
    times = pd.date_range("2030-01-31", periods=len(awkward_ones), freq="s", tz="UTC", name="time")
    name = f"a{''.join(awkward_ones)}_percent"
    history = pd.DataFrame({name: np.arange(float(len(times)))}, index=times)
    marks = pd.DataFrame({"label": [f"m{each}" for each in awkward_ones]}, index=times)
    root = ElementTree.fromstring(plot(history, [name], spans=marks).picture)
    words = "".join(text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text"))
    assert "<&>\"'" in words
    assert "\N{REPLACEMENT CHARACTER}" in words
