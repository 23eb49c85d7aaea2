"""The SVG brush: draws figures as pictures, for pages without live widgets.

The colours are readable on white and on black, because a picture does not know the theme of the page.
"""

from __future__ import annotations

import html
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perfmon_widgets.views.figures import Figure, Line
from perfmon_widgets.views.legend import names_of_lines
from perfmon_widgets.views.local_time import ticks, zone_name
from perfmon_widgets.views.stretches import LOOKS, Look, Stretch, edges, names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    # From numbers of a figure to pixels of a picture.
    Place = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_WIDTH, _HEIGHT = 720, 135  # pixels of the lines of one figure
_LEFT, _RIGHT, _ABOVE, _ROW, _BELOW = 52, 16, 18, 15, 22  # pixels around them; _ROW is that of some names
_SMALL_WIDTH, _SMALL_HEIGHT = 160, 28  # pixels of a sparkline
_INK, _GRID = "#808080", "#80808055"
_LETTER = 6.2  # pixels that a letter takes, about
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Entry(NamedTuple):
    """A name of the legend, with the line that it stands for."""

    x: float
    words: str
    line: Line


def picture(
    figures: Sequence[Figure],
    start: float,
    end: float,
    behind: Sequence[Stretch] = (),
    width: int = _WIDTH,
) -> str:
    """The figures below one another as an SVG document, from ``start`` to ``end`` (Unix seconds).

    ``width``: of the document, in pixels.
    """
    body, height = "", 0
    for figure in figures:
        legend = list(_legend_rows(figure.lines, width))
        above = _ABOVE + _ROW * len(legend)
        drawn = "".join(
            [*_legend(figure, legend), *_plot(figure, above, start, end, behind=behind, width=width)]
        )
        body += f'<g transform="translate(0,{height})">{drawn}</g>'
        height += above + _HEIGHT + _BELOW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="11" fill="{_INK}">{body}</svg>'
    )


def sparkline(figure: Figure, start: float, end: float) -> str:
    """The lines of a figure as a small SVG document without names and numbers."""
    across, up = _places(figure, start, end, (0.0, _SMALL_WIDTH), (_SMALL_HEIGHT - 1.0, 1.0))
    lines = "".join(_line(line, across, up) for line in figure.lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_SMALL_WIDTH}" height="{_SMALL_HEIGHT}">'
        f'<rect width="{_SMALL_WIDTH}" height="{_SMALL_HEIGHT}" fill="none" stroke="{_INK}" '
        f'stroke-width=".5"/>{lines}</svg>'
    )


def image(svg: str, words: str, more: str = "") -> str:
    """A picture as HTML, with ``words`` for those who cannot see it; ``more`` are further attributes.

    As an image, because JupyterLab removes plain SVG from a notebook that is not trusted.
    """
    source = b64encode(svg.encode()).decode()
    return f'<img src="data:image/svg+xml;base64,{source}" alt="{html.escape(words, quote=True)}"{more}>'


