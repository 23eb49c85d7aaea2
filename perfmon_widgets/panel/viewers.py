"""Viewers: whether any page shows a panel. While none does, no messages are sent for it."""

from __future__ import annotations

import math
from collections.abc import Callable

from perfmon_widgets.clocks import time

HEARTBEAT = 300.0
"""Seconds between the messages of a page that shows a panel: 12 messages an hour.

A browser slows the timers of a hidden page down to one call a minute, so it is not late by more than that.
"""


class Viewers:
    """The pages that show a panel.

    A page reports how many views of the panel it has: when the first is added, when the last is removed or
    the page is closed, and once per heartbeat. A page that sends nothing for two heartbeats counts as gone,
    for example on a closed laptop: the Jupyter server would keep all messages for it in memory. With its next
    message it counts as a viewer again.

    Args:
        clock: the monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.heartbeat = HEARTBEAT
        self._clock = clock
        self._until: dict[str, float] = {}  # when each page counts as gone, in monotonic seconds

    @property
    def present(self) -> bool:
        """Whether at least one page shows the panel, as far as is known."""
        now = self._clock()
        return any(now < until for until in tuple(self._until.values()))

    def heard(self, page: str, views: int, *, while_busy: bool = True) -> bool:
        """Handle a page's report of its number of views; return True if the page needs the present state.

        ``while_busy``: whether messages of the page reach a kernel that runs a cell. If they do not, missing
        messages mean nothing, since a cell may run for hours. Such a page stays until it reports 0 views.
        """
        self._until.pop(_UNHEARD, None)
        was_there = self._clock() < self._until.pop(page, -math.inf)
        if views > 0:
            self._until[page] = self._gone_at() if while_busy else math.inf
        return views > 0 and not was_there

    def shown(self) -> None:
        """Note that the panel became the output of a cell.

        From now on it counts as shown, although no page has reported it: the report of a page may arrive only
        after that cell has ended.
        """
        if not self._until:
            self._until[_UNHEARD] = math.inf

    def cell_ended(self) -> None:
        """Note that a cell has ended: a page that shows the panel now reports within a heartbeat."""
        if self._until.get(_UNHEARD) == math.inf:
            self._until[_UNHEARD] = self._gone_at()

    def _gone_at(self) -> float:
        return self._clock() + 2 * self.heartbeat


# The key for pages that may show a new output and have not reported yet.
_UNHEARD = ""
