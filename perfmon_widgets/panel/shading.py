"""Shading: when which cell ran, drawn behind the lines of a section's figures; spans and marks too."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import bqplot
import numpy as np
from numpy.typing import NDArray

from perfmon_widgets.core.spans import CELL, MARK, SPAN, Span
from perfmon_widgets.panel.chart import labels

MOST = 200
"""Of each kind, so many are drawn at most, the newest."""


class _Look(NamedTuple):
    """How a kind is drawn; the height of a figure is 1, and what lies above it is cut off."""

    color: str
    edge: float  # opacity
    inside: float
    top: float
    names_at: float


_LOOKS = {
    CELL: _Look("#808080", edge=0.35, inside=0.14, top=1.1, names_at=0.95),
    SPAN: _Look("#8a63d2", edge=0.9, inside=0.6, top=0.06, names_at=0.12),
    MARK: _Look("#d9482b", edge=0.9, inside=0.0, top=1.1, names_at=0.84),
}
_BOTTOM = -0.1  # so that lines along the edge are cut off too
_NEVER = 1e9  # seconds of the axis: beyond each end of it
_LETTERS = 24  # of a name are shown
PIXELS = 300
"""What a figure is taken to be wide: whatever is narrower than a pixel is drawn with its neighbour."""
_PIXELS_A_LETTER = 6.5  # a name that would lie over another one is left out


class Shading:
    """Marks of bqplot that several figures over the seconds before now can share.

    Their time axis is one of their own, over which the window moves: so a tick in which nothing started or
    ended is one short message, or none.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._origin = time.time()  # from which the axis counts: four bytes are too few for Unix seconds
        self._time = bqplot.LinearScale(min=-window, max=0.0)
        height = bqplot.LinearScale(min=0.0, max=1.0)
        scales = {"x": self._time, "y": height}
        nothing = np.zeros(0, dtype=np.float32)
        # All in one mark: each of them is drawn in every figure whenever its axis moves.
        kinds = list(_LOOKS.values())
        self._areas = bqplot.Lines(
            **_outlines([nothing] * len(_LOOKS)),
            scales=scales,
            colors=[look.color for look in kinds],
            opacities=[look.edge for look in kinds],
            fill="bottom",
            fill_colors=[look.color for look in kinds],
            fill_opacities=[look.inside for look in kinds],
            stroke_width=1.0,
        )
        self._names = labels(x=nothing, y=nothing, text=np.zeros(0, dtype="<U1"), scales=scales)
        self.marks: tuple[bqplot.Mark, ...] = (self._areas, self._names)
        """To be added behind the other marks of each figure."""
        self._drawn = [nothing] * len(_LOOKS)
        self._written: list[tuple[float, float, str]] = []

    def set_window(self, seconds: float) -> None:
        """Show the last ``seconds`` from the next show() on."""
        self._window = seconds

    def show(self, spans: Sequence[Span], now: float) -> None:
        """Draw those that lie in the window, whose right end is ``now`` (Unix seconds)."""
        pixel = self._window / PIXELS
        # By whole pixels: a figure is drawn anew when the axis moves, which takes a browser milliseconds.
        now = self._origin + round((now - self._origin) / pixel) * pixel
        left = now - self._window
        seen = [span for span in spans if math.isnan(span.end) or span.end >= left]
        if seen or self._written or any(map(len, self._drawn)):
            with self._time.hold_sync():
                self._time.min, self._time.max = left - self._origin, now - self._origin
        self._draw([self._edges(span for span in seen if span.kind == kind) for kind in _LOOKS])
        self._write(list(self._names_of(seen, left)))

    def _edges(self, spans: Iterable[Span]) -> NDArray[np.float32]:
        """Where each begins and ends, in turn, in seconds of the axis; one that goes on ends beyond it."""
        edges = np.array(list(_joined(spans, self._window / PIXELS)), dtype=float).ravel() - self._origin
        return np.nan_to_num(edges, posinf=_NEVER).astype(np.float32)

    def _draw(self, edges: list[NDArray[np.float32]]) -> None:
        if all(map(np.array_equal, edges, self._drawn)):
            return
        self._drawn = edges
        with self._areas.hold_sync():
            for name, values in _outlines(edges).items():
                setattr(self._areas, name, values)

    def _names_of(self, spans: Iterable[Span], left: float) -> Iterator[tuple[float, float, str]]:
        """Where names begin and what they are, as far as there is room for them."""
        letter = _PIXELS_A_LETTER * self._window / PIXELS
        taken: dict[str, list[tuple[float, float]]] = {kind: [] for kind in _LOOKS}
        # The longest first, so that it is those of quick cells that are left out.
        for span in sorted(spans, key=_length, reverse=True):
            if span.kind == MARK and span.start < left:
                continue
            name = f"[{span.execution_count}]" if span.kind == CELL else " ".join(span.name.split())
            name = name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
            # The name of what began before the window stands at its left end.
            at = max(span.start, left) - self._origin
            end = at + letter * (len(name) + 1)
            if all(end <= begun or at >= ended for begun, ended in taken[span.kind]):
                taken[span.kind].append((at, end))
                yield round(at, 2), _LOOKS[span.kind].names_at, name

    def _write(self, names: list[tuple[float, float, str]]) -> None:
        if names == self._written:
            return
        self._written = names
        with self._names.hold_sync():
            self._names.x = np.array([x for x, _, _ in names], dtype=np.float32)
            self._names.y = np.array([y for _, y, _ in names], dtype=np.float32)
            self._names.text = np.array([name for _, _, name in names], dtype=str)


def _outlines(edges: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The x and y of an area for each row of edges, up at a start and down at an end, all of them as long."""
    length = max(2, *map(len, edges))
    padded = [np.pad(row, (0, length - len(row)), constant_values=-_NEVER) for row in edges]
    tops = [np.tile([_BOTTOM, look.top, look.top, _BOTTOM], length // 2) for look in _LOOKS.values()]
    return {"x": np.repeat(np.stack(padded), 2, axis=1), "y": np.array(tops, dtype=np.float32)}


def _length(span: Span) -> float:
    return math.inf if math.isnan(span.end) else span.seconds


def _joined(spans: Iterable[Span], pixel: float) -> Iterator[tuple[float, float]]:
    """Start and end of each; what is narrower than a pixel is one with what lies as close before it."""
    start = end = -math.inf
    for span in spans:
        until = math.inf if math.isnan(span.end) else span.end
        if span.start - end < pixel and (until - span.start < pixel or end - start < pixel):
            end = max(end, until)
            continue
        if end > -math.inf:
            yield start, end
        start, end = span.start, until
    if end > -math.inf:
        yield start, end
