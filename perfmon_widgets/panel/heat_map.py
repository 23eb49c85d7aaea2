"""HeatMap: the bqplot brush for a map, such as how busy each of many CPUs or GPUs was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import bqplot
import numpy as np

from perfmon_widgets.panel.axes import layout_of_figures, make_axis
from perfmon_widgets.panel.time_axis import TimeAxis
from perfmon_widgets.views.figures import Figure, Rows
from perfmon_widgets.views.maps import means_of_map
from perfmon_widgets.views.palette import MAP_COLORS

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The value of a missing number: one step of the colours below 0, since NaN is drawn like the cell before it.
_MISSING = -20.0
# Columns of the map, fewer where there are many rows: each cell is four bytes in every message.
_COLUMNS, _CELLS = 120, 2_500
# Labels of rows that have room above one another, and the pixels of their letters.
_LABELS, _LETTER = 12, 5.5
_STRIP = 0.12  # of a figure's height, above the rows, for the names of what lies behind


class HeatMap(bqplot.Figure):
    """A map of percentages: a row for each line of the figure, a column for the mean of each short time.

    Args:
        figure: the figure that is drawn.
        time: the time axis; the figures of a section share it.
        behind: marks over the same time, such as cells, that several figures may share. They lie over the
            map, which would hide them, and reach into a strip above it.
    """

    def __init__(self, figure: Figure, time: TimeAxis, *, behind: Sequence[bqplot.Mark] = ()) -> None:
        self.drawn = figure
        """What is drawn; its lines have no numbers."""
        rows = len(figure.lines)
        self._count = min(_COLUMNS, max(24, _CELLS // rows))
        self._time, self._seconds = time, time.seconds
        y_scale = bqplot.LinearScale(min=-0.5, max=rows * (1 + _STRIP if behind else 1) - 0.5)
        y_axis = make_axis(y_scale, "left")
        y_axis.grid_lines = "none"
        self._map = bqplot.HeatMap(
            color=np.full((rows, self._count), _MISSING, dtype=np.float32),
            x=self._middles(),
            y=np.arange(rows, dtype=np.float32),
            scales={
                "x": time.ago,
                "y": y_scale,
                "color": bqplot.ColorScale(min=_MISSING, max=100, colors=["transparent", *MAP_COLORS]),
            },
        )
        layout = layout_of_figures()
        labels = dict(figure.row_labels(_LABELS))
        margin = 12 + round(_LETTER * max(map(len, labels.values())))
        layout["fig_margin"]["left"] = max(layout["fig_margin"]["left"], margin)
        super().__init__(
            # The map first: table.js reads the values under the mouse from the first mark.
            marks=[self._map, *behind],
            axes=[time.axes[0], y_axis, time.axes[1]],
            title=figure.title,
            **layout,
        )
        y_axis.tick_labels = {f"{row:g}": label for row, label in labels.items()}
        y_axis.tick_values = [float(row) for row in labels]

    def _middles(self) -> NDArray[np.float32]:
        edges = np.linspace(-self._seconds, 0.0, self._count + 1)
        return ((edges[1:] + edges[:-1]) / 2).astype(np.float32)

    def show(self, rows: Rows, now: float) -> None:
        """Draw the rows of the time that the axis shows; ``now`` (Unix seconds) is its right end."""
        if self._seconds != self._time.seconds:
            self._seconds = self._time.seconds
            self._map.x = self._middles()
        means = means_of_map(self.drawn, rows, now - self._seconds, now, self._count)
        self._map.color = np.nan_to_num(means, nan=_MISSING)
