"""Decides which numbers cannot be true. Such a number counts as missing, for the reason given here."""

from __future__ import annotations

import math

# Values in these units are never higher. Counters that wrap, and drivers that return garbage, are far above.
_CEILINGS = {"percent": 100.0, "bytes": 2.0**60, "hertz": 1e11, "watts": 1e5}


def impossible(unit: str, value: float, limit: float = math.inf) -> str:
    """Return why a value in this unit cannot be true; an empty text if it can, and for NaN.

    No unit of this package allows values below 0. ``limit`` is the largest possible value, if it is known.
    """
    most = min(_CEILINGS.get(unit, math.inf), limit)
    if value < 0:
        return f"the value read is {value:g}, which cannot be less than 0"
    if value > most:
        return f"the value read is {value:g}, which cannot be more than {most:g}"
    return ""
