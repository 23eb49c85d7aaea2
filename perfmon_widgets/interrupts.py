"""Interrupts: locks, waits and threads that are intact after an exception at any moment in the main thread.

A notebook's stop button (SIGINT), or a signal handler that raises, ends what the main thread does between any
two steps of Python code. ``with lock:`` is safe: Python handles no signal between taking a lock and entering
the block, nor between leaving it and releasing the lock. Much of ``threading`` is Python code that is not:

- An interrupt inside ``Event`` or ``Condition`` may leave their lock taken for ever.
- One inside ``Thread.start`` may do so to a lock that the new thread needs before it runs.
- One inside ``Thread.is_alive`` or ``join`` makes Python 3.10 to 3.12 believe that the thread has ended
  (https://github.com/python/cpython/issues/90882).

In Python 3.12 and later ``with`` has a gap of its own. Where a loop or a comprehension inside the block has a
condition (``if``, ``while``), the block does not cover the jump back to its start, and an interrupt at that
jump leaves the lock taken for ever. So such loops stand outside of the block, or in a function that it calls.

So what cells and scripts call in this package uses the replacements in this file, and asks no thread whether
it is alive: the thread sets an Event when it has nothing left to do. Code that runs elsewhere, such as in an
actor of Ray, may use ``threading`` as it is.
"""

from __future__ import annotations

import _thread
import contextlib
import threading
from collections import deque


class Event:
    """Like ``threading.Event``, without ``clear()``."""

    def __init__(self) -> None:
        self._set = False
        self._waiting: deque[threading.Lock] = deque()  # a lock of its own for each caller of wait()

    def is_set(self) -> bool:
        """Whether set() was called."""
        return self._set

    def set(self) -> None:
        """Let all callers of wait() return, now and from now on."""
        self._set = True
        with contextlib.suppress(IndexError):
            while self._waiting:
                self._waiting.popleft().release()

    def wait(self, seconds: float = -1) -> bool:
        """Wait for set(), at most this many seconds, by default for ever; returns False after a timeout."""
        lock = threading.Lock()
        lock.acquire()
        self._waiting.append(lock)  # before the question, so that a set() right after it is not missed
        return self._set or lock.acquire(timeout=seconds)


def acquire(lock: threading.Lock, seconds: float, taken: list[bool]) -> None:
    """Acquire a lock within this many seconds, and append to ``taken`` whether that succeeded.

    ``with`` cannot wait for a limited time. Between ``if lock.acquire(...):`` and ``try:`` there is a moment
    at which an interrupt leaves the lock taken. There is none here::

        taken: list[bool] = []
        try:
            acquire(lock, 1.0, taken)
            if True in taken:
                ...
        finally:
            if True in taken:
                lock.release()
    """
    # One call in C, which both takes the lock and notes it; Python handles no signal in between.
    taken.extend(map(lock.acquire, (True,), (seconds,)))


def start_thread(thread: threading.Thread) -> None:
    """Start a thread; raises RuntimeError if the system has no more threads.

    After an interrupt in here the thread may run, or begin to run a moment later, or it may not exist.
    """
    failed: list[RuntimeError] = []
    started = Event()

    def start() -> None:
        try:
            threading.Thread.start(thread)
        except RuntimeError as error:
            failed.append(error)
        finally:
            started.set()

    # On another thread, since only the main thread is interrupted.
    _thread.start_new_thread(start, ())
    started.wait()
    if failed:
        raise failed[0]
