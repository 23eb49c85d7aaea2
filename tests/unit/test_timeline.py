"""Looking back: which time the charts show, and the words about the cells in it."""

from __future__ import annotations

import math
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

from perfmon_widgets import Metric, PerformanceMonitor, PerformancePanel
from perfmon_widgets.core.spans import CELL
from perfmon_widgets.panel.timeline import SHORTEST, Period, Request, choose, within
from perfmon_widgets.views import local_time

KNOWN = Period(NOW - 600, NOW)


def asked(
    action: str, shown: Period, *, is_live: bool = False, start: float = 0, end: float = 0
) -> Period | None:
    return choose(Request(1, action, start, end), shown, KNOWN, is_live=is_live)


# -- which time --------------------------------------------------------------------------------------------


def test_pause_holds_what_is_shown():
    assert asked("pause", Period(NOW - 60, NOW), is_live=True) == (NOW - 60, NOW)


def test_live_is_the_newest_rows_again():
    assert asked("live", Period(NOW - 60, NOW - 30)) is None


def test_a_drag_chooses_what_it_went_over():
    shown = Period(NOW - 400, NOW)
    assert asked("zoom", shown, start=NOW - 300, end=NOW - 200) == (NOW - 300, NOW - 200)


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


def test_zooming_out_ends_with_the_whole_history():
    """Each click doubled it without end, until no calendar had the time."""
    shown = Period(NOW - 300, NOW - 100)
    for _ in range(60):
        shown = asked("out", shown)
    assert shown == KNOWN


def test_what_has_left_the_history_is_moved_into_it():
    assert within(Period(NOW - 900, NOW - 800), KNOWN) == (NOW - 600, NOW - 500)


