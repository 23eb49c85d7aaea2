"""TimeAxis: the horizontal axis that all figures of a section share."""

from __future__ import annotations

import math

import bqplot

from perfmon_widgets.panel.axes import make_axis
from perfmon_widgets.views.local_time import Tick, format_clock, ticks

PIXELS = 300
"""The width that a figure is taken to have: what is narrower than a pixel is drawn with its neighbour."""
_NARROWEST = 230  # pixels of a figure in a full row, about: labels must not lie over each other there
# What the label at the right end takes of them, with a gap.
_FOR_NOW, _FOR_A_CLOCK = 22.0, 34.0
# Seconds after which the places of marks are counted anew: they travel in four bytes, which are 2 ms then.
_FAR = 20_000.0


class TimeAxis:
    """Round local times along the bottom of figures, and at their right end "now" or the time of that end.

    Lines have a scale of seconds before the right end, since they are sent anew with each drawing. Cells,
    spans and marks seldom change: they have a scale over which the window moves, in seconds since ``origin``.

    Args:
        seconds: how long a time is shown at first.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        """How long a time is shown."""
        self.end = 0.0
        """The right end, in Unix seconds."""
        self.origin = 0.0
        """What the moving scale counts from, in Unix seconds: four bytes are too few for these."""
        self.ago = bqplot.LinearScale(min=-seconds, max=0.0)
        self.moving = bqplot.LinearScale(min=-seconds, max=0.0)
        self._times = make_axis(self.moving, "bottom", tick_values=[], tick_labels={})
        self._shown: list[Tick] = []
        self._right = make_axis(self.ago, "bottom", tick_values=[0.0], tick_labels={"0": "now"})
        self.axes = (self._times, self._right)
        """For each figure."""

    @property
    def start(self) -> float:
        """The left end, in Unix seconds."""
        return self.end - self.seconds

    def show(self, end: float, seconds: float, *, is_now: bool) -> None:
        """Show ``seconds`` up to ``end`` (Unix seconds), in steps of a pixel."""
        pixel = seconds / PIXELS
        if abs(end - self.origin) > _FAR:
            self.origin = math.floor(end)
            self._shown = []  # all ticks have other places now
        end = self.origin + round((end - self.origin) / pixel) * pixel
        self.end, self.seconds = end, seconds
        self.ago.min = -seconds
        with self.moving.hold_sync():
            self.moving.min, self.moving.max = self.start - self.origin, end - self.origin
        self._mark(ticks(self.start, end, _NARROWEST, _FOR_NOW if is_now else _FOR_A_CLOCK))
        self._say_at_the_end("now" if is_now else format_clock(end))

    def _say_at_the_end(self, words: str) -> None:
        """Write at the right end. bqplot draws new labels with new ticks only, so the tick moves a little."""
        if words not in self._right.tick_labels.values():
            self._right.tick_labels = dict.fromkeys(("0", "-0.001"), words)
            self._right.tick_values = [-0.001 if self._right.tick_values[0] == 0 else 0.0]

    def _mark(self, found: list[Tick]) -> None:
        """Show ticks, as seldom as they change."""
        if found == self._shown:
            return
        places = [tick.time - self.origin for tick in found]
        labels = {f"{place:.0f}": tick.label for place, tick in zip(places, found, strict=True)}
        former, self._shown = self._shown, found
        # The labels before the ticks, and not in one message: bqplot draws new ticks a moment later, with the
        # labels that it had when it received the ticks. Until then these are the labels of the former ticks.
        kept = {f"{tick.time - self.origin:.0f}": tick.label for tick in former}
        self._times.tick_labels = kept | labels
        self._times.tick_values = places
