"""Figures in numbers for a page that draws them itself: all points, or those since what the page has.

All figures have one time axis, and the points of all lines lie at the same times, so that the times are sent
once. Where points lie does not depend on when they are sent: a page can append new ones to those it has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, islice, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from perfmon_widgets.views.axis import LARGEST, Axis, axis_for, drawable, ends
from perfmon_widgets.views.figures import Figure, Rows, shown_seconds, with_unit
from perfmon_widgets.views.maps import means_of_columns
from perfmon_widgets.views.palette import MAP_COLORS
from perfmon_widgets.views.statistics import Summary, density, thin_to

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Points of a line, and of all lines together: that is what a page is sent at first.
_POINTS, _LEAST_POINTS, _ALL_POINTS = 90, 24, 1500
# Columns of a map, fewer where there are many rows.
_COLUMNS, _LEAST_COLUMNS, _CELLS = 60, 24, 1500
# What stands for a colour of a map, from 0 to 100 %, and for a missing value.
_LETTERS, _MISSING = np.arange(ord("0"), ord("0") + len(MAP_COLORS), dtype=np.uint8), ord("-")
# The shortest time that is shown, in seconds: times are known to a microsecond.
_SHORTEST = 1e-3
# Seconds by which a time in whole microseconds may differ from that of its sample.
_ROUNDED = 1e-6


class Grid(NamedTuple):
    """How the points of lines and the columns of maps lie in time."""

    start: float
    """Where the figures begin, in Unix seconds."""
    end: float
    per_second: float
    """Points of a line; 0 if each row is a point."""
    column: float
    """Seconds of a column of a map. Columns begin at multiples of it, so that they stay what they are."""


def grid_of(rows: Rows, figures: Sequence[Figure], window: float) -> Grid:
    """Return the grid of figures that show these rows, and at most ``window`` seconds."""
    end = float(rows.times[-1])
    seconds = max(_SHORTEST, shown_seconds(end - float(rows.times.min()), window))
    lines = sum(len(figure.lines) for figure in figures if not figure.is_map)
    points = min(_POINTS, max(_LEAST_POINTS, _ALL_POINTS // max(lines, 1)))
    highest = max((len(figure.lines) for figure in figures if figure.is_map), default=1)
    columns = min(_COLUMNS, max(_LEAST_COLUMNS, _CELLS // highest))
    return Grid(end - seconds, end, density(rows.times, points, seconds), seconds / columns)


class Points:
    """The points of lines and columns of maps to send: from the one with the newest row of a page onwards.

    Args:
        rows: the rows that are shown; of columns that have a figure, and perhaps of others.
        grid: what ``grid_of()`` returned for these rows.
        since: the time of the newest row that the page has, in Unix seconds; −inf if it has none.
        shown: the summary of all the rows.
    """

    def __init__(self, rows: Rows, grid: Grid, since: float, shown: Summary) -> None:
        self._rows = rows
        self._width = grid.column
        self._lowest: list[float] = np.fmin(shown.minimum, 0.0).tolist()
        self._largest: list[float] = np.fmax(shown.maximum, 0.0).tolist()
        # Where the computer's clock was set back, nothing can be appended.
        since = since if (rows.times[1:] > rows.times[:-1]).all() else -math.inf
        first = _first_row(rows.times, grid.per_second, since)
        new = drawable(rows.values[first:])
        times, self._points = thin_to(rows.times[first:], new, rows.gaps[first:], grid.per_second)
        self.times: list[float] = times.round(3).tolist()
        """Of the points, in Unix seconds."""
        self.start = float(rows.times[first].round(3)) if first < len(rows.times) else grid.end
        """From when on the points take the place of those that a page has, in Unix seconds."""
        self.column = math.ceil(max(since, grid.start) / grid.column) - 1
        """The number of the first column of a map; those that a page has from this one on are replaced."""
        self._columns = math.ceil(grid.end / grid.column) - self.column

    def of_lines(self, figures: Sequence[Figure]) -> list[list[str]]:
        """Return the values of each line of each figure in base units, with commas in between.

        A value that is missing is ``nan``.
        """
        # All figures together, since most of the time is taken by the number of calls.
        points = self._points[:, [place for figure in figures for place in self._places(figure)]]
        # Four digits are finer than a pixel. All numbers of a line in one step, which takes half as long.
        line = ",".join(["%.4g"] * len(points))
        texts = iter([line % tuple(series) for series in points.T.tolist()])
        return [[*islice(texts, len(figure.lines))] for figure in figures]

    def of_maps(self, figures: Sequence[Figure]) -> list[list[str]]:
        """Return the columns of each map, with a letter for each cell, from below.

        That is the number of its colour in MAP_COLORS, or ``-`` if the value is missing.
        """
        start = self.column * self._width
        end = start + self._columns * self._width
        # Together, as above.
        names = [line.name for figure in figures for line in figure.lines]
        means = means_of_columns(names, self._rows, start, end, self._columns).T
        missing = ~np.isfinite(means)
        share = np.where(missing, 0.0, np.clip(means, 0.0, 100.0)) / 100
        letters = _LETTERS[np.rint(share * (len(_LETTERS) - 1)).astype(int)]
        letters[missing] = _MISSING
        columns = [column.tobytes().decode() for column in letters]
        ends = [0, *accumulate(len(figure.lines) for figure in figures)]
        return [[column[begin:until] for column in columns] for begin, until in pairwise(ends)]

    def axis(self, figure: Figure) -> Axis:
        """Return the axis for all the values that are shown."""
        places = self._places(figure)
        lowest = min(self._lowest[place] for place in places)
        largest = max(self._largest[place] for place in places)
        if max(-lowest, largest) > LARGEST:
            lowest, largest = ends(drawable(self._rows.values[:, places]))
        return axis_for(figure.unit, lowest, largest)

    def _places(self, figure: Figure) -> list[int]:
        return [self._rows.columns[line.name] for line in figure.lines]


def _first_row(times: Floats, per_second: float, since: float) -> int:
    """The first row of the point in which the row at ``since`` is; without points, the first after it."""
    if since == -math.inf:
        return 0
    if not per_second:
        return int(np.searchsorted(times, since + _ROUNDED, "right"))
    return int(np.searchsorted(np.floor(times * per_second), np.floor(since * per_second)))


def in_json(figures: Sequence[Figure], points: Points) -> list[dict[str, Any]]:
    """Return the title, the axis and the points of each figure as they are sent."""
    maps = iter(points.of_maps([figure for figure in figures if figure.is_map]))
    lines = iter(points.of_lines([figure for figure in figures if not figure.is_map]))
    return [
        {"title": figure.title, "columns": next(maps)}
        if figure.is_map
        else {**_axis_in_json(figure.name, points.axis(figure)), "values": next(lines)}
        for figure in figures
    ]


# An axis changes far less often than the values on it.
@lru_cache(maxsize=256)
def _axis_in_json(name: str, axis: Axis) -> dict[str, Any]:
    texts = [f"{value:.4g}" if number % 2 == 0 else "" for number, value in enumerate(axis.ticks)]
    return {
        "title": with_unit(name, axis),
        "ends": axis.ends,
        "divisor": axis.divisor,
        "ticks": [*zip(axis.ticks, texts, strict=True)],
    }
