"""The one place where a growing counter becomes a rate."""

from __future__ import annotations

import math


class Rate:
    """Turns readings of a growing counter into its growth per unit of a clock that grows beside it.

    The clock is monotonic seconds for "per second", or another counter for a share (busy per total CPU time).
    """

    __slots__ = ("_clock", "_count")

    def __init__(self) -> None:
        self._count = self._clock = math.nan

    def update(self, count: float, clock: float) -> float:
        """The growth since the last call, in counts per clock unit.

        NaN for the first reading, if the clock did not advance, and if the counter went backwards (it was
        reset, or its device was replaced): what happened meanwhile is not known.
        """
        grown, passed = count - self._count, clock - self._clock
        self._count, self._clock = count, clock
        # Written so that NaN, which compares false with everything, takes the last way out.
        return grown / passed if passed > 0 and grown >= 0 else math.nan
