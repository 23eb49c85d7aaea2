"""Chart: the lines of one group that share a unit, over the seconds before now."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import bqplot
import numpy as np

from perfmon_widgets.metrics import Metric
from perfmon_widgets.views.svg import COLORS
from perfmon_widgets.views.text import scale_for

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

# A core is one of many: the line of all of them together is what is looked at.
_FAINT = "#8c9aa8"
# A point for each pixel of a small figure, for every third of a wide one. Each costs bytes, and time of the
# browser, whenever it is drawn: fewer where there are many lines.
_POINTS, _FEWEST = 200, 60
_NUMBERS = 1_300  # of four bytes, in a tick of one chart
_LARGEST = float(np.finfo(np.float32).max)  # which they can be
# Where points lie that are not to be seen, in seconds before now: bqplot cannot place a missing number.
_NOWHERE = 1e9

# Seconds between the marks of the time axis.
_STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 4 * 3600, 6 * 3600, 12 * 3600)

_INK = {"fill": "var(--jp-content-font-color1, currentColor)"}


class Chart(bqplot.Figure):
    """Lines over time, one per metric, of one unit; a percentage is drawn on a fixed 0–100.

    One Lines mark holds all of them, so that a tick is one message. Its series are fixed when it is made,
    because bqplot leaves a removed one on the screen. Those that are ``sparse``, without a value in most
    rows, are drawn as points that are joined. ``behind`` are marks of others, which figures may share.
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        title: str,
        window: float,
        *,
        sparse: bool = False,
        behind: Sequence[bqplot.Mark] = (),
    ) -> None:
        # The faint ones first, so that they lie below.
        self.metrics = tuple(sorted(metrics, key=lambda metric: not is_core(metric)))
        self.unit = metrics[0].unit
        self._name = title
        strong = [metric for metric in self.metrics if not is_core(metric)]
        self.colors = {
            metric.name: _FAINT if is_core(metric) else COLORS[strong.index(metric) % len(COLORS)]
            for metric in self.metrics
        }
        # Where there are more lines than colours, these come again in dashes: 0 is none.
        self.dashes = (
            {metric.name: number // len(COLORS) for number, metric in enumerate(self.metrics)}
            if len(strong) > len(COLORS)
            else {}
        )
        self._divisor, self.label = scale_for(self.unit, 1.0)
        self._x = bqplot.LinearScale(min=-window, max=0.0)
        self._y = bqplot.LinearScale(min=0.0, max=100.0 if self.unit == "percent" else 1.0)
        self._x_axis, self._y_axis = time_axis(self._x), value_axis(self._y)
        nothing = np.full((len(metrics), 2), np.nan, dtype=np.float32)
        self._lines = bqplot.Lines(
            x=np.array([-window, 0.0], dtype=np.float32),
            y=nothing if len(metrics) > 1 else nothing[0],
            scales={"x": self._x, "y": self._y},
            colors=list(self.colors.values()),
            opacities=[0.0 if sparse else 0.5 if is_core(metric) else 1.0 for metric in self.metrics],
            stroke_width=1.0,  # Chromium takes five times as long for anything above a pixel
            preserve_domain={"x": True, "y": True},
        )
        self._points = min(_POINTS, max(_FEWEST, _NUMBERS // (len(metrics) + 1)))
        self._joined = self._join() if sparse else None
        super().__init__(
            # The lines first: there the table reads the values under the mouse.
            marks=[self._lines, *([self._joined] if self._joined else []), *behind],
            axes=[self._x_axis, self._y_axis],
            **figure(),
        )
        if self.dashes:
            self.add_class("perfmon-patterns")  # by panel.css, which counts the lines too
        self._set_top(100.0 if self.unit == "percent" else 1.0)
        self.set_window(window)

    def _join(self) -> bqplot.Lines:
        """What is seen of sparse series: each has times of its own."""
        nowhere = np.zeros((len(self.metrics), 2), dtype=np.float32)
        return bqplot.Lines(
            x=nowhere - _NOWHERE,
            y=nowhere,
            scales={"x": self._x, "y": self._y},
            colors=list(self.colors.values()),
            stroke_width=1.6,  # there are few points
            marker="circle",
            marker_size=10,
        )

    def set_window(self, seconds: float) -> None:
        """Show the last ``seconds`` of the history from the next show() on."""
        self._x.min = -seconds
        label_times(self._x_axis, seconds)

    def show(self, history: pd.DataFrame, now: float) -> None:
        """Draw the part of the history that lies in the window; ``now`` (Unix seconds) is its right end."""
        times = cast("pd.DatetimeIndex", history.index).as_unit("us").asi8 / 1e6
        gaps = np.isin(times, history.attrs["gaps"])
        values = columns(history, self.metrics)
        values[np.abs(values) > _LARGEST] = np.nan
        # Later ones were taken before the clock was set back.
        inside = (times >= now + self._x.min) & (times <= now)
        x, y = thin(times[inside], values[inside], gaps[inside], self._points, -self._x.min)
        if len(x) < 2:
            return  # bqplot takes a single column for a flat list
        if self.unit != "percent":
            self._fit(y)
        ago, y = (x - now).astype(np.float32), (y / self._divisor).astype(np.float32).T
        if self._joined is not None:
            with self._joined.hold_sync():
                self._joined.x, self._joined.y = _points(ago, y)
        with self._lines.hold_sync():
            self._lines.x = ago
            self._lines.y = y if len(self.metrics) > 1 else y[0]

    def _fit(self, values: NDArray[np.float64]) -> None:
        """Make the axis end at a round number above the largest value; let it shrink only by halves."""
        known = np.isfinite(values)
        below = bool(np.min(values, initial=0.0, where=known) < 0)
        largest = float(np.max(np.abs(values), initial=0.0, where=known))
        divisor, label = scale_for(self.unit, largest)
        top = round_up(largest / divisor)
        same = label == self.label and below == (self._y.min < 0)
        if same and (top == self._y.max or (top < self._y.max and top > self._y.max / 2)):
            return
        self._divisor, self.label = divisor, label
        self._set_top(top, below=below)

    def _set_top(self, top: float, *, below: bool = False) -> None:
        """End the axis there; where there are values ``below`` 0, as far below it too."""
        bottom = -top if below else 0.0
        with self._y.hold_sync():
            self._y.min, self._y.max = bottom, top
        step = (top - bottom) / 4
        # As few decimals as tell the truth about every step. Before the ticks, as in label_times().
        decimals = next(number for number in range(400) if math.isclose(round(step, number), step))
        self._y_axis.tick_format = "~s" if top >= 1e5 else f".{decimals}f" if decimals < 5 else ".1e"
        self._y_axis.tick_values = [bottom + step * part for part in range(5)]
        self.title = f"{self._name}, {self.label}" if self.label else self._name


def columns(history: pd.DataFrame, metrics: Sequence[Metric]) -> NDArray[np.float64]:
    """The values of some metrics, of shape (rows, metrics).

    Not by indexing the frame, which would copy what its attrs say of every column: that took half of a tick.
    """
    places = [cast("int", history.columns.get_loc(metric.name)) for metric in metrics]
    return history.to_numpy()[:, places]


def figure() -> dict[str, Any]:
    """What all figures of the panel have in common."""
    return {
        "animation_duration": 0,  # an animation costs the browser four times as much
        "padding_x": 0,
        "padding_y": 0,
        "fig_margin": {"top": 32, "bottom": 22, "left": 40, "right": 20},
        "background_style": {"fill": "transparent"},
        "title_style": {**_INK, "font-size": "12px"},
        "display_toolbar": False,
        "layout": {"height": "165px", "width": "auto", "flex": "1 1 230px", "min_width": "0"},
    }


def time_axis(scale: bqplot.LinearScale) -> bqplot.Axis:
    """The axis below a figure; label_times() writes on it."""
    return axis(scale, side="bottom")


def value_axis(scale: bqplot.LinearScale) -> bqplot.Axis:
    """The axis on the left of a figure."""
    return axis(scale, side="left")


def label_times(axis: bqplot.Axis, window: float) -> None:
    """Mark the last ``window`` seconds in round steps."""
    # None at the left end, where it would lie over the vertical axis.
    step = next((step for step in _STEPS if 5 * step >= window), window)
    ticks = [-step * number for number in range(math.ceil(window / step) - 1, -1, -1)]
    # In this order, and not in one message: bqplot writes new ticks a moment later, with the labels that it
    # had when it got them.
    axis.tick_labels = {f"{tick:g}": _ago(-tick, step) for tick in ticks}
    axis.tick_values = [float(tick) for tick in ticks]


def axis(scale: bqplot.Scale, side: str, **more: Any) -> bqplot.Axis:
    """An axis as all figures have it."""
    return bqplot.Axis(
        scale=scale,
        side=side,
        grid_color="var(--jp-border-color2, rgba(128, 128, 128, 0.3))",
        tick_style={**_INK, "font-size": "10px"},
        **more,
    )


def labels(**where: Any) -> bqplot.Label:
    """Words in a figure, each beginning a little to the right of where it stands."""
    return bqplot.Label(
        **where,
        colors=["var(--jp-content-font-color1, #757575)"],
        default_size=10.0,
        font_weight="normal",
        align="start",
        x_offset=2,
    )


def is_core(metric: Metric) -> bool:
    """Whether it is one of the CPUs, which are many."""
    return metric.where.startswith("core")


def thin(
    times: NDArray[np.float64], y: NDArray[np.float64], gaps: NDArray[np.bool_], points: int, window: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As many points as can be seen of so many seconds, and NaN where samples miss.

    Of those that fall together the highest and their last time. Which do so is told by the times alone, so
    that the line does not change its shape while it moves.
    """
    if len(times) > points:
        # A window that is being filled has at least half as many: its points lie closer by a power of two.
        filled = np.ptp(times) / window
        closer = 2.0 ** max(0, math.floor(-math.log2(filled))) if filled > 0 else 1.0
        places = np.floor(times * closer * (points - 1) / window)
        ends = np.flatnonzero(np.diff(places, append=math.inf))
        starts = np.concatenate([[0], ends[:-1] + 1])
        times, y = times[ends], np.fmax.reduceat(y, starts, axis=0)
        gaps = np.logical_or.reduceat(gaps, starts)
    before = np.flatnonzero(gaps)
    return np.insert(times, before, times[before]), np.insert(y, before, np.nan, axis=0)


def _points(
    x: NDArray[np.float32], y: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For each series the points where it has a value, the last one repeated until all are as many."""
    known = [np.flatnonzero(np.isfinite(series)) for series in y]
    length = max(2, *map(len, known))
    places = [np.pad(each, (0, length - len(each)), mode="edge") if len(each) else None for each in known]
    nowhere = np.zeros(length, dtype=np.float32)
    return (
        np.stack([nowhere - _NOWHERE if each is None else x[each] for each in places]),
        np.stack([nowhere if each is None else series[each] for series, each in zip(y, places, strict=True)]),
    )


def round_up(value: float) -> float:
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