@given(
    st.sampled_from(["pause", "earlier", "later", "in", "out", "zoom"]),
    st.floats(0, 600),
    st.floats(0, 600),
    st.booleans(),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_period_lies_in_the_history_or_is_as_long_as_what_was_shown(
    action, start, length, is_live, left, right
):
    shown = Period(NOW - start - max(length, SHORTEST), NOW - start)
    ends = sorted(shown.start + share * shown.seconds for share in (left, right))
    found = asked(action, shown, is_live=is_live, start=ends[0], end=ends[1])
    if found is None:
        assert action == "later"
        return
    assert SHORTEST * 0.999 <= found.seconds <= max(KNOWN.seconds, shown.seconds) * 1.001
    assert found.end <= NOW
    assert found.start >= min(KNOWN.start, shown.start) - 1e-6 or found.seconds > KNOWN.seconds - 1e-6


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
    ram = Metric("ram_bytes", "bytes", "memory", "In use.")
    monitor = PerformanceMonitor([FakeCollector("cpu_percent", metrics=[ram])], interval=5)
    monitor._spans._clock = monitor._history._clock = lambda: moments[0]
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


def ask(wire: Wire, panel: PerformancePanel, action: str) -> None:
    wire.ask(panel.advanced.timeline, action=action)


def drag(wire: Wire, panel: PerformancePanel, left: float, right: float) -> None:
    """From one share of the width to another."""
    period = panel.advanced.children[panel.advanced.selected_index].period
    ends = {name: period.start + share * period.seconds for name, share in (("from", left), ("to", right))}
    wire.ask(panel.advanced.timeline, action="zoom", **ends)


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
    drag(wire, panel, 0.5, 0.75)
    period = shown(panel)
    assert period.seconds == pytest.approx(30, abs=0.2)
    chart = panel.advanced.children[0].charts[0]
    x = np.asarray(chart.marks[0].x)
    x = x[x > -1e8]
    assert x[0] <= -30 <= x[1]  # a point beyond each end, so that the line does not end inside
    assert x[-1] >= 0 >= x[-2]
    assert chart.axes[2].tick_labels["0"] == local_time.format_clock(NOW + period.end)


def test_the_table_is_about_the_period_that_is_shown(panel, monitor, moments, wire):
    drag(wire, panel, 0.0, 0.5)
    values = panel.advanced.children[0].table.values
    assert values["period"] == local_time.format_period(*(NOW + each for each in shown(panel)))
    ask(wire, panel, "in")
    assert panel.advanced.children[0].table.values["period"] != values["period"]


def test_another_section_shows_the_same_time(panel, wire):
    drag(wire, panel, 0.25, 0.5)
    period = shown(panel)
    wire.set(panel.advanced, selected_index=1)
    assert shown(panel) == period


def test_a_chosen_window_is_live_again(panel, wire):
    ask(wire, panel, "pause")
    choose_in(wire, control(panel, "Show last"), 300.0)
    assert panel.advanced.timeline.state["live"] is True


@pytest.mark.parametrize(
    "content",
    [
        *({"action": action} for action in ("explode", 7, None, "zoom")),
        {},
        {"action": "zoom", "from": None, "to": 5},
        {"action": "zoom", "from": math.nan, "to": NOW},
        {"action": "zoom", "from": -math.inf, "to": NOW},
    ],
)
def test_what_no_button_sends_changes_nothing(panel, wire, content):
    before = shown(panel)
    wire.ask(panel.advanced.timeline, **content)
    assert shown(panel) == before
    assert panel.advanced.timeline.request is None


def test_a_period_without_rows_is_empty(panel, monitor, moments, wire):
    moments[0] = NOW + 400  # after a gap
    monitor.sample()
    drag(wire, panel, 0.5, 0.6)
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


# -- what an independent reader found ----------------------------------------------------------------------


def test_a_section_that_is_replaced_while_it_is_held_is_drawn(panel, monitor, moments, wire):
    monitor.record(loss=0.5)
    monitor.sample()
    wire.set(panel.advanced, selected_index=list(panel.advanced.titles).index("Recorded values"))
    monitor.sample()
    ask(wire, panel, "pause")
    monitor.record(accuracy=0.1)
    moments[0] += 5
    monitor.sample()
    section = panel.advanced.children[panel.advanced.selected_index]
    assert len(section.children) == 3
    assert panel.advanced.timeline.state["live"] is False


def test_each_section_shows_what_was_chosen_last_however_often_it_was_open(panel, wire):
    for number in (0, 1, 0):
        wire.set(panel.advanced, selected_index=number)
    drag(wire, panel, 0.25, 0.5)
    held = shown(panel)
    wire.set(panel.advanced, selected_index=1)
    assert shown(panel) == held
    ask(wire, panel, "live")
    wire.set(panel.advanced, selected_index=0)
    assert shown(panel) != held
    choose_in(wire, control(panel, "Show last"), 60.0)
    wire.set(panel.advanced, selected_index=1)
    assert shown(panel).seconds <= 60


def test_what_a_person_holds_stays_when_its_rows_have_gone(panel, monitor, moments, wire):
    drag(wire, panel, 0.25, 0.5)
    held, cells = shown(panel), panel.advanced.children[0].table.values["cells"]
    monitor.window = 60
    for second in range(100, 400, 5):
        moments[0] = NOW + second
        monitor.sample()
    panel._show_all()  # as for a page that comes
    assert (shown(panel), panel.advanced.children[0].table.values["cells"]) == (held, cells)
    wire.set(panel.advanced, selected_index=1)  # a section that is drawn anew has the oldest rows there are
    assert shown(panel).start >= 330


def test_a_cell_that_begins_while_the_charts_are_held_is_named(panel, monitor, moments, wire):
    ask(wire, panel, "pause")
    monitor.begin(CELL, "train()", 9)
    moments[0] += 5
    monitor.sample()
    assert panel.advanced.timeline.state == {"live": False, "running": "[9] train()"}


def test_the_table_says_that_its_first_numbers_are_not_of_now(panel, wire):
    table = panel.advanced.children[0].table
    assert table.values["now"] == "now"
    ask(wire, panel, "pause")
    assert table.values["now"] == "at end"


def test_a_page_that_comes_when_the_monitor_is_stopped_is_told_so(panel, monitor, wire):
    panel._show_all()
    assert panel._link.readings["state"] == "stopped"
    monitor.sample()  # by hand: these numbers are new
    assert panel._link.readings["state"] == "live"


def test_marks_and_cells_too_narrow_to_be_pointed_at_have_no_words(panel, monitor, moments, wire):
    for _ in range(50):
        monitor.mark("step")
        monitor.end(monitor.begin(CELL, "quick", 3))
    moments[0] += 5
    monitor.sample()
    assert [words for _, _, words in panel.advanced.timeline.spans] == ["step"]
