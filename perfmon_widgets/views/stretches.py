"""What lies behind the lines of figures: cells, spans and marks, with their names, for every brush."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

MAX_STRETCHES = 200
"""How many of each kind are drawn at most: the newest."""

_LETTERS = 24  # of a name that are shown


class Look(NamedTuple):
    """How a kind is drawn. The height of a figure is 1; what lies above it is cut off."""

    color: str
    edge: float
    """Opacity of the lines at its start and end."""
    inside: float
    """Opacity between them."""
    top: float
    """The height up to which it is drawn."""
    names_at: float
    """The height of its name, which differs from kind to kind."""


LOOKS = {
    "cell": Look("#808080", edge=0.35, inside=0.14, top=1.1, names_at=0.95),
    "span": Look("#8a63d2", edge=0.9, inside=0.6, top=0.06, names_at=0.12),
    "mark": Look("#d9482b", edge=0.9, inside=0.0, top=1.1, names_at=0.84),
}
"""By kind, from back to front."""


class Named(Protocol):
    """What a stretch is made of: a Span of the monitor, or a row of a table of spans."""

    @property
    def kind(self) -> str:
        """``cell``, ``span`` or ``mark``."""

    @property
    def name(self) -> str:
        """Its name."""

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

    kind: str
    """A key of LOOKS."""
    name: str
    start: float
    """Unix seconds."""
    end: float
    """Unix seconds; infinite while it goes on. That of a mark is its start."""

    @property
    def look(self) -> Look:
        """How it is drawn."""
        return LOOKS[self.kind]


def stretches(spans: Iterable[Named], start: float, end: float) -> list[Stretch]:
    """The cells, spans and marks that lie in a time (Unix seconds) at least in part, in their order."""
    found: dict[str, list[Stretch]] = {kind: [] for kind in LOOKS}
    for span in spans:
        until = math.inf if math.isnan(span.end) else span.end
        if until >= start and span.start <= end:
            found[span.kind].append(Stretch(span.kind, _name(span), span.start, until))
    return [stretch for members in found.values() for stretch in members[-MAX_STRETCHES:]]


def edges(members: Iterable[Stretch], kind: str, shortest: float) -> Iterator[tuple[float, float]]:
    """Start and end of each stretch of a kind, in the order of their starts.

    A stretch shorter than ``shortest`` (seconds) cannot be seen: it is joined to a neighbour that is less
    than ``shortest`` away.
    """
    start = end = -math.inf
    for stretch in members:
        if stretch.kind != kind:
            continue
        if stretch.start - end < shortest and (
            stretch.end - stretch.start < shortest or end - start < shortest
        ):
            end = max(end, stretch.end)
            continue
        if end > -math.inf:
            yield start, end
        start, end = stretch.start, stretch.end
    if end > -math.inf:
        yield start, end


def names(members: Sequence[Stretch], start: float, letter: float) -> list[tuple[float, Stretch]]:
    """The stretches whose names are shown, each with the time at which its name begins (Unix seconds).

    A letter takes ``letter`` seconds. If names of a kind would overlap, the longest stretch keeps its name;
    of two that are about as long, the earlier does. The name of a stretch that began before ``start`` is
    shown at ``start``. A mark before it has no name.
    """
    taken: dict[str, list[tuple[float, float]]] = {kind: [] for kind in LOOKS}
    found = []

    def size(stretch: Stretch) -> float:
        return (stretch.end - stretch.start) // letter if stretch.end < math.inf else math.inf

    for stretch in sorted(members, key=size, reverse=True):
        if stretch.kind == "mark" and stretch.start < start:
            continue
        at = max(stretch.start, start)
        until = at + letter * (len(stretch.name) + 1)
        if all(until <= begun or at >= ended for begun, ended in taken[stretch.kind]):
            taken[stretch.kind].append((at, until))
            found.append((at, stretch))
    return sorted(found, key=lambda each: each[0])


def _name(span: Named) -> str:
    """The number of a cell, else the name on one line; a long one is cut."""
    if span.kind == "cell" and span.execution_count is not None:
        return f"[{span.execution_count}]"
    name = " ".join(span.name.split())
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
