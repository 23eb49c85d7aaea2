"""The vertical axis of a figure: where it ends, and the unit of its numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perfmon_widgets.views.text import scale_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LARGEST = float(np.finfo(np.float32).max)
"""The largest number that is drawn. Numbers travel to the browser in four bytes."""
# A number below it is drawn as 0, for the same reason.
_SMALLEST = float(np.finfo(np.float32).tiny)
# Round numbers for the end of an axis: each divides into four readable steps.
_ROUND = (1, 2, 4, 6, 8, 10, 20)
# The share of an axis by which a figure is higher than its numbers.
_BEYOND = 0.04


class Axis(NamedTuple):
    """The vertical axis of a figure."""

    bottom: float
    top: float
    divisor: float
    """What values are divided by, to be in ``label``."""
    label: str
    """The unit of the numbers on the axis: ``GiB``, ``%``; empty for numbers without a unit."""

    @property
    def ticks(self) -> list[float]:
        """The five numbers that stand at the axis, from bottom to top."""
        return [self.bottom + (self.top - self.bottom) * part / 4 for part in range(5)]

    @property
    def ends(self) -> tuple[float, float]:
        """Where the figure ends: a little beyond the numbers, so that a line at 100 % is not its frame."""
        beyond = _BEYOND * (self.top - self.bottom)
        return self.bottom - (beyond if self.bottom < 0 else 0.0), self.top + beyond


def drawable(values: Floats) -> Floats:
    """The values, with those missing that are too large to be drawn."""
    lowest, largest = ends(values)
    if max(-lowest, largest) <= LARGEST:
        return values
    return np.where(np.abs(values) <= LARGEST, values, np.nan)


def ends(values: Floats) -> tuple[float, float]:
    """The lowest and the largest value; 0 in place of one that is above or below it."""
    lowest = np.fmin.reduce(values, axis=None, initial=0.0)
    largest = np.fmax.reduce(values, axis=None, initial=0.0)
    return float(lowest), float(largest)


def axis_for(unit: str, lowest: float, largest: float, current: Axis | None = None) -> Axis:
    """The axis for these values and 0: percent is 0–100, unless they exceed it; others end at a round number.

    Where there are negative values, the axis goes as far below 0 as above. ``current`` is kept if it fits and
    is less than twice as long.
    """
    largest = max(largest, -lowest)
    divisor, label = scale_for(unit, largest)
    top = 100.0 if unit == "percent" and largest <= 100 else _round_up(largest / divisor)
    axis = Axis(-top if lowest < 0 else 0.0, top, divisor, label)
    if current is None or current.label != label or (current.bottom < 0) != (lowest < 0):
        return axis
    return current if current.top / 2 < top <= current.top else axis


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 6, 8, 10 times a power of ten; 1 for nothing."""
    if value < _SMALLEST:  # the power of ten below 1e-323 would be 0
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in _ROUND if step * power >= value)
