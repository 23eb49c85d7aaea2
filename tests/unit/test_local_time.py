"""Times of day in the zone of the reader, and the round times of an axis."""

from __future__ import annotations

import math
import time
from datetime import datetime, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmon_widgets.views import local_time
from perfmon_widgets.views.local_time import (
    format_clock,
    format_dates,
    format_period,
    format_time,
    offset,
    reader,
    set_zone,
    ticks,
    time_format,
    zone_name,
)


def unix(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


WINTER, SUMMER = unix("2030-01-31 10:00:05"), unix("2030-07-31 10:00:05")
ZONES = ["UTC", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "America/Sao_Paulo", "Pacific/Chatham"]


def test_without_a_browser_it_is_the_zone_of_this_computer(monkeypatch):
    monkeypatch.setattr(local_time, "_zone", None)
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert format_clock(WINTER) == "15:30:05"
        assert format_period(WINTER, WINTER + 600) == "2030-01-31 15:30:05 – 15:40:05 IST"
        assert format_period(WINTER, WINTER + 36_000) == "2030-01-31 15:30:05 – 2030-02-01 01:30:05 IST"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_zone_of_the_browser_has_its_summer_time():
    assert set_zone("Europe/Berlin", 60)
    assert (format_clock(WINTER), zone_name(WINTER)) == ("11:00:05", "CET")
    assert (format_time(SUMMER), zone_name(SUMMER)) == ("2030-07-31 12:00:05", "CEST")
    assert format_dates(WINTER, SUMMER) == "2030-01-31 – 2030-07-31 CEST"
    assert not set_zone("Europe/Berlin", 60)


@pytest.mark.parametrize("name", ["No/Such_Zone", "", "../../etc/passwd", "Europe", "x\0y", "a" * 5000])
def test_a_zone_that_this_computer_does_not_know_has_the_difference_alone(name):
    set_zone(name, -210)
    assert (format_clock(WINTER), zone_name(WINTER)) == ("06:30:05", "UTC-03:30")


@pytest.mark.parametrize("minutes", [1e9, -1e9])
def test_a_difference_that_no_zone_has_is_no_error(minutes):
    set_zone("No/Such_Zone", minutes)
    assert len(format_clock(WINTER)) == 8


def test_the_reader_of_a_request_comes_before_the_one_of_the_notebook():
    set_zone("Europe/Berlin", 60)
    with reader("Asia/Kolkata", 330):
        assert zone_name(WINTER) == "IST"
        set_zone("Asia/Tokyo", 540)
        assert zone_name(WINTER) == "IST"
    assert zone_name(WINTER) == "JST"
    with pytest.raises(OSError, match="gone"), reader("No/Such_Zone", math.inf):
        raise OSError("gone")
    assert zone_name(WINTER) == "JST"


def test_a_zone_without_letters_has_a_name_that_says_what_it_is():
    set_zone("America/Sao_Paulo", -180)
    assert zone_name(WINTER) == "UTC-03"


@pytest.mark.parametrize(
    ("seconds", "pixels", "labels"),
    [
        (30, 300, ["10:59:40", "10:59:50", "11:00:00"]),
        (300, 300, ["10:56", "10:57", "10:58", "10:59"]),
        (600, 300, ["10:52", "10:54", "10:56", "10:58"]),
        (3600, 300, ["10:10", "10:20", "10:30", "10:40", "10:50"]),
        (86_400, 300, ["18:00", "00:00", "06:00"]),
        (3 * 86_400, 600, ["01-29 00:00", "01-29 12:00", "01-30 00:00", "01-30 12:00", "01-31 00:00"]),
        (30 * 86_400, 300, ["01-06", "01-10", "01-14", "01-18", "01-22", "01-26"]),
    ],
)
def test_ticks_are_round_local_times(seconds, pixels, labels):
    set_zone("Europe/Berlin", 60)
    found = [tick.label for tick in ticks(WINTER - seconds, WINTER, pixels, free=10)]
    assert [label for label in found if label in labels] == labels
    assert len(found) <= len(labels) + 1


@given(st.floats(0.5, 400 * 86_400), st.floats(150, 1500), st.sampled_from(ZONES), st.floats(0, 2e9))
def test_ticks_lie_in_the_time_and_have_space(seconds, pixels, zone, end):
    set_zone(zone, 0)
    start = end - seconds
    found = ticks(start, end, pixels, free=25)
    places = [(tick.time - start) / seconds * pixels for tick in found]
    half = max((len(tick.label) for tick in found), default=0) * 5 / 2
    assert all(half <= place <= pixels - 25 - half for place in places)
    assert all(after - before >= 2 * half + 5 for before, after in pairwise(places))
    wanted = time_format(start, end, pixels)
    # All have the clock at the end, also before a change to or from summer time.
    same = [tick for tick in found if offset(tick.time) == offset(end)]
    assert all(tick.label == format(local_time.local(tick.time), wanted) for tick in same)
    if seconds < 86_400 * 0.9:  # without a change to summer time in between, labels say the exact time
        assert all(tick.time == pytest.approx(round(tick.time)) for tick in found)


@pytest.mark.parametrize("zone", ZONES)
def test_a_label_is_the_round_time_at_which_it_stands(zone):
    set_zone(zone, 0)
    for tick in ticks(SUMMER - 600, SUMMER, 600):
        assert local_time.local(tick.time).second == 0
        assert tick.label == f"{local_time.local(tick.time):%H:%M}"


def test_no_time_has_no_ticks():
    assert ticks(WINTER, WINTER, 300) == []
    assert ticks(WINTER, WINTER - 5, 300) == []


def test_where_clocks_are_set_back_the_axis_has_the_clock_at_its_end():
    set_zone("Europe/Berlin", 60)
    end = unix("2030-10-27 02:00:00")  # an hour after they were: 3:00 in Berlin
    assert [tick.label for tick in ticks(end - 7200, end, 300)] == ["01:30", "02:00", "02:30"]
    assert format_period(end - 7200, end) == "2030-10-27 02:00:00 CEST – 03:00:00 CET"
