"""Limit work whose cost grows with the number of processes to a small share of one CPU."""

from __future__ import annotations

from dataclasses import dataclass

from perfmon_widgets.clocks import time

# The share of one CPU that each kind of work may use, unless it says otherwise.
_SHARE = 0.001


@dataclass
class Allowance:
    """Measure the CPU time of a ``with`` block, and say when the block may run again.

    After a block that took 1 ms the work is affordable again 1 s later, since it may use 0.1 % of one CPU.
    """

    every: float = 0.0
    """Seconds after which the work is due again, if it is affordable."""
    shares: float = 1.0
    """How many times the usual share of one CPU this work may use."""
    _affordable_at: float = 0.0
    _due_at: float = 0.0
    _started: float = 0.0

    def affordable(self) -> bool:
        """Return whether enough time has passed since the last run, in proportion to its CPU time."""
        return time.monotonic() >= self._affordable_at

    def due(self) -> bool:
        """Return whether the work is affordable and ``every`` seconds have passed since the last run."""
        return time.monotonic() >= max(self._due_at, self._affordable_at)

    def __enter__(self) -> None:
        self._started = time.thread_time()

    def __exit__(self, *exception: object) -> None:
        now = time.monotonic()
        self._affordable_at = now + (time.thread_time() - self._started) / (_SHARE * self.shares)
        self._due_at = now + self.every
