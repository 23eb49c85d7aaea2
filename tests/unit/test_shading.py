"""Cells, spans and marks behind the lines of the charts, and the charts of what was recorded."""

from __future__ import annotations

import math
from collections.abc import Iterator

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
from perfmon_widgets.views.stretches import MAX_STRETCHES

WINDOW = 600.0


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


@pytest.fixture
def shading(monkeypatch: pytest.MonkeyPatch) -> Shading:
    monkeypatch.setattr("perfmon_widgets.panel.shading.time.time", lambda: NOW)
    return Shading(WINDOW)


def cell(start: float, end: float, count: int = 1) -> Span:
    """A cell that ran from so many seconds before NOW until so many."""
    return Span(count, CELL, "train()", NOW - start, NOW - end, execution_count=count)


def span(start: float, end: float, name: str = "validation", kind: str = SPAN) -> Span:
    return Span(1, kind, name, NOW - start, NOW - end)


def mark(at: float, label: str) -> Span:
    return span(at, at, label, MARK)


def edges(shading: Shading, kind: str = CELL) -> list[tuple[float, float]]:
    """From where to where an area reaches, in seconds from NOW."""
    at = {CELL: 0, SPAN: 1, MARK: 2}[kind]
    x, y = (np.asarray(trait)[at] for trait in (shading.marks[0].x, shading.marks[0].y))
    assert len(x) == len(y)
    assert all(low < 0 < high for low, high in zip(y[::4], y[1::4], strict=True))
    assert (x[0::4] == x[1::4]).all()
    assert (x[2::4] == x[3::4]).all()
    x = x[x > -1e6]  # where there is nothing
    return list(zip(x[1::4].tolist(), x[2::4].tolist(), strict=True))


def names(shading: Shading) -> dict[str, float]:
    label = shading.marks[-1]
    return dict(zip(label.text.tolist(), np.asarray(label.x).tolist(), strict=True))


# -- what is drawn -----------------------------------------------------------------------------------------


def test_a_cell_is_an_area_with_its_number(shading):
    shading.show([cell(100, 50, 7)], NOW)
    assert edges(shading) == [(-100, -50)]
    assert names(shading) == {"[7]": -100}


def test_spans_and_marks_have_their_names(shading):
    shading.show([cell(100, 50, 7), span(90, 60), mark(80, "epoch 3")], NOW)
    assert edges(shading, SPAN) == [(-90, -60)]
    assert edges(shading, MARK) == [(-80, -80)]
    assert names(shading) == {"[7]": -100, "validation": -90, "epoch 3": -80}


def test_the_axis_has_the_window_that_the_lines_have(shading):
    shading.show([cell(100, 50)], NOW)
    scale = shading.marks[0].scales["x"]
    assert (scale.min, scale.max) == (-WINDOW, 0)
    shading.set_window(300)
    shading.show([cell(100, 50)], NOW + 30)
    assert (scale.min, scale.max) == (-270, 30)
    assert edges(shading) == [(-100, -50)]


def test_a_cell_that_runs_reaches_beyond_the_right_end(shading):
    shading.show([Span(1, CELL, "train()", NOW - 10, execution_count=1)], NOW)
    ((start, end),) = edges(shading)
    assert start == -10
    assert end > 1e6


def test_the_name_of_what_began_before_the_window_stands_at_its_left_end(shading):
    shading.show([cell(10_000, 20, 3)], NOW)
    assert names(shading) == {"[3]": -WINDOW}


def test_what_ended_before_the_window_is_not_drawn(shading):
    shading.show([cell(900, 700), mark(601, "old"), mark(599, "new")], NOW)
    assert edges(shading) == []
    assert names(shading) == {"new": -599}


