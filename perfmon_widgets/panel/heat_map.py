"""HeatMap: the bqplot brush for a map, such as how busy each of many CPUs was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bqplot
import numpy as np

from perfmon_widgets.panel.axes import layout_of_figures, make_axis, show_times
from perfmon_widgets.views.figures import Figure, Rows
from perfmon_widgets.views.maps import means_of_map
from perfmon_widgets.views.palette import MAP_COLORS

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The value of a missing number: one step of the colours below 0, since NaN is drawn like the cell before it.
_MISSING = -20.0
# Columns of the map, fewer where there are many rows: each cell is four bytes in every message.
_COLUMNS, _CELLS = 120, 2_500


class HeatMap(bqplot.Figure):
    """A map of percentages: a row for each line of the figure, a column for the mean of each short time."""

    def __init__(self, figure: Figure, window: float) -> None:
        self.drawn = figure
        """What is drawn; its lines have no numbers."""
        rows = len(figure.lines)
        self._count = min(_COLUMNS, max(24, _CELLS // rows))
        x_scale = bqplot.LinearScale(min=-window, max=0.0)
        y_scale = bqplot.LinearScale(min=-0.5, max=rows - 0.5)
        self._x_axis, y_axis = make_axis(x_scale, "bottom"), make_axis(y_scale, "left")
        y_axis.grid_lines = "none"
        y_axis.tick_values = [float(rows * quarter // 4) for quarter in range(4)] + [rows - 1.0]
        y_axis.tick_format = ".0f"
        self._map = bqplot.HeatMap(
            color=np.full((rows, self._count), _MISSING, dtype=np.float32),
            x=self._middles(window),
            y=np.arange(rows, dtype=np.float32),
            scales={
                "x": x_scale,
                "y": y_scale,
                "color": bqplot.ColorScale(min=_MISSING, max=100, colors=["transparent", *MAP_COLORS]),
            },
        )
        super().__init__(
            marks=[self._map],
            axes=[self._x_axis, y_axis],
            title=f"{figure.name} by number, dark 0 to bright 100 %",
            **layout_of_figures(),
        )
        self.set_window(window)

    def set_window(self, seconds: float) -> None:
        """Show the last ``seconds`` of the history from the next show() on."""
        self._window = seconds
        self._map.scales["x"].min = -seconds
        self._map.x = self._middles(seconds)
        show_times(self._x_axis, seconds)

    def _middles(self, window: float) -> NDArray[np.float32]:
        edges = np.linspace(-window, 0.0, self._count + 1)
        return ((edges[1:] + edges[:-1]) / 2).astype(np.float32)

    def show(self, rows: Rows, now: float) -> None:
        """Draw the rows that lie in the window; ``now`` (Unix seconds) is its right end."""
        means = means_of_map(self.drawn, rows, now - self._window, now, self._count)
        self._map.color = np.nan_to_num(means, nan=_MISSING)
