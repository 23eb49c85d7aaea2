"""Cells, spans and marks behind the lines of the charts, and the charts of what was recorded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from fakes.collectors import FakeCollector, metric
from fakes.comm import Wire
from test_chart import NOW, figure, history, labels, show, vertical
from test_panel import drawn_by, look_at, once

from perfmon_widgets import Metric, PerformanceMonitor, PerformancePanel
from perfmon_widgets.core.spans import CELL, MARK, SPAN, Span
from perfmon_widgets.metrics import RECORDED, unit_of
from perfmon_widgets.panel.chart import Chart
from perfmon_widgets.panel.link import Link
from perfmon_widgets.panel.section import Section
from perfmon_widgets.panel.shading import Shading
from perfmon_widgets.panel.time_axis import TimeAxis
from perfmon_widgets.panel.timeline import Timeline
from perfmon_widgets.views.stretches import LOOKS, MAX_STRETCHES

WINDOW = 600.0


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


@pytest.fixture
def shading() -> Shading:
    return Shading(TimeAxis(WINDOW))


def draw(shading: Shading, spans: Sequence[Span], now: float = NOW, seconds: float = WINDOW) -> None:
    """As a section does: first the time is moved."""
    shading._axis.show(now, seconds, is_now=True)
    shading.show(spans)


def cell(start: float, end: float, count: int = 1) -> Span:
    """A cell that ran from so many seconds before NOW until so many."""
    return Span(count, CELL, "train()", NOW - start, NOW - end, execution_count=count)


def span(start: float, end: float, name: str = "validation", kind: str = SPAN) -> Span:
    return Span(1, kind, name, NOW - start, NOW - end)


def mark(at: float, label: str) -> Span:
    return span(at, at, label, MARK)


def edges(shading: Shading, *layers: str) -> list[tuple[float, float]]:
    """From where to where the areas of some layers reach, by default those of cells, in seconds from NOW."""
    found = []
    for layer in layers or ("cell", "next cell", "running cell"):
        at = [*LOOKS].index(layer)
        x, y = (np.asarray(trait)[at] for trait in (shading.marks[0].x, shading.marks[0].y))
        assert len(x) == len(y)
        assert y[0::4].tolist() == pytest.approx([LOOKS[layer].bottom] * (len(y) // 4))
        assert y[1::4].tolist() == pytest.approx([LOOKS[layer].top] * (len(y) // 4))
        assert (x[0::4] == x[1::4]).all()
        assert (x[2::4] == x[3::4]).all()
        x = x[x > -1e6]  # where there is nothing
        found += zip(x[1::4].tolist(), x[2::4].tolist(), strict=True)
    return sorted(found)


def names(shading: Shading) -> dict[str, float]:
    label = shading.marks[-1]
    return dict(zip(label.text.tolist(), np.asarray(label.x).tolist(), strict=True))


# -- what is drawn -----------------------------------------------------------------------------------------


def test_a_cell_is_an_area_with_its_number(shading):
    draw(shading, [cell(100, 50, 7)], NOW)
    assert edges(shading) == [(-100, -50)]
    assert names(shading) == {"[7]": -100}


def test_spans_and_marks_have_their_names(shading):
    draw(shading, [cell(400, 350, 7), span(390, 360), mark(380, "epoch 3")], NOW)
    assert edges(shading, "span 0") == [(-390, -362)]  # a pixel less, so that the next can be distinguished
    assert edges(shading, "mark") == [(-380, -380)]
    assert names(shading) == {"[7]": -400, "validation": -390, "epoch 3": -380}


def test_the_axis_has_the_window_that_the_lines_have(shading):
    draw(shading, [cell(100, 50)], NOW)
    scale = shading.marks[0].scales["x"]
    assert (scale.min, scale.max) == (-WINDOW, 0)
    draw(shading, [cell(100, 50)], NOW + 30, 300)
    assert (scale.min, scale.max) == (-270, 30)
    assert edges(shading) == [(-100, -50)]


def test_a_cell_that_runs_reaches_beyond_the_right_end(shading):
    draw(shading, [Span(1, CELL, "train()", NOW - 10, execution_count=1)], NOW)
    ((start, end),) = edges(shading)
    assert start == -10
    assert end > 1e6


def test_the_name_of_what_began_before_the_window_stands_at_its_left_end(shading):
    draw(shading, [cell(10_000, 20, 3)], NOW)
    assert names(shading) == {"[3] train()": -WINDOW}


def test_what_ended_before_the_window_is_not_drawn(shading):
    draw(shading, [cell(900, 700), mark(601, "old"), mark(599, "new")], NOW)
    assert edges(shading) == []
    assert names(shading) == {"new": -599}


def test_cells_too_narrow_to_be_seen_are_drawn_as_one(shading):
    draw(shading, [cell(100 - at / 10, 100 - at / 10 - 0.05, at) for at in range(200)], NOW)
    found = np.array(edges(shading))  # one for each tint
    assert found == pytest.approx(np.array([(-100, -80.15), (-99.9, -80.05)]), abs=1e-3)
    draw(shading, [cell(100, 50.1), cell(50, 20)], NOW)  # two that are seen stay two
    assert len(edges(shading)) == 2


def test_names_do_not_lie_over_one_another(shading):
    draw(shading, [cell(500 - 2 * at, 499 - 2 * at, at) for at in range(200)], NOW)
    at = sorted(names(shading).values())
    assert 5 < len(at) < 40
    assert min(np.diff(at)) > 10  # seconds, of which two are a pixel


def test_a_long_name_is_cut_and_stays_on_one_line(shading):
    draw(shading, [mark(10, "epoch\n" + "x" * 100)], NOW)
    (name,) = names(shading)
    assert name.startswith("epoch xxx")
    assert len(name) == 28


# -- what is sent ------------------------------------------------------------------------------------------


def test_without_cells_nothing_is_sent(wire):
    shading = Shading(TimeAxis(WINDOW))
    wire.clear()
    shading.show([])
    assert wire.messages == []


def test_a_tick_in_which_nothing_happened_is_one_short_message(wire, shading):
    ran = [cell(400 - 10 * at, 395 - 10 * at, at) for at in range(30)]
    draw(shading, ran, NOW)
    wire.clear()
    draw(shading, ran, NOW + 6)
    assert wire.count() == once(shading.marks[0].scales["x"])
    (message,) = wire.messages
    assert set(message.state) == {"min", "max"}
    assert not message.buffers
    wire.clear()
    draw(shading, ran, NOW + 6.9)
    assert wire.count() == {}  # less than half a pixel


def test_a_new_cell_is_two_messages_more_and_they_are_short(wire):
    shading = Shading(TimeAxis(WINDOW))
    ran = [cell(500 - 100 * at, 450 - 100 * at, at) for at in range(5)]
    draw(shading, ran[:-1], NOW)
    wire.clear()
    draw(shading, ran, NOW)
    cells, *_, written = shading.marks
    assert wire.count() == once(cells, written)  # the window did not move
    assert sum(len(bytes(buffer)) for message in wire.messages for buffer in message.buffers) < 2_000


def test_when_all_have_left_the_window_they_are_taken_off_once(wire):
    shading = Shading(TimeAxis(WINDOW))
    draw(shading, [cell(100, 50)], NOW)
    draw(shading, [], NOW)
    assert edges(shading) == []
    wire.clear()
    draw(shading, [], NOW + 5)
    assert wire.count() == once(shading.marks[0].scales["x"])


def test_the_name_of_the_newest_cell_is_whole_where_it_would_be_cut_off(shading):
    draw(shading, [cell(300, 2, 7), Span(8, CELL, "train()", NOW - 1, execution_count=8)])
    assert names(shading) == {"[7] train()": -300, "[8]": pytest.approx(-4 * 6 * 2)}
    # Where both have no space, the newest has its name.
    draw(shading, [cell(20, 2, 7), Span(8, CELL, "train()", NOW - 1, execution_count=8)])
    assert list(names(shading)) == ["[8]"]


def test_cells_have_two_tints_in_turn_and_the_running_one_its_own(shading):
    draw(shading, [cell(100, 80, 6), cell(80, 50, 7), Span(8, CELL, "x", NOW - 50, execution_count=8)])
    assert edges(shading, "cell") == [(-100, -80)]
    assert edges(shading, "next cell") == [(-80, -50)]
    [(start, end)] = edges(shading, "running cell")
    assert start == -50
    assert end > 1e6


def test_spans_that_overlap_have_rows_of_their_own(shading):
    spans = [
        span(300, 100, "epoch"),
        span(280, 200, "train"),
        span(270, 210, "batch"),
        span(260, 220, "step"),
    ]
    draw(shading, [*spans, span(190, 110, "validate"), span(90, 50, "epoch")])
    assert edges(shading, "span 0") == [(-300, -102), (-90, -52)]
    assert edges(shading, "span 1") == [(-280, -202), (-190, -112)]
    assert edges(shading, "span 2") == [(-270, -212), (-260, -222)]  # there are three rows
    assert {"epoch", "train", "validate"} < names(shading).keys()


def test_the_figures_of_a_section_share_them(wire):
    metrics = [metric("a_percent"), metric("b_bytes"), metric("c_watts")]
    section = Section("cpu", metrics, WINDOW, Timeline(Link()))
    rows = history([5, 0], {"a_percent": [1, 2], "b_bytes": [1, 2], "c_watts": [1, 2]})
    section.show(rows, {}, [cell(3, 2)])
    first, second, third = (chart.marks[1:] for chart in section.charts)
    assert first == second == third
    assert len(first) == 2
    wire.clear()
    section.show(rows, {}, [cell(3, 2)])
    assert all(mark.comm.comm_id not in wire.count() for mark in first)


# -- in a panel --------------------------------------------------------------------------------------------


@pytest.fixture
def monitor() -> PerformanceMonitor:
    return PerformanceMonitor([FakeCollector("cpu_percent")], interval=3600)


@pytest.fixture
def panel(monitor: PerformanceMonitor, wire: Wire) -> Iterator[PerformancePanel]:
    panel = PerformancePanel(monitor)
    look_at(wire, panel)
    yield panel
    panel.close()


def test_an_open_section_shows_the_cells_of_its_monitor(panel, monitor, wire):
    wire.set(panel.advanced, selected_index=0)
    monitor.sample()
    running = monitor.begin(CELL, "train()", 12)
    monitor.mark("epoch 1")
    monitor.sample()
    section = panel.advanced.children[0]
    _, areas, label = section.charts[0].marks
    seen = dict(zip(LOOKS, (areas.x > -1e6).sum(axis=1).tolist(), strict=True))
    assert {layer: points for layer, points in seen.items() if points} == {"running cell": 4, "mark": 4}
    assert sorted(label.text.tolist()) == ["[12]", "epoch 1"]
    monitor.end(running)
    monitor.sample()
    seen = dict(zip(LOOKS, (areas.x > -1e6).sum(axis=1).tolist(), strict=True))
    assert {layer: points for layer, points in seen.items() if points} == {"cell": 4, "mark": 4}


def test_very_many_spans_cost_a_tick_little(panel, monitor, wire):
    wire.set(panel.advanced, selected_index=0)
    for number in range(3 * MAX_STRETCHES):
        monitor.end(monitor.begin(CELL, "quick", number))
        monitor.mark("m")
    for _ in range(3):
        monitor.sample()
    wire.clear()
    monitor.sample()
    assert len(monitor.newest_spans(MAX_STRETCHES)) == 2 * MAX_STRETCHES
    sent = sum(len(bytes(buffer)) for message in wire.messages for buffer in message.buffers)
    assert sent < 10_000


def test_a_section_for_what_is_recorded_comes_when_there_is_something(panel, monitor, wire):
    monitor.sample()
    assert list(panel.advanced.titles) == ["CPU"]
    wire.set(panel.advanced, selected_index=0)
    monitor.record(loss=0.5)
    monitor.sample()
    assert list(panel.advanced.titles) == ["CPU", "Recorded values"]
    assert panel.advanced.selected_index == 0  # what a person looks at stays
    wire.set(panel.advanced, selected_index=1)
    section = panel.advanced.children[1]
    assert [chart.title for chart in section.charts] == ["loss"]
    wire.clear()
    monitor.record(loss=0.25)
    monitor.sample()
    assert set(once(panel._link, *drawn_by(section))) <= set(wire.count())


def test_another_series_makes_the_section_anew_and_leaves_nothing_of_the_former(panel, monitor, wire):
    from ipywidgets.widgets.widget import _instances

    monitor.record(loss=0.5)
    monitor.sample()
    wire.set(panel.advanced, selected_index=1)
    monitor.sample()
    counts = []
    for number in range(4):
        former = panel.advanced.children[1]
        monitor.record(**{f"train/series{number}": number})
        monitor.sample()
        section = panel.advanced.children[1]
        assert section is not former
        assert former.comm is None
        assert [chart.title for chart in section.charts] == [
            "loss",
            *(f"series{n}" for n in range(number + 1)),
        ]
        counts.append(len(_instances))
    # A figure with its two marks, two scales, two axes, and their layouts; no more.
    assert len(set(np.diff(counts))) == 1
    assert panel._link.comm is not None


def test_a_worker_that_joins_later_is_in_the_section_of_the_others(wire):
    class Workers:
        grows = True
        count = 1

        @property
        def metrics(self) -> list[Metric]:
            return [
                Metric(f"worker{n}/cpu_percent", "percent", "workers", "Busy.") for n in range(self.count)
            ]

        def collect(self) -> dict[str, float]:
            return {metric.name: 50.0 for metric in self.metrics}

    Workers.__module__ = "perfmon_widgets.cluster"  # only those of this package may grow
    workers = Workers()
    monitor = PerformanceMonitor([FakeCollector("cpu_percent"), workers], interval=3600)
    panel = PerformancePanel(monitor)
    look_at(wire, panel)
    monitor.sample()
    wire.set(panel.advanced, selected_index=1)
    workers.count = 2
    for _ in range(2):
        monitor.sample()
    assert list(panel.advanced.titles) == ["CPU", "Workers"]
    assert [row["name"] for row in panel.advanced.children[1].table.rows] == [
        "worker0/cpu_percent",
        "worker1/cpu_percent",
    ]
    assert panel.advanced.children[1].charts[0].marks[0].y.shape == (2, 3)
    panel.close()


def test_a_panel_that_is_made_later_has_the_section_at_once(monitor, wire):
    monitor.record(loss=1)
    monitor.sample()
    panel = PerformancePanel(monitor)
    assert list(panel.advanced.titles) == ["CPU", "Recorded values"]
    panel.close()


# -- sparse series -----------------------------------------------------------------------------------------


def sparse(*names: str) -> Chart:
    metrics = [Metric(name, unit_of(name), RECORDED, "Recorded.") for name in names]
    return Chart(figure(*metrics), TimeAxis(WINDOW))


def joined(chart: Chart) -> list[list[tuple[float, float]]]:
    """The points of each series that are in the figure."""
    mark = chart.marks[1]
    return [
        [point for point in dict.fromkeys(zip(x, y, strict=True)) if point[0] >= -WINDOW]
        for x, y in zip(np.atleast_2d(mark.x).tolist(), np.atleast_2d(mark.y).tolist(), strict=True)
    ]


NAN = math.nan


def test_points_of_a_sparse_series_are_joined_over_the_rows_without_a_value():
    chart = sparse("train/loss", "test/loss")
    rows = {"train/loss": [4, NAN, 2, NAN, 1], "test/loss": [NAN, 3, NAN, NAN, NAN]}
    show(chart, history([20, 15, 10, 5, 0], rows), NOW)
    assert joined(chart) == [[(-20, 4), (-10, 2), (0, 1)], [(-15, 3)]]
    assert chart.marks[1].marker == "circle"
    # The table reads the values under the mouse from the first: there are none between the points.
    assert np.asarray(chart.marks[0].y)[0][:5].tolist() == pytest.approx([4, NAN, 2, NAN, 1], nan_ok=True)
    assert set(chart.marks[0].opacities) == {0}


def test_a_sparse_series_without_values_is_not_seen():
    chart = sparse("loss")
    show(chart, history([5, 0], {"loss": [NAN, NAN]}), NOW)
    assert joined(chart) == [[]]
    assert np.isfinite(chart.marks[1].x).all()
    assert np.isfinite(chart.marks[1].y).all()


def test_a_value_below_zero_is_seen():
    chart = sparse("reward")
    show(chart, history([5, 0], {"reward": [-3, 1]}), NOW)
    assert vertical(chart) == (-4, 4)
    assert labels(chart) == ["-4", "-2", "0", "2", "4"]
    show(chart, history([5, 0], {"reward": [3, 1]}), NOW)
    assert vertical(chart) == (0, 4)


@pytest.mark.parametrize(("largest", "format_"), [(3e-5, ".1e"), (0.3, ".1f"), (2e6, "~s"), (8, ".0f")])
def test_the_labels_of_small_and_large_numbers_are_short(largest, format_):
    chart = sparse("loss")
    show(chart, history([5, 0], {"loss": [0, largest]}), NOW)
    assert chart.axes[1].tick_format == format_


def test_the_table_of_recorded_series_has_the_last_value_as_now():
    metrics = [Metric(name, "", RECORDED, "Recorded.") for name in ("loss", "accuracy")]
    section = Section(RECORDED, metrics, WINDOW, Timeline(Link()))
    rows = history([10, 5, 0], {"loss": [4, 2, NAN], "accuracy": [NAN, NAN, NAN]})
    section.show(rows, {})
    assert section.table.values["cells"] == [["2", "3", "4"], ["–", "–", "–"]]
    assert math.isnan(rows["loss"].iloc[-1])
