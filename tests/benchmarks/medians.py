"""A median and how sure it is, without a guess about how the values are spread."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Median(NamedTuple):
    """The median of some values, and bounds between which that of all there could be lies with 95 %."""

    value: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether a value cannot be distinguished from what was measured."""
        return self.low <= value <= self.high


def median_of(values: Sequence[float]) -> Median:
    """The median with its bounds: the values of two ranks, since each value lies below it by even chance.

    With fewer than six values nothing is that sure: the bounds are then without end.
    """
    ordered = sorted(values)
    number = len(ordered)
    # As far in from both ends as leaves at most 2.5 % to each: the chance that so few lie on one side.
    cut, chance = 0, 0.5**number
    while chance <= 0.025 and cut < number // 2:
        cut += 1
        chance += math.comb(number, cut) * 0.5**number
    if not cut:
        return Median(statistics.median(ordered), -math.inf, math.inf)
    return Median(statistics.median(ordered), ordered[cut - 1], ordered[number - cut])
