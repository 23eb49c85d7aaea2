"""Decides which numbers cannot be true. Such a number counts as missing, for the reason given here."""

from __future__ import annotations

import math

from perfmon_widgets.metrics import PER_SECOND

# Values in these units are never below 0 and never higher. Counters that wrap, and drivers that return
# garbage, are far above. Rates are never below 0. Values in other units may be anything.
_CEILINGS = {"percent": 100.0, "bytes": 2.0**60, "hertz": 1e11, "watts": 1e5}
OF_A_GPU = {"watts": 4e3, "hertz": 2e10}
"""The highest values of one GPU. 65535 of a 16-bit field, and 4294967295 µW, mean that there is no value."""

# A share is a little above 100 where the clocks of two counters differ. Up to this it counts as 100.
_FULL = 101.0


def impossible(unit: str, value: float, limit: float = math.inf) -> str:
    """Return why a value in this unit cannot be true; an empty text if it can, and for NaN.

    ``limit`` is the largest possible value, if it is known.
    """
    if unit not in _CEILINGS and not unit.endswith(PER_SECOND):
        return ""
    most = min(_CEILINGS.get(unit, math.inf), limit)
    if value < 0:
        return f"the value read is {value:g}, which cannot be less than 0"
    if value > most:
        return f"the value read is {value:g}, which cannot be more than {most:g}"
    if value == math.inf:
        return "the value read is infinite"
    return ""


def checked(unit: str, value: float, limit: float = math.inf) -> tuple[float, str]:
    """Return the value and an empty text; or NaN and the reason, if the value cannot be true."""
    if unit == "percent" and 100 < value <= _FULL:
        return 100.0, ""
    reason = impossible(unit, value, limit)
    return (math.nan, reason) if reason else (value, "")
