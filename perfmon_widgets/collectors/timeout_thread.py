"""Run calls that may never return, such as those to a driver or a file server, with a timeout."""

from __future__ import annotations

import errno
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeAlias

from perfmon_widgets.clocks import time
from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.interrupts import Event, start_thread


class NoAnswerError(Exception):
    """The call has not returned in time, or was not made because an earlier one has not returned."""


class _Call:
    """A call of a function on another thread, and what has come of it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._returned = Event()
        self._result: Any = None
        self._error: Exception | None = None

    def run(self) -> None:
        """Call the function. Never raises."""
        returned = self._returned
        try:
            self._result = self._function()
        except Exception as error:  # noqa: BLE001 - raised again in the thread that asked
            self._error = error
        except BaseException as error:  # noqa: BLE001 - a SystemExit here must not end the caller's thread
            self._error = RuntimeError(repr(error))
        # The error refers to this frame. Without these two lines it would keep itself and the caller alive.
        del self._function
        del self
        returned.set()

    def done(self) -> bool:
        """Whether the function has returned, or raised."""
        return self._returned.is_set()

    def result(self, seconds: float) -> Any:
        """Return what the function returns, or raise what it raises; NoAnswerError after a timeout."""
        if not self._returned.wait(seconds):
            raise NoAnswerError
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self  # the error refers to this frame
        return self._result


# None ends the thread.
_Queue: TypeAlias = "SimpleQueue[_Call | None]"


class TimeoutThread:
    """Run functions one after the other on one thread, and wait a limited time for each.

    The thread starts with the first call and ends with ``close()``, or when this object is dropped. A call
    after ``close()`` starts a new thread, and so does one in a forked child.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Forget the thread: a forked child does not have it."""
        self._queue: _Queue | None = None
        self._thread: Thread | None = None
        self._finalizer: Any = None
        self._last: _Call | None = None
        self._called_at = 0.0

    def ask(self, function: Callable[[], Any], seconds: float) -> Any:
        """Return what the function returns, or raise what it raises.

        Raises NoAnswerError if that takes longer than ``seconds``, and at once if an earlier call has not
        returned yet. Raises OSError if no thread can be started.
        """
        if self.busy:
            raise NoAnswerError
        queue = self._queue or self._start()
        call = _Call(function)
        self._called_at = time.monotonic()
        queue.put(call)  # before it counts as the last one: an interrupt in between must not make this busy
        self._last = call
        try:
            return call.result(seconds)
        finally:
            if call.done():
                self._last = None  # an exception in it refers to the frames of all callers
            del call

    def _start(self) -> _Queue:
        """Start the thread, and return the queue that it reads."""
        queue: _Queue = SimpleQueue()
        thread = Thread(target=_run, args=(queue,), name=self._name, daemon=True)
        try:
            start_thread(thread)
            # Dropping this object ends the thread, which refers to the queue only. The finalizer does not
            # join: it may run on that very thread.
            self._finalizer = weakref.finalize(self, queue.put, None)
            self._finalizer.atexit = False
            # Set last: if the start fails, the next call must try again.
            self._queue, self._thread = queue, thread
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, str(error)) from None
        except BaseException:  # an interrupt: nothing else would end this thread
            queue.put(None)
            raise
        return queue

    @property
    def busy(self) -> bool:
        """Whether the last call has not returned yet."""
        return self._last is not None and not self._last.done()

    @property
    def silence(self) -> float:
        """Seconds since the last call began."""
        return time.monotonic() - self._called_at

    def close(self) -> None:
        """End the thread as soon as its call returns; does not wait for that."""
        queue = self._queue
        if queue is not None:
            try:
                queue.put(None)
            finally:
                self._queue = None  # also after an interrupt: nothing reads this queue any more
            self._finalizer.detach()

    def join(self, seconds: float) -> None:
        """Wait up to ``seconds`` for the end of the thread; not at all while a call has not returned."""
        if self._thread is not None and not self.busy:
            self._thread.join(seconds)


def _run(queue: _Queue) -> None:
    """Run what arrives in the queue; keeps no reference between calls, so that callers can be collected."""
    while (call := queue.get()) is not None:
        call.run()
        del call
