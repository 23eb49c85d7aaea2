"""The looks of lines: which column has which colour and pattern of dashes, in every brush.

**The colour says what a column is about**: the machine has one, this process has one, and each GPU (or
worker, or single CPU) has one, the same in every figure. Two columns of the same thing in a figure, such as
received and sent, differ in their dashes and in how dark they are.

A colour belongs to a column, not to a place in a picture. It depends on names and the declared order alone.
So a log that is read back has the same colours, and a column without values leaves the others as they are.
A column that is the only one of its thing in a figure is a plain line. Of several, each has the dashes that
its place in its own group has; where two would look the same, the later one takes the next that are free.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from perfmon_widgets.metrics import Metric
from perfmon_widgets.views.columns import group_of, is_part

COLORS = ("#3d8fd1", "#e08214", "#1b9e77", "#c05fa8", "#a6851d", "#d9482b", "#7b83c9", "#5a9c2f")
"""Eight colours, readable on white and on black."""
DARK = ("#2e6b9d", "#a8620f", "#147659", "#90477e", "#7d6416", "#a33620", "#5c6297", "#447523")
"""The same, a quarter darker."""
FAINT = "#8c9aa8"
"""For one of many lines that another line sums up."""
DASHES = ("", "7 3", "2.5 4", "11 3 2.5 3")
"""Patterns (``stroke-dasharray``); panel.css has the same."""
MAP_COLORS = ("#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#fee838")
"""Of maps, from 0 to 100 %: Cividis, which looks the same to people who cannot see red or green."""

# Places in COLORS. Colour-blind people, too, can tell these two and the first two of the others apart.
_OF_THE_MACHINE, _OF_THE_PROCESS = 0, 2
# For GPUs and the like, in declared order. Orange and red, in which gauges warn, come late, and those of the
# process and the machine last.
_OF_OTHERS = (3, 4, 6, 7, 1, 5, 2, 0)
# For the columns of one thing: whether it is dark, and its pattern. Neighbours differ in both.
_VARIANTS = ((0, 0), (1, 1), (0, 2), (1, 3), (1, 0), (0, 1), (1, 2), (0, 3))


class Look(NamedTuple):
    """How a line is drawn."""

    color: str
    dash: str = ""
    """A pattern of DASHES; a solid line has none."""


def looks(members: Sequence[Metric], faint: Collection[str], declared: Sequence[Metric]) -> list[Look]:
    """The look of each line of a figure.

    ``members``: its columns, from back to front. ``faint``: the names of those that need no colour.
    ``declared``: all columns that may be drawn, in their order. Up to eight columns of each of eight GPUs, or
    of eight other things, look different.
    """
    known = {metric.name for metric in declared}
    columns = [*declared, *(metric for metric in members if metric.name not in known)]
    hues, positions = _hues(columns), _positions(columns)
    strong = [metric for metric in members if metric.name not in faint]
    count = Counter(map(_subject, strong))
    found: dict[str, Look] = {name: Look(FAINT) for name in faint}
    taken: set[Look] = set()
    for metric in sorted(strong, key=lambda metric: positions[metric.name]):
        subject = _subject(metric)
        own = _of_a_hue(hues[subject], positions[metric.name] if count[subject] > 1 else 0)
        look = next((each for each in own if each not in taken), own[0])
        taken.add(look)
        found[metric.name] = look
    return [found[metric.name] for metric in members]


def _of_a_hue(hue: int, first: int) -> list[Look]:
    """The looks of one colour, from that of the column at place ``first`` on."""
    turned = [_VARIANTS[(first + step) % len(_VARIANTS)] for step in range(len(_VARIANTS))]
    return [Look((COLORS, DARK)[dark][hue], DASHES[dash]) for dark, dash in turned]


def _subject(metric: Metric) -> str:
    """What a column is about: ``gpu0``, ``machine``, ``process``; else the column itself, such as a loss."""
    if metric.where:
        return metric.where
    group = group_of(metric.name)
    return f" {group if group == 'process' else 'machine'}" if group else metric.name


def _hues(columns: Sequence[Metric]) -> dict[str, int]:
    """The place in COLORS for each subject; those that differ in their numbers alone are counted together."""
    hues = {" machine": _OF_THE_MACHINE, " process": _OF_THE_PROCESS}
    count: Counter[str] = Counter()
    for metric in columns:
        subject = _subject(metric)
        if subject not in hues:
            kind = re.sub(r"\d+", "", subject) if re.search(r"\d", subject) else ""
            hues[subject] = _OF_OTHERS[count[kind] % len(_OF_OTHERS)]
            count[kind] += 1
    return hues


def _positions(columns: Sequence[Metric]) -> Mapping[str, int]:
    """The place of each column among those of its subject, group and unit, in declared order.

    Parts, such as single CPUs, are counted apart, since as a rule they need no colour.
    """
    count: Counter[tuple[str, str, str, bool]] = Counter()
    positions = {}
    for metric in columns:
        kind = _subject(metric), group_of(metric.name), metric.unit, is_part(metric)
        positions[metric.name] = count[kind]
        count[kind] += 1
    return positions
