"""The path from a click to what it does: which thread, under which name, and what is redrawn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import ipywidgets
import pytest
from fakes.collectors import FakeCollector
from fakes.comm import Wire

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.panel.actions import Actions
from perfmon_widgets.panel.controls import Control


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


@pytest.fixture
def monitor() -> Iterator[PerformanceMonitor]:
    """A monitor whose thread runs, and takes no second sample."""
    with PerformanceMonitor([FakeCollector("a_percent")], interval=3600) as monitor:
        yield monitor


class Switch:
    """A checkbox; its action and the redrawing record their order and their threads."""

    def __init__(self, monitor: PerformanceMonitor, wire: Wire) -> None:
        self.box = ipywidgets.Checkbox()
        self.done: list[tuple[str, object, str]] = []
        self.event = threading.Event()
        self.fail = False
        self._wire = wire
        control = Control("Light", self.box, "value", self._act)
        self.actions = Actions(monitor, [control], self._redraw)

    def _act(self, value: bool) -> None:
        if self.fail:
            self.event.set()
            raise RuntimeError("broken")
        self.done.append(("act", value, threading.current_thread().name))

    def _redraw(self) -> None:
        self.done.append(("redraw", None, threading.current_thread().name))
        self.event.set()

    def click_elsewhere(self, value: bool) -> None:
        """What arrives on the control channel while a cell runs; waits until it is done."""
        self.event.clear()
        thread = threading.Thread(target=lambda: self._wire.set(self.box, value=value), name="control")
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
        assert self.event.wait(10)


@pytest.fixture
def switch(monitor: PerformanceMonitor, wire: Wire) -> Switch:
    return Switch(monitor, wire)


def test_on_the_main_thread_it_is_done_at_once_and_there(switch, wire):
    wire.set(switch.box, value=True)
    assert switch.done == [("act", True, "MainThread"), ("redraw", None, "MainThread")]


def test_on_another_thread_it_is_done_by_the_sampling_thread(switch):
    switch.click_elsewhere(True)
    assert switch.done == [("act", True, "perfmon-sampler"), ("redraw", None, "perfmon-sampler")]


def test_clicks_are_done_in_their_order(switch):
    values = [True, False, True, False]
    for value in values:
        switch.click_elsewhere(value)
    assert [value for what, value, _ in switch.done if what == "act"] == values


def test_an_error_has_the_name_that_a_person_gives_to_the_control(switch, monitor):
    """Not that of a function of ours, and until it works."""
    switch.fail = True
    switch.click_elsewhere(True)
    wait_until_drained(monitor)
    assert monitor.errors == {"Light": "broken"}
    switch.fail = False
    switch.click_elsewhere(False)
    wait_until_drained(monitor)
    assert monitor.errors == {}


def wait_until_drained(monitor: PerformanceMonitor) -> None:
    """Wait until the sampling thread has done what is before in its queue."""
    done = threading.Event()
    monitor.call_soon(done.set)
    assert done.wait(10)


def test_on_the_main_thread_a_program_gets_the_error(switch, monitor):
    switch.fail = True
    with pytest.raises(RuntimeError, match="broken"):
        switch.box.value = True
    assert monitor.errors == {}


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_written_under_the_lock_is_no_click(switch, fails):
    def write(value: bool) -> None:
        with switch.actions.writing():
            with switch.actions.writing():  # as a drawing inside an action
                pass
            switch.box.value = value
            if fails:
                raise RuntimeError("the browser has gone")

    if fails:
        with pytest.raises(RuntimeError, match="gone"):
            write(True)
    else:
        write(True)
    assert switch.done == []
    switch.box.value = False
    assert switch.done[0] == ("act", False, "MainThread")


def test_a_click_while_another_thread_writes_is_one(switch):
    """The change waits for the lock. It comes from another thread, so the panel has not written it itself."""
    held, go_on = threading.Event(), threading.Event()

    def write() -> None:
        with switch.actions.writing():
            held.set()
            assert go_on.wait(10)

    thread = threading.Thread(target=write)
    thread.start()
    assert held.wait(10)
    timer = threading.Timer(0.05, go_on.set)
    timer.start()
    switch.box.value = True
    thread.join()
    timer.join()
    assert switch.done[0] == ("act", True, "MainThread")


def test_a_forked_child_does_not_wait_for_a_thread_that_it_does_not_have(
    switch, forked: Callable[[Callable[[], object]], object]
):
    held, go_on = threading.Event(), threading.Event()

    def write() -> None:
        with switch.actions.writing():
            held.set()
            go_on.wait(60)

    thread = threading.Thread(target=write)
    thread.start()
    assert held.wait(10)

    def child() -> int:
        switch.box.value = True
        return len(switch.done)

    try:
        assert forked(child) == 2
    finally:
        go_on.set()
        thread.join()
