"""Looking back: which time the charts show, and the words about the cells in it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from fakes.collectors import FakeCollector
from fakes.comm import Wire
from hypothesis import given
from hypothesis import strategies as st
from test_chart import NOW
from test_panel import choose as choose_in
from test_panel import control, look_at

from perfmon_widgets import PerformanceMonitor, PerformancePanel
from perfmon_widgets.core.spans import CELL
from perfmon_widgets.panel.timeline import SHORTEST, Period, Request, choose
from perfmon_widgets.views import local_time

KNOWN = Period(NOW - 600, NOW)


def asked(
    action: str, shown: Period, *, is_live: bool = False, start: float = 0, end: float = 1
) -> Period | None:
    return choose(Request(1, action, start, end), shown, KNOWN, is_live=is_live)


# -- which time --------------------------------------------------------------------------------------------


def test_pause_holds_what_is_shown():
    assert asked("pause", Period(NOW - 60, NOW), is_live=True) == (NOW - 60, NOW)


def test_live_is_the_newest_rows_again():
    assert asked("live", Period(NOW - 60, NOW - 30)) is None


def test_a_drag_chooses_a_share_of_what_is_shown():
    assert asked("zoom", Period(NOW - 400, NOW), start=0.25, end=0.5) == (NOW - 300, NOW - 200)


def test_earlier_and_later_move_by_half_of_what_is_shown():
    assert asked("earlier", Period(NOW - 200, NOW - 100)) == (NOW - 250, NOW - 150)
    assert asked("later", Period(NOW - 300, NOW - 200)) == (NOW - 250, NOW - 150)


def test_the_first_step_back_from_the_newest_rows_is_as_wide():
    assert asked("earlier", Period(NOW - 60, NOW), is_live=True) == (NOW - 90, NOW - 30)


def test_later_than_the_newest_row_is_live():
    assert asked("later", Period(NOW - 60, NOW - 10)) is None


def test_earlier_ends_at_the_oldest_row():
    assert asked("earlier", Period(NOW - 590, NOW - 490)) == (NOW - 600, NOW - 500)


def test_zooming_keeps_the_middle_and_the_right_end_of_what_is_live():
    assert asked("in", Period(NOW - 300, NOW - 100)) == (NOW - 250, NOW - 150)
    assert asked("out", Period(NOW - 250, NOW - 150)) == (NOW - 300, NOW - 100)
    assert asked("in", Period(NOW - 300, NOW), is_live=True) == (NOW - 150, NOW)


@given(
    st.sampled_from(["pause", "earlier", "later", "in", "out", "zoom"]),
    st.floats(0, 600),
    st.floats(0, 600),
    st.booleans(),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_period_lies_in_the_history_or_holds_all_of_it(action, start, length, is_live, left, right):
    shown = Period(NOW - start - max(length, SHORTEST), NOW - start)
    found = asked(action, shown, is_live=is_live, start=min(left, right), end=max(left, right))
    if found is None:
        assert action == "later"
        return
    assert found.seconds >= SHORTEST * 0.999
    assert found.end <= NOW
    assert found.start >= min(KNOWN.start, shown.start - shown.seconds) - 1e-6


# -- in a panel --------------------------------------------------------------------------------------------


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of day, which a test sets."""
    now = [NOW]
    monkeypatch.setattr("perfmon_widgets.core.monitor.time.time", lambda: now[0])
    monkeypatch.setattr("perfmon_widgets.core.monitor.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def monitor(moments: list[float]) -> PerformanceMonitor:
    monitor = PerformanceMonitor([FakeCollector("cpu_percent", "ram_bytes")], interval=5)
    monitor._spans._clock = lambda: moments[0]
    return monitor


@pytest.fixture
def panel(monitor: PerformanceMonitor, moments: list[float], wire: Wire) -> Iterator[PerformancePanel]:
    panel = PerformancePanel(monitor)
    look_at(wire, panel)
    for second in range(0, 100, 5):
        moments[0] = NOW + second
        monitor.sample()
    wire.set(panel.advanced, selected_index=0)
    yield panel
    panel.close()


def ask(wire: Wire, panel: PerformancePanel, action: str, **more: float) -> None:
    wire.ask(panel.advanced.timeline, action=action, **more)


def shown(panel: PerformancePanel) -> Period:
    period = panel.advanced.children[panel.advanced.selected_index].period
    return Period(round(period.start - NOW, 1), round(period.end - NOW, 1))


def test_while_a_person_looks_back_samples_are_taken_and_nothing_moves(panel, monitor, moments, wire):
    before = shown(panel)
    ask(wire, panel, "pause")
    wire.clear()
    moments[0] = NOW + 100
    monitor.sample()
    assert shown(panel) == before
    assert set(wire.count()) == {panel._link.comm.comm_id}  # the gauges are live
    assert panel.advanced.timeline.state["live"] is False
    ask(wire, panel, "live")
    assert shown(panel).end == 100
    assert panel.advanced.timeline.state["live"] is True


def test_a_stretch_that_was_dragged_over_is_drawn_from_end_to_end(panel, wire):
    ask(wire, panel, "zoom", **{"from": 0.5, "to": 0.75})
    period = shown(panel)
    assert period.seconds == pytest.approx(30, abs=0.2)
    chart = panel.advanced.children[0].charts[0]
    x = np.asarray(chart.marks[0].x)
    x = x[x > -1e8]
    assert x[0] <= -30 <= x[1]  # a point beyond each end, so that the line does not end inside
    assert x[-1] >= 0 >= x[-2]
    assert chart.axes[2].tick_labels["0"] == local_time.format_clock(NOW + period.end)


def test_the_table_is_about_the_period_that_is_shown(panel, monitor, moments, wire):
    ask(wire, panel, "zoom", **{"from": 0.0, "to": 0.5})
    values = panel.advanced.children[0].table.values
    assert values["period"] == local_time.format_period(*(NOW + each for each in shown(panel)))
    ask(wire, panel, "in")
    assert panel.advanced.children[0].table.values["period"] != values["period"]


def test_another_section_shows_the_same_time(panel, wire):
    ask(wire, panel, "zoom", **{"from": 0.25, "to": 0.5})
    period = shown(panel)
    wire.set(panel.advanced, selected_index=1)
    assert shown(panel) == period


def test_a_chosen_window_is_live_again(panel, wire):
    ask(wire, panel, "pause")
    choose_in(wire, control(panel, "Show last"), 300.0)
    assert panel.advanced.timeline.state["live"] is True


@pytest.mark.parametrize("content", [{"action": "explode"}, {"action": 7}, {}, {"action": None}])
def test_what_no_button_sends_changes_nothing(panel, wire, content):
    before = shown(panel)
    wire.ask(panel.advanced.timeline, **content)
    assert shown(panel) == before
    assert panel.advanced.timeline.request is None


def test_a_period_without_rows_is_empty(panel, monitor, moments, wire):
    moments[0] = NOW + 400  # after a gap
    monitor.sample()
    ask(wire, panel, "zoom", **{"from": 0.5, "to": 0.6})
    assert {cell for row in panel.advanced.children[0].table.values["cells"] for cell in row} == {"–"}


def test_the_words_are_about_the_cells_in_the_period(panel, monitor, moments, wire):
    cell = monitor.begin(CELL, "model.fit(images)", 7)
    monitor.sample()
    assert panel.advanced.timeline.state["running"] == "[7] model.fit(images)"
    [[start, end, words]] = panel.advanced.timeline.spans
    assert (start, end, words) == (NOW + 95, None, "[7] model.fit(images)")
    moments[0] = NOW + 115
    monitor.end(cell)
    monitor.sample()
    moments[0] = NOW + 120
    monitor.sample()
    assert panel.advanced.timeline.state["running"] == ""
    [[start, end, words]] = panel.advanced.timeline.spans
    assert (start, end) == (NOW + 95, NOW + 115)
    assert words.startswith("[7] model.fit(images) · 20 s")
    wire.clear()
    moments[0] = NOW + 125
    monitor.sample()
    assert panel.advanced.timeline.comm.comm_id not in wire.count()


def test_a_page_in_another_zone_is_drawn_in_its_zone(panel, wire):
    wire.ask(panel._link, page="page", views=1, whileBusy=True, zone="Asia/Kolkata", minutes=330)
    assert panel.advanced.children[0].table.values["period"].endswith(" IST")
