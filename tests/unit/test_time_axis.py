"""The time axis of a section: round local times, and what stands at the right end."""

from __future__ import annotations

import numpy as np
import pytest
from fakes.comm import Wire
from test_chart import NOW

from perfmon_widgets.panel.time_axis import TimeAxis
from perfmon_widgets.views import local_time


@pytest.fixture(autouse=True)
def _in_berlin(no_reader: None) -> None:
    local_time.set_zone("Europe/Berlin", 60)  # NOW is 2027-01-15 09:00:00 there


def labels(axis: TimeAxis) -> list[str]:
    times = axis.axes[0]
    return [times.tick_labels[f"{place:.0f}"] for place in np.asarray(times.tick_values).tolist()]


def right(axis: TimeAxis) -> str:
    """What stands at the right end, by the name that d3 has for the tick."""
    [place] = np.asarray(axis.axes[1].tick_values).tolist()
    assert -0.001 <= place <= 0
    return axis.axes[1].tick_labels[f"{place:g}"]


def test_words_at_the_right_end_come_with_a_tick_of_their_own(wire_of):
    """A browser draws new labels only with new ticks."""
    axis, wire = TimeAxis(600.0), wire_of
    axis.show(NOW + 30, 600.0, is_now=True)
    for is_now in (False, True, False):
        wire.clear()
        axis.show(NOW + 30, 600.0, is_now=is_now)
        states = [set(message.state) for message in wire.messages]
        assert states.index({"tick_labels"}) < states.index({"tick_values"})
    wire.clear()
    axis.show(NOW + 30, 600.0, is_now=False)
    assert wire.messages == []


def test_the_axis_has_absolute_times_and_now_at_its_end():
    axis = TimeAxis(600.0)
    axis.show(NOW + 30, 600.0, is_now=True)
    assert labels(axis) == ["08:52", "08:54", "08:56", "08:58"]
    assert right(axis) == "now"
    assert (axis.ago.min, axis.ago.max) == (-600, 0)
    places = np.asarray(axis.axes[0].tick_values) + axis.origin
    assert places.tolist() == [NOW - 480, NOW - 360, NOW - 240, NOW - 120]
    assert (axis.moving.min + axis.origin, axis.moving.max + axis.origin) == (NOW - 570, NOW + 30)


def test_where_time_does_not_go_on_the_end_is_a_time():
    axis = TimeAxis(60.0)
    axis.show(NOW, 60.0, is_now=False)
    assert right(axis) == "09:00:00"
    assert labels(axis) == ["08:59:15", "08:59:30"]  # the next would touch the one at the end
    axis.show(NOW + 10, 60.0, is_now=False)
    assert labels(axis) == ["08:59:30", "08:59:45"]


def test_the_ticks_are_sent_when_one_comes_or_goes_and_not_with_each_sample(wire_of):
    axis, wire = TimeAxis(600.0), wire_of
    axis.show(NOW + 1, 600.0, is_now=True)
    wire.clear()
    sent = moved = 0
    for second in range(2, 240, 2):
        wire.clear()
        axis.show(NOW + second, 600.0, is_now=True)
        states = [set(message.state) for message in wire.messages]
        moved += {"min", "max"} in states
        sent += {"tick_values"} in states
    assert moved > 50  # a pixel is two seconds
    assert 2 <= sent <= 5  # a tick comes every 120 s, and one goes
    assert len(axis.axes[0].tick_labels) <= 10  # those of former ticks do not pile up


def test_another_zone_changes_the_labels(wire_of):
    axis = TimeAxis(600.0)
    axis.show(NOW, 600.0, is_now=True)
    local_time.set_zone("Asia/Kolkata", 330)
    axis.show(NOW, 600.0, is_now=True)
    assert labels(axis)[0] == "13:22"


def test_after_days_the_places_of_marks_are_still_exact():
    axis = TimeAxis(600.0)
    axis.show(NOW, 600.0, is_now=True)
    later = NOW + 3 * 86_400 + 0.5
    axis.show(later, 30.0, is_now=True)
    assert np.float32(later - axis.origin) == pytest.approx(later - axis.origin, abs=0.01)
    assert axis.end == pytest.approx(later, abs=0.1)


@pytest.fixture
def wire_of(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


def test_the_ticks_stay_where_they_are_when_places_are_counted_anew():
    axis = TimeAxis(600.0)
    axis.show(NOW, 600.0, is_now=True)
    axis.show(NOW + 19_990, 600.0, is_now=True)
    before, origin = set((np.asarray(axis.axes[0].tick_values) + axis.origin).tolist()), axis.origin
    axis.show(NOW + 20_002, 600.0, is_now=True)
    after = set((np.asarray(axis.axes[0].tick_values) + axis.origin).tolist())
    assert axis.origin > origin
    assert len(before & after) >= 3
    assert NOW + 19_400 < min(after) < max(after) < NOW + 20_000
