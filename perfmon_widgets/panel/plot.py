"""plot: a figure of chosen columns of a history, with the times of the readings on its axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import bqplot
import ipywidgets
import numpy as np
import pandas as pd

from perfmon_widgets.panel.axes import layout_of_figures, make_axis, make_labels, show_values
from perfmon_widgets.panel.shading import make_areas, outlines
from perfmon_widgets.views.columns import metrics_of
from perfmon_widgets.views.figures import Figure, Line, by_default, chosen, fill, rows_of
from perfmon_widgets.views.local_time import format_dates, offset, ticks, time_format
from perfmon_widgets.views.palette import DASHES
from perfmon_widgets.views.stretches import LOOKS, Stretch, edges, names, stretches
from perfmon_widgets.views.svg import image, picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

_POINTS = 1_500  # of one line
_PIXELS = 600  # the width that a figure is taken to have
_PIXELS_A_LETTER = 6.5
_STYLES = dict(zip(DASHES, ("solid", "dashed", "dotted", "dash_dotted"), strict=True))


class _Pictured(ipywidgets.DOMWidget):
    """A widget that is stored with a picture, for pages without live widgets."""

    picture = ""

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        bundle["text/html"] = image(self.picture, repr(self))
        bundle["text/plain"] = repr(self)
        return bundle


class PlotFigure(_Pictured, bqplot.Figure):
    """Columns of one unit."""

    def __repr__(self) -> str:
        return f"<PlotFigure: {self.title}>"


class PlotFigures(_Pictured, ipywidgets.VBox):
    """A figure for each unit, below one another."""

    def __repr__(self) -> str:
        return f"<PlotFigures: {'; '.join(figure.title for figure in self.children)}>"


class _Row(NamedTuple):
    """A row of a table of spans."""

    kind: str
    name: str
    start: float
    end: float
    execution_count: int | None = None


def plot(
    history: pd.DataFrame, columns: str | Sequence[str] | None = None, *, spans: pd.DataFrame | None = None
) -> PlotFigure | PlotFigures:
    """A bqplot figure of some columns over time; a VBox of one for each unit, if there are several.

    ``history``: what ``PerformanceMonitor.history`` or ``read_csv`` returns, or rows of it for a shorter
    time, as in ``history["2030-01-31 12:00":]``. ``columns``: by default all but limits and single CPUs.
    ``spans``: the monitor's ``cells``, ``spans`` or ``marks``, or what ``read_spans`` returns, to be shown
    behind the lines. A page without a kernel shows a picture. The axis has the time of day of the reader, and
    names the zone.

    Raises ValueError for a column that does not exist and for fewer than two rows, TypeError if ``history``
    or ``spans`` is something else.
    """
    if not isinstance(history, pd.DataFrame) or not isinstance(history.index, pd.DatetimeIndex):
        raise TypeError(f"history must be what monitor.history or read_csv() returns, not {_kind(history)}")
    if len(history) < 2:
        raise ValueError(f"a line takes two rows; this history has {len(history)}")
    rows = rows_of(history)
    start, end = float(rows.times.min()), float(rows.times.max())
    behind = [] if spans is None else stretches(_rows_of(spans), start, end)
    # Under the names that the caller has for them.
    named = metrics_of(list(rows.columns), rows.values, history.attrs)
    metrics = [replace(metric, label=metric.name) for metric in named]
    if columns is None:
        known = rows.known()
        found = [name for name in by_default(metrics) if name in known]
    else:
        found = _checked(columns, history)
    if not found:
        raise ValueError("columns: there is nothing to draw")
    figures = [fill(figure, rows, points=_POINTS) for figure in chosen(found, metrics)]
    drawn = [PlotFigure(**_traits(figure, start, end, behind)) for figure in figures]
    shown = drawn[0] if len(drawn) == 1 else PlotFigures(drawn)
    shown.picture = picture(figures, start, end, behind)
    return shown


def _checked(columns: str | Sequence[str], history: pd.DataFrame) -> list[str]:
    """The chosen columns, each once; ValueError if one does not exist."""
    found = [columns] if isinstance(columns, str) else list(dict.fromkeys(columns))
    unknown = [name for name in found if name not in history]
    if unknown:
        there = ", ".join(history.columns)
        raise ValueError(f"there is no column {unknown[0]!r} in this history; there are {there}")
    return found


def _traits(figure: Figure, start: float, end: float, behind: Sequence[Stretch]) -> dict[str, Any]:
    """The traits of the bqplot figure that draws a figure."""
    # Without limits: bqplot places those of a DateScale wrongly in a browser whose time zone is not UTC. It
    # finds them itself, from the points of the lines.
    bottom, top = figure.axis.ends
    scales = {"x": bqplot.DateScale(), "y": bqplot.LinearScale(min=bottom, max=top)}
    axis = make_axis(scales["y"], "left")
    show_values(axis, figure.axis)
    found = ticks(start, end, _PIXELS)
    time = make_axis(
        scales["x"],
        "bottom",
        label=format_dates(start, end),
        tick_values=_moments(np.array([tick.time for tick in found]), end),
        tick_format=time_format(start, end, _PIXELS),
    )
    layout = layout_of_figures()
    return layout | {
        "marks": [*_shades(behind, start, end, scales["x"]), *_lines(figure, start, end, scales)],
        "axes": [time, axis],
        "title": figure.title,
        "legend_location": "top-left",
        "fig_margin": {**layout["fig_margin"], "left": 52, "bottom": 42},
        "layout": {"height": "240px", "width": "auto", "min_width": "0"},
    }


def _lines(figure: Figure, start: float, end: float, scales: dict[str, bqplot.Scale]) -> list[bqplot.Lines]:
    """A mark for each pattern of dashes, which a mark of bqplot has only one of."""
    marks = []
    for dash in dict.fromkeys(line.dash for line in figure.lines):
        lines = [line for line in figure.lines if line.dash == dash]
        points = [_visible(line, start, end) for line in lines]
        length = max(len(times) for times, _ in points)
        marks.append(
            bqplot.Lines(
                x=np.stack([_moments(_filled(times, length), end) for times, _ in points]),
                y=np.stack([_filled(values, length) for _, values in points]),
                scales=scales,
                colors=[line.color for line in lines],
                labels=[line.name for line in lines],
                display_legend=len(figure.lines) > 1,
                line_style=_STYLES[dash],
                stroke_width=1.6,
            )
        )
    return marks


def _visible(line: Line, start: float, end: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The points of a line, so that bqplot shows each of them over the whole time.

    bqplot draws nothing for a point without neighbours: such a point becomes a dash. It puts the label of a
    line, though it is not seen, at the last point, which must have a value. And it ends the axis with the
    points: where a line is shorter than the history, two points without a value come first.
    """
    times, values = line.points
    known = np.isfinite(values)
    if not known.any():
        return np.array([start, end]), np.array([np.nan, np.nan])
    first, last = np.flatnonzero(known)[[0, -1]]
    is_shorter = line.joined or last - first + 1 < len(times)
    alone = known & ~np.append(False, known[:-1]) & ~np.append(known[1:], False)
    times, values, alone = (each[first : last + 1] for each in (times, values, alone))
    half, at = (end - start) / _POINTS * 2, np.flatnonzero(alone)
    begin, until = np.maximum(times - half, start), np.minimum(times + half, end)
    times = np.insert(np.where(alone, begin, times), at + 1, until[at])
    values = np.insert(values, at + 1, values[at])
    if is_shorter:
        times, values = np.append([start, end], times), np.append([np.nan, np.nan], values)
    return times, values


