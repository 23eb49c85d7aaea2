"""Shading: the bqplot brush for cells, spans and marks behind the lines of figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import bqplot
import numpy as np
from numpy.typing import NDArray

from perfmon_widgets.clocks import time
from perfmon_widgets.panel.axes import make_labels
from perfmon_widgets.views.stretches import LOOKS, Named, Stretch, edges, names, stretches

PIXELS = 300
"""The width that a figure is taken to have: what is narrower than a pixel is drawn with its neighbour."""
_PIXELS_A_LETTER = 6.5
_BOTTOM = -0.1  # below the figure, so that the line along the lower edge is cut off
_NEVER = 1e9  # seconds of the axis: beyond each end of it


class Shading:
    """Marks of bqplot that several figures over the seconds before now can share.

    They have a time axis of their own, over which the window moves. So a sample during which no cell, span or
    mark started or ended is one short message, or none.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._origin = time.time()  # where the axis counts from: four bytes are too few for Unix seconds
        self._time = bqplot.LinearScale(min=-window, max=0.0)
        scales = {"x": self._time, "y": bqplot.LinearScale(min=0.0, max=1.0)}
        nothing: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        # All kinds in one mark: each mark is drawn in every figure whenever its axis moves.
        self._areas = make_areas(LOOKS, *outlines(dict.fromkeys(LOOKS, nothing)), scales)
        self._names = make_labels(x=nothing, y=nothing, text=np.zeros(0, dtype="<U1"), scales=scales)
        self.marks: tuple[bqplot.Mark, ...] = (self._areas, self._names)
        """To be added behind the other marks of each figure."""
        self._drawn = dict.fromkeys(LOOKS, nothing)
        self._written: list[tuple[float, float, str]] = []

    def set_window(self, seconds: float) -> None:
        """Show the last ``seconds`` from the next show() on."""
        self._window = seconds

    def show(self, spans: Iterable[Named], now: float) -> None:
        """Draw those that lie in the window, whose right end is ``now`` (Unix seconds)."""
        pixel = self._window / PIXELS
        # In steps of a pixel: the browser redraws the figures when the axis moves, which takes milliseconds.
        now = self._origin + round((now - self._origin) / pixel) * pixel
        left = now - self._window
        # What starts after the rounded end is drawn too: it comes into view before the next message.
        seen = stretches(spans, left, np.inf)
        if seen or self._written or any(map(len, self._drawn.values())):
            with self._time.hold_sync():
                self._time.min, self._time.max = left - self._origin, now - self._origin
        self._draw({kind: self._edges(seen, kind, pixel) for kind in LOOKS})
        self._write(
            [
                (round(at - self._origin, 2), stretch.look.names_at, stretch.name)
                for at, stretch in names(seen, left, _PIXELS_A_LETTER * pixel)
            ]
        )

    def _edges(self, seen: Sequence[Stretch], kind: str, pixel: float) -> NDArray[np.float32]:
        """Starts and ends in turn, in seconds of the axis; what goes on ends beyond it."""
        moments = np.array(list(edges(seen, kind, pixel)), dtype=float).ravel() - self._origin
        return np.nan_to_num(moments, posinf=_NEVER).astype(np.float32)

    def _draw(self, moments: Mapping[str, NDArray[np.float32]]) -> None:
        if all(np.array_equal(moments[kind], self._drawn[kind]) for kind in LOOKS):
            return
        self._drawn = dict(moments)
        with self._areas.hold_sync():
            self._areas.x, self._areas.y = outlines(moments)

    def _write(self, written: list[tuple[float, float, str]]) -> None:
        if written == self._written:
            return
        self._written = written
        with self._names.hold_sync():
            self._names.x = np.array([x for x, _, _ in written], dtype=np.float32)
            self._names.y = np.array([y for _, y, _ in written], dtype=np.float32)
            self._names.text = np.array([name for _, _, name in written], dtype=str)


def make_areas(kinds: Iterable[str], x: Any, y: Any, scales: Mapping[str, bqplot.Scale]) -> bqplot.Lines:
    """A mark with the areas of some kinds, whose outlines are the rows of ``x`` and ``y``."""
    looks = [LOOKS[kind] for kind in kinds]
    return bqplot.Lines(
        x=x,
        y=y,
        scales=dict(scales),
        colors=[look.color for look in looks],
        opacities=[look.edge for look in looks],
        fill="bottom",
        fill_colors=[look.color for look in looks],
        fill_opacities=[look.inside for look in looks],
        stroke_width=1.0,
    )


def outlines(moments: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """The x and y of the areas of each kind, up at a start and down at an end.

    ``moments``: for each kind its starts and ends in turn. The y axis goes from 0 to 1. All rows are as long
    as the longest; the others are filled up with points that lie beyond the axis.
    """
    length = max(2, *map(len, moments.values()))
    padded = [np.pad(row, (0, length - len(row)), constant_values=-_NEVER) for row in moments.values()]
    tops = [np.tile([_BOTTOM, LOOKS[kind].top, LOOKS[kind].top, _BOTTOM], length // 2) for kind in moments]
    return np.repeat(np.stack(padded), 2, axis=1), np.array(tops, dtype=np.float32)