def test_cells_too_narrow_to_be_seen_are_drawn_as_one(shading):
    shading.show([cell(100 - at / 10, 100 - at / 10 - 0.05, at) for at in range(200)], NOW)
    assert edges(shading) == [(-100, pytest.approx(-80.05, abs=1e-3))]
    shading.show([cell(100, 50.1), cell(50, 20)], NOW)  # two that are seen stay two
    assert len(edges(shading)) == 2


def test_names_do_not_lie_over_one_another(shading):
    shading.show([cell(500 - 2 * at, 499 - 2 * at, at) for at in range(200)], NOW)
    at = sorted(names(shading).values())
    assert 5 < len(at) < 40
    assert min(np.diff(at)) > 10  # seconds, of which two are a pixel


def test_a_long_name_is_cut_and_stays_on_one_line(shading):
    shading.show([mark(10, "epoch\n" + "x" * 100)], NOW)
    (name,) = names(shading)
    assert name.startswith("epoch xxx")
    assert len(name) == 24


# -- what is sent ------------------------------------------------------------------------------------------


def test_without_cells_nothing_is_sent(wire):
    shading = Shading(WINDOW)
    wire.clear()
    shading.show([], NOW)
    assert wire.messages == []


def test_a_tick_in_which_nothing_happened_is_one_short_message(wire, shading):
    ran = [cell(300 - 10 * at, 295 - 10 * at, at) for at in range(30)]
    shading.show(ran, NOW)
    wire.clear()
    shading.show(ran, NOW + 6)
    assert wire.count() == once(shading.marks[0].scales["x"])
    (message,) = wire.messages
    assert set(message.state) == {"min", "max"}
    assert not message.buffers
    wire.clear()
    shading.show(ran, NOW + 6.9)
    assert wire.count() == {}  # less than half a pixel


def test_a_new_cell_is_two_messages_more_and_they_are_short(wire):
    shading = Shading(WINDOW)
    ran = [cell(500 - 100 * at, 450 - 100 * at, at) for at in range(5)]
    shading.show(ran[:-1], NOW)
    wire.clear()
    shading.show(ran, NOW)
    cells, *_, written = shading.marks
    assert wire.count() == once(cells, written)  # the window did not move
    assert sum(len(bytes(buffer)) for message in wire.messages for buffer in message.buffers) < 2_000


def test_when_all_have_left_the_window_they_are_taken_off_once(wire):
    shading = Shading(WINDOW)
    shading.show([cell(100, 50)], NOW)
    shading.show([], NOW)
    assert edges(shading) == []
    wire.clear()
    shading.show([], NOW + 5)
    assert wire.messages == []


def test_the_figures_of_a_section_share_them(wire):
    metrics = [metric("a_percent"), metric("b_bytes"), metric("c_watts")]
    section = Section("cpu", metrics, WINDOW, Link())
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
    assert (areas.x > -1e6).sum(axis=1).tolist() == [4, 0, 4]  # a cell and a mark
    assert sorted(label.text.tolist()) == ["[12]", "epoch 1"]
    monitor.end(running)
    before = areas.x[0, 2]
    monitor.sample()
    assert areas.x[0, 2] < before  # it has an end now


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


def test_a_panel_that_is_made_later_has_the_section_at_once(monitor, wire):
    monitor.record(loss=1)
    monitor.sample()
    panel = PerformancePanel(monitor)
    assert list(panel.advanced.titles) == ["CPU", "Recorded values"]
    panel.close()


# -- sparse series -----------------------------------------------------------------------------------------


def sparse(*names: str) -> Chart:
    metrics = [Metric(name, unit_of(name), RECORDED, "Recorded.") for name in names]
    return Chart(figure(*metrics), WINDOW)


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
    section = Section(RECORDED, metrics, WINDOW, Link())
    rows = history([10, 5, 0], {"loss": [4, 2, NAN], "accuracy": [NAN, NAN, NAN]})
    section.show(rows, {})
    assert section.table.values["cells"] == [["2", "3", "4"], ["–", "–", "–"]]
    assert math.isnan(rows["loss"].iloc[-1])
