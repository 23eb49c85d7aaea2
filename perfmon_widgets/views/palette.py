"""The colours of lines: which column has which, in every brush.

A colour belongs to a column, not to a place in a picture. Each group of the machine's columns begins at a
colour of its own, so that CPU, memory, GPU, disk and process differ where they share a figure. Within a group
the columns of a unit take the colours that follow, in declared order. All other columns, recorded ones too,
share one such sequence for each unit. This depends on names and units alone, so that a log that is read back
has the same colours, and a column without values leaves the others as they are.

Columns of different groups may have the same colour. Where two meet in a figure, the one that comes earlier
in its own group keeps it, and the other takes the next that is free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from perfmon_widgets.metrics import Metric
from perfmon_widgets.views.columns import group_of, is_part

COLORS = ("#3d8fd1", "#e08214", "#1b9e77", "#c05fa8", "#a6851d", "#d9482b", "#7b83c9", "#5a9c2f")
"""Eight colours that colour-blind people can distinguish, readable on white and on black."""
FAINT = "#8c9aa8"
"""For one of many lines that another line sums up."""
DASHES = ("", "5 2", "1.5 2", "6 2 1.5 2")
"""Patterns (``stroke-dasharray``) for more lines than colours; panel.css has the same."""
MAP_COLORS = ("#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#fee838")
"""Of maps, from 0 to 100 %: Cividis, which looks the same to people who cannot see red or green."""

# The place in COLORS where a group begins: not at orange or red, in which gauges warn.
_FIRST = {"cpu": 0, "memory": 2, "gpu": 3, "disk": 4, "process": 6, "network": 7}


class Look(NamedTuple):
    """How a line is drawn."""

    color: str
    dash: str = ""
    """A pattern of DASHES; a solid line has none."""


def looks(members: Sequence[Metric], faint: Collection[str], declared: Sequence[Metric]) -> list[Look]:
    """The look of each line of a figure.

    ``members``: its columns, from back to front. ``faint``: the names of those that need no colour.
    ``declared``: all columns that may be drawn, in their order. Up to eight lines have eight colours. Of
    more, each eight have eight colours and a dash of their own; there are four dashes.
    """
    positions = _positions(declared, members)
    block = len(COLORS) if len(members) - len(faint) > len(COLORS) else len(members)
    found = []
    for begin in range(0, len(members), block):
        names = [metric.name for metric in members[begin : begin + block]]
        colors = _colors([name for name in names if name not in faint], positions)
        dash = DASHES[min(begin // block, len(DASHES) - 1)]
        found += [Look(colors.get(name, FAINT), dash) for name in names]
    return found


def _colors(names: Sequence[str], positions: Mapping[str, int]) -> dict[str, str]:
    """A colour for each of up to eight columns, its own where no earlier column of a group has it."""
    free = [*COLORS]
    colors = {}
    for name in sorted(names, key=lambda name: positions[name]):
        home = _FIRST.get(group_of(name), 0) + positions[name]
        color = next(each for each in (COLORS[(home + step) % 8] for step in range(8)) if each in free)
        free.remove(color)
        colors[name] = color
    return colors


def _positions(declared: Sequence[Metric], chosen: Sequence[Metric]) -> dict[str, int]:
    """The place of each column among those of its group and unit, in declared order.

    Parts, such as single CPUs, are counted apart, since as a rule they need no colour.
    """
    known = {metric.name for metric in declared}
    count: Counter[tuple[str, str, bool]] = Counter()
    positions = {}
    for metric in [*declared, *(metric for metric in chosen if metric.name not in known)]:
        kind = group_of(metric.name), metric.unit, is_part(metric)
        positions[metric.name] = count[kind]
        count[kind] += 1
    return positions
