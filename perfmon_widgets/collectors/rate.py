"""The one place where counters become rates and shares."""

from __future__ import annotations

import math


class Rate:
    """Turn readings of a growing counter into its growth per unit of a clock.

    The clock is monotonic seconds for a number per second, or another counter for a share (busy CPU time per
    total CPU time).
    """

    __slots__ = ("_clock", "_count")

    def __init__(self) -> None:
        self._count = self._clock = math.nan

    def update(self, count: float, clock: float) -> float:
        """Return the growth since the last call, in counts per unit of the clock.

        NaN in the first call, if the clock did not advance, and if the counter went backwards: then it was
        reset or its device was replaced, and the growth is unknown.
        """
        grown, passed = count - self._count, clock - self._clock
        self._count, self._clock = count, clock
        # Every comparison with NaN is false, so the first call returns NaN at the end.
        return grown / passed if passed > 0 and grown >= 0 else math.nan


def percent(used: float, limit: float) -> float:
    """Return ``used`` as a percentage of ``limit``, at most 100.

    A share is a little above 100 where the clocks of two counters differ, where the OS kernel takes back time
    that it had counted as waiting for a disk, and until a changed limit is read again.
    """
    share = 100 * used / limit
    return 100.0 if share > 100 else share  # min(100, nan) would give 100; this keeps NaN


class Backlog:
    """Turn CPU time into percent of a limit, and carry over to later values what would exceed 100 %.

    CPU time may arrive late, and all in one value: that of a process that was never seen counts when its
    parent has waited for it, and the counters are read a moment before or after the clock. What exceeds 100 %
    is carried over, up to the CPU time that the values of the last minute left unused. More than that cannot
    have been used within the limit, and is dropped.
    """

    _MEMORY = 60.0  # seconds whose unused time counts
    _START = 0.1  # seconds of CPU time for each CPU that may be carried over at the beginning

    def __init__(self) -> None:
        self._waiting = 0.0
        self._unused = -1.0

    def percent(self, per_second: float, passed: float, limit: float) -> float:
        """Return ``per_second``, used in the ``passed`` seconds, as a percentage of ``limit``, at most 100.

        NaN if the rate is.
        """
        if math.isnan(per_second):
            return math.nan
        if self._unused < 0:
            self._unused = self._START * limit
        left = (limit - per_second) * passed - self._waiting
        if left >= 0:
            share = 100 * (per_second + self._waiting / passed) / limit
            self._waiting = 0.0
            self._unused = min(self._unused + left, self._MEMORY * limit)
            return min(share, 100.0)
        self._waiting = min(-left, self._unused)
        return 100.0
