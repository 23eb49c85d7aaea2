"""Pace: takes samples more often while memory fills up, so that the last one shows the end."""

from __future__ import annotations

import math

from perfmon_widgets.metrics import Sample

# From this share of the limit on, in percent, growth makes samples come sooner.
_FROM = 80.0
# That many samples are taken before memory is full, at the pace at which it has grown since the last one.
_SAMPLES = 20
_SHORTEST = 0.1
"""Ten samples a second at most."""


class Pace:
    """How many seconds after the newest sample the next one is due, at most."""

    def __init__(self) -> None:
        self.seconds = math.inf
        """Infinite while memory does not grow, or is not nearly full."""
        self._before = (math.nan, math.nan)

    def note(self, sample: Sample) -> None:
        """Note a new sample. ``ram_percent`` counts; without that column nothing changes."""
        percent = sample.values.get("ram_percent", math.nan)
        (at, before), self._before = self._before, (sample.time, percent)
        grown, passed = percent - before, sample.time - at
        if not (percent >= _FROM and grown > 0 and passed > 0):  # also where one of them is NaN
            self.seconds = math.inf
        else:
            self.seconds = max((100.0 - percent) * passed / grown / _SAMPLES, _SHORTEST)
