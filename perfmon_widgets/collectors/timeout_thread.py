"""A thread that is asked questions, and an asker who waits for each answer only so long."""

from __future__ import annotations

import errno
import os
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError  # the built-in one only from Python 3.11
from queue import SimpleQueue
from threading import Thread
from typing import Any


class NoAnswerError(Exception):
    """The question has not been answered in time, or was not asked because an earlier one still waits."""


class TimeoutThread:
    """Runs functions one after the other on a thread of its own, and waits for each only so long.

    The thread starts with the first question and ends with ``close``, or when this is dropped; a question
    after that starts a new one. A child of a fork gets one of its own.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._begin()

    def _begin(self) -> None:
        """As if nothing had been asked yet, and no thread started, in this process."""
        self._process = os.getpid()
        self._questions: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] | None = None
        self._thread: Thread | None = None
        self._dropped: Any = None
        self._last: Future[Any] | None = None
        self._asked = 0.0

    def ask(self, question: Callable[[], Any], seconds: float) -> Any:
        """What the function returns, or its exception; raises NoAnswerError if that takes longer.

        As long as an earlier one has not returned, no other is begun. Raises OSError if there can be no more
        threads.
        """
        if os.getpid() != self._process:
            self._begin()
        if self.busy:
            raise NoAnswerError
        questions = self._questions or self._start()
        future: Future[Any] = Future()
        self._last, self._asked = future, time.monotonic()
        questions.put((future, question))
        try:
            return future.result(seconds)
        except FutureTimeoutError:
            raise NoAnswerError from None
        finally:
            if future.done():
                self._last = None  # an exception in it refers to the frames of all callers

    def _start(self) -> SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]:
        """Have a thread, and what it is asked through."""
        questions: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        thread = Thread(target=_answer, args=(questions,), name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, str(error)) from None
        # Who drops this ends the thread, which knows only the queue. This only signals: joining could happen
        # on the very thread that drops the last reference.
        self._dropped = weakref.finalize(self, questions.put, None)
        self._dropped.atexit = False
        # Only now, since a thread that could not be started would never answer.
        self._questions, self._thread = questions, thread
        return questions

    @property
    def busy(self) -> bool:
        """Whether a question has not been answered yet."""
        return self._last is not None and not self._last.done()

    @property
    def silence(self) -> float:
        """Seconds since the last question was asked."""
        return time.monotonic() - self._asked

    def close(self) -> None:
        """End the thread, or let it end by itself where a question still holds it; returns at once."""
        if self._questions is not None and os.getpid() == self._process:
            self._questions.put(None)
            self._dropped.detach()
        self._questions = None

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread, for so long at most, and not at all where a question holds it."""
        if self._thread is not None and not self.busy:
            self._thread.join(seconds)


def _answer(questions: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
    """The loop of that thread. It keeps no reference between questions, so that an asker can go away."""
    while (item := questions.get()) is not None:
        future, question = item
        try:
            future.set_result(question())
        except Exception as error:  # noqa: BLE001 - handed to the one who asked
            future.set_exception(error)
        except BaseException as error:  # noqa: BLE001 - what would end this thread is not to end the asker's
            future.set_exception(RuntimeError(repr(error)))
        del item, future, question