def _shades(behind: Sequence[Stretch], start: float, end: float, time: bqplot.DateScale) -> list[bqplot.Mark]:
    """The areas and the names of cells, spans and marks."""
    if not behind:
        return []
    scales = {"x": time, "y": bqplot.LinearScale(min=0.0, max=1.0)}
    pixel = (end - start) / _PIXELS
    marks = []
    for layer in LOOKS:
        moments = np.clip(np.array(list(edges(behind, layer, pixel)), dtype=float).ravel(), start, end)
        if len(moments):
            x, y = outlines({layer: moments})
            marks.append(make_areas([layer], _moments(x, end), y, scales))
    found = names(behind, start, end, _PIXELS_A_LETTER * pixel)
    return [
        *marks,
        make_labels(
            x=_moments(np.array([name.at for name in found]), end),
            y=np.array([name.height for name in found]),
            text=np.array([name.text for name in found]),
            scales=scales,
        ),
    ]


def _rows_of(spans: pd.DataFrame) -> list[_Row]:
    """The rows of a table of cells, spans or marks, or of all three; TypeError for anything else."""
    columns = set(spans.columns) if isinstance(spans, pd.DataFrame) else set()
    if "label" in columns and isinstance(spans.index, pd.DatetimeIndex):  # marks, by their time
        moments = _unix(spans.index)
        return [_Row("mark", name, at, at) for name, at in zip(spans["label"], moments, strict=True)]
    is_cells = bool(columns) and spans.index.name == "execution_count"
    if not columns >= ({"start", "end"} if is_cells else {"name", "start", "end"}):
        raise TypeError("spans must be the cells, spans or marks of a monitor, or what read_spans() returns")
    starts, ends = _unix(spans["start"]), _unix(spans["end"])
    if is_cells:
        cells = zip(starts, ends, spans.index, strict=True)
        names = spans["source"] if "source" in spans else [""] * len(spans)
        return [
            _Row("cell", name, start, end, count)
            for (start, end, count), name in zip(cells, names, strict=True)
        ]
    kinds = spans["kind"] if "kind" in spans else ["span"] * len(spans)
    counts = spans["execution_count"] if "execution_count" in spans else [pd.NA] * len(spans)
    return [
        _Row(kind, name, start, end, None if pd.isna(count) else count)
        for kind, name, start, end, count in zip(kinds, spans["name"], starts, ends, counts, strict=True)
    ]


def _filled(values: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """The last one repeated, so that all lines are as long."""
    return np.pad(values, (0, length - len(values)), mode="edge")


def _moments(seconds: NDArray[np.float64], end: float) -> NDArray[np.datetime64]:
    """Unix seconds as bqplot takes times: without a zone, here in that of the reader.

    All have the difference to UTC of the figure's ``end``, so that its time has no gap where clocks were set.
    """
    return np.rint((seconds + offset(end)) * 1e3).astype("datetime64[ms]")


def _unix(times: Any) -> NDArray[np.float64]:
    """Times as Unix seconds, NaN for none; those without zone are UTC."""
    index = pd.DatetimeIndex(times).as_unit("us")
    return np.where(index.isna(), np.nan, index.asi8 / 1e6)


def _kind(value: object) -> str:
    if isinstance(value, pd.DataFrame):
        return "a table without times"
    return type(value).__name__