def _places(
    figure: Figure, start: float, end: float, x: tuple[float, float], y: tuple[float, float]
) -> tuple[Place, Place]:
    """Functions from times and values to pixels: ``x`` is left and right, ``y`` bottom and top."""
    (low, high), seconds = figure.axis.ends, end - start or 1.0

    def across(times: NDArray[np.float64]) -> NDArray[np.float64]:
        return x[0] + (x[1] - x[0]) * np.clip((times - start) / seconds, 0.0, 1.0)

    def up(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return y[0] + (y[1] - y[0]) * (values - low) / (high - low)

    return across, up


def _plot(
    figure: Figure, above: float, start: float, end: float, *, behind: Sequence[Stretch], width: int
) -> Iterator[str]:
    """What lies below the legend: stretches, grid, numbers, times, lines."""
    right, bottom, seconds = width - _RIGHT, above + _HEIGHT, end - start or 1.0
    across, up = _places(figure, start, end, (_LEFT, right), (bottom, above))
    pixel = seconds / (right - _LEFT)
    for layer, look in LOOKS.items():
        yield from _areas([*edges(behind, layer, pixel)], look, across, bottom)
    for name in names(behind, start, end, _LETTER * pixel):
        yield _text(float(across(np.array(name.at))) + 2, bottom - _HEIGHT * name.height + 4, name.text)
    for number, value in enumerate(figure.axis.ticks):
        y = float(up(np.array(value)))
        yield f'<path d="M{_LEFT},{y:.1f}H{right}" stroke="{_GRID}"/>'
        if number % 2 == 0:
            yield _text(_LEFT - 5, y + 4, f"{value:.4g}", "end")
    yield from _times(start, end, bottom, width)
    yield from (_line(line, across, up) for line in figure.lines)


def _times(start: float, end: float, bottom: float, width: int) -> Iterator[str]:
    """Round times below the lines, and the name of their zone."""
    right = width - _RIGHT
    for tick in ticks(start, end, right - _LEFT, free=_LETTER * len(zone_name(end))):
        x = _LEFT + (right - _LEFT) * (tick.time - start) / (end - start)
        yield f'<path d="M{x:.1f},{bottom:g}v4" stroke="{_INK}"/>'
        yield _text(x, bottom + 15, tick.label, "middle")
    yield _text(right, bottom + 15, zone_name(end), "end")


def _areas(moments: Sequence[tuple[float, float]], look: Look, across: Place, bottom: float) -> Iterator[str]:
    """The stretches of one kind: areas, and lines at their starts and ends."""
    if not moments:
        return
    low, top = (bottom - _HEIGHT * min(max(height, 0.0), 1.0) for height in (look.bottom, look.top))
    places = across(np.array(moments)).round(1).tolist()
    if look.inside:
        path = "".join(f"M{left:g},{low:g}V{top:g}H{right:g}V{low:g}z" for left, right in places)
        yield f'<path d="{path}" fill="{look.color}" fill-opacity="{look.inside}"/>'
    if not look.edge:
        return
    path = "".join(f"M{x:g},{low:g}V{top:g}" for x in dict.fromkeys(x for pair in places for x in pair))
    yield f'<path d="{path}" stroke="{look.color}" stroke-opacity="{look.edge}"/>'


def _line(line: Line, across: Place, up: Place) -> str:
    """The known points of a line, and strokes between those that follow each other.

    Of points at one height only the ends are written: many columns do not change for a long time.
    """
    times, values = line.points
    known = np.isfinite(values)
    begins = known & ~np.append(False, known[:-1])
    # A point without neighbours is a short dash.
    dash = np.where(begins & ~np.append(known[1:], False), 3, 0)
    x, y = (across(times) - dash / 2)[known], up(values[known]).round(1)
    begins, dash = begins[known], dash[known]
    flat = np.full(len(y), False)
    flat[1:-1] = (y[1:-1] == y[:-2]) & (y[1:-1] == y[2:]) & ~begins[1:-1] & ~begins[2:]
    steps = ["L%.1f,%.1f"] * int(np.count_nonzero(~flat))
    for at in np.flatnonzero(begins[~flat]).tolist():
        steps[at] = f"M%.1f,%.1fh{dash[~flat][at]}"
    # All numbers in one step, which takes half as long as one step for each.
    path = "".join(steps) % tuple(np.column_stack([x, y])[~flat].ravel().tolist())
    return (
        f'<path d="{path}" fill="none" stroke="{line.color}"{_style(line)} '
        f'stroke-width="1.5" stroke-linejoin="round" stroke-linecap="round"/>'
    )


def _style(line: Line) -> str:
    dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
    return f'{dash} stroke-opacity="0.5"' if line.faint else dash


def _legend_rows(lines: Sequence[Line], width: int) -> Iterator[list[_Entry]]:
    """The names by row."""
    row: list[_Entry] = []
    x = float(_LEFT)
    for words, line in names_of_lines(lines):
        taken = 30 + _LETTER * len(words)
        if row and x + taken > width:
            yield row
            row, x = [], float(_LEFT)
        row.append(_Entry(x, words, line))
        x += taken
    yield row


def _legend(figure: Figure, rows: Sequence[Sequence[_Entry]]) -> Iterator[str]:
    """The unit, then each name after a stroke that looks like its line."""
    if figure.axis.label:
        yield _text(_LEFT - 5, _ROW, figure.axis.label, "end")
    for number, row in enumerate(rows, 1):
        y = _ROW * number
        for x, words, line in row:
            yield f'<path d="M{x:.0f},{y - 4}h14" stroke="{line.color}"{_style(line)} stroke-width="3"/>'
            yield _text(x + 18, y, words)


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{_escaped(text)}</text>'


def _escaped(text: str) -> str:
    """The text as XML has it; a character that XML cannot have, such as a control character, is replaced."""
    return html.escape(_NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text))
