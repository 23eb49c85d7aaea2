"""Whether anybody looks at a panel; the clock is moved by hand."""

from __future__ import annotations

import pytest

from perfmon_widgets.panel.viewers import HEARTBEAT, Viewers


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def viewers(time: Time) -> Viewers:
    return Viewers(time)


def test_at_first_nobody_looks(viewers):
    assert not viewers.present


def test_a_page_with_a_view_looks(viewers):
    viewers.heard("a", 3)
    assert viewers.present


def test_a_page_whose_views_have_gone_does_not(viewers):
    viewers.shown()
    viewers.heard("a", 1)
    assert not viewers.heard("a", 0)
    assert not viewers.present


def test_one_of_two_pages_that_goes_leaves_the_other(viewers):
    viewers.heard("a", 1)
    viewers.heard("b", 1)
    viewers.heard("a", 0)
    assert viewers.present
    viewers.heard("b", 0)
    assert not viewers.present


def test_a_page_that_goes_without_having_come_is_no_error(viewers):
    assert not viewers.heard("a", 0)
    assert not viewers.present


def test_a_page_that_comes_needs_the_present_state_once(viewers):
    assert viewers.heard("a", 1)
    assert not viewers.heard("a", 1)
    assert not viewers.heard("a", 2)
    assert viewers.heard("b", 1)


# -- silence -----------------------------------------------------------------------------------------------


def test_a_page_that_is_silent_for_two_heartbeats_has_gone(viewers, time):
    viewers.heard("a", 1)
    time.now += 2 * HEARTBEAT - 1
    assert viewers.present
    time.now += 2
    assert not viewers.present


def test_a_page_that_speaks_again_is_back_and_needs_the_present_state(viewers, time):
    viewers.heard("a", 1)
    time.now += 2 * HEARTBEAT + 1
    assert viewers.heard("a", 1)
    assert viewers.present
    assert not viewers.heard("a", 1)


def test_a_page_that_speaks_in_each_heartbeat_stays(viewers, time):
    viewers.heard("a", 1)
    for _ in range(100):
        time.now += HEARTBEAT + 60  # a hidden page may be late by a minute
        assert viewers.present
        assert not viewers.heard("a", 1)


def test_a_page_that_is_silent_leaves_the_others(viewers, time):
    viewers.heard("closed laptop", 1)
    time.now += 1.5 * HEARTBEAT
    viewers.heard("a", 1)
    time.now += HEARTBEAT
    assert viewers.present
    viewers.heard("a", 0)
    assert not viewers.present


def test_a_page_that_a_busy_kernel_does_not_hear_stays_until_it_says_that_it_goes(viewers, time):
    """Its heartbeats wait for the end of the cell, which may be hours away."""
    viewers.heard("a", 1, while_busy=False)
    time.now += 100 * HEARTBEAT
    assert viewers.present
    viewers.heard("a", 0, while_busy=False)
    assert not viewers.present


# -- an output that no page has spoken of ------------------------------------------------------------------


def test_a_new_output_counts_as_seen_for_as_long_as_its_cell_runs(viewers, time):
    """Without a control channel the page is heard when that cell has ended."""
    viewers.shown()
    time.now += 100 * HEARTBEAT
    assert viewers.present


def test_a_new_output_that_no_page_speaks_of_after_its_cell_is_seen_by_nobody(viewers, time):
    """As in a notebook that is executed without a browser, or whose page was closed meanwhile."""
    viewers.shown()
    viewers.cell_ended()
    time.now += HEARTBEAT
    viewers.cell_ended()  # another cell, which is no reason to wait for longer
    assert viewers.present
    time.now += HEARTBEAT + 1
    assert not viewers.present


def test_a_page_that_speaks_takes_the_place_of_the_new_output(viewers):
    viewers.shown()
    assert viewers.heard("a", 1)
    viewers.heard("a", 0)
    assert not viewers.present


def test_an_output_that_is_shown_again_is_that_of_the_page_that_is_known(viewers):
    viewers.heard("a", 1)
    viewers.shown()
    viewers.heard("a", 0)
    assert not viewers.present


def test_the_end_of_a_cell_makes_no_viewer(viewers):
    viewers.cell_ended()
    assert not viewers.present
