"""Waits, locks and threads that an exception at any moment in the main thread leaves intact."""

from __future__ import annotations

import ast
import contextlib
import dis
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest
from fakes.interrupt import Interrupt

import perfmon_widgets
from perfmon_widgets import interrupts
from perfmon_widgets.collectors.timeout_thread import NoAnswerError, TimeoutThread
from perfmon_widgets.interrupts import Event, acquire, start_thread

DEADLINE = 10.0  # seconds, for what takes a fraction of one
ROUNDS = 200

# Python itself drops an interrupt that falls into a callback of its own.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def interrupt() -> Iterator[Interrupt]:
    with Interrupt() as interrupt:
        yield interrupt


def test_an_interrupt_that_is_seen_late_interrupts_nothing(interrupt):
    interrupt()
    assert interrupt.ends(interrupt, after=10)
    assert not interrupt.ends(lambda: None, after=10)
    interrupt()


def test_an_event_is_set_once_for_all_who_wait():
    event = Event()
    assert not event.wait(0)
    returned: list[bool] = []
    threads = [threading.Thread(target=lambda: returned.append(event.wait(DEADLINE))) for _ in range(3)]
    for thread in threads:
        thread.start()
    event.set()
    event.set()
    for thread in threads:
        thread.join()
    assert returned == [True, True, True]
    assert event.is_set()
    assert event.wait(0)


def test_interrupts_of_a_wait_do_not_keep_another_thread_from_setting_the_event(interrupt):
    event = Event()
    hits = sum(
        interrupt.ends_loop(lambda: event.wait(1e-4), 2e-4 + number * 1e-6) for number in range(ROUNDS)
    )
    assert hits > ROUNDS / 2
    setting = threading.Thread(target=event.set, daemon=True)
    setting.start()
    setting.join(DEADLINE)
    assert not setting.is_alive()


def test_an_interrupt_never_leaves_a_lock_taken(interrupt):
    lock = threading.Lock()

    def work() -> None:
        taken: list[bool] = []
        try:
            acquire(lock, 1.0, taken)
        finally:
            if True in taken:
                lock.release()

    hits = 0
    for number in range(ROUNDS):
        hits += interrupt.ends_loop(work, 2e-4 + number * 1e-6)
        assert not lock.locked()
    assert hits > ROUNDS / 2


def test_acquire_gives_up_after_the_time():
    lock = threading.Lock()
    taken: list[bool] = []
    with lock:
        acquire(lock, 0.01, taken)
    acquire(lock, 0, taken)
    assert taken == [False, True]


def test_a_thread_that_cannot_be_started_raises_in_the_caller(monkeypatch):
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="new thread"):
        start_thread(threading.Thread(target=lambda: None))


def test_a_thread_whose_start_was_interrupted_runs_all_the_same(monkeypatch):
    """Python's own start() may leave it waiting for ever for a lock that the interrupted thread holds."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(interrupts.Event, "wait", interrupted)
    ran = threading.Event()
    thread = threading.Thread(target=ran.set)
    with pytest.raises(KeyboardInterrupt):
        start_thread(thread)
    assert ran.wait(DEADLINE)


def test_interrupts_of_a_question_leave_one_thread_that_answers_and_ends(interrupt):
    asked = TimeoutThread("perfmon-asked")

    def ask() -> None:
        with contextlib.suppress(NoAnswerError):  # the one that was interrupted has not returned yet
            asked.ask(lambda: 1, DEADLINE)

    hits = 0
    for number in range(ROUNDS):
        hits += interrupt.ends_loop(ask, 2e-4 + number * 2e-6)
    assert hits > ROUNDS / 2
    deadline = time.monotonic() + DEADLINE
    while asked.busy:
        assert time.monotonic() < deadline
    assert asked.ask(lambda: 2, DEADLINE) == 2
    asked.close()
    deadline = time.monotonic() + DEADLINE
    while any(thread.name == "perfmon-asked" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "a thread is left"


def test_an_interrupt_while_a_question_waits_keeps_the_next_from_being_asked_meanwhile(interrupt):
    asked, answer = TimeoutThread("perfmon-asked"), threading.Event()
    assert interrupt.ends(lambda: asked.ask(lambda: answer.wait(DEADLINE), DEADLINE), 0.02)
    with pytest.raises(NoAnswerError):
        asked.ask(lambda: 1, DEADLINE)
    answer.set()
    asked.close()


# -- loops below a lock ------------------------------------------------------------------------------------


def codes(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of a module or function, and of all that it contains."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def unprotected(source: str) -> list[int]:
    """The lines below ``with …lock:`` at which an interrupt would leave the lock taken.

    They are the jumps back of loops that no entry of the exception table covers.
    """
    below = {
        line
        for block in ast.walk(ast.parse(source))
        if isinstance(block, ast.With) and any("lock" in ast.unparse(item) for item in block.items)
        for line in range(block.body[0].lineno, (block.end_lineno or 0) + 1)
    }
    return sorted(
        {
            instruction.positions.lineno
            for code in codes(compile(source, "", "exec"))
            if not code.co_name.startswith("<")  # a generator expression: its caller's block covers it
            for instruction in dis.get_instructions(code)
            if instruction.opname == "JUMP_BACKWARD"
            and instruction.positions.lineno in below
            and not any(
                entry.start <= instruction.offset < entry.end for entry in dis._parse_exception_table(code)
            )
        }
    )


FILTERED = "def f(lock, them):\n    with lock:\n        return [it for it in them if it]\n"


def test_a_loop_with_a_condition_is_unprotected_from_python_3_12_on():
    if sys.version_info >= (3, 12):
        assert unprotected(FILTERED) == [3]


def test_no_interrupt_leaves_a_lock_taken_in_a_loop():
    if sys.version_info >= (3, 12):
        package = Path(perfmon_widgets.__file__).parent
        found = {path.name: unprotected(path.read_text()) for path in package.rglob("*.py")}
        assert {name: lines for name, lines in found.items() if lines} == {}
