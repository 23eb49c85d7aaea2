"""Picture: lines over time as SVG, for pages on which no widget lives."""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

COLORS = ("#3d8fd1", "#e08214", "#1b9e77", "#c05fa8", "#a6851d", "#d9482b", "#7b83c9", "#5a9c2f")
"""Of lines: told apart by the colour-blind, and readable on white and on black."""

_WIDTH, _HEIGHT = 720, 135  # of one plot without what stands above and below it, in pixels
_LEFT, _RIGHT, _ABOVE, _LINE, _BELOW = 52, 16, 18, 15, 22  # margins; above is a line for some of the names
# Readable on white and on black: a picture does not know the theme.
_INK, _GRID = "#808080", "#80808055"
_LETTER = 6.2  # pixels that one takes, about


class Plot(NamedTuple):
    """Lines of one unit."""

    label: str
    """The unit of the numbers as they are drawn."""
    bottom: float
    top: float
    lines: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    """By name: times (Unix seconds), and values, NaN where the line is broken."""
    colors: Mapping[str, str]


class Stretch(NamedTuple):
    """What is marked behind the lines: from when to when (Unix seconds), and its name."""

    start: float
    end: float
    name: str


def picture(plots: Sequence[Plot], start: float, end: float, stretches: Sequence[Stretch] = ()) -> str:
    """The plots below one another as an SVG document, from ``start`` to ``end`` (Unix seconds)."""
    body, height = "", 0
    for plot in plots:
        names = list(_rows(plot.lines))
        above = _ABOVE + _LINE * len(names)
        drawn = "".join([*_names(plot, names), *_plot(plot, above, start, end, stretches)])
        body += f'<g transform="translate(0,{height})">{drawn}</g>'
        height += above + _HEIGHT + _BELOW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" font-family="sans-serif" font-size="11" fill="{_INK}">{body}</svg>'
    )


def image(svg: str, words: str, more: str = "") -> str:
    """A picture as HTML, with words for who does not see it; ``more`` are further attributes.

    As an image, because JupyterLab takes SVG as it is out of a notebook that is not trusted.
    """
    source = b64encode(svg.encode()).decode()
    return f'<img src="data:image/svg+xml;base64,{source}" alt="{html.escape(words, quote=True)}"{more}>'


def _plot(plot: Plot, above: float, start: float, end: float, stretches: Sequence[Stretch]) -> Iterator[str]:
    width = _WIDTH - _LEFT - _RIGHT
    seconds = end - start or 1.0

    def across(time: float) -> float:
        return _LEFT + width * min(max((time - start) / seconds, 0.0), 1.0)

    def up(value: Any) -> Any:
        return above + _HEIGHT * (1 - (value - plot.bottom) / (plot.top - plot.bottom))

    for stretch in stretches:
        x, right = across(stretch.start), across(stretch.end)
        yield (
            f'<rect x="{x:.1f}" y="{above}" width="{max(right - x, 1):.1f}" height="{_HEIGHT}" '
            f'fill="{_INK}" fill-opacity="{0.13 if right > x else 0.6}"/>'
        )
    yield from (_text(x + 2, above + 10, name) for x, name in _with_room(stretches, across))
    for part in range(5):
        value = plot.bottom + (plot.top - plot.bottom) * part / 4
        yield f'<path d="M{_LEFT},{up(value):.1f}h{width}" stroke="{_GRID}"/>'
        if part % 2 == 0:
            yield _text(_LEFT - 5, up(value) + 4, f"{value:.4g}", "end")
    for at, anchor in ((start, "start"), ((start + end) / 2, "middle"), (end, "end")):
        yield _text(across(at), above + _HEIGHT + 15, _clock(at, seconds), anchor)
    for name, (times, values) in plot.lines.items():
        places = _LEFT + width * ((times - start) / seconds).clip(0.0, 1.0)
        yield (
            f'<path d="{_path(places, up(values))}" fill="none" stroke="{plot.colors[name]}" '
            f'stroke-width="1.5" stroke-linejoin="round" stroke-linecap="round"/>'
        )


def _with_room(stretches: Iterable[Stretch], across: Callable[[float], float]) -> Sequence[tuple[float, str]]:
    """Where names begin and what they are: the shortest have none where they would lie over others.

    What has no length is a mark, and has its name.
    """
    taken: list[tuple[float, float, str]] = []
    for stretch in sorted(stretches, key=lambda each: (each.end > each.start, each.start - each.end)):
        x = across(stretch.start)
        right = x + _LETTER * (len(stretch.name) + 1)
        if all(right <= begun or x >= ended for begun, ended, _ in taken):
            taken.append((x, right, stretch.name))
    return [(x, name) for x, _, name in sorted(taken)]


def _rows(names: Iterable[str]) -> Iterator[list[tuple[float, str]]]:
    """The names by line, each with where it begins."""
    row: list[tuple[float, str]] = []
    x = float(_LEFT)
    for name in names:
        width = 30 + _LETTER * len(name)
        if row and x + width > _WIDTH:
            yield row
            row, x = [], float(_LEFT)
        row.append((x, name))
        x += width
    yield row


def _names(plot: Plot, rows: Sequence[Sequence[tuple[float, str]]]) -> Iterator[str]:
    """The unit, then each line's name after a dash in its colour."""
    if plot.label:
        yield _text(_LEFT - 5, _LINE, plot.label, "end")
    for number, row in enumerate(rows, 1):
        for x, name in row:
            y = _LINE * number
            yield f'<path d="M{x:.0f},{y - 4}h14" stroke="{plot.colors[name]}" stroke-width="3"/>'
            yield _text(x + 18, y, name)


def _path(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """The known points, and lines between those that follow each other."""
    known = np.isfinite(y)
    begins = known & ~np.concatenate(([False], known[:-1]))
    # A point without neighbours is a line without length, which round ends make a dot.
    return "".join(
        f"M{at:.1f},{high:.1f}h0" if begin else f"L{at:.1f},{high:.1f}"
        for at, high, begin in zip(x[known].tolist(), y[known].tolist(), begins[known].tolist(), strict=True)
    )


def _clock(time: float, seconds: float) -> str:
    moment = datetime.fromtimestamp(time, timezone.utc)
    if seconds >= 86_400:
        return f"{moment:%Y-%m-%d %H:%M} UTC"
    return f"{moment:%H:%M:%S} UTC"


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{html.escape(text)}</text>'
