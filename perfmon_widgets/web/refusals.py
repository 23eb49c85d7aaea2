"""A count of refused requests, instead of a log that any client could fill."""

from __future__ import annotations

import logging
import math

from perfmon_widgets.clocks import time

_logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 60.0


class Refusals:
    """Counts what a server refuses, and logs at most one line a minute about it, at level INFO.

    In a notebook the log is shown below the running cell, and any client that can reach the port can cause
    such a line. So a line contains nothing that a client has sent.
    """

    def __init__(self) -> None:
        self.count = 0
        self._last_line = -math.inf

    def add(self, reason: str) -> None:
        """Count one refusal; ``reason`` must not contain anything that the client has sent."""
        self.count += 1
        now = time.monotonic()
        if now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            _logger.info("%d requests refused since the server was started; the last: %s", self.count, reason)
