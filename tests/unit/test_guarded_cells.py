"""The guard's hooks in IPython: which handler of SIGINT is in force. Real kernels: test_guard_real.py."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
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
        self.user_global_ns: dict[str, object] = {}
        self.shown: list[BaseException] = []
        self.events = EventManager(self, available_events)

    def set_custom_exc(self, kinds: tuple[type, ...], show: Callable[..., object]) -> None:
        self.custom_exceptions, self.CustomTB = kinds, show

    def showtraceback(self, about: tuple[type, BaseException, object], **_: object) -> None:
        assert isinstance(about[1], about[0])
        self.shown.append(about[1])

    def begin(self) -> None:
        self.result = self.displayhook.exec_result = ExecutionResult(INFO)
        self.events.trigger("pre_run_cell", INFO)

    def end(self) -> None:
        self.displayhook.exec_result = None
        self.events.trigger("post_run_cell", self.result)

    def fail(self, error: BaseException) -> None:
        """Handle an error of the running cell, as IPython does."""
        try:
            raise error
        except self.custom_exceptions:
            self.result.error_in_exec = error
            self.CustomTB(self, type(error), error, error.__traceback__)

    @property
    def hooks(self) -> int:
        return sum(len(self.events.callbacks[event]) for event in ("pre_run_cell", "post_run_cell"))


class CalledGuard:
    """Records which of its methods were called."""

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
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        shell.begin()
        guard.pending = STOPPED
        with pytest.raises(MemoryError, match=STOPPED):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        shell.end()
    finally:
        signal.signal(signal.SIGINT, former)
    assert guard.told == ["began", "reserve", "ended"]
    assert received == []


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


# -- cells that await --------------------------------------------------------------------------------------


def test_the_guard_cancels_a_cell_that_awaits_and_shows_its_own_error(cells, shell, guard, received):
    """The handler that is there before stands for that of ipykernel, which cancels such a cell."""
    shell.begin()
    guard.pending = STOPPED
    signal.raise_signal(signal.SIGINT)  # on the way here there is no code of the notebook
    assert received == [signal.SIGINT]
    assert guard.told == ["began", "reserve"]
    shell.fail(asyncio.CancelledError())
    shell.end()
    (error,) = shell.shown
    assert isinstance(error, MemoryError)
    assert str(error) == STOPPED
    assert shell.result.error_in_exec is error


def test_a_cell_that_computes_after_an_await_gets_the_error_where_it_is(cells, shell, guard, received):
    shell.user_global_ns["interrupt"] = lambda: signal.raise_signal(signal.SIGINT)
    shell.begin()
    guard.pending = STOPPED
    with pytest.raises(MemoryError, match=STOPPED):
        exec("interrupt()", shell.user_global_ns)
    shell.end()
    assert received == []


def test_a_cell_that_others_cancel_is_shown_as_such(cells, shell, guard):
    shell.begin()
    guard.pending = STOPPED
    signal.raise_signal(signal.SIGINT)
    shell.end()
    shell.begin()
    error = asyncio.CancelledError()
    shell.fail(error)
    shell.end()
    assert shell.shown == [error]
    assert shell.result.error_in_exec is error


def test_a_loop_that_waits_for_the_network_is_woken_to_cancel_the_cell(cells, shell, guard):
    """ipykernel's handler only adds to what the loop does when it wakes up."""

    async def cell() -> float:
        waits = asyncio.ensure_future(asyncio.sleep(DEADLINE))
        loop = asyncio.get_running_loop()
        signal.signal(signal.SIGINT, lambda *_: loop.call_soon(waits.cancel))
        shell.begin()
        guard.pending = STOPPED
        threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
        before = time.monotonic()
        with contextlib.suppress(asyncio.CancelledError):
            await waits
        return time.monotonic() - before

    before = signal.getsignal(signal.SIGINT)
    try:
        assert asyncio.run(cell()) < DEADLINE / 2
        shell.end()
    finally:
        signal.signal(signal.SIGINT, before)
