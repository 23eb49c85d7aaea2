"""Shading: the bqplot brush for cells, spans and marks behind the lines of figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import bqplot
import numpy as np
from numpy.typing import NDArray

from perfmon_widgets.panel.axes import make_labels
from perfmon_widgets.panel.time_axis import PIXELS, TimeAxis
from perfmon_widgets.views.stretches import LOOKS, Named, Stretch, edges, names, stretches

_PIXELS_A_LETTER = 6.0
_NEVER = 1e9  # seconds of the axis: beyond each end of it


class Shading:
    """Marks of bqplot that all figures of a section share.

    Their places do not change while the window moves over them: see TimeAxis. So a sample during which no
    cell, span or mark started or ended costs no message.

    Args:
        axis: the time axis of the figures.
    """

    def __init__(self, axis: TimeAxis) -> None:
        self._axis = axis
        self._origin = axis.origin
        scales = {"x": axis.moving, "y": bqplot.LinearScale(min=0.0, max=1.0)}
        nothing: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        # All layers in one mark: each mark is drawn in every figure whenever its axis moves.
        self._areas = make_areas(LOOKS, *outlines(dict.fromkeys(LOOKS, nothing)), scales)
        self._names = make_labels(x=nothing, y=nothing, text=np.zeros(0, dtype="<U1"), scales=scales)
        self.marks: tuple[bqplot.Mark, ...] = (self._areas, self._names)
        """To be added behind the other marks of each figure."""
        self._drawn = dict.fromkeys(LOOKS, nothing)
        self._written: list[tuple[float, float, str]] = []

    def show(self, spans: Iterable[Named]) -> None:
        """Draw those that lie in what the axis shows."""
        pixel, self._origin = self._axis.seconds / PIXELS, self._axis.origin
        # The end is rounded to a pixel.
        seen = stretches(spans, self._axis.start, self._axis.end + pixel)
        self._draw({layer: self._edges(seen, layer, pixel) for layer in LOOKS})
        self._write(
            [
                (round(name.at - self._origin, 2), name.height, name.text)
                for name in names(seen, self._axis.start, self._axis.end, _PIXELS_A_LETTER * pixel)
            ]
        )

    def _edges(self, seen: Sequence[Stretch], layer: str, pixel: float) -> NDArray[np.float32]:
        """Starts and ends in turn, in seconds of the axis; what goes on ends beyond it."""
        moments = np.array(list(edges(seen, layer, pixel)), dtype=float).ravel() - self._origin
        return np.nan_to_num(moments, posinf=_NEVER).astype(np.float32)

    def _draw(self, moments: Mapping[str, NDArray[np.float32]]) -> None:
        if all(np.array_equal(moments[layer], self._drawn[layer]) for layer in LOOKS):
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


def make_areas(layers: Iterable[str], x: Any, y: Any, scales: Mapping[str, bqplot.Scale]) -> bqplot.Lines:
    """A mark with the areas of some layers, whose outlines are the rows of ``x`` and ``y``."""
    looks = [LOOKS[layer] for layer in layers]
    return bqplot.Lines(
        x=x,
        y=y,
        scales=dict(scales),
        colors=[f"{look.color}{round(255 * look.edge):02x}" for look in looks],
        fill="inside",
        fill_colors=[look.color for look in looks],
        fill_opacities=[look.inside for look in looks],
        stroke_width=1.0,
    )


def outlines(moments: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """The x and y of the areas of each layer, up at a start and down at an end.

    ``moments``: for each layer its starts and ends in turn. The y axis goes from 0 to 1. All rows are as long
    as the longest; the others are filled up with points that lie beyond the axis.
    """
    length = max(2, *map(len, moments.values()))
    padded = [np.pad(row, (0, length - len(row)), constant_values=-_NEVER) for row in moments.values()]
    looks = [LOOKS[layer] for layer in moments]
    heights = [np.tile([look.bottom, look.top, look.top, look.bottom], length // 2) for look in looks]
    return np.repeat(np.stack(padded), 2, axis=1), np.array(heights, dtype=np.float32)
