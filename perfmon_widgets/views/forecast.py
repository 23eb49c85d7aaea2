"""A forecast: when an amount that grows steadily will reach its limit."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


class Forecast(NamedTuple):
    """When an amount will be as large as its limit, if it goes on growing as it did."""

    seconds: float
    """From the newest row."""
    per_second: float
    """How fast it grows."""


class _Climb(NamedTuple):
    """How long growth must have lasted, to be extended how far into the future."""

    lasted: float
    ahead: float
    fuller_than: float
    """The share of the limit from which on this applies."""


# Longest first. Growth that has lasted for 5 min is extended by 15 min, growth that has lasted for 2 min by
# 10 min: most data sets are loaded in less time. Where little memory is left, 30 s must be enough. The replay
# in tests/unit/test_forecast.py counts the false alarms that these numbers give.
_CLIMBS = (_Climb(300.0, 900.0, 0.0), _Climb(120.0, 600.0, 0.0), _Climb(30.0, 120.0, 0.75))
# A climb is divided into this many parts. In each the amount must grow, by at least this share of the mean: a
# single jump is no climb, nor is one that has ended.
_PARTS, _EVEN = 4, 0.75
# The level between two parts is a mean over a twentieth of the climb, against noise: of the amounts at 5
# points. There are 20 in each part, evenly spaced.
_POINTS, _POINTS_OF_A_LEVEL = 20, 5
_LAST = _PARTS * _POINTS + _POINTS_OF_A_LEVEL - 1
# Where these points lie for each level, as shares of the climb before its end.
_BEFORE = 1 - np.add.outer(np.arange(0, _LAST, _POINTS), np.arange(_POINTS_OF_A_LEVEL)) / _LAST
# By what share of the climb the amount must be above what it was before. Garbage that is collected makes it
# fall again and again from about the same height.
_NEW = 0.5


def forecast(times: Floats, used: Floats, limit: float) -> Forecast | None:
    """Return when the amount will reach the limit; None if it does not grow steadily, or not soon.

    ``times`` are in seconds, ``used`` has a finite amount for each, ``limit`` is in the same unit. Rows
    before the clock was set back do not count.
    """
    back = np.flatnonzero(np.diff(times) <= 0)
    if len(back):
        times, used = times[back[-1] + 1 :], used[back[-1] + 1 :]
    if len(times) <= _PARTS or not (math.isfinite(limit) and 0 < used[-1] < limit):
        return None
    for climb in _CLIMBS:
        if used[-1] >= climb.fuller_than * limit and times[-1] - times[0] >= 0.9 * climb.lasted:
            found = _extended(times, used, limit, climb)
            if found is not None:
                return found
    return None


def _extended(times: Floats, used: Floats, limit: float, climb: _Climb) -> Forecast | None:
    """Return when a climb up to the newest row will reach the limit; None if there is no such climb."""
    lasted = min(climb.lasted, times[-1] - times[0])
    levels = np.interp(times[-1] - lasted * _BEFORE, times, used).mean(axis=1).tolist()
    steps = [after - before for before, after in pairwise(levels)]
    growth = levels[-1] - levels[0]
    if not growth > 0 or min(steps) < _EVEN * growth / _PARTS:
        return None
    first = max(int(np.searchsorted(times, times[-1] - lasted, side="right")) - 1, 0)
    part = lasted * _POINTS / _LAST
    if np.diff(times[first:]).max() > part:  # a gap
        return None
    before = used[:first]
    if len(before) and levels[-1] - before.max() < _NEW * growth:
        return None
    room = limit - float(used[-1])
    # Where each half grows less than the one before, as a cache that fills, all the growth to come is the sum
    # of a geometric series.
    half = sum(steps[_PARTS // 2 :])
    slower = half / (growth - half)
    if slower < 1 and room > half * slower / (1 - slower):
        return None
    per_second = growth / (_PARTS * part)
    seconds = room / per_second
    return Forecast(seconds, per_second) if seconds <= climb.ahead else None
