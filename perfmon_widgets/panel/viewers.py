"""Viewers: who looks at a panel, and so how often it is sent anything."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

# Seconds after which a browser that has said nothing is taken for a closed laptop, and between the updates
# that it is sent from then on: the Jupyter server keeps every one in its memory until the laptop is opened.
SILENCE = 900.0
SLOW = 60.0


class Viewers:
    """The pages that show a panel, each with the time at which it last said that it is there.

    Args:
        clock: the monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._sent = -math.inf
        self._pace = math.inf

    def shown(self) -> None:
        """The panel is the output of a cell; of its views may be heard only when that cell has ended."""
        if not self._heard:
            self._heard[""] = self._clock()

    def heard(self, page: str, views: int) -> bool:
        """A page says how many views of the panel it has; True if they are to be sent the present state."""
        quiet = self.pace(0.0) > 0
        self._heard.pop("", None)
        if views > 0:
            new = page not in self._heard
            self._heard[page] = self._clock()
            return new or quiet
        self._heard.pop(page, None)
        return False

    def pace(self, interval: float) -> float:
        """Seconds between updates where a sample is taken every ``interval``; infinity if nobody looks."""
        if not self._heard:
            return math.inf
        silent = self._clock() - max(self._heard.values())
        return max(interval, SLOW) if silent > SILENCE else interval

    def is_due(self, interval: float) -> bool:
        """Whether this sample is to be sent; if so it counts as sent."""
        pace, before = self.pace(interval), self._pace
        self._pace = pace
        now = self._clock()
        # A change of pace is sent at once, since it tells the browser how long a silence to expect.
        due = pace <= interval or (pace < math.inf and (pace != before or now - self._sent >= pace))
        if due:
            self._sent = now
        return due
