"""Room: how much data the process may have, from what is occupied now. The numbers of the memory guard."""

from __future__ import annotations

import math
from typing import NamedTuple

END = 0.985
"""The share of the memory limit above which the OS kernel does little else than search for memory to take
back: the Jupyter kernel lives, but a cell takes minutes (measured at 99.8 %)."""

# A cell that begins with memory full still gets this many bytes, or this share of the limit, if there are so
# many below END: even `del frames` needs some.
_FLOOR, _FLOOR_SHARE = 24e6, 0.01
# With less than this share of the limit left, the limit is no longer raised before the cell ends.
_LITTLE = 0.02
# The seconds between two raises of the limit, and from the beginning of a cell to the first. Memory that is
# reserved but not touched yet counts as data, but not as occupied. If the limit rose at once with the data, a
# cell could go on to reserve more than there is.
_RAISE_EVERY = 1.0


class Use(NamedTuple):
    """What the memory is used for, in bytes."""

    data: float
    """The data of this process."""
    occupied: float
    """The memory that cannot be given back, of all that the limit is on."""
    size: float
    """That limit."""

    def left(self, share: float) -> float:
        """How much more may be occupied until this share of the limit is."""
        return max(share * self.size - self.occupied, 0.0)

    def limit(self, share: float) -> float:
        """The limit on the data that permits this share of the memory to be occupied."""
        return self.data + self.left(share)


class Room:
    """The limit on the data while no reserve is open, and what interrupts the cell."""

    def __init__(self) -> None:
        self.trip = math.inf
        """How many bytes may be occupied before the running cell is interrupted."""
        self._floor = 0.0  # of the limit on the data, until the cell ends
        self._raise_at = 0.0

    def begin(self, use: Use, share: float, now: float) -> float:
        """Return the limit for a cell that begins now, in monotonic seconds."""
        floor = max(min(max(_FLOOR, _FLOOR_SHARE * use.size), END * use.size - use.occupied), 0.0)
        self._floor = use.data + floor
        self.trip = max((share + END) / 2 * use.size, use.occupied + floor + _LITTLE / 2 * use.size)
        self._raise_at = now + _RAISE_EVERY
        return max(use.limit(share), self._floor)

    def next(self, use: Use, share: float, in_force: float, now: float) -> float:
        """Return the limit that follows the one in force: a lower one at once, a higher one now and then."""
        limit = max(use.limit(share), self._floor)
        if limit > in_force:
            if use.left(share) < _LITTLE * use.size or now < self._raise_at:
                return in_force
            self._raise_at = now + _RAISE_EVERY
        return limit
