"""Figures as data: what is drawn of a history, decided once for all renderers.

A renderer (bqplot in ``panel/``, SVG in ``views/svg.py``) only draws a Figure. This module decides which
columns share a figure, in which order, where the axis ends, and where a line is broken. ``palette.py``
decides the colours and dashes. A Figure is made in two steps: ``section()`` or ``chosen()`` decide what it
shows, and ``fill()`` gives it the numbers of a history.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from perfmon_widgets.metrics import RECORDED, Metric, place_label
from perfmon_widgets.views.axis import Axis, axis_for, drawable, ends
from perfmon_widgets.views.columns import alike, amounts, is_part, quantity_label, title_of, without_limits
from perfmon_widgets.views.palette import looks
from perfmon_widgets.views.statistics import row_seconds, thin

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# More faint lines than this cannot be distinguished: percentages are drawn as a map instead.
_MAX_PARTS = 8
# Figures of one section. A user may record a hundred quantities; the rest stand in the table only.
_MAX_FIGURES = 24
# Letters of the label of a map's row; a longer one is cut.
_LETTERS = 18
# The seconds that a live figure shows: each is long enough that the axis seldom changes, and at most half as
# long again as the one before, so that at least two thirds of a figure are filled.
_SHOWN = (30, 45, 60, 90, 120, 180, 240, 300, 420, 600, 900, 1200, 1800, 2700, 3600, 5400, 7200, 10800, 14400)

_NONE: Floats = np.zeros(0)


class Line(NamedTuple):
    """One column of a figure: how it looks and, once it is filled, its points."""

    name: str
    """The column."""
    label: str
    """The same in words for a person, as in ``Metric.label``."""
    color: str
    dash: str = ""
    """Its pattern, as in ``stroke-dasharray``; a solid line has none."""
    faint: bool = False
    """Drawn pale and behind the others: one of many that another line sums up, such as a single CPU."""
    joined: bool = False
    """Whether points are connected over rows without a value, as those of a recorded series are."""
    times: Floats = _NONE
    """Unix seconds; all lines of a figure have the same."""
    values: Floats = _NONE
    """In the unit of the axis; NaN where a value, or samples before a row, are missing."""

    @property
    def points(self) -> tuple[Floats, Floats]:
        """Times and values as drawn: NaN breaks the line; a joined line has only its known points."""
        if not self.joined:
            return self.times, self.values
        known = np.isfinite(self.values)
        return self.times[known], self.values[known]


@dataclass(frozen=True)
class Figure:
    """Lines over time that share a unit and an axis."""

    name: str
    unit: str
    lines: tuple[Line, ...]
    """From back to front."""
    axis: Axis
    is_map: bool = False
    """A map (a row per line, brightness for the value) instead of lines."""
    rows: tuple[str, ...] = ()
    """What stands at the rows of a map, from below: ``GPU 0``; nothing if they are known by their numbers."""

    @property
    def title(self) -> str:
        """The name and the unit of the axis: ``Memory, GiB``; of a map how it is read."""
        if self.is_map:
            return f"{self.name}{'' if self.rows else ' by number'} (bright: 100 %)"
        return with_unit(self.name, self.axis)

    def row_labels(self, most: int) -> list[tuple[int, str]]:
        """Labels of rows of a map, from below, at most ``most`` of them; each with the number of its row.

        Of many rows they are short, ``121`` for ``worker 121``: the title says what the rows are. A long
        label has no middle, since what tells rows apart is at the ends.
        """
        count = len(self.lines)
        if not self.rows:
            return [(row, str(row)) for row in sorted({*(count * part // 4 for part in range(4)), count - 1})]
        labels = self.rows
        kinds = {label.rpartition(" ")[0] for label in labels}
        if count > most and len(kinds) == 1:
            labels = tuple(label.rpartition(" ")[2] for label in labels)
        # From the top, where the first is.
        shown = range(count - 1, -1, -math.ceil(count / most))
        return [(row, _without_middle(labels[row])) for row in reversed(shown)]

    def only(self, names: Collection[str]) -> Figure:
        """The same figure without its other lines; those that stay look the same."""
        stays = [line.name in names for line in self.lines]
        rows = tuple(compress(self.rows, stays))
        return replace(self, lines=tuple(compress(self.lines, stays)), rows=rows)


def with_unit(name: str, axis: Axis) -> str:
    """The title of a figure with this name and axis: ``Memory, GiB``."""
    return f"{name}, {axis.label}" if axis.label else name


def _without_middle(label: str) -> str:
    if len(label) <= _LETTERS:
        return label
    kept = (_LETTERS - 1) // 2
    return f"{label[:kept]}…{label[-kept:]}"


class Rows(NamedTuple):
    """Rows of a history as arrays."""

    columns: Mapping[str, int]
    """The place of each column in ``values``."""
    times: Floats
    """Unix seconds."""
    values: Floats
    """Of shape (rows, columns)."""
    gaps: NDArray[np.bool_]
    """For each row whether samples are missing before it."""
    seconds: Floats
    """How many seconds each row stands for; see statistics.row_seconds."""

    def of(self, names: Iterable[str]) -> Floats:
        """A copy of the values of some columns, of shape (rows, names)."""
        return self.values[:, [self.columns[name] for name in names]]

    def between(self, start: float, end: float) -> Rows:
        """The rows from ``start`` to ``end`` (Unix seconds), both included.

        Rows later than ``end`` were taken before the computer's clock was set back.
        """
        found: NDArray[np.intp] = np.flatnonzero((self.times >= start) & (self.times <= end))
        # Rows that follow one another need not be copied.
        is_one = len(found) and found[-1] - found[0] == len(found) - 1
        inside = slice(found[0], found[-1] + 1) if is_one else found
        return Rows(
            self.columns,
            self.times[inside],
            self.values[inside],
            self.gaps[inside],
            self.seconds[inside],
        )

    def around(self, start: float, end: float) -> Rows:
        """The rows of between(), and the nearest before and after them, so that lines reach both ends."""
        before = np.max(self.times, initial=-np.inf, where=self.times < start)
        after = np.min(self.times, initial=np.inf, where=self.times > end)
        return self.between(start if np.isinf(before) else before, end if np.isinf(after) else after)

    def known(self) -> set[str]:
        """The columns that have a value in any row."""
        some: NDArray[np.bool_] = np.any(np.isfinite(self.values), axis=0)
        return {name for name, at in self.columns.items() if some[at]}


def rows_of(history: pd.DataFrame) -> Rows:
    """The rows of a history: what ``PerformanceMonitor.history`` or ``read_csv`` returns."""
    # The whole table at once: selecting columns of a DataFrame copies its attrs each time, which took half
    # the time of drawing.
    index: Any = history.index
    times = index.as_unit("us").asi8 / 1e6
    gaps = np.isin(times, history.attrs.get("gaps", ()))
    columns = {name: at for at, name in enumerate(history.columns)}
    return Rows(columns, times, history.to_numpy(dtype=float), gaps, row_seconds(times, gaps))


def section(group: str, metrics: Sequence[Metric]) -> list[Figure]:
    """The figures of one group: one for each unit; of recorded series and of many GPUs, one per quantity.

    ``metrics``: all that are declared, since the colours follow their order. Limits are not drawn, since they
    do not change. Of an amount and its percentage only one is drawn: the amount, if it is a headline, since
    its percentage stands in a gauge; else the percentage. The table has all of them.

    Parts, such as single CPUs, are faint; more than eight of them become a map. So do the percentages of more
    than two GPUs, or other things of one kind: a map for each, with a row per GPU.
    """
    members = [metric for metric in without_limits(metrics) if metric.group == group]
    many = alike(members)
    one_each = {metric.name for quantities in many.values() for metric in quantities.values()}
    doubles = _doubles(members, mapped=one_each)
    drawn = [metric for metric in members if metric.name not in doubles]
    parts = [metric for metric in drawn if is_part(metric) and metric.unit == "percent"]
    mapped = parts if len(parts) > _MAX_PARTS else []
    together: dict[tuple[bool, str], list[Metric]] = {}
    for metric in drawn:
        if metric not in mapped:
            # A quantity is what follows the slash: train/loss and test/loss share a figure.
            by_quantity = group == RECORDED or metric.name in one_each
            together.setdefault((by_quantity, metric.what if by_quantity else metric.unit), []).append(metric)
    figures = []
    for (_, name), of_figure in together.items():
        if of_figure[0].name in one_each:
            figures.append(_of_many(group, of_figure, metrics))
        else:
            # The parts first, so that they lie behind.
            ordered = sorted(of_figure, key=is_part, reverse=True)
            figures.append(_figure(name if group == RECORDED else title_of(group), ordered, metrics))
    if mapped:
        figures.insert(
            1, replace(_figure("CPUs" if group == "cpu" else title_of(group), mapped, metrics), is_map=True)
        )
    figures.sort(key=lambda figure: not figure.rows)  # the maps of GPUs first, side by side
    return figures[:_MAX_FIGURES]


def _doubles(members: Sequence[Metric], mapped: Collection[str]) -> set[str]:
    """The columns that are not drawn since another one says the same; a map takes the percentage."""
    headlines = {metric.name for metric in members if metric.role == "headline"}
    return {
        percent if amount in headlines and percent not in mapped else amount
        for percent, amount in amounts(members).items()
    }


def _of_many(group: str, members: Sequence[Metric], metrics: Sequence[Metric]) -> Figure:
    """One quantity of many GPUs, or other things of one kind: a map of a percentage, else lines."""
    name = f"{title_of(group)} {quantity_label(members[0])}"
    if members[0].unit != "percent":
        return _figure(name, members, metrics)
    figure = _figure(name, members[::-1], metrics)  # a map is drawn from below, and the first is to be on top
    return replace(figure, is_map=True, rows=tuple(place_label(each.where) for each in members[::-1]))


def chosen(names: Sequence[str], metrics: Sequence[Metric]) -> list[Figure]:
    """The figures of chosen columns: one for each unit, in the order of the names.

    A part or a limit that is chosen by its name is a line like any other.
    """
    declared = {metric.name: metric for metric in metrics}
    units: dict[str, list[Metric]] = {}
    for name in names:
        units.setdefault(declared[name].unit, []).append(declared[name])
    return [
        _figure(f"{len(members)} columns" if members[1:] else members[0].name, members, metrics, faint=False)
        for members in units.values()
    ]


def by_default(metrics: Sequence[Metric]) -> list[str]:
    """The columns that are drawn where none are chosen: neither limits nor parts."""
    return [metric.name for metric in without_limits(metrics) if not is_part(metric)]


def shown_seconds(age: float, window: float) -> float:
    """How many seconds a live figure shows: as many as there are rows, from half a minute to the window.

    ``age``: the seconds from the oldest row of the window to now.
    """
    return next((float(each) for each in _SHOWN if age <= each <= window), window)


def fill(
    figure: Figure, rows: Rows, *, points: int, seconds: float | None = None, keep_axis: bool = False
) -> Figure:
    """The figure with the numbers of these rows, at most about ``points`` for each line.

    ``seconds``: how long a time is shown, by default from the first row to the last. ``keep_axis``: leave an
    axis as it is that is at most twice as long as it need be, so that a live axis does not jump.
    """
    values = drawable(rows.of(line.name for line in figure.lines))
    axis = axis_for(figure.unit, *ends(values), current=figure.axis if keep_axis else None)
    if seconds is None:
        seconds = float(np.ptp(rows.times)) if len(rows.times) else 0.0
    times, thinned = thin(rows.times, values, rows.gaps, points, seconds or 1.0)
    drawn = (thinned / axis.divisor).T
    lines = tuple(
        line._replace(times=times, values=series) for line, series in zip(figure.lines, drawn, strict=True)
    )
    return replace(figure, lines=lines, axis=axis)


def _figure(name: str, members: Sequence[Metric], metrics: Sequence[Metric], *, faint: bool = True) -> Figure:
    """An empty figure of some of the metrics, in their order."""
    pale = {metric.name for metric in members if faint and is_part(metric)}
    lines = tuple(
        Line(
            metric.name,
            metric.label,
            *look,
            faint=metric.name in pale,
            joined=metric.group == RECORDED,
        )
        for metric, look in zip(members, looks(members, pale, without_limits(metrics)), strict=True)
    )
    return Figure(name, members[0].unit, lines, axis_for(members[0].unit, 0.0, 0.0))
