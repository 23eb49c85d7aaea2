"""plot: chosen columns of a history over their real times, to look back at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import bqplot
import ipywidgets
import numpy as np
import pandas as pd

from perfmon_widgets.metrics import unit_of
from perfmon_widgets.panel.chart import axis, figure, labels, round_up, thin
from perfmon_widgets.views.svg import COLORS, Plot, Stretch, image, picture
from perfmon_widgets.views.text import scale_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

_POINTS = 1_500  # of one line
_MOST_STRETCHES = 300

Line = tuple["NDArray[np.float64]", "NDArray[np.float64]"]


class _Pictured(ipywidgets.DOMWidget):
    """A widget that is also stored as a picture, for a page on which it cannot live."""

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


def plot(
    history: pd.DataFrame, columns: str | Sequence[str] | None = None, *, spans: pd.DataFrame | None = None
) -> PlotFigure | PlotFigures:
    """A bqplot figure of some columns over time; a VBox of one for each unit, if there are several.

    ``history``: what ``PerformanceMonitor.history`` or ``read_csv`` returns, or rows of it for a shorter
    time, as in ``history["2030-01-31 12:00":]``. ``columns``: by default all but limits and single CPUs.
    ``spans``: the monitor's ``cells``, ``spans`` or ``marks``, or ``read_spans``, to be shown behind the
    lines. On a page without a kernel it is a picture. Times are UTC. Raises ValueError for a column that does
    not exist and for fewer than two rows, TypeError for what is no history.
    """
    if not isinstance(history, pd.DataFrame) or not isinstance(history.index, pd.DatetimeIndex):
        raise TypeError(f"history must be what monitor.history or read_csv() returns, not {_kind(history)}")
    if len(history) < 2:
        raise ValueError(f"a line takes two rows; this history has {len(history)}")
    names = _chosen(history, columns)
    times = _unix(history.index)
    start, end = float(times.min()), float(times.max())
    stretches = [] if spans is None else _stretches(spans, start, end)
    plots = plots_of(history, names)
    drawn = picture(plots, start, end, stretches)
    if len(plots) == 1:
        only = PlotFigure(**_figure(plots[0], start, end, stretches))
        only.picture = drawn
        return only
    several = PlotFigures([PlotFigure(**_figure(each, start, end, stretches)) for each in plots])
    several.picture = drawn
    return several


def _chosen(history: pd.DataFrame, columns: str | Sequence[str] | None) -> list[str]:
    if columns is None:
        measured = history.columns[history.notna().any()]
        names = [name for name in measured if not name.startswith("core") and "limit_" not in name]
    else:
        names = [columns] if isinstance(columns, str) else list(dict.fromkeys(columns))
        unknown = [name for name in names if name not in history]
        if unknown:
            there = ", ".join(history.columns)
            raise ValueError(f"there is no column {unknown[0]!r} in this history; there are {there}")
    if not names:
        raise ValueError("columns: there is nothing to draw")
    return names


def plots_of(history: pd.DataFrame, names: Sequence[str], points: int = _POINTS) -> list[Plot]:
    """A plot for each unit that the columns have, with so many points of a line at most."""
    times = _unix(history.index)
    gaps = np.isin(times, history.attrs.get("gaps", ()))
    columns = history[list(names)].to_numpy(dtype=float).T  # at once: pandas copies the attrs each time
    units: dict[str, dict[str, Line]] = {}
    for name, values in zip(names, columns, strict=True):
        declared = history.attrs.get(name)
        unit = declared["unit"] if declared else unit_of(name)
        units.setdefault(unit, {})[name] = _line(times, values, gaps, points)
    return [_plot(lines, unit) for unit, lines in units.items()]


def _plot(lines: Mapping[str, Line], unit: str) -> Plot:
    known = np.concatenate([values[np.isfinite(values)] for _, values in lines.values()])
    largest = float(np.max(np.abs(known), initial=0.0))
    divisor, label = scale_for(unit, largest)
    top = 100.0 if unit == "percent" and largest <= 100 else round_up(largest / divisor)
    return Plot(
        label,
        -top if np.any(known < 0) else 0.0,
        top,
        {name: (at, values / divisor) for name, (at, values) in lines.items()},
        {name: COLORS[number % len(COLORS)] for number, name in enumerate(lines)},
    )


def _line(
    times: NDArray[np.float64], values: NDArray[np.float64], gaps: NDArray[np.bool_], points: int
) -> Line:
    """As many points as can be seen; what has a value only now and then is joined."""
    known = np.isfinite(values)
    if np.count_nonzero(known) == 1:  # a dash, since nothing is seen of a line from a point to itself
        start, end = times.min(), times.max()
        around = np.clip(times[known] + (end - start) / _POINTS * np.array([-2.0, 2.0]), start, end)
        # Behind both ends of the history, since the axis shows the times there are, and bqplot puts the label
        # of a line, though it is not seen, to its last point.
        return np.array([start, end, *around]), np.array([np.nan, np.nan, *np.repeat(values[known], 2)])
    runs = np.count_nonzero(np.diff(known.astype(int), prepend=0) == 1)
    if not known.all() and np.count_nonzero(known) < 2 * runs:
        return times[known], values[known]
    at, column = thin(times, values[:, np.newaxis], gaps, points, float(np.ptp(times)) or 1.0)
    return at, column[:, 0]


def _figure(drawn: Plot, start: float, end: float, stretches: Sequence[Stretch]) -> dict[str, Any]:
    # The limits of a DateScale are wrong wherever the browser's time zone is not UTC: it finds them itself.
    scales = {"x": bqplot.DateScale(), "y": bqplot.LinearScale(min=drawn.bottom, max=drawn.top)}
    length = max(len(times) for times, _ in drawn.lines.values())
    lines = bqplot.Lines(
        x=np.stack([_moments(_filled(times, length)) for times, _ in drawn.lines.values()]),
        y=np.stack([_filled(values, length) for _, values in drawn.lines.values()]),
        scales=scales,
        colors=list(drawn.colors.values()),
        labels=list(drawn.lines),
        display_legend=len(drawn.lines) > 1,
        stroke_width=1.6,
    )
    names = list(drawn.lines)
    shown = names[0] if len(names) == 1 else f"{len(names)} columns"
    made = figure()
    return made | {
        "marks": [*_shades(stretches, scales["x"]), lines],
        "axes": [
            axis(scales["x"], side="bottom", label=f"{_days(start, end)} UTC"),
            axis(scales["y"], side="left"),
        ],
        "title": f"{shown}, {drawn.label}" if drawn.label else shown,
        "legend_location": "top-left",
        "fig_margin": {**made["fig_margin"], "left": 52, "bottom": 42},
        "layout": {"height": "240px", "width": "auto", "min_width": "0"},
    }


def _shades(stretches: Sequence[Stretch], time: bqplot.DateScale) -> list[bqplot.Mark]:
    if not stretches:
        return []
    scales = {"x": time, "y": bqplot.LinearScale(min=0.0, max=1.0)}
    edges = np.array([[each.start, each.start, each.end, each.end] for each in stretches]).ravel()
    areas = bqplot.Lines(
        x=_moments(edges),
        y=np.tile([-0.1, 1.1, 1.1, -0.1], len(stretches)),
        scales=scales,
        colors=["#808080"],
        opacities=[0.35],
        fill="bottom",
        fill_colors=["#808080"],
        fill_opacities=[0.14],
        stroke_width=1.0,
    )
    names = labels(
        x=_moments(np.array([each.start for each in stretches])),
        y=np.full(len(stretches), 0.04),
        text=np.array([each.name for each in stretches]),
        scales=scales,
    )
    return [areas, names]


def _stretches(spans: pd.DataFrame, start: float, end: float) -> list[Stretch]:
    """What lies in the time that is drawn, the newest if there are very many."""
    names: list[str]
    starts: Any
    ends: Any
    if "label" in spans:  # marks, by their time
        names, starts, ends = spans["label"].tolist(), spans.index, spans.index
    elif {"start", "end"} <= set(spans.columns):
        names, starts, ends = _names(spans), spans["start"], spans["end"]
    else:
        raise TypeError("spans must be the cells, spans or marks of a monitor, or what read_spans() returns")
    found = [
        Stretch(max(begun, start), min(ended, end), str(name)[:40])
        for begun, ended, name in zip(_unix(starts), np.nan_to_num(_unix(ends), nan=end), names, strict=True)
        if begun <= end and ended >= start
    ]
    return found[-_MOST_STRETCHES:]


def _names(spans: pd.DataFrame) -> list[str]:
    if spans.index.name == "execution_count":
        return [f"[{count}]" for count in spans.index]
    if "execution_count" not in spans:
        return spans["name"].tolist()
    counts = spans["execution_count"]
    return [
        name if pd.isna(count) else f"[{count}]" for name, count in zip(spans["name"], counts, strict=True)
    ]


def _filled(values: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """The last one repeated, so that all lines are as long."""
    return np.pad(values, (0, length - len(values)), mode="edge")


def _moments(seconds: NDArray[np.float64]) -> NDArray[np.datetime64]:
    """Unix seconds as bqplot takes times: without a zone, in UTC."""
    return np.rint(seconds * 1e3).astype("datetime64[ms]")


def _unix(times: Any) -> NDArray[np.float64]:
    """Times as Unix seconds, NaN for none; those without zone are UTC."""
    index = pd.DatetimeIndex(times).as_unit("us")
    return np.where(index.isna(), np.nan, index.asi8 / 1e6)


def _days(start: float, end: float) -> str:
    first, last = (np.datetime64(round(each), "s").astype("datetime64[D]") for each in (start, end))
    return str(first) if first == last else f"{first} – {last}"


def _kind(value: object) -> str:
    if isinstance(value, pd.DataFrame):
        return "a table without times"
    return type(value).__name__
