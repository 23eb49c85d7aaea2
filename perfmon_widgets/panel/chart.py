"""Chart: the lines of one group that share a unit, over the seconds before now."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import bqplot
import numpy as np

from perfmon_widgets.metrics import Metric, scale_for

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

# Told apart by the colour-blind, and readable on white and on black.
_COLORS = ("#3d8fd1", "#e08214", "#1b9e77", "#c05fa8", "#a6851d", "#d9482b", "#7b83c9", "#5a9c2f")
# A core is one of many: the line of all of them together is what is looked at.
_FAINT = "#8c9aa8"
# More points than this cannot be seen, and each costs bytes in every tick.
_POINTS = 600

# Seconds between the marks of the time axis.
_STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 4 * 3600, 6 * 3600, 12 * 3600)

_INK = {"fill": "var(--jp-content-font-color1, currentColor)"}


class Chart(bqplot.Figure):
    """Lines over time, one per metric, of one unit; a percentage is drawn on a fixed 0–100.

    One Lines mark holds all of them, so that a tick is one message. Its series are fixed when it is made,
    because bqplot leaves a removed one on the screen.
    """

    def __init__(self, metrics: Sequence[Metric], title: str, window: float) -> None:
        # The faint ones first, so that they lie below.
        self.metrics = tuple(sorted(metrics, key=lambda metric: not _is_core(metric)))
        self.unit = metrics[0].unit
        self._name = title
        strong = [metric for metric in self.metrics if not _is_core(metric)]
        self.colors = {
            metric.name: _FAINT if _is_core(metric) else _COLORS[strong.index(metric) % len(_COLORS)]
            for metric in self.metrics
        }
        self._divisor, self._label = scale_for(self.unit, 1.0)
        self._x = bqplot.LinearScale(min=-window, max=0.0)
        self._y = bqplot.LinearScale(min=0.0, max=100.0 if self.unit == "percent" else 1.0)
        self._x_axis = _axis(self._x, side="bottom")
        self._y_axis = _axis(self._y, side="left")
        nothing = np.full((len(metrics), 2), np.nan, dtype=np.float32)
        self._lines = bqplot.Lines(
            x=np.array([-window, 0.0], dtype=np.float32),
            y=nothing if len(metrics) > 1 else nothing[0],
            scales={"x": self._x, "y": self._y},
            colors=list(self.colors.values()),
            opacities=[0.5 if _is_core(metric) else 1.0 for metric in self.metrics],
            stroke_width=1.6,
        )
        super().__init__(
            marks=[self._lines],
            axes=[self._x_axis, self._y_axis],
            animation_duration=0,  # an animation costs the browser four times as much
            padding_x=0,
            padding_y=0,
            fig_margin={"top": 32, "bottom": 22, "left": 40, "right": 20},
            background_style={"fill": "transparent"},
            title_style={**_INK, "font-size": "12px"},
            display_toolbar=False,
            layout={"height": "165px", "width": "auto", "flex": "1 1 230px", "min_width": "0"},
        )
        self._set_top(100.0 if self.unit == "percent" else 1.0)
        self.set_window(window)

    def set_window(self, seconds: float) -> None:
        """Show the last ``seconds`` of the history from the next show() on."""
        self._x.min = -seconds
        # None at the left end, where it would lie over the vertical axis.
        step = next((step for step in _STEPS if 5 * step >= seconds), seconds)
        ticks = [-step * number for number in range(math.ceil(seconds / step) - 1, -1, -1)]
        with self._x_axis.hold_sync():
            self._x_axis.tick_values = [float(tick) for tick in ticks]
            self._x_axis.tick_labels = {f"{tick:g}": _ago(-tick, step) for tick in ticks}

    def show(self, history: pd.DataFrame, now: float) -> None:
        """Draw the part of the history that lies in the window; ``now`` (Unix seconds) is its right end."""
        times = cast("pd.DatetimeIndex", history.index).as_unit("us").asi8 / 1e6
        gaps = np.isin(times, history.attrs["gaps"])
        values = columns(history, self.metrics)
        inside = times >= now + self._x.min
        x, y = _thin(times[inside] - now, values[inside], gaps[inside])
        if len(x) < 2:
            return  # bqplot takes a single column for a flat list
        if self.unit != "percent":
            self._fit(y)
        y = (y / self._divisor).astype(np.float32).T
        with self._lines.hold_sync():
            self._lines.x = x.astype(np.float32)
            self._lines.y = y if len(self.metrics) > 1 else y[0]

    def _fit(self, values: NDArray[np.float64]) -> None:
        """Make the axis end at a round number above the largest value; let it shrink only by halves."""
        largest = float(np.max(values, initial=0.0, where=np.isfinite(values)))
        divisor, label = scale_for(self.unit, largest)
        top = _round_up(largest / divisor)
        same = label == self._label
        if same and (top == self._y.max or (top < self._y.max and top > self._y.max / 2)):
            return
        self._divisor, self._label = divisor, label
        self._set_top(top)

    def _set_top(self, top: float) -> None:
        self._y.max = top
        self._y_axis.tick_values = [top * part / 4 for part in range(5)]
        # As few decimals as tell the truth about every step.
        decimals = next(number for number in range(20) if math.isclose(round(top / 4, number), top / 4))
        self._y_axis.tick_format = f".{decimals}f"
        self.title = f"{self._name}, {self._label}"


def columns(history: pd.DataFrame, metrics: Sequence[Metric]) -> NDArray[np.float64]:
    """The values of some metrics, of shape (rows, metrics).

    Not by indexing the frame, which would copy what its attrs say of every column: that took half of a tick.
    """
    places = [cast("int", history.columns.get_loc(metric.name)) for metric in metrics]
    return history.to_numpy()[:, places]


def _axis(scale: bqplot.LinearScale, side: str) -> bqplot.Axis:
    return bqplot.Axis(
        scale=scale,
        side=side,
        grid_color="var(--jp-border-color2, rgba(128, 128, 128, 0.3))",
        tick_style={**_INK, "font-size": "10px"},
    )


def _is_core(metric: Metric) -> bool:
    return metric.where.startswith("core")


def _thin(
    x: NDArray[np.float64], y: NDArray[np.float64], gaps: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As many points as can be seen, the highest of those that fall together, and NaN where samples miss."""
    if len(x) > _POINTS:
        starts = np.arange(0, len(x), math.ceil(len(x) / _POINTS))
        x, y = x[starts], np.fmax.reduceat(y, starts, axis=0)
        gaps = np.logical_or.reduceat(gaps, starts)
    before = np.flatnonzero(gaps)
    return np.insert(x, before, x[before]), np.insert(y, before, np.nan, axis=0)


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 6, 8, 10 times a power of ten: each divides into four readable steps."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 6, 8, 10, 20) if step * power >= value)


def _ago(seconds: float, step: float) -> str:
    """How long ago, in the unit in which the steps of the axis are whole."""
    if seconds == 0:
        return "now"
    size, unit = (3600, "h") if step >= 3600 else (60, "min") if step >= 60 else (1, "s")
    return f"−{seconds / size:g} {unit}"
