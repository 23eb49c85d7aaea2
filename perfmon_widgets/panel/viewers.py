"""Viewers: whether anybody looks at a panel; if nobody does, it is sent nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

HEARTBEAT = 300.0
"""Seconds between the messages of a page that shows a panel: 12 messages an hour.

A browser slows the timers of a hidden page down to one call a minute, so it is not late by more than that.
"""


class Viewers:
    """The pages that show a panel.

    A page says how many views of the panel it has: when the first comes, when the last goes or the page is
    closed, and once in a heartbeat. If it is silent for two heartbeats, as a closed laptop is, it counts as
    gone: the Jupyter server would keep in memory all that it is sent. When it speaks again it is back.

    Args:
        clock: the monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.heartbeat = HEARTBEAT
        self._clock = clock
        self._until: dict[str, float] = {}  # when each page counts as gone, in monotonic seconds

    @property
    def present(self) -> bool:
        """Whether anybody looks."""
        now = self._clock()
        return any(now < until for until in tuple(self._until.values()))

    def heard(self, page: str, views: int, *, while_busy: bool = True) -> bool:
        """Note how many views a page says that it has; returns True if it needs the present state.

        ``while_busy``: whether its messages reach a kernel that runs a cell. If they do not, its silence
        means nothing, since a cell may run for hours: then it stays until it says that it goes.
        """
        self._until.pop(_UNHEARD, None)
        was_there = self._clock() < self._until.pop(page, -math.inf)
        if views > 0:
            self._until[page] = self._gone_at() if while_busy else math.inf
        return views > 0 and not was_there

    def shown(self) -> None:
        """Note that the panel became the output of a cell.

        It counts as seen though no page has said so: the page may be heard only when that cell has ended.
        """
        if not self._until:
            self._until[_UNHEARD] = math.inf

    def cell_ended(self) -> None:
        """Note that a cell has ended: a page that shows the panel is heard from within a heartbeat."""
        if self._until.get(_UNHEARD) == math.inf:
            self._until[_UNHEARD] = self._gone_at()

    def _gone_at(self) -> float:
        return self._clock() + 2 * self.heartbeat


# Stands for the pages that may show a new output and were not heard yet.
_UNHEARD = ""
