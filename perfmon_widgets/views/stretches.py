"""What lies behind the lines of figures: cells, spans and marks, with their names, for every brush."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

MAX_STRETCHES = 200
"""How many of each kind are drawn at most: the newest."""

_LETTERS = 28  # of a name that are shown
_ROWS = 3  # of spans, below one another; a span that needs another shares the last one
_ROW = 0.085  # the height of a row
_BELOW = -0.1  # below the figure, so that the line along the lower edge is cut off


class Look(NamedTuple):
    """How a layer is drawn. The height of a figure is 1; what lies outside is cut off."""

    color: str
    edge: float
    """Opacity of the lines at the start and end of each stretch."""
    inside: float
    """Opacity between them."""
    bottom: float
    top: float
    names_at: float
    """The height of its names."""


def _row(number: int) -> Look:
    """A row of spans, counted from the lower edge of the figure."""
    bottom = 0.015 + number * (_ROW + 0.01)
    return Look("#8a63d2", edge=0.0, inside=0.4, bottom=bottom, top=bottom + _ROW, names_at=bottom + _ROW / 2)


_CELL = Look("#808080", edge=0.35, inside=0.06, bottom=_BELOW, top=1.1, names_at=0.94)
# Each as its name in LOOKS.
CELL, NEXT_CELL, RUNNING = "cell", "next cell", "running cell"
LOOKS = {
    CELL: _CELL,
    NEXT_CELL: _CELL._replace(inside=0.17),
    RUNNING: _CELL._replace(color="#3d8fd1", edge=0.8, inside=0.09),
    **{f"span {number}": _row(number) for number in range(_ROWS)},
    "mark": Look("#d9482b", edge=0.9, inside=0.0, bottom=_BELOW, top=1.1, names_at=0.84),
}
"""By layer, from back to front. Cells have two tints in turn, and the running one a colour of its own."""


class Named(Protocol):
    """What a stretch is made of: a Span of the monitor, or a row of a table of spans."""

    @property
    def kind(self) -> str:
        """``cell``, ``span`` or ``mark``."""

    @property
    def name(self) -> str:
        """Its name; of a cell the line that says what it does."""

    @property
    def start(self) -> float:
        """Unix seconds."""

    @property
    def end(self) -> float:
        """Unix seconds; NaN while it goes on."""

    @property
    def execution_count(self) -> int | None:
        """The number of a cell."""


class Stretch(NamedTuple):
    """A stretch of time that is drawn behind the lines."""

    layer: str
    """A key of LOOKS."""
    name: str
    """Its name on one line: ``[7] model.fit(images)``."""
    short: str
    """The same in a few letters, for a narrow stretch: ``[7]``."""
    start: float
    """Unix seconds."""
    end: float
    """Unix seconds; infinite while it goes on. That of a mark is its start."""

    @property
    def look(self) -> Look:
        """How it is drawn."""
        return LOOKS[self.layer]


class Name(NamedTuple):
    """A name that is shown."""

    at: float
    """Where it begins (Unix seconds)."""
    height: float
    """Of a figure whose height is 1."""
    text: str


def stretches(spans: Iterable[Named], start: float, end: float) -> list[Stretch]:
    """The cells, spans and marks that lie in a time (Unix seconds) at least in part, in their order."""
    found: dict[str, list[Stretch]] = {"cell": [], "span": [], "mark": []}
    free_from = [-math.inf] * _ROWS  # when the last span of each row ends
    for span in spans:
        until = math.inf if math.isnan(span.end) else span.end
        row = 0
        if span.kind == "span":  # also those that have left, so that the others stay in their rows
            row = next((row for row, since in enumerate(free_from) if since <= span.start), _ROWS - 1)
            free_from[row] = max(until, free_from[row])
        if until < start or span.start > end:
            continue
        members = found[span.kind]
        if span.kind == "cell":
            number = len(members) if span.execution_count is None else span.execution_count
            layer = RUNNING if until == math.inf else (CELL, NEXT_CELL)[number % 2]
        elif span.kind == "span":
            layer = f"span {row}"
        else:
            layer = "mark"
        members.append(Stretch(layer, *names_of(span), span.start, until))
    return [stretch for members in found.values() for stretch in members[-MAX_STRETCHES:]]


def names_of(span: Named) -> tuple[str, str]:
    """The name of a cell, span or mark on one line, cut if it is long, and a short form of it."""
    name = " ".join(span.name.split())
    short = name
    if span.kind == "cell" and span.execution_count is not None:
        short = f"[{span.execution_count}]"
        name = f"{short} {name}".rstrip()
    return _cut(name), _cut(short)


def _cut(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"


def edges(members: Iterable[Stretch], layer: str, shortest: float) -> Iterator[tuple[float, float]]:
    """Start and end of each stretch of a layer, in the order of their starts.

    A stretch shorter than ``shortest`` (seconds) cannot be seen: it is joined to a neighbour that is less
    than ``shortest`` away.
    """
    start = end = -math.inf
    for stretch in members:
        if stretch.layer != layer:
            continue
        if stretch.start - end < shortest and (
            stretch.end - stretch.start < shortest or end - start < shortest
        ):
            end = max(end, stretch.end)
            continue
        if end > -math.inf:
            yield start, _end(start, end, stretch.look, shortest)
        start, end = stretch.start, stretch.end
    if end > -math.inf:
        yield start, _end(start, end, LOOKS[layer], shortest)


def _end(start: float, end: float, look: Look, shortest: float) -> float:
    """The end as it is drawn: without lines at its ends a stretch must not touch the next one."""
    return end if look.edge or end - start < 3 * shortest else end - shortest


def names(members: Sequence[Stretch], start: float, end: float, letter: float) -> list[Name]:
    """The names that have space from ``start`` to ``end`` (Unix seconds), in the order of their places.

    A letter takes ``letter`` seconds. The newest of a row always has its name. Of others whose names would
    overlap, the longest stretch keeps its own, and of two that are about as long, the earlier. A stretch
    that is wide enough has its whole name, another the short one. The name of a stretch that began before
    ``start`` is shown at ``start``; one that would reach beyond ``end`` is moved to the left. A mark before
    ``start`` has no name.
    """
    taken: dict[float, list[tuple[float, float]]] = {}  # by height
    found: list[Name] = []
    newest = {stretch.look.names_at: stretch for stretch in members}

    def rank(stretch: Stretch) -> tuple[bool, float]:
        is_newest = newest.get(stretch.look.names_at) is stretch
        return is_newest, (stretch.end - stretch.start) // letter if stretch.end < math.inf else math.inf

    for stretch in sorted(members, key=rank, reverse=True):
        begin = max(stretch.start, start)
        if stretch.layer == "mark" and stretch.start < start:
            continue
        is_wide = begin + letter * (len(stretch.name) + 1) <= min(stretch.end, end)
        text = stretch.name if is_wide else stretch.short
        length = letter * (len(text) + 1)
        at = max(start, min(begin, end - length))
        height = stretch.look.names_at
        if all(at + length <= begun or at >= ended for begun, ended in taken.get(height, ())):
            taken.setdefault(height, []).append((at, at + length))
            found.append(Name(at, height, text))
    return sorted(found)
