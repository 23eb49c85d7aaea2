"""An exception in the main thread at a chosen moment, as a notebook's stop button raises one."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable


class Interrupt:
    """A KeyboardInterrupt by a timer, and only while an action runs.

    Python may handle a signal late: one that comes just as the main thread takes the GIL waits, in some
    versions, until it is taken once more. It must not end the test then. And Python drops an exception
    that is raised in a callback of its own, such as one of the garbage collector.
    """

    def __init__(self) -> None:
        self.due = False

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGALRM, self)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGALRM, self._before)

    def __call__(self, *_: object) -> None:
        if self.due:
            self.due = False
            raise KeyboardInterrupt

    def ends(self, action: Callable[[], object], after: float) -> bool:
        """Whether the action was ended by the interrupt that comes so many seconds after its begin."""
        try:
            try:
                self.due = True
                signal.setitimer(signal.ITIMER_REAL, after)
                action()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                self.due = False
        except (KeyboardInterrupt, RuntimeError):  # the latter where it fell into a lock of threading
            return True
        return False

    def ends_loop(self, action: Callable[[], object], after: float) -> bool:
        """The same for an action that is repeated until the interrupt comes, or was dropped by Python."""

        def loop() -> None:
            until = time.monotonic() + after + 1
            while time.monotonic() < until:
                action()

        return self.ends(loop, after)
