"""Chart: the bqplot brush for the lines of a figure, live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import bqplot
import numpy as np

from perfmon_widgets.panel.axes import layout_of_figures, make_axis, show_values
from perfmon_widgets.panel.time_axis import TimeAxis
from perfmon_widgets.views.figures import Figure, Line, Rows, fill
from perfmon_widgets.views.palette import DASHES

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A point for each pixel of a small figure, for every third of a wide one. Each costs bytes, and the browser's
# time, in every drawing: fewer where there are many lines.
_MAX_POINTS, _MIN_POINTS = 200, 60
_NUMBERS = 1_100  # of four bytes, in one message of one chart
_AREA = 0.13  # opacity of the area below the main line, by which the eye finds it
_FEW = 4  # lines: bqplot makes an area below each line, also where it cannot be seen, and each costs time
# Invisible points lie this many seconds before now, left of the figure: bqplot cannot place a missing number.
_NOWHERE = 1e9


class Chart(bqplot.Figure):
    """The lines of a figure, live.

    One Lines mark holds them all, so that a sample is one message. The lines are fixed when the chart is
    made, because bqplot leaves a removed one on the screen. A figure with joined lines has a second mark for
    them, since their points have times of their own.

    Args:
        figure: the figure that is drawn; it may have no numbers yet.
        time: the time axis; the charts of a section share it.
        behind: marks that lie behind the lines; several charts may share them.
    """

    def __init__(self, figure: Figure, time: TimeAxis, *, behind: Sequence[bqplot.Mark] = ()) -> None:
        self.drawn = figure
        """The figure with the numbers that are shown."""
        lines = figure.lines
        self._points = min(_MAX_POINTS, max(_MIN_POINTS, _NUMBERS // (len(lines) + 1)))
        self._time = time
        self._y = bqplot.LinearScale()
        self._y_axis = make_axis(self._y, "left")
        main = _main(lines)
        x, y = _with_ends(np.array([-time.seconds, 0.0]), np.full((len(lines), 2), np.nan))
        self._lines = bqplot.Lines(
            x=x,
            y=y,
            scales={"x": time.ago, "y": self._y},
            colors=[_stroke(line) for line in lines],
            opacities=[0.0 if line.joined else 0.5 if line.faint else 1.0 for line in lines],
            fill="bottom" if main else "none",
            fill_colors=[line.color for line in lines],
            fill_opacities=[_AREA if line is main else 0.0 for line in lines],
            stroke_width=1.0,  # Chromium takes five times as long for anything above a pixel
            preserve_domain={"x": True, "y": True},
        )
        self._joined = self._make_joined() if any(line.joined for line in lines) else None
        super().__init__(
            # The lines first: table.js reads the values under the mouse from the first mark.
            marks=[self._lines, *([self._joined] if self._joined else []), *behind],
            axes=[time.axes[0], self._y_axis, time.axes[1]],
            **layout_of_figures(),
        )
        self._show_axis()

    def _make_joined(self) -> bqplot.Lines:
        nowhere = np.zeros((len(self.drawn.lines), 2), dtype=np.float32)
        return bqplot.Lines(
            x=nowhere - _NOWHERE,
            y=nowhere,
            scales={"x": self._time.ago, "y": self._y},
            colors=[line.color for line in self.drawn.lines],
            stroke_width=1.6,  # there are few points
            marker="circle",
            marker_size=10,
        )

    def show(self, rows: Rows, now: float) -> None:
        """Draw the rows, of the time that the axis shows; ``now`` (Unix seconds) is its right end."""
        seconds = self._time.seconds
        filled = fill(self.drawn, rows, points=self._points, seconds=seconds, keep_axis=True)
        times, values = filled.lines[0].times, np.stack([line.values for line in filled.lines])
        if len(times) < 2:  # bqplot takes a single column for a flat list
            times, values = np.array([now - seconds, now]), np.full((len(values), 2), np.nan)
        changed, self.drawn = filled.axis != self.drawn.axis, filled
        if changed:
            self._show_axis()
        if self._joined is not None:
            with self._joined.hold_sync():
                self._joined.x, self._joined.y = self._joined_points(now)
        with self._lines.hold_sync():
            self._lines.x, self._lines.y = _with_ends(times - now, values)

    def _show_axis(self) -> None:
        axis = self.drawn.axis
        with self._y.hold_sync():
            self._y.min, self._y.max = axis.ends
        show_values(self._y_axis, axis)
        self.title = self.drawn.title

    def _joined_points(self, now: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The points of each joined line, the last one repeated until all lines have as many."""
        points = [line.points if line.joined else (np.zeros(0), np.zeros(0)) for line in self.drawn.lines]
        length = max(2, *(len(times) for times, _ in points))
        x = np.full((len(points), length), -_NOWHERE, dtype=np.float32)
        y = np.zeros((len(points), length), dtype=np.float32)
        for at, (times, values) in enumerate(points):
            if len(times):
                more = (0, length - len(times))
                x[at], y[at] = np.pad(times - now, more, mode="edge"), np.pad(values, more, mode="edge")
        return x, y


def _main(lines: Sequence[Line]) -> Line | None:
    """Return the line that has an area below it: the only solid one of a few lines."""
    solid = [line for line in lines if not (line.faint or line.joined or line.dash)]
    return solid[0] if len(solid) == 1 and len(lines) <= _FEW else None


def _stroke(line: Line) -> str:
    """The colour of a line, as CSS. That of a dashed one also names its dashes.

    bqplot has one dash pattern for all lines of a mark. So panel.css sets the pattern of each line, which it
    finds by the name of a CSS property in the line's colour: ``var(--perfmon-dash-1, #1f77b4)``. That
    property is never set, so a browser uses the fallback value, which is the colour.
    """
    return f"var(--perfmon-dash-{DASHES.index(line.dash)}, {line.color})" if line.dash else line.color


def _with_ends(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The points of all lines in four bytes, with an invisible last one where the newest value is missing.

    bqplot logs an error in the browser's console, in each drawing, for a line that ends with a missing value.
    ``y`` has a row per line; what is returned has for a single line the row itself, as bqplot requires.
    """
    if not np.isfinite(y[:, -1]).all():
        x = np.append(x, [-_NOWHERE, -_NOWHERE])
        y = np.pad(np.pad(y, ((0, 0), (0, 1)), constant_values=np.nan), ((0, 0), (0, 1)))
    values = y.astype(np.float32)
    return x.astype(np.float32), values if len(values) > 1 else values[0]
