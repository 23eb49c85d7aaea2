"""Who looks at a panel, and how often it is sent anything; the clock is moved by hand."""

from __future__ import annotations

import itertools
import math

import pytest

from perfmon_widgets.panel.viewers import SILENCE, SLOW, Viewers


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def audience(time: Time) -> Viewers:
    return Viewers(time)


def sent(audience: Viewers, time: Time, seconds: float, interval: float = 5.0) -> list[float]:
    """When something is sent in the seconds to come."""
    start, times = time.now, []
    while time.now < start + seconds:
        time.now += interval
        if audience.is_due(interval):
            times.append(time.now - start)
    return times


def test_nobody_is_sent_nothing(audience, time):
    assert sent(audience, time, 100) == []
    assert math.isinf(audience.pace(5.0))


def test_a_panel_that_is_an_output_is_sent_before_any_page_was_heard(audience, time):
    """Where only the shell channel is left, the page is heard when the cell has ended."""
    audience.shown()
    assert len(sent(audience, time, 100)) == 20


def test_a_page_is_sent_every_sample(audience, time):
    assert audience.heard("a", 3)
    assert len(sent(audience, time, 100)) == 20
    assert audience.pace(5.0) == 5.0


def test_a_page_whose_views_have_gone_is_sent_nothing(audience, time):
    audience.shown()
    audience.heard("a", 1)
    assert not audience.heard("a", 0)
    assert sent(audience, time, 100) == []


def test_one_of_two_pages_that_goes_leaves_the_other(audience, time):
    audience.heard("a", 1)
    audience.heard("b", 1)
    audience.heard("a", 0)
    assert len(sent(audience, time, 100)) == 20
    audience.heard("b", 0)
    assert sent(audience, time, 100) == []


def test_a_page_that_goes_without_having_come_is_no_error(audience):
    assert not audience.heard("a", 0)


def test_a_page_that_comes_is_to_be_sent_the_present_state_once(audience):
    assert audience.heard("a", 1)
    assert not audience.heard("a", 1)
    assert not audience.heard("a", 2)
    assert audience.heard("b", 1)


def test_after_a_long_silence_one_update_a_minute_is_sent(audience, time):
    audience.heard("a", 1)
    usual = sent(audience, time, SILENCE)
    assert len(usual) == SILENCE / 5
    slow = sent(audience, time, 3600)
    assert slow[0] == 5.0  # at once: it says how long the next silence will be
    assert [later - earlier for earlier, later in itertools.pairwise(slow)] == [SLOW] * (len(slow) - 1)
    assert len(slow) == 60
    assert audience.pace(5.0) == SLOW


def test_a_browser_that_answers_again_is_sent_everything_again(audience, time):
    audience.heard("a", 1)
    sent(audience, time, 2 * SILENCE)
    assert audience.heard("a", 1)  # and at once
    assert len(sent(audience, time, 100)) == 20


def test_a_browser_that_answers_now_and_then_is_sent_every_sample(audience, time):
    for _ in range(12):
        audience.heard("a", 1)
        assert len(sent(audience, time, 300)) == 60


def test_one_page_that_answers_is_enough(audience, time):
    audience.heard("closed laptop", 1)
    for _ in range(6):
        audience.heard("a", 1)
        assert len(sent(audience, time, 300)) == 60


def test_an_interval_longer_than_a_minute_stays(audience, time):
    audience.heard("a", 1)
    time.now += 2 * SILENCE
    assert audience.pace(300.0) == 300.0
    assert len(sent(audience, time, 3000, interval=300.0)) == 10
