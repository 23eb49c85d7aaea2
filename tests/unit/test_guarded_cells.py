"""The guard's hooks in IPython: which handler of SIGINT is in force. Real kernels: test_guard_real.py."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from IPython.core.events import EventManager, available_events
from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult

from perfmon_widgets.core.intervention import STOPPED
from perfmon_widgets.jupyter.guarded_cells import GuardedCells

INFO = ExecutionInfo("train()", True, False, True, None)
DEADLINE = 10.0  # seconds, for what takes a fraction of one


class Shell:
    """What GuardedCells uses of IPython's shell, with IPython's own events."""

    def __init__(self) -> None:
        self.execution_count = 1
        self.displayhook = SimpleNamespace(exec_result=None)
        self.history_manager = SimpleNamespace(input_hist_raw=["", "train()"])
        self.custom_exceptions: tuple[type, ...] = ()
        self.CustomTB = None
        self.events = EventManager(self, available_events)

    def set_custom_exc(self, kinds: tuple[type, ...], show: Callable[..., object]) -> None:
        self.custom_exceptions, self.CustomTB = kinds, show

    def begin(self) -> None:
        self.displayhook.exec_result = ExecutionResult(INFO)
        self.events.trigger("pre_run_cell", INFO)

    def end(self) -> None:
        result, self.displayhook.exec_result = self.displayhook.exec_result, None
        self.events.trigger("post_run_cell", result)

    @property
    def hooks(self) -> int:
        return sum(len(self.events.callbacks[event]) for event in ("pre_run_cell", "post_run_cell"))


class CalledGuard:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.pending = ""
        self.told: list[str] = []

    def know_cells(self) -> None:
        pass

    def cell_began(self, _cell: object, interrupt: object) -> None:
        self.told.append("began" if interrupt else "began, cannot be interrupted")

    def cell_ended(self) -> None:
        self.told.append("ended")

    def open_reserve(self) -> None:
        self.told.append("reserve")


@pytest.fixture
def shell() -> Shell:
    return Shell()


@pytest.fixture
def guard() -> CalledGuard:
    return CalledGuard()


@pytest.fixture
def cells(guard, shell) -> GuardedCells:
    cells = GuardedCells(guard, shell)
    cells.register()
    return cells


@pytest.fixture(autouse=True)
def received() -> Iterator[list[int]]:
    """The interrupts that come to the handler that is there before any cell runs."""
    received: list[int] = []

    def handler(number: int, _: object) -> None:
        received.append(number)

    before = signal.signal(signal.SIGINT, handler)
    yield received
    restored = signal.signal(signal.SIGINT, before)
    assert restored is handler


def on_another_thread(action: Callable[[], object]) -> None:
    thread = threading.Thread(target=action)
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive()


def test_an_interrupt_of_a_person_goes_to_the_former_handler(cells, shell, received):
    shell.begin()
    signal.raise_signal(signal.SIGINT)
    shell.end()
    assert received == [signal.SIGINT]


def test_an_interrupt_of_the_guard_is_its_error_once(cells, shell, guard, received):
    shell.begin()
    guard.pending = STOPPED
    with pytest.raises(MemoryError, match=STOPPED):
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    shell.end()
    assert guard.told == ["began", "reserve", "ended"]
    assert received == [signal.SIGINT]


def test_a_cell_can_be_interrupted_when_another_thread_has_stopped_the_guard(cells, shell, guard, received):
    shell.begin()
    on_another_thread(cells.unregister)
    signal.raise_signal(signal.SIGINT)
    assert received == [signal.SIGINT]
    shell.end()
    assert shell.hooks == 0
    assert guard.told == ["began"]
    signal.raise_signal(signal.SIGINT)
    assert received == [signal.SIGINT] * 2


def test_a_guard_that_is_started_again_while_the_cell_runs_hears_of_its_end_once(
    cells, shell, guard, received
):
    shell.begin()
    again = GuardedCells(guard, shell)
    on_another_thread(lambda: (cells.unregister(), again.register()))
    signal.raise_signal(signal.SIGINT)
    shell.end()
    assert guard.told == ["began", "began, cannot be interrupted", "ended"]
    shell.begin()
    signal.raise_signal(signal.SIGINT)
    shell.end()
    assert guard.told[3:] == ["began", "ended"]
    assert received == [signal.SIGINT] * 2
    again.unregister()
    assert shell.hooks == 0


def test_guards_that_are_started_and_stopped_in_one_cell_leave_the_first_handler(
    cells, shell, guard, received
):
    shell.begin()
    on_another_thread(cells.unregister)
    again = GuardedCells(guard, shell)
    again.register()  # on the main thread: its handler hands on to the one that is still there
    on_another_thread(again.unregister)
    signal.raise_signal(signal.SIGINT)
    assert received == [signal.SIGINT]
    shell.end()
    assert shell.hooks == 0


def test_a_stop_where_no_cell_runs_leaves_nothing_behind_after_the_next(cells, shell, guard):
    on_another_thread(cells.unregister)
    shell.begin()
    shell.end()
    assert shell.hooks == 0
    assert guard.told == []


def test_a_handler_of_the_user_that_hands_on_to_ours_reaches_the_first_one(cells, shell, received):
    """It stays after the cell, so that ours of the next cell hands on to it."""
    first = signal.getsignal(signal.SIGINT)
    shell.begin()
    ours = signal.getsignal(signal.SIGINT)
    handled = []

    def users(number: int, frame: object) -> None:
        handled.append(number)
        ours(number, frame)

    signal.signal(signal.SIGINT, users)
    try:
        shell.end()
        signal.raise_signal(signal.SIGINT)
        shell.begin()
        signal.raise_signal(signal.SIGINT)
        shell.end()
        assert signal.getsignal(signal.SIGINT) is users
    finally:
        signal.signal(signal.SIGINT, first)
    assert len(handled) == len(received) == 2
