"""Actions: the queue of functions that other threads ask the sampling thread to call."""

from __future__ import annotations

import queue
from collections.abc import Callable

from perfmon_widgets.core.errors import Errors, name_of
from perfmon_widgets.forks import renew_after_fork


class Actions:
    """A queue of functions. If one raises, its error is listed in the errors and the next is still called."""

    def __init__(self, errors: Errors) -> None:
        self._errors = errors
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: leave the actions in the queue to the parent."""
        self._queue: queue.SimpleQueue[tuple[str, Callable[[], object]]] = queue.SimpleQueue()

    def add(self, action: Callable[[], object], name: str) -> None:
        """Add an action, by default named in the errors after its function."""
        self._queue.put((name or name_of(action), action))

    def drain(self) -> None:
        """Call the actions in the queue in the order in which they were added."""
        while not self._queue.empty():
            try:
                name, action = self._queue.get_nowait()
            except queue.Empty:  # another thread has taken the last one
                return
            with self._errors.catch(name):
                action()
